"""The array from bank loads to stored results, driven at the corner by a schedule's words, bit for bit the model's."""

import ml_dtypes
import numpy as np
import pytest
from amaranth.sim import Simulator

from fusemax.arith import bf16
from fusemax.arith.query_scale import scale_query
from fusemax.cascade import CASCADES
from fusemax.compiler.lowering import lower
from fusemax.compiler.mapper import map_cascade
from fusemax.compiler.micro import Operation
from fusemax.compiler.modulo_schedule import modulo_schedule
from fusemax.model.bitexact import attention
from fusemax.spec import Config, Timing
from fusemax_hw.array import Array
from fusemax_hw.words import NorthSource, OpCode, north_bus

E, F = 3, 2
KEY_TILES, QUERY_TILES = 2, 2
SCALE = np.float32(0.37)


def inputs(config: Config, queries: int, keys: int, seed: int):
    """Q, K and V as bfloat16 bits, each from its own seed."""
    shapes = ((queries, E), (keys, E), (keys, F))
    return tuple(
        bf16.to_bits(np.random.default_rng(seed + 1000 * index).normal(size=shape, scale=3).astype(ml_dtypes.bfloat16))
        for index, shape in enumerate(shapes)
    )


def loads(config: Config, q, k, v):
    """Bus words for the west and the north edge: (skip, beat, payload)."""
    elements, element_bits = config.beat_elements, north_bus(config).size
    assert max(E, F) <= elements
    west, north = [], []
    for key in range(KEY_TILES * config.rows):
        tile, row = divmod(key, config.rows)
        # Rows that do not exist hold what was there before: rubbish.
        for base, beats, array in ((0, config.key_beats, k), (2 * config.key_beats, config.value_beats, v)):
            line = array[key] if key < len(array) else np.array([0x7F7F, 0xFF80, 0x4000])
            payload = sum(int(bits) << 16 * index for index, bits in enumerate(line[:elements]))
            west.append((row, base + tile * beats, payload))
    scaled = scale_query(config, q, int(SCALE.view(np.uint32)))
    for query in range(len(q)):
        tile, column = divmod(query, config.columns)
        words = [
            north_bus(config).const({"operand": int(operand), "exponent": int(exponent)}).as_value().value
            for operand, exponent in zip(scaled.operand[query], scaled.exponent_word[query], strict=True)
        ]
        payload = sum((word % (1 << element_bits)) << element_bits * index for index, word in enumerate(words))
        north.append((column, tile * config.beats(E), payload))
    rng = np.random.default_rng(7)
    return [list(rng.permutation(np.array(part, dtype=object))) for part in (west, north)]


def corner_words(config: Config, queries: int, keys: int, v, closer: int = 0):
    """Slot -> (west, north, lane) fields; ``closer`` slots less than the timetable's from MAX to EXP."""
    timing = Timing(config)
    if closer:
        timing = Timing(config, feedback=timing.feedback - closer)
    micros = lower(map_cascade(CASCADES["attention_1pass"]), config, E, F).micros
    schedule = modulo_schedule(micros, config, E, F, timing=timing)
    words: dict[int, tuple[dict, dict, dict]] = {}
    tiles = [(key_tile, query_tile) for key_tile in range(KEY_TILES) for query_tile in range(QUERY_TILES)]
    for number, (key_tile, query_tile) in enumerate(tiles):
        hold = number % config.holds
        first, last = key_tile == 0, key_tile == KEY_TILES - 1
        tile_keys = min(config.rows, keys - key_tile * config.rows)
        for placed in schedule.placed:
            west, north, lane = words.setdefault(number * schedule.ii + placed.offset, ({}, {}, {}))
            index, operation = placed.index, placed.operation
            if operation is Operation.MAX:
                west |= {"max": 1, "hold_max": hold}
                lane |= {"max": 1, "first_max": first, "hold_max": hold, "reference": query_tile}
                continue
            if operation is Operation.MASK:
                west |= {"mask": 1}
                north |= {
                    "source": NorthSource.INTERVAL.value,
                    "lo": -512,
                    "hi": 511,
                    "keys": tile_keys,
                    "queries": queries - query_tile * config.columns,
                }
                continue
            west |= {"op": OpCode[operation.name].value, "keys": tile_keys}
            if operation is not Operation.QK:
                west |= {"hold": hold}
            if operation is Operation.QK:
                west |= {"first": index == 0, "beat": key_tile * config.key_beats, "element": index}
                north |= {"source": NorthSource.QUERY.value, "beat": query_tile * config.beats(E), "element": index}
            elif operation is Operation.EXP:
                north |= {"source": NorthSource.REFERENCE.value, "hold": hold}
            else:
                is_sum = operation is Operation.SUM
                lane |= {"sum": is_sum, "slnv": not is_sum, "first": first, "last": last, "hold": hold}
                lane |= {"state": query_tile * (F + 1) + (F if is_sum else index)}
                if not is_sum:
                    west |= {"beat": 2 * config.key_beats + key_tile * config.value_beats, "element": index}
                    lane |= {"element": index, "write": index == F - 1, "output": query_tile}
    return words


