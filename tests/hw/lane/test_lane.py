"""The lane against the models of its operators, on random streams of words."""

import dataclasses
from collections import defaultdict

import numpy as np
import pytest
from amaranth.hdl import Value
from amaranth.sim import Simulator
from lane_model import LaneModel, Tile, writes_word

from fusemax.arith.column_sum import NO_COARSE, TOP_COARSE
from fusemax.spec import Config, Timing
from fusemax_hw.lane.lane import Lane


def tiles_of(rng, config, jobs):
    """Tiles of random jobs: ``jobs`` holds (F, query tiles, key tiles, float32)."""
    written = 0
    for f, queries, keys, float32 in jobs:
        per_word = config.beat_elements // (2 if float32 else 1)
        for key in range(keys):
            for query in range(queries):
                last = key == keys - 1
                outputs = []
                state_out = config.bus_bits >= 64 and bool(rng.integers(2))
                if last:
                    outputs = [written % config.output_beats]
                    written += state_out
                    outputs += [(written + i // per_word) % config.output_beats for i in range(f)]
                    written += -(-f // per_word)
                yield Tile(query, key == 0, last, f, float32, query * (f + 1), state_out, bool(rng.integers(2)), outputs)


def issue(rng, config, tiles, gap, max_first):
    """Order of the words: pairs of a tile's number and its step (-1: MAX, 0: SUM, 1 + f: SLNV), or None.

    As early as the distances allow, except for idle slots with probability ``gap``. Where MAX and another word are both
    allowed, MAX goes first with probability ``max_first``.
    """
    recurrence = Timing(config).recurrence
    slots = []
    max_slot, state_slot, reference_slot = {}, defaultdict(lambda: -100), defaultdict(lambda: -100)
    next_max, tile, step = 0, 0, 0
    while tile < len(tiles):
        slot = len(slots)
        if rng.random() < gap:
            slots.append(None)
            continue
        address = tiles[tile].base + (step - 1 if step else tiles[tile].f)
        can_add = slot >= max_slot.get(tile, slot) + 3 and slot >= state_slot[address] + recurrence
        can_max = next_max < min(tile + config.holds, len(tiles)) and slot >= reference_slot[tiles[next_max].query] + 3
        if can_max and (not can_add or rng.random() < max_first):
            slots.append((next_max, -1))
            max_slot[next_max] = reference_slot[tiles[next_max].query] = slot
            next_max += 1
        elif can_add:
            slots.append((tile, step))
            state_slot[address] = slot
            step += 1
            if step > tiles[tile].f:
                tile, step = tile + 1, 0
        else:
            slots.append(None)
    return slots


@dataclasses.dataclass
class Stream:
    """What goes into the lane, cycle by cycle, and what must come out.

    The partial value of the word in cycle n is there in n + 1; its coarse exponent is that of its index in ``coarse``.
    """

    words: list[dict] = dataclasses.field(default_factory=list)
    partials: list[dict] = dataclasses.field(default_factory=list)
    coarse: list[int] = dataclasses.field(default_factory=list)
    #: Hold, reference and whether it is valid, by cycle.
    references: dict[int, tuple] = dataclasses.field(default_factory=dict)
    overflows: set[int] = dataclasses.field(default_factory=set)
    #: Requests of the store engine, by cycle: address and what is to be there.
    requests: dict[int, tuple[int, int]] = dataclasses.field(default_factory=dict)


class Driver:
    """Makes words of slots, and has the model say what they do."""

    def __init__(self, rng, lane, config, fixed):
        self.rng, self.lane, self.config, self.fixed = rng, lane, config, fixed
        self.model = LaneModel(config)
        self.level = defaultdict(int)
        self.stream = Stream()

    def word(self, tiles, entry):
        """Append a slot's word, in which nothing is meant that the slot does not need."""
        rng, lane, stream = self.rng, self.lane, self.stream
        sum_top = 1 << self.config.sum_bits - 1
        word = {
            name: int(rng.integers(0, 1 << len(Value.cast(getattr(lane.word, name))))) for name in lane.word.shape().members
        }
        word |= {"max": 0, "sum": 0, "slnv": 0}
        partial = {
            "value": int(rng.integers(-sum_top, sum_top)),
            "valid": int(rng.integers(0, 2)),
            "overflow": int(rng.integers(0, 2)),
        }
        coarse = int(rng.integers(TOP_COARSE + 1))
        if self.config.linear:
            # LIN leaves nothing but its overflow.
            lin = entry is None and rng.random() < 0.5
            word |= {"fixed": int(self.fixed), "check": int(lin)}
            if lin and partial["overflow"]:
                stream.overflows.add(len(stream.words) + 2)
        if entry is not None:
            number, step = entry
            tile, hold = tiles[number], number % self.config.holds
            if step == -1:
                self.maximum(tile, hold, word, partial)
            else:
                coarse = self.sum(tile, step, hold, word, partial, coarse)
        stream.words.append(word)
        stream.partials.append(partial)
        stream.coarse.append(coarse)

    def maximum(self, tile, hold, word, partial):
        """MAX: scores that rise a little, fall, or jump; some out of sight."""
        rng, config, now = self.rng, self.config, len(self.stream.words) + 1
        score_top = 1 << config.score_bits - 1
        word |= {"max": 1, "hold_max": hold, "first_max": int(tile.first), "reference": tile.query}
        if tile.first:
            self.level[tile.query] = int(rng.integers(-score_top, score_top))
        self.level[tile.query] += int(rng.integers(-2, 6)) << config.score_frac_bits
        value = self.level[tile.query] + rng.integers(-70000, 70000)
        if rng.random() < 0.2:
            value = rng.integers(-score_top, score_top)
        score = int(np.clip(value, -score_top, score_top - 1))
        if rng.random() < 0.2:
            score &= -1 << config.score_frac_bits
        partial |= {"value": ~score, "valid": int(rng.random() < 0.7)}
        if config.linear:
            word["check"] = 1
        if self.fixed:
            word["max"] = 0
            self.model.distances[hold] = self.model.latest[hold] = 0
        else:
            self.stream.references[now + 2] = (hold, *self.model.max(tile, hold, score, bool(partial["valid"])))
        if partial["overflow"]:
            self.stream.overflows.add(now + 1)

    def sum(self, tile, step, hold, word, partial, coarse):
        """SUM or SLNV; the coarse exponent of its partial value."""
        rng, config, now = self.rng, self.config, len(self.stream.words) + 1
        if tile.last:
            word |= {"output": tile.outputs[step], "write": int(writes_word(tile, step))}
        if tile.last and step:
            word["element"] = (step - 1) % (config.beat_elements // (2 if tile.float32 else 1))
        word |= {
            "raw_out": int(tile.raw_out),
            "sum" if step == 0 else "slnv": 1,
            "first": int(tile.first),
            "last": int(tile.last),
            "hold": hold,
            "state": tile.base + (step - 1 if step else tile.f),
            "float32_out": int(tile.float32),
        }
        # Mostly sums of about one size, so that states are not lost.
        if step == 0 or rng.random() < 0.8:
            coarse = int(rng.integers(46, 49))
        shift = int(rng.integers(0, config.sum_bits - 1)) if rng.random() < 0.5 else config.sum_bits - 28
        partial["value"] >>= shift
        if step == 0:
            partial["value"] = abs(partial["value"])
        if rng.random() < 0.1:
            partial["value"] = 0
            coarse = int(rng.choice([NO_COARSE, coarse]))
        done = self.model.add(tile, step, hold, partial["value"], coarse)
        if done is not None:
            cycle = now + self.lane.output_latency + int(rng.choice([0, 0, 1, 3]))
            while cycle in self.stream.requests:
                cycle += 1
            self.stream.requests[cycle] = tile.outputs[step], done
        return coarse

    def store(self, cycle):
        """Request at ``store``, and what ``store_out`` must show a cycle later."""
        rng, config = self.rng, self.config
        payload = int.from_bytes(rng.bytes(config.bus_bytes), "little")
        if cycle in self.stream.requests:
            address, content = self.stream.requests[cycle]
            request = {"valid": 1, "skip": 0, "done": 0, "output": address, "payload": payload}
            return request, request | {"done": 1, "payload": content}
        request = {
            "valid": int(rng.integers(0, 2)),
            "skip": int(rng.integers(0, 256)),
            "done": int(rng.integers(0, 2)),
            "output": int(rng.integers(0, config.output_beats)),
            "payload": payload,
        }
        if request["skip"] == 0 and not request["done"]:
            request["valid"] = 0
        return request, request | {"skip": request["skip"] - (1 - request["done"])}


class Checker:
    """Compares the lane's outputs with the stream's, and counts what it has seen."""

    def __init__(self, lane, stream):
        self.lane, self.stream = lane, stream
        self.seen = {"reference": 0, "store": 0, "passed": 0}

    def cycle(self, ctx, cycle, expected_store):
        lane, stream = self.lane, self.stream
        if 0 < cycle <= len(stream.words):
            word = lane.word_out.shape().const(stream.words[cycle - 1])
            assert ctx.get(Value.cast(lane.word_out)) == Value.cast(word).value
        assert ctx.get(lane.overflow) == (cycle in stream.overflows)
        self.reference(ctx.get(lane.reference_out), stream.references.get(cycle))
        if expected_store is not None:
            self.store(ctx.get(lane.store_out), expected_store)

    def reference(self, got, expected):
        assert got.valid == (expected is not None)
        if expected is not None:
            hold, value, valid = expected
            assert got.hold == hold
            assert not valid or got.reference == value
            self.seen["reference"] += 1

    def store(self, got, expected):
        assert got.valid == expected["valid"]
        if not expected["valid"]:
            return
        assert (got.done, got.payload) == (expected["done"], expected["payload"])
        if not expected["done"]:
            assert (got.skip, got.output) == (expected["skip"], expected["output"])
            self.seen["passed"] += 1
        self.seen["store"] += 1


def run(config, jobs, gap, seed, max_first=0.5, fixed=False):
    """Slots and tiles of a random stream that has gone through a lane as through the model."""
    rng = np.random.default_rng(seed)
    lane, lead = Lane(config), Timing(config).coarse_lead
    tiles = list(tiles_of(rng, config, jobs))
    slots = issue(rng, config, tiles, gap, max_first)
    driver = Driver(rng, lane, config, fixed)
    for entry in slots:
        driver.word(tiles, entry)
    stream = driver.stream
    checker = Checker(lane, stream)

    async def testbench(ctx):
        idle = dict.fromkeys(lane.word.shape().members, 0)
        expected_store = None
        for cycle in range(len(slots) + lane.output_latency + 20):
            ctx.set(lane.word, stream.words[cycle] if cycle < len(slots) else idle)
            partial = stream.partials[cycle - 1] if 0 < cycle <= len(slots) else {}
            ahead = cycle - 1 + lead
            coarse = stream.coarse[ahead] if 0 <= ahead < len(slots) else 0
            ctx.set(lane.partial, partial | {"coarse": coarse})
            request, next_store = driver.store(cycle)
            ctx.set(lane.store, request)
            checker.cycle(ctx, cycle, expected_store)
            expected_store = next_store
            await ctx.tick()

    simulator = Simulator(lane)
    simulator.add_clock(1e-6)
    simulator.add_testbench(testbench)
    simulator.run()
    assert checker.seen["reference"] == (0 if fixed else len(tiles))
    assert checker.seen["passed"] > 20
    assert checker.seen["store"] >= len(stream.requests) > 0
    return slots, tiles


def config_with(contexts, bus_bits, **changes):
    return Config(rows=4, columns=4, max_e=4, max_f=9, query_tiles=2, contexts=contexts, bus_bits=bus_bits, **changes)


@pytest.mark.parametrize(
    ("contexts", "bus_bits", "changes", "gap", "fixed"),
    [
        (2, 64, {}, 0.0, False),
        (3, 64, {}, 0.3, False),
        (4, 128, {"score_bits": 34, "pe_latency": 5}, 0.1, False),
        (3, 64, {"pe_latency": 2}, 0.1, False),
        (3, 32, {"score_bits": 26, "score_frac_bits": 16}, 0.0, False),
        (3, 64, {"linear": True}, 0.2, False),
        (3, 64, {"linear": True}, 0.2, True),
    ],
)
def test_random_streams(contexts, bus_bits, changes, gap, fixed):
    config = config_with(contexts, bus_bits, **changes)
    rng = np.random.default_rng(contexts)
    jobs = [
        (int(rng.integers(1, 10)), int(rng.integers(1, 3)), int(rng.integers(1, 7)), bool(number % 2)) for number in range(40)
    ]
    run(config, jobs, gap, seed=bus_bits, fixed=fixed)


def test_smallest_initiation_interval():
    config = config_with(3, 64)
    recurrence = Timing(config).recurrence
    slots, tiles = run(config, [(recurrence - 2, 1, 60, True), (recurrence - 2, 1, 60, False)], 0.0, seed=9, max_first=1.0)
    sums = np.flatnonzero([entry is not None and entry[1] == 0 for entry in slots])
    assert np.sum(np.diff(sums) == recurrence) > 100
    assert {tile.query for tile in tiles} == {0}


def test_latencies_are_the_timetable_s(monkeypatch):
    monkeypatch.setattr("fusemax_hw.lane.lane.Output.latency", 3)
    with pytest.raises(ValueError, match="latency of Output must be 6, not 3"):
        Lane(config_with(3, 64))


def test_output_latency_is_the_timetable_s():
    """Beside the way to the lane, and a cycle from the lane's answer to the store engine."""
    config = config_with(3, 64)
    way = Timing(config).feeder + config.rows + config.pe_latency - 1
    assert Timing(config).corner_to_output == way + Lane(config).output_latency + 1
