"""Registers under random accesses and events, compared cycle by cycle with a model of the register map."""

import pytest
from bench import Bench
from models.registers import (
    ADDRESS,
    ADDRESSES,
    CONFIG,
    COUNTER_NAMES,
    ERRORS,
    HALVES,
    JOB_WORDS,
    NAMES,
    WINDOWS,
    WORD,
    RegisterModel,
    limits_word,
    shape_word,
)

from fusemax.spec import IDENTITY, INTERFACE_VERSION, Cause, register
from fusemax_hw.control.registers import Registers
from fusemax_hw.control.sequencer import sequencer_events

BITS = ("job_done", "job_interrupt", "nonfinite", "overflow", "emptied", "progress", "tile_skipped")
CLEARING = tuple(register(name).offset for name in ("INTERRUPT", "FLAGS_CLEAR", "COUNTERS_CLEAR"))
OFTEN = tuple(register(name).offset for name in ("CONTROL", "RING_TAIL", "RING_SIZE_LOG2", "WATCHDOG"))
#: Outputs that follow from registers, by the model's window or member.
WINDOW_OUTPUTS = {name.lower().replace("window_", ""): name for name in WINDOWS}
OUTPUTS = ("irq", "ring_base", "ring_size_log2", "tail", "halt", "clear", *WINDOW_OUTPUTS)


def random_inputs(rng, chance, model):
    """What the core tells in a cycle; ``chance`` says whether something happens that does with a probability."""
    full = model.tail - (1 << model.size) & 0xFFFF
    return {
        "head": rng.choice((model.tail, model.tail, rng.getrandbits(16), full, full - 1 & 0xFFFF)),
        **{name: rng.getrandbits(CONFIG.address_bits) for name in ADDRESSES},
        **{error: chance(0.005) for error in (*ERRORS, "fault")},
        "fault_cause": rng.choice((Cause.READ, Cause.DESCRIPTOR, Cause.PROGRAM, Cause.WINDOW)),
        **{name: rng.getrandbits(16) for name in ("job_index", "fault_job")},
        **{name: chance(0.5) for name in BITS},
        "events": {name: chance(0.5) for name in sequencer_events().members},
        **{name: CONFIG.bus_bytes * chance(0.7) for name in ("bytes_read", "bytes_written")},
    }


def random_address(rng):
    """A register's address, or one at which there is nothing."""
    return rng.choice(
        (
            *NAMES,
            *NAMES,
            *CLEARING,
            *CLEARING,
            *4 * OFTEN,
            *COUNTER_NAMES,
            *JOB_WORDS,
            0x70,
            0xFC,
            max(COUNTER_NAMES) + 4,
            0xFFC,
            4 * rng.getrandbits(10),
        )
    )


def random_write(rng):
    offset = random_address(rng)
    return offset, rng.choice((0, 1, 2, 3, rng.getrandbits(4), rng.getrandbits(32)))


class Stimulus:
    """Drives registers: accesses with pauses, and the core's inputs, mostly quiet and everything at once now and then."""

    def __init__(self, bench, model, accesses):
        self.model, dut, rng, bus = model, bench.dut, bench.rng, bench.dut.bus
        lively = bench.stalls(0.01, 0.1, 1.0)

        def chance(part):
            return int(lively() and rng.random() < part)

        bench.each(lambda: setattr(model, "inputs", random_inputs(rng, chance, model)))
        core = ("head", *ADDRESSES, *ERRORS, "fault", "fault_cause", "fault_job", "job_index", *BITS)
        for name in (*core, "bytes_read", "bytes_written"):
            bench.drive(getattr(dut, name), lambda name=name: model.inputs[name])
        for name in sequencer_events().members:
            bench.drive(getattr(dut.events, name), lambda name=name: model.inputs["events"][name])

        self.writes = [random_write(rng) for _ in range(accesses)]
        self.reads = [random_address(rng) for _ in range(accesses)]
        slow = (0.1, 0.5, 1.0)
        self.write_address = bench.source(bus.aw, [offset for offset, _ in self.writes], bench.stalls(*slow))
        write_data = [{"data": data, "strobe": 15} for _, data in self.writes]
        self.write_data = bench.source(bus.w, write_data, bench.stalls(*slow))
        self.read_address = bench.source(bus.ar, self.reads, bench.stalls(*slow))
        self.responses = bench.sink(bus.b, bench.stalls(*slow))
        self.answers = bench.sink(bus.r, bench.stalls(*slow))

    def write_in(self, cycle):
        """The write that takes effect in a cycle: it was accepted in the one before."""
        accepted = self.write_address.taken
        return self.writes[len(accepted) - 1] if accepted[-1:] == [cycle - 1] else None

    def reads_in(self, cycle):
        """Whether a read is answered from the state of this cycle."""
        return self.read_address.taken[-1:] == [cycle - 1]