def run(config: Config, q, k, v, *, stalls: float = 0.0, closer: int = 0):
    """Output bits (queries, F) of the array, and whether it showed an overflow."""
    queries, keys = len(q), len(k)
    dut = Array(config)
    words = corner_words(config, queries, keys, v, closer)
    west_loads, north_loads = loads(config, q, k, v)
    rng = np.random.default_rng(3)
    out = np.zeros((QUERY_TILES * config.columns, F), np.uint16)
    overflow = False

    def west_fields(west: dict) -> dict:
        control = {name: west.pop(name) for name in ("op", "first", "max", "mask", "hold", "hold_max") if name in west}
        return {"control": control, **west}

    async def bench(ctx):
        nonlocal overflow
        for cycle in range(max(len(west_loads), len(north_loads))):
            for port, entries in ((dut.key_value_load, west_loads), (dut.query_load, north_loads)):
                if cycle < len(entries):
                    skip, beat, payload = map(int, entries[cycle])
                    ctx.set(port, {"valid": 1, "skip": skip, "beat": beat, "payload": payload})
                else:
                    ctx.set(port.valid, 0)
            await ctx.tick()
        # The next cycle's words find what was loaded, all along the edges.
        for port in (dut.key_value_load, dut.query_load):
            ctx.set(port.valid, 0)
        for slot in range(max(words) + 1):
            while rng.random() < stalls:
                for port in (dut.west, dut.north, dut.lane):
                    ctx.set(port, {})
                overflow |= bool(ctx.get(dut.overflow))
                await ctx.tick()
            west, north, lane = words.get(slot, ({}, {}, {}))
            ctx.set(dut.west, west_fields(dict(west)))
            ctx.set(dut.north, north)
            ctx.set(dut.lane, lane)
            overflow |= bool(ctx.get(dut.overflow))
            await ctx.tick()
        for port in (dut.west, dut.north, dut.lane):
            ctx.set(port, {})
        for _ in range(Timing(config).corner_to_output):
            await ctx.tick()
        requests = [(lane, tile) for tile in range(QUERY_TILES) for lane in range(config.columns)]
        for cycle in range(len(requests) + config.columns):
            if cycle < len(requests):
                lane, tile = requests[cycle]
                ctx.set(dut.store, {"valid": 1, "skip": lane, "output": tile})
            else:
                ctx.set(dut.store, {})
            if cycle >= config.columns:
                answer = ctx.get(dut.store_out)
                assert answer.valid
                assert answer.done
                lane, tile = requests[cycle - config.columns]
                for index in range(F):
                    out[tile * config.columns + lane, index] = answer.payload >> 16 * index & 0xFFFF
            await ctx.tick()

    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
    return out[:queries], overflow


@pytest.mark.parametrize(
    ("changes", "stalls"),
    [
        ({}, 0.3),
        ({"rows": 4, "columns": 2, "pe_latency": 2}, 0.0),
        ({"rows": 2, "columns": 3, "pe_latency": 5, "contexts": 5}, 0.1),
        ({"rows": 5, "columns": 3, "pe_latency": 3, "contexts": 2}, 0.1),
    ],
)
def test_attention_of_two_tiles_by_two(changes, stalls):
    config = Config(**{"rows": 3, "columns": 5, "max_e": 4, "max_f": 4, **changes})
    queries, keys = QUERY_TILES * config.columns - 1, KEY_TILES * config.rows - 1
    q, k, v = inputs(config, queries, keys, seed=5)
    out, overflow = run(config, q, k, v, stalls=stalls)
    expected = attention(config, q, k, v, SCALE, out_float32=False)
    np.testing.assert_array_equal(out, expected.out_bits)
    assert not overflow


def test_distance_from_max_to_exp_is_exact():
    """A slot earlier than the timetable's the reference is not there yet."""
    config = Config(rows=3, columns=5, max_e=4, max_f=4)
    queries, keys = QUERY_TILES * config.columns, KEY_TILES * config.rows
    q, k, v = inputs(config, queries, keys, seed=6)
    expected = attention(config, q, k, v, SCALE, out_float32=False).out_bits
    np.testing.assert_array_equal(run(config, q, k, v)[0], expected)
    assert (run(config, q, k, v, closer=1)[0] != expected).any()


def test_overflow_is_shown():
    config = Config(rows=3, columns=2, max_e=4, max_f=4)
    q, k, v = inputs(config, QUERY_TILES * config.columns, KEY_TILES * config.rows, seed=7)
    q[-1, 1] = bf16.to_bits(np.float32(3e7).reshape(1))[0]
    out, overflow = run(config, q, k, v)
    expected = attention(config, q, k, v, SCALE, out_float32=False)
    assert expected.overflow
    assert overflow
    # The other queries are not concerned.
    np.testing.assert_array_equal(out[:-1], expected.out_bits[:-1])
