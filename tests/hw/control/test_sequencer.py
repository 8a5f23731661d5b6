"""Sequencer with compiled programs, compared cycle by cycle with a model that keeps iterations in a list.

The model knows what every word of the loop means for the tile of its stage's iteration; everything that the sequencer gives
out (words, releases, events) follows from the cycles in which it takes microwords and tiles, and it must take them exactly
when it can.
"""

from dataclasses import dataclass, replace

import pytest
from bench import Bench, Stalls, unpack
from jobs import random_job, random_mask, tiles_of
from models.sequencer import INTERVAL, SLOTS, STALLS, SequencerModel

import fusemax
from fusemax.spec import MICROWORD, Config, Op
from fusemax_hw.control.sequencer import Sequencer, sequencer_events
from fusemax_hw.words import NorthSource

PULSES = ("query_release", "key_release", "value_release", "mask_release", "bias_release", "results_issued")


def corner(config, fixed_reference, west, north, lane):
    """The outputs in the model's terms."""
    control = west["control"]
    op = Op(control["op"])
    if op is Op.SLNV and config.entropy and control["first"]:
        op = Op.ENT
    maximum = control["max"] and not fixed_reference
    assert (lane["sum"], lane["slnv"], lane["max"]) == (op is Op.SUM, op in (Op.SLNV, Op.ENT), maximum)
    if config.linear:
        assert lane["check"] == (control["max"] or op is Op.LIN)
        assert lane["fixed"] == fixed_reference or op is Op.NOP
    if (config.functions or config.entropy) and (op is not Op.NOP or control["mask"]):
        assert west["constant"] == (op in (Op.SET, Op.ADD, Op.ENT)) or op is Op.QK
    assert west["row"] == 0
    out = {"op": op, "max": control["max"], "mask": control["mask"]}
    if control["max"]:
        assert lane["hold_max"] == control["hold_max"]
        out |= {"hold_max": control["hold_max"], "first_max": lane["first_max"], "reference": lane["reference"]}
    if control["mask"]:
        out |= {"source": north["source"]} | {name: north[name] for name in INTERVAL}
        out |= {"bits_beat": north["beat"], "bits_element": north["element"]}
    clears = op is Op.QK and config.functions and west["constant"]
    if op is Op.QK and west["bias"]:
        out |= {"first": control["first"], "bias_row": west["keys"], "source": north["source"]}
        out |= {"north_beat": north["beat"], "north_element": north["element"]}
    elif op is Op.QK and not clears:
        out |= {
            "first": control["first"],
            "west_beat": west["beat"],
            "west_element": west["element"],
            "west_keys": west["keys"],
            "source": north["source"],
        }
        out |= {"north_beat": north["beat"], "north_element": north["element"]}
    if op in (Op.EXP, Op.LIN):
        out |= {"source": north["source"], "first": control["first"]}
        if north["source"] == NorthSource.CONSTANT.value:
            out["constant"] = north["keys"] - 512 if north["keys"] > 255 else north["keys"]
        else:
            assert north["hold"] == lane["hold"]
    if op in (Op.EXP, Op.LIN, Op.SET) and config.linear:
        out["made"] = control["hold_max"]
    if op in (Op.SET, Op.ADD, Op.ENT) or clears:
        out |= {"sig": west["sig"], "shift": west["exponent"], "first": control["first"]}
    if op in (Op.SUM, Op.SLNV, Op.ENT):
        out |= {
            "tile_first": lane["first"],
            "tile_last": lane["last"],
            "state": lane["state"],
            "float32_out": lane["float32_out"],
            "raw_out": lane["raw_out"],
        }
    if op not in (Op.NOP, Op.QK):
        out["hold"] = control["hold"]
    if op is Op.SLNV:
        out |= {"west_beat": west["beat"], "west_element": west["element"], "west_keys": west["keys"]}
    if op in (Op.SLNV, Op.ENT):
        out |= {"element": lane["element"], "write": lane["write"], "output": lane["output"]}
    elif lane["write"]:
        assert op is Op.SUM
        out |= {"write": 1, "output": lane["output"]}
    return out


@dataclass(frozen=True)
class Words:
    """Microwords that need not make sense: the sequencer takes them one by one."""

    e: int
    f: int
    microwords: tuple[int, ...]

    @property
    def ii(self):
        return len(self.microwords)


