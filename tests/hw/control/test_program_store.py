"""Program store: the loop in order, whatever the stalls; another program starts at its first word."""

import pytest
from bench import Bench, unpack

from fusemax.spec import MICROWORD, Config
from fusemax_hw.control.program_store import ProgramStore, microword_layout


def random_program(rng, config, length):
    """Microwords whose operations exist."""
    return [
        MICROWORD.pack(
            {"op": rng.randrange(5), "stage": rng.getrandbits(4), "index": rng.getrandbits(9)}
            | {name: rng.getrandbits(1) for name in ("first", "last", "max", "mask")}
        )
        for _ in range(length)
    ]


def bus_words(config, program):
    per_word = config.bus_bits // 32
    words = [*program, *[0] * (-len(program) % per_word)]
    return [
        sum(word << 32 * index for index, word in enumerate(words[start : start + per_word]))
        for start in range(0, len(words), per_word)
    ]


class Loader:
    """Writes programs as the dispatcher does: ``load``, words with pauses, ``start`` with the last one."""

    def __init__(self, bench, config, programs, words):
        self.bench, self.config, self.words = bench, config, words
        self.programs = programs
        #: Words given while each program was there.
        self.given = []
        self._events = []
        self._now = {}
        dut = bench.dut
        for name in ("load", "write", "start", "address", "data", "ii"):
            bench.drive(getattr(dut, name), lambda name=name: self._now.get(name, 0))
        bench.each(self._act)
        bench.watch(dut.load, self._loaded)
        self.ii = 0
        self.wait = 5

    def next(self):
        program = self.programs[len(self.given)]
        words = bus_words(self.config, program)
        self._events = [{"load": 1, "ii": len(program)}]
        for address, word in enumerate(words):
            if self.bench.rng.random() < 0.3:
                self._events.append({})
            self._events.append({"write": 1, "address": address, "data": word, "start": int(address == len(words) - 1)})
        self.wait = len(self._events) + self.bench.rng.choice((0, 2, 10, 3 * len(program), 200))

    def _act(self):
        if not self._events and self.wait <= 0 and len(self.given) < len(self.programs):
            self.next()
        self.wait -= 1
        self._now = {"ii": self.ii} | (self._events.pop(0) if self._events else {})
        # The new length is there behind the cycle of ``load``.
        if self._now.get("load"):
            new, self._now["ii"] = self._now["ii"], self.ii
            self.ii = new

    def _loaded(self, load):
        if load:
            self.words.forget()
            self.given.append([])


@pytest.mark.parametrize(("bus_bits", "stalled"), [(32, True), (64, True), (128, False), (1024, True)])
def test_loop(bus_bits, stalled):
    config = Config(rows=4, columns=4, max_e=16, max_f=16, bus_bits=bus_bits)
    bench = Bench(ProgramStore(config), seed=bus_bits)
    rng = bench.rng
    per_word = bus_bits // 32
    lengths = [1, 2, 3, per_word, per_word + 1, config.program_words, *(rng.randint(1, 60) for _ in range(20)), 7]
    programs = [random_program(rng, config, length) for length in lengths]
    words = bench.sink(
        bench.dut.words,
        bench.stalls() if stalled else bench.stalls(1.0),
        lambda item: loader.given[-1].append((bench.cycle, item)),
    )
    loader = Loader(bench, config, programs, words)
    bench.run(lambda: len(loader.given) == len(programs) and len(loader.given[-1]) > 50, 20000)
    for program, given in zip(programs, loader.given, strict=True):
        for position, (_, item) in enumerate(given):
            slot = position % len(program)
            assert item == {"word": unpack(microword_layout(), program[slot]), "last": int(slot == len(program) - 1)}
        if not stalled:
            cycles = [cycle for cycle, _ in given]
            assert cycles == list(range(cycles[0], cycles[0] + len(cycles))) if cycles else True
    assert max(len(given) / len(program) for given, program in zip(loader.given, programs, strict=True)) > 3
