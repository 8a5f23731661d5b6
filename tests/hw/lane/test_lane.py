"""The lane against the models of its operators, on random streams of words."""

import dataclasses
from collections import defaultdict

import ml_dtypes
import numpy as np
import pytest
from amaranth.hdl import Value
from amaranth.sim import Simulator

from fusemax.arith import state
from fusemax.arith.output import divide
from fusemax.arith.reference import update_reference
from fusemax.spec import Config, Timing
from fusemax_hw.lane.lane import Lane


@dataclasses.dataclass
class Tile:
    """One query tile's visit to one key tile, as the lane sees it."""

    query: int
    first: bool
    last: bool
    f: int
    float32: bool
    base: int  #: state address
    state_out: bool
    raw_out: bool
    outputs: list[int]  #: output buffer address of reference and denominator, if they go out, and per result


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


def one(values):
    return int(np.asarray(values))


def to_float32(value, bfloat16=False):
    """Bits of a state float rounded to float32 or bfloat16 (exact rationals, ml_dtypes)."""
    exact = float(value.significand) * 2.0 ** (float(value.exponent) - 23) * (-1) ** int(value.sign)
    exact = exact if value.significand else 0.0
    tiny = abs(exact) < 2.0**-126
    rounded = np.float32(0.0 if tiny else exact)
    if bfloat16:
        return int(rounded.astype(ml_dtypes.bfloat16).view(np.uint16))
    return int(rounded.view(np.uint32))


