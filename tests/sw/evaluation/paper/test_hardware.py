"""This repository's machine: the analytic model against the cycle model, over shapes, machines and memories."""

import random

import pytest

import fusemax
from fusemax.evaluation.paper.hardware import attention_cost, keeps_up
from fusemax.evaluation.paper.machine import Unit
from fusemax.model.cycles import IdealMemory, cycles
from fusemax.planning.memory_map import Shape
from fusemax.spec import CONFIGS


def counters(shape: Shape, config: str, **timing: int):
    program = fusemax.compile(head_dim=shape.e, value_dim=shape.f, config=config)
    return cycles(program, shape, IdealMemory(**timing))


SHAPES = [
    ("base", 1, 64, 64, 64, 64),
    ("base", 1, 1024, 1024, 64, 64),
    ("base", 8, 256, 256, 64, 64),
    ("base", 12, 128, 128, 32, 32),
    ("base", 32, 64, 64, 64, 64),
    ("base", 1, 1024, 1024, 128, 128),
    ("base", 2, 300, 333, 48, 64),
    ("small", 1, 256, 256, 64, 64),
    ("small", 4, 100, 133, 32, 32),
    ("tiny", 1, 64, 64, 16, 16),
    ("tiny", 2, 37, 61, 20, 32),
    ("paper", 4, 4096, 4096, 128, 128),
]


@pytest.mark.parametrize(("config", "heads", "queries", "keys", "e", "f"), SHAPES)
def test_chosen_shapes(config, heads, queries, keys, e, f):
    shape = Shape(heads=heads, queries=queries, keys=keys, e=e, f=f)
    cost, expected = attention_cost(shape, config), counters(shape, config)
    assert cost.cycles == pytest.approx(expected.cycles, rel=0.01)
    assert (cost.bytes_read, cost.bytes_written) == (expected.bytes_read, expected.bytes_written)


@pytest.mark.parametrize("seed", range(4))
def test_random_shapes_where_the_memory_keeps_up(seed):
    chosen, generator = 0, random.Random(seed)
    while chosen < 12:
        config = generator.choice(["tiny", "small", "base", "paper"])
        machine = CONFIGS[config]
        e = generator.randint(4, machine.max_e)
        f = generator.choice([e, generator.randint(4, machine.max_f)])
        scale = 8 if config == "paper" else 1
        queries, keys = generator.randint(1, 1200) * scale, generator.randint(1, 1200) * scale
        shape = Shape(heads=generator.choice([1, 2, 8]), queries=queries, keys=keys, e=e, f=f)
        timing = {
            "read_latency_cycles": generator.choice([5, 20, 60, 100]),
            "beat_interval_cycles": generator.choice([1, 1, 2, 4]),
        }
        tiles = shape.heads * (queries / machine.columns) * (keys / machine.rows)
        if tiles > 8000 or not keeps_up(shape, config, **timing):
            continue
        chosen += 1
        expected = counters(shape, config, **timing)
        cost = attention_cost(shape, config, **timing)
        assert cost.cycles == pytest.approx(expected.cycles, rel=0.01), (config, shape, timing)
        assert cost.bytes_read == expected.bytes_read


def test_output_of_float32():
    shape = Shape(heads=2, queries=128, keys=512, e=64, f=64, out_dtype="float32")
    cost, expected = attention_cost(shape), counters(shape, "base")
    assert cost.cycles == pytest.approx(expected.cycles, rel=0.01)
    assert cost.bytes_written == expected.bytes_written


def test_a_slow_memory_is_a_roofline():
    """A quarter of the bandwidth, few queries: the memory binds, to 2 %."""
    shape = Shape(heads=2, queries=16, keys=1024, e=64, f=64)
    cost = attention_cost(shape, beat_interval_cycles=4)
    assert cost.memory_s > 3 * cost.compute_s
    assert cost.cycles == pytest.approx(counters(shape, "base", beat_interval_cycles=4).cycles, rel=0.02)
    assert not keeps_up(shape, beat_interval_cycles=4)


def test_long_latency_is_not_hidden_by_short_rows():
    shape = Shape(heads=4, queries=256, keys=256, e=32, f=32)
    assert keeps_up(shape, read_latency_cycles=20)
    assert not keeps_up(shape, read_latency_cycles=200)
    assert attention_cost(shape, read_latency_cycles=200).memory_s > attention_cost(shape).memory_s


def test_frequency_only_scales_time():
    shape = Shape(queries=256, keys=256, e=64)
    slow, fast = attention_cost(shape, frequency_hz=1e6), attention_cost(shape, frequency_hz=1e9)
    assert slow.cycles == pytest.approx(fast.cycles)
    assert slow.latency_s == pytest.approx(1000 * fast.latency_s)


def test_utilisation_is_the_benchmark_s():
    """Multiply-adds of the queries and keys that there are, not of full tiles."""
    shape = Shape(heads=3, queries=77, keys=130, e=64, f=64)
    cost = attention_cost(shape)
    expected = 3 * 77 * 130 * 128 / (256 * cost.cycles)
    assert cost.utilisation(Unit.ARRAY, "BQK", "SLNV") == pytest.approx(expected)