class Checker:
    """Compares the outputs with the model's in every cycle, and then lets the model's cycle end."""

    def __init__(self, bench, model, stimulus):
        self.bench, self.model, self.stimulus = bench, model, stimulus
        #: Data of the reads so far, cycles in which a soft reset ended, causes that were seen.
        self.expected, self.ends, self.causes = [], [], set()
        self.seen = {}
        for name in OUTPUTS:
            bench.watch(getattr(bench.dut, name), lambda value, name=name: self.seen.update({name: value}))
        # Behind all other watchers.
        bench.watch(bench.dut.irq, lambda _: self._end_cycle())

    def _end_cycle(self):
        model, stimulus, cycle = self.model, self.stimulus, self.bench.cycle
        assert self.seen == self._outputs(), f"cycle {cycle}"
        if stimulus.reads_in(cycle):
            self.expected.append(model.read(stimulus.reads[len(self.expected)]))
        was_resetting = model.resetting
        model.step(stimulus.write_in(cycle))
        self.causes.add(Cause(model.cause))
        if was_resetting and not model.resetting:
            self.ends.append(cycle)

    def _outputs(self):
        model = self.model
        return {
            "irq": int(model.pending & model.enable != 0),
            "ring_base": model.base >> 8 << 8,
            **{output: model.windows[window] for output, window in WINDOW_OUTPUTS.items()},
            "ring_size_log2": model.size,
            "tail": model.tail,
            "halt": model.halted,
            "clear": model.clear,
        }


@pytest.mark.parametrize("seed", range(2, 4))
def test_registers(seed):
    bench, model, accesses = Bench(Registers(CONFIG), seed), RegisterModel(), 1200
    stimulus = Stimulus(bench, model, accesses)
    checker = Checker(bench, model, stimulus)
    responses, answers = stimulus.responses.received, stimulus.answers.received
    bench.run(lambda: min(len(responses), len(answers)) == accesses, 60 * accesses, settle=5)
    assert stimulus.write_address.taken == stimulus.write_data.taken
    assert responses == [0] * accesses
    assert answers == [{"data": data, "response": 0} for data in checker.expected]
    assert len(checker.ends) > 3
    assert len(checker.causes) > 6 and checker.causes >= {Cause.RING, Cause.TIMEOUT, Cause.ABORT}


def test_reset_values():
    bench = Bench(Registers(CONFIG), seed=0)
    offsets = range(0, 0x300, 4)
    bench.source(bench.dut.bus.ar, offsets)
    answers = bench.sink(bench.dut.bus.r)
    bench.run(lambda: len(answers.received) == len(offsets), 1000)
    fixed = {"IDENTITY": IDENTITY, "VERSION": INTERFACE_VERSION, "SHAPE": shape_word(), "LIMITS": limits_word()}
    fixed |= {f"{kind}_WINDOW_LAST_{half}": ADDRESS >> shift & WORD for kind in ("READ", "WRITE") for half, shift in HALVES}
    for offset, answer in zip(offsets, answers.received, strict=True):
        assert answer["data"] == fixed.get(NAMES.get(offset), 0), f"offset {offset:#x}"