def all_operations(rng, config, e, f):
    """Every operation that the machine has, for random registers and constants; weights are read an iteration later."""
    own = config.functions or config.entropy

    def registers():
        return {"src": rng.getrandbits(1), "dst": rng.getrandbits(1)} if config.functions else {}

    def some(op, stage=0):
        index = rng.getrandbits(9) if op in (Op.SET, Op.ADD) else 0
        constant = rng.randrange(128) if op in (Op.SET, Op.ADD) else rng.randrange(-128, 128) if op is Op.EXP else 0
        first = rng.getrandbits(1) if config.functions or op is Op.LIN else 0
        return {"op": op, "stage": stage, "index": index, "first": first, "constant": constant, **registers()}

    words = [{"op": Op.QK, "index": index, "first": not index, "last": index == e - 1} for index in range(e)]
    words[0]["max"] = not own or rng.getrandbits(1)
    words += [{"op": Op.BIAS, "index": row, "first": not row, "last": row == config.rows - 1} for row in range(config.rows)]
    words += [{"max": 1, "dst": 1} for _ in range(own * rng.randrange(1, 3))]
    middle = [some(Op.EXP), *([some(Op.LIN)] if config.linear else [])]
    middle += [some(rng.choice((Op.SET, Op.ADD))) for _ in range(6 * config.functions)]
    middle += [{"op": Op.QK, "first": 1, "src": 1}] * config.functions
    words += rng.sample(middle, len(middle))
    words.append({"op": Op.SUM, "stage": 1, "index": f, "mask": 1})
    slices = 3 * config.entropy
    words += [{"op": Op.ENT, "stage": 1, "index": index, "first": not index} for index in range(slices)]
    return tuple(
        MICROWORD.pack(word)
        for word in (
            *words,
            *(
                {"op": Op.SLNV, "stage": 1, "index": index, "first": index == slices, "last": index == f - 1}
                for index in range(slices, f)
            ),
        )
    )


class Case:
    """A program, and random jobs with their tiles."""

    def __init__(self, rng, config, e, f, jobs, **flags):
        self.config = config
        self.flags = flags
        if config.linear or config.entropy:
            self.program = Words(e, f, all_operations(rng, config, e, f))
        else:
            self.program = fusemax.compile(head_dim=e, value_dim=f, config=config, bias=bool(rng.getrandbits(1)))
        has_bias = any(MICROWORD.unpack(word)["op"] == Op.BIAS for word in self.program.microwords)
        self.jobs = []
        # Another number of rooms comes only after the machine has drained.
        slots = rng.choice((1, 1, 2))
        for index in range(jobs):
            job = random_job(
                rng, config, e, f, queries=2 * config.columns * config.query_tiles, keys=3 * config.rows, float32_out=index % 2
            )
            job |= {
                "restart": int(index == 0),
                "output_slots": slots,
                "state_out": rng.getrandbits(1),
                "raw_out": rng.getrandbits(1),
                "bias": int(has_bias),
                "values_in_keys": flags.get("values_in_keys", 0),
            }
            self.jobs.append(job | random_mask(rng, config, job))
        self.tiles = list(tiles_of(config, self.jobs))


class Stimulus:
    """Drives a sequencer: microwords without end, tiles, and memories that fill and empty at their own pace.

    ``pulses`` are what the sequencer gave out in the cycle before: what was released may be loaded again, what was issued may
    be stored. ``now`` is what comes and goes in this cycle.
    """

    def __init__(self, bench, case, stalled):
        self.case, dut, ii = case, bench.dut, case.program.ii

        # Perhaps with pauses.
        def go(*paces):
            return bench.stalls(*paces) if stalled else bench.stalls(1.0)

        layout = dut.words.payload.shape()
        self.loop = [
            {"word": unpack(layout["word"].shape, word), "last": int(slot == ii - 1)}
            for slot, word in enumerate(case.program.microwords)
        ]
        self.words = bench.source(dut.words, self.loop, go(0.7, 1.0, 1.0))
        self.tiles = bench.source(dut.tiles, case.tiles, go(1 / 3 / ii, 0.1, 1.0, 1.0))

        self.pulses = dict.fromkeys(PULSES, 0)
        has_bias, in_keys = case.jobs[0]["bias"], case.jobs[0]["values_in_keys"]
        self.to_load = {
            "q": sum(tile["first"] for tile in case.tiles),
            "k": sum(tile["new_keys"] for tile in case.tiles),
            "v": sum(tile["new_keys"] for tile in case.tiles) * (not in_keys),
            "m": sum(tile["new_bits"] for tile in case.tiles),
            "b": sum(tile["new_keys"] for tile in case.tiles) * has_bias,
        }
        self.resident = dict.fromkeys("qkvmb", 0)
        self.room = {"q": case.jobs[0]["query_slots"], "k": 3 if in_keys else 2, "v": 2, "m": 2, "b": 2}
        self.paces = {name: Stalls(bench.rng, (0.0, 0.3 / ii, 1.0) if stalled else (1.0,), spell=10 * ii) for name in "qkvmbo"}
        self.stored = 0
        self.now = {}
        bench.each(self._load_and_store)
        for name, port in (
            ("q", "query_loaded"),
            ("k", "key_loaded"),
            ("v", "value_loaded"),
            ("m", "mask_loaded"),
            ("b", "bias_loaded"),
            ("o", "output_freed"),
        ):
            bench.drive(getattr(dut, port), lambda name=name: self.now[name])

    def _load_and_store(self):
        releases = [f"{name}_release" for name in ("query", "key", "value", "mask", "bias")]
        for name, release in zip("qkvmb", releases, strict=True):
            self.resident[name] -= self.pulses[release]
        self.stored += self.pulses["results_issued"]
        for name in "qkvmb":
            load = self.to_load[name] and self.resident[name] < self.room[name] and self.paces[name]()
            self.now[name] = int(bool(load))
            self.to_load[name] -= self.now[name]
            self.resident[name] += self.now[name]
        self.now["o"] = int(self.stored > 0 and self.paces["o"]())
        self.stored -= self.now["o"]

    def offered_in(self, cycle):
        """Whether a word was offered, the tile that was, if any, and whether they were taken; late in the cycle."""
        # Sources drop what is taken before this is called.
        taken = [source.taken[-1:] == [cycle] for source in (self.words, self.tiles)]
        tile = None
        if taken[1]:
            tile = self.case.tiles[len(self.tiles.taken) - 1]
        elif self.tiles._valid:
            tile = self.tiles.items[0]
        return self.words._valid or taken[0], tile, taken

    def go_on(self):
        """Give the loop once more when it ends."""
        if len(self.words.items) < 2:
            self.words.items.extend(self.loop)