class Model:
    """What the lane holds, word by word."""

    def __init__(self, config):
        self.config = config
        self.references = {}
        self.states = {}
        self.distances = {}
        self.denominators = {}
        self.latest = {}
        self.pending = [0] * config.beat_elements

    def max(self, tile, hold, value, valid):
        old, old_valid = self.references.get(tile.query, (0, False))
        new = update_reference(self.config, old, old_valid and not tile.first, value, valid)
        self.references[tile.query] = one(new.reference), bool(new.valid)
        self.distances[hold] = one(new.distance)
        self.latest[hold] = one(new.reference) if new.valid else 0
        return self.references[tile.query]

    def add(self, tile, step, hold, value, grid):
        """The bus word that is complete with this result, or None."""
        address = tile.base + (step - 1 if step else tile.f)
        unit = -self.config.sum_frac_bits + (grid - 127 if step else 0)
        before = state.zeros(()) if tile.first else self.states[address]
        after = state.accumulate(before, self.distances[hold], value, unit, self.config.sum_bits)
        self.states[address] = after
        if not tile.last:
            return None
        if step == 0:
            self.denominators[hold] = after
            return one(to_float32(after)) << 32 | self.latest[hold] & 0xFFFFFFFF if tile.state_out else None
        if tile.raw_out:
            result = one(to_float32(after)) if tile.float32 else one(to_float32(after, bfloat16=True))
        else:
            result = one(divide(after, self.denominators[hold], tile.float32))
        element = (step - 1) % (self.config.beat_elements // (2 if tile.float32 else 1))
        if tile.float32:
            self.pending[2 * element : 2 * element + 2] = result & 0xFFFF, result >> 16
        else:
            self.pending[element] = result
        if not writes(tile, step):
            return None
        word = sum(value << 16 * place for place, value in enumerate(self.pending))
        self.pending = [0] * self.config.beat_elements
        return word


def writes(tile, step):
    """The bus word is complete: the row ends, or the next result has another address."""
    return tile.state_out if step == 0 else step == tile.f or tile.outputs[step] != tile.outputs[step + 1]


def run(config, jobs, gap, seed, max_first=0.5):
    rng = np.random.default_rng(seed)
    lane = Lane(config)
    tiles = list(tiles_of(rng, config, jobs))
    slots = issue(rng, config, tiles, gap, max_first)
    model = Model(config)
    score_top, sum_top = 1 << config.score_bits - 1, 1 << config.sum_bits - 1

    # What goes in, cycle by cycle, and what must come out. The partial value of the word in cycle n is there in n + 1 = T.
    words, partials = [], []
    references, overflows, requests = {}, set(), {}
    level = defaultdict(int)
    for slot, entry in enumerate(slots):
        word = {
            name: int(rng.integers(0, 1 << len(Value.cast(getattr(lane.word, name))))) for name in lane.word.shape().members
        }
        word |= {"max": 0, "sum": 0, "slnv": 0}
        partial = {
            "value": int(rng.integers(-sum_top, sum_top)),
            "valid": int(rng.integers(0, 2)),
            "overflow": int(rng.integers(0, 2)),
        }
        if entry is not None:
            number, step = entry
            tile, hold, now = tiles[number], number % config.holds, slot + 1
            if step == -1:
                word |= {"max": 1, "hold_max": hold, "first_max": int(tile.first), "reference": tile.query}
                # Scores that rise a little, fall, or jump; some out of sight.
                if tile.first:
                    level[tile.query] = int(rng.integers(-score_top, score_top))
                level[tile.query] += int(rng.integers(-2, 6)) << config.score_frac_bits
                value = level[tile.query] + rng.integers(-70000, 70000)
                if rng.random() < 0.2:
                    value = rng.integers(-score_top, score_top)
                partial["value"] = int(np.clip(value, -score_top, score_top - 1))
                if rng.random() < 0.2:
                    partial["value"] &= -1 << config.score_frac_bits
                partial["valid"] = int(rng.random() < 0.7)
                references[now + 2] = (hold, *model.max(tile, hold, partial["value"], bool(partial["valid"])))
                partial["value"] = ~partial["value"]
                if partial["overflow"]:
                    overflows.add(now + 1)
            else:
                if tile.last:
                    word |= {"output": tile.outputs[step], "write": int(writes(tile, step))}
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
                if rng.random() < 0.8:
                    word["grid"] = int(rng.integers(110, 145))
                shift = int(rng.integers(0, config.sum_bits - 1)) if rng.random() < 0.5 else config.sum_bits - 28
                partial["value"] >>= shift
                if step == 0:
                    partial["value"] = abs(partial["value"])
                if rng.random() < 0.1:
                    partial["value"] = 0
                done = model.add(tile, step, hold, partial["value"], word["grid"])
                if done is not None:
                    cycle = now + lane.output_latency + int(rng.choice([0, 0, 1, 3]))
                    while cycle in requests:
                        cycle += 1
                    requests[cycle] = tile.outputs[step], done
        words.append(word)
        partials.append(partial)

    cycles = len(slots) + lane.output_latency + 20
    checked = {"reference": 0, "overflow": 0, "store": 0, "passed": 0}

    async def testbench(ctx):
        expected_store = None
        for cycle in range(cycles):
            word = words[cycle] if cycle < len(words) else dict.fromkeys(lane.word.shape().members, 0)
            ctx.set(lane.word, word)
            if 0 < cycle <= len(partials):
                ctx.set(lane.partial, partials[cycle - 1])
            payload = int.from_bytes(rng.bytes(config.bus_bytes), "little")
            if cycle in requests:
                address, content = requests[cycle]
                request = {"valid": 1, "skip": 0, "done": 0, "output": address, "payload": payload}
                next_store = request | {"done": 1, "payload": content}
            else:
                request = {
                    "valid": int(rng.integers(0, 2)),
                    "skip": int(rng.integers(0, 256)),
                    "done": int(rng.integers(0, 2)),
                    "output": int(rng.integers(0, config.output_beats)),
                    "payload": payload,
                }
                if request["skip"] == 0 and not request["done"]:
                    request["valid"] = 0
                next_store = request | {"skip": request["skip"] - (1 - request["done"])}
            ctx.set(lane.store, request)

            if cycle > 0 and cycle <= len(words):
                assert ctx.get(Value.cast(lane.word_out)) == Value.cast(lane.word_out.shape().const(words[cycle - 1])).value
            reference = ctx.get(lane.reference_out)
            assert reference.valid == (cycle in references)
            if reference.valid:
                hold, value, valid = references[cycle]
                assert reference.hold == hold
                assert not valid or reference.reference == value
                checked["reference"] += 1
            assert ctx.get(lane.overflow) == (cycle in overflows)
            if expected_store is not None and expected_store["valid"]:
                got = ctx.get(lane.store_out)
                assert (got.valid, got.done, got.payload) == (1, expected_store["done"], expected_store["payload"])
                if not expected_store["done"]:
                    assert (got.skip, got.output) == (expected_store["skip"], expected_store["output"])
                    checked["passed"] += 1
                checked["store"] += 1
            elif expected_store is not None:
                assert ctx.get(lane.store_out.valid) == 0
            expected_store = next_store
            await ctx.tick()

    simulator = Simulator(lane)
    simulator.add_clock(1e-6)
    simulator.add_testbench(testbench)
    simulator.run()
    assert checked["reference"] == len(tiles)
    assert checked["passed"] > 20
    assert checked["store"] >= len(requests) > 0
    return slots, tiles


def config_with(contexts, bus_bits, **changes):
    return Config(rows=4, columns=4, max_e=4, max_f=9, query_tiles=2, contexts=contexts, bus_bits=bus_bits, **changes)


@pytest.mark.parametrize(
    ("contexts", "bus_bits", "changes", "gap"),
    [
        (2, 64, {}, 0.0),
        (3, 64, {}, 0.3),
        (4, 128, {"score_bits": 34}, 0.1),
        (3, 32, {"score_bits": 26, "score_frac_bits": 16}, 0.0),
    ],
)
def test_random_streams(contexts, bus_bits, changes, gap):
    config = config_with(contexts, bus_bits, **changes)
    rng = np.random.default_rng(contexts)
    jobs = [
        (int(rng.integers(1, 10)), int(rng.integers(1, 3)), int(rng.integers(1, 7)), bool(number % 2)) for number in range(40)
    ]
    run(config, jobs, gap, seed=bus_bits)


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