class Expected:
    """What the model says that comes out: events and releases a cycle later, words at the corner two cycles later."""

    def __init__(self, model):
        self.model = model
        nothing = {"op": Op.NOP, "max": 0, "mask": 0}
        self.events, self._releases = {}, {}
        self._corners, self._results = [nothing, nothing], [0, 0]

    def step(self, word_offered, tile, now):
        """On to the next cycle; returns whether the word is taken, and whether a tile would be."""
        self.events, corner, pulses, issued, between = self.model.step(word_offered, tile, now, now["o"])
        self._corners.append(corner)
        self._results.append(pulses.pop("results_issued", 0))
        self._releases = pulses
        return issued, between

    def corner(self):
        return self._corners.pop(0)

    def pulses(self):
        return {name: self._releases.get(name, 0) for name in PULSES} | {"results_issued": self._results.pop(0)}


class Checker:
    """Watches a sequencer, compares every cycle with what is expected, and counts the events."""

    def __init__(self, bench, stimulus):
        self.bench, self.stimulus = bench, stimulus
        case = stimulus.case
        self.expected = Expected(SequencerModel(case.config, case.program, **case.flags))
        self.counts = dict.fromkeys(sequencer_events().members, 0)
        self.seen, dut = {}, bench.dut
        for name in PULSES:
            bench.watch(getattr(dut, name), lambda value, name=name: self.seen.update({name: value}))
        for name in ("west", "north", "lane", "events"):
            port = getattr(dut, name)
            bench.watch(port, lambda value, name=name, port=port: self.seen.update({name: unpack(port.shape(), value)}))
        # Behind all other watchers.
        bench.watch(dut.west.row, lambda _: self._end_cycle())

    def _end_cycle(self):
        self._compare()
        self.stimulus.pulses = {name: self.seen[name] for name in PULSES}
        word_offered, tile, taken = self.stimulus.offered_in(self.bench.cycle)
        issued, between = self.expected.step(word_offered, tile, self.stimulus.now)
        assert taken == [issued, between and tile is not None], f"cycle {self.bench.cycle}"
        self.stimulus.go_on()

    def _compare(self):
        cycle, seen = self.bench.cycle, self.seen
        events = {name: value for name, value in seen["events"].items() if value}
        if cycle:
            assert events == self.expected.events, f"cycle {cycle}"
            assert sum(events.get(name, 0) for name in (*SLOTS, *STALLS, "idle")) == 1, f"cycle {cycle}"
        for name in events:
            self.counts[name] += 1
        case = self.stimulus.case
        fixed = case.flags.get("fixed_reference", 0)
        assert corner(case.config, fixed, seen["west"], seen["north"], seen["lane"]) == self.expected.corner(), f"cycle {cycle}"
        assert {name: seen[name] for name in PULSES} == self.expected.pulses(), f"cycle {cycle}"

    def check_end(self):
        """Every tile went through all its operations, once and in order, and every buffer is free."""
        stimulus, model, program = self.stimulus, self.expected.model, self.stimulus.case.program
        done = [operations for tile, operations in zip(model.iterations, model.done, strict=True) if tile is not None]
        e, f, tiles = program.e, program.f, len(stimulus.case.tiles)
        words = [MICROWORD.unpack(word) for word in program.microwords]
        operations_of_a_tile = ["MASK", "last SLNV", *("MAX" for word in words if word["max"])]
        clears = [word for word in words if word["op"] == Op.QK and word["src"]]
        operations_of_a_tile += ["clear" for _ in clears]
        operations_of_a_tile += [
            f"{Op(word['op']).name} {word['index']}" for word in words if word["op"] and word not in clears
        ]
        assert len(done) == tiles
        for operations in done:
            assert sorted(operations) == sorted(operations_of_a_tile)
            for kind in ("QK", "SLNV"):
                order = [int(operation.split()[1]) for operation in operations if operation.startswith(kind + " ")]
                assert order == sorted(order)
        assert self.counts["tiles"] == tiles
        assert self.counts["slots_qk"] == (e + stimulus.case.config.functions) * tiles
        assert self.counts["slots_slnv"] == (f - 3 * stimulus.case.config.entropy) * tiles
        assert stimulus.resident == dict.fromkeys("qkvmb", 0)
        assert not any(stimulus.to_load.values())


def run(config, e, f, seed, jobs, stalled, **flags):
    """Work through random jobs; returns the stimulus and the checker."""
    bench = Bench(Sequencer(config), seed)
    case = Case(bench.rng, config, e, f, jobs, **flags)
    for name, value in flags.items():
        bench.drive(getattr(bench.dut, name), lambda value=value: value)
    stimulus = Stimulus(bench, case, stalled)
    checker = Checker(bench, stimulus)
    limit = 60 * case.program.ii * (len(case.tiles) + 5)
    model = checker.expected.model
    bench.run(lambda: len(stimulus.tiles.taken) == len(case.tiles) and not model.running, limit, settle=10)
    checker.check_end()
    return stimulus, checker


#: Machine, head dims, and seeds that meet everything that a sequencer can wait for.
MACHINES = [
    (Config(rows=4, columns=4, contexts=3, max_e=8, max_f=8, query_tiles=2), 5, 6, (0, 4, 11)),
    (Config(rows=2, columns=3, contexts=2, max_e=16, max_f=12, query_tiles=2, bus_bits=32), 16, 12, (0, 5, 8)),
    (Config(rows=6, columns=2, contexts=6, max_e=4, max_f=4, query_tiles=2, bus_bits=128), 1, 1, (0, 6, 9)),
]


@pytest.mark.parametrize("machine", range(3))
def test_issue(machine):
    config, e, f, seeds = MACHINES[machine]
    happened = set()
    for seed in seeds:
        _, checker = run(config, e, f, seed, jobs=max(2, 24 // (e + f)), stalled=True)
        happened |= {name for name, count in checker.counts.items() if count}
    assert happened == set(sequencer_events().members)


@pytest.mark.parametrize("machine", range(3))
def test_no_bubbles(machine):
    """If nothing is late, tiles follow each other in exactly the initiation interval, from job to job too."""
    config, e, f, _ = MACHINES[machine]
    stimulus, checker = run(config, e, f, seed=9, jobs=3, stalled=False)
    taken, ii, tiles = stimulus.tiles.taken, stimulus.case.program.ii, len(stimulus.case.tiles)
    assert taken == list(range(taken[0], taken[0] + ii * tiles, ii))
    assert not any(checker.counts[name] for name in STALLS)


@pytest.mark.parametrize(
    ("option", "flags"),
    [
        ({"linear": True}, {"fixed_reference": 1}),
        ({"entropy": True}, {}),
        ({"functions": True}, {"fixed_reference": 1, "spare_hold": 1}),
        ({"functions": True, "entropy": True}, {"fixed_reference": 0, "spare_hold": 0}),
        ({}, {"values_in_keys": 1}),
        ({"functions": True}, {"values_in_keys": 1}),
    ],
)
def test_options(option, flags):
    config = replace(MACHINES[0][0], **option)
    happened = set()
    for seed in (2, 3):
        _, checker = run(config, 5, 6, seed, jobs=2, stalled=True, **flags)
        happened |= {name for name, count in checker.counts.items() if count}
    assert happened >= {"slots_slnv", "slots_max", "tiles"} and happened & set(STALLS)
    assert "slots_function" in happened or not option
    assert not (flags.get("values_in_keys") and "stall_v" in happened)
