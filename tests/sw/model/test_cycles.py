"""Cycle model on its own; tests/cosim/test_cycles.py compares it with the Verilog."""

from __future__ import annotations

import sys
import time
from dataclasses import replace

import numpy as np
import pytest

import fusemax
from fusemax.model import CycleCounts, cycles
from fusemax.model.cycles import IdealMemory, ring_cycles
from fusemax.model.timeline import Run
from fusemax.model.timeline.load import DEADLINES
from fusemax.planning.descriptors import describe
from fusemax.planning.memory_map import RING_BYTES, Shape, place_arrays, place_program
from fusemax.spec import CONFIGS, COUNTERS, DESCRIPTOR_BYTES, Config
from fusemax_sim import problems

MACHINES = {**CONFIGS, **problems.CONFIGS}
# With few query tiles on chip, so that there are many groups.
MACHINES["flat2x7"] = replace(MACHINES["flat2x7"], max_e=24, max_f=40)


def count(config: str, shape: Shape, memory: IdealMemory | None = None, **options: bool) -> CycleCounts:
    program = fusemax.compile(head_dim=shape.e, value_dim=shape.f, config=MACHINES[config])
    return cycles(program, shape, memory, **options)


def utilisation(config: str, shape: Shape, counts: CycleCounts) -> float:
    """Multiply-accumulates of QK and SLNV over PEs times all cycles from doorbell to interrupt."""
    return shape.macs / (MACHINES[config].rows * MACHINES[config].columns * counts.cycles)


def random_memory(random: np.random.Generator) -> IdealMemory:
    return IdealMemory(
        read_latency_cycles=int(random.choice([1, 2, 5, 60, 113, 240, 1000])),
        beat_interval_cycles=int(random.choice([1, 1, 2, 4, 7])),
        outstanding_bursts=int(random.choice([1, 2, 8, 256])),
    )


def random_shape(random: np.random.Generator, machine: Config, most_tiles: int) -> Shape:
    """Of a size that can be walked through, in which one loop, or two, are much longer than the others."""

    def size(most: int) -> int:
        return int(2 ** random.uniform(0, np.log2(most)))

    most = {"batch": 3, "heads": 4, "queries": 3 * machine.columns, "keys": 4 * machine.rows}
    for name in random.choice(list(most), 2):
        most[name] *= 300
    while True:
        shape = Shape(
            **{name: size(largest) for name, largest in most.items()},
            e=int(random.integers(1, machine.max_e + 1)),
            f=int(random.integers(1, machine.max_f + 1)),
            out_dtype=str(random.choice(["bfloat16", "float32"])),
        )
        tiles = -(-shape.queries // machine.columns) * -(-shape.keys // machine.rows)
        if most_tiles // 10 <= shape.batch * shape.heads * tiles <= most_tiles:
            return shape


# -- extrapolation -----------------------------------------------------------------------------------------------------


@pytest.fixture
def periods(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """For every run: how many periods were passed over."""
    found: list[int] = []

    class Watched(Run):
        def cycles(self) -> int:
            end = super().cycles()
            found.append(self.periods.count)
            return end

    # The package's name for it is the function.
    monkeypatch.setattr(sys.modules["fusemax.model.cycles"], "Run", Watched)
    return found


@pytest.mark.parametrize("config", ["tiny", "small", "base", "odd3x5", "flat2x7", "wide5x6"])
def test_extrapolated_is_as_simulated(config: str, periods: list[int]) -> None:
    random = np.random.default_rng(sum(config.encode()))
    for _ in range(10):
        shape, memory = random_shape(random, MACHINES[config], 3000), random_memory(random)
        assert count(config, shape, memory) == count(config, shape, memory, extrapolate=False), f"{shape} {memory}"
    assert any(periods[::2]), "a shape must be large enough that something is passed over"
    assert not any(periods[1::2])


@pytest.mark.parametrize(
    "shape",
    [
        Shape(queries=4, keys=2000, e=8, f=8),
        Shape(queries=9000, keys=9, e=8, f=8),
        Shape(queries=1600, keys=9, e=64, f=64),
        Shape(heads=300, queries=7, keys=9, e=8, f=8),
        Shape(batch=200, heads=2, queries=7, keys=9, e=8, f=8),
        Shape(batch=3, heads=3, queries=100, keys=400, e=5, f=7, out_dtype="float32"),
    ],
    ids=["keys", "queries", "groups", "heads", "batch", "all"],
)
@pytest.mark.parametrize("latency", [1, 60, 240])
def test_every_loop_is_passed_over(shape: Shape, latency: int, periods: list[int]) -> None:
    memory = IdealMemory(read_latency_cycles=latency)
    assert count("tiny", shape, memory) == count("tiny", shape, memory, extrapolate=False)
    assert periods[0] > 10


def test_rows_that_cross_pages(periods: list[int]) -> None:
    """Rows of 9 and of 12 bus words: where pages cut them comes again after hundreds of tiles only."""
    shape = Shape(queries=60, keys=6000, e=33, f=47)
    assert count("tiny", shape) == count("tiny", shape, extrapolate=False)
    assert periods[0] > 0


def test_more_key_tiles_than_deadlines_can_tell_apart(periods: list[int]) -> None:
    """First uses are numbers of 16 bits: the next head's queries wait so long that their order is the other one for a while."""
    shape = Shape(heads=2, queries=7, keys=5 * (DEADLINES // 2 + 500), e=30, f=30)
    assert count("wide5x6", shape) == count("wide5x6", shape, extrapolate=False)
    assert periods[0] > 0


def test_several_jobs(periods: list[int]) -> None:
    """Jobs of other head dims, and of another format, which wait until the machine is empty, and one that need not."""
    config = CONFIGS["tiny"]
    programs, descriptors, free = {}, [], RING_BYTES
    for e, out_dtype in ((8, "bfloat16"), (16, "bfloat16"), (16, "float32"), (16, "float32")):
        shape = Shape(heads=2, queries=50, keys=300, e=e, out_dtype=out_dtype)
        program = fusemax.compile(head_dim=e, config=config)
        programs[program.tag] = program
        address, free = place_program(config, program, free)
        buffers = place_arrays(config, shape, free)
        descriptors += describe(config, shape, program, address, buffers)
        free = buffers["o"].address + buffers["o"].size
    walked = ring_cycles(config, programs, descriptors, extrapolate=False)
    assert ring_cycles(config, programs, descriptors) == walked
    assert walked.jobs == 4
    assert periods[1] > 20


# -- long sequences ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "length", "least"),
    [("paper", 1 << 16, 0.980), ("paper", 1 << 20, 0.984), ("base", 1 << 20, 0.984), ("base", 1_000_003, 0.984)],
)
def test_long_sequences_take_no_time(config: str, length: int, least: float) -> None:
    def counted(length: int) -> tuple[Shape, CycleCounts, float]:
        shape = Shape(queries=length, keys=length, e=64, f=64)
        started = time.thread_time()
        counts = count(config, shape)
        return shape, counts, time.thread_time() - started

    _, _, short = counted(1 << 14)
    shape, counts, long = counted(length)
    # There are 16 to 4096 times as many tiles.
    assert long < 8 * short
    assert least <= utilisation(config, shape, counts) < 128 / 130
    machine = MACHINES[config]
    assert counts.tiles == -(-length // machine.rows) * -(-length // machine.columns)


@pytest.mark.parametrize(("queries", "per_key_tile"), [(16, 256), (32, 260), (64, 520)])
def test_a_million_keys_for_a_few_queries(queries: int, per_key_tile: int) -> None:
    """A single query tile waits for the bus, 16 rows of 16 words of K and V; two take 130 slots each."""
    counts = count("base", Shape(queries=queries, keys=1 << 20, e=64, f=64))
    assert counts.cycles == pytest.approx((1 << 16) * per_key_tile, rel=1e-4)


# -- what must hold ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("config", ["tiny", "small", "base", "odd3x5", "flat2x7", "wide5x6"])
def test_bounds(config: str) -> None:
    """Array and buses are never faster than one word a cycle, and cycles are divided among slots and waits."""
    random = np.random.default_rng(sum(config.encode()) + 1)
    machine = MACHINES[config]
    for _ in range(10):
        shape, memory = random_shape(random, machine, 300), random_memory(random)
        counts = count(config, shape, memory)
        words = counts.slots_qk + counts.slots_exp + counts.slots_sum + counts.slots_slnv + counts.slots_empty
        waits = counts.stall_q + counts.stall_k + counts.stall_v + counts.stall_output + counts.idle
        ii = fusemax.compile(head_dim=shape.e, value_dim=shape.f, config=machine).ii
        # The iteration whose results were the last ones may end, in empty slots, after they are in memory.
        assert 0 <= words + waits - counts.cycles < ii
        assert counts.cycles > counts.tiles * ii
        for traffic in (counts.bytes_read, counts.bytes_written):
            assert counts.cycles > (traffic // machine.bus_bytes - 1) * memory.beat_interval_cycles
        assert counts.cycles > 4 * memory.read_latency_cycles, "descriptor, program, first rows, response"
        heads = shape.batch * shape.heads
        assert counts.bytes_written == heads * shape.queries * shape.f * (4 if shape.out_dtype == "float32" else 2)
        assert counts.slots_qk == counts.tiles * shape.e
        assert counts.slots_slnv == counts.tiles * shape.f
        assert counts.slots_exp == counts.slots_sum == counts.slots_max == counts.tiles


@pytest.mark.parametrize("config", ["tiny", "small", "base", "odd3x5"])
def test_more_work_takes_longer(config: str) -> None:
    """More heads and batch entries; keys and queries as well while the groups of query tiles are the same."""
    random = np.random.default_rng(sum(config.encode()) + 2)
    machine = MACHINES[config]
    for _ in range(8):
        shape, memory = random_shape(random, machine, 300), random_memory(random)
        shape = replace(shape, queries=min(shape.queries, machine.columns))
        least = count(config, shape, memory).cycles
        for name, more in (("heads", 1), ("batch", 1), ("keys", machine.rows)):
            longer = replace(shape, **{name: getattr(shape, name) + more})
            assert count(config, longer, memory).cycles > least, f"{shape} {memory} {name}"


@pytest.mark.parametrize("config", ["tiny", "small", "base", "odd3x5"])
def test_a_slower_memory_takes_longer(config: str) -> None:
    random = np.random.default_rng(sum(config.encode()) + 3)
    for _ in range(8):
        shape, memory = random_shape(random, MACHINES[config], 300), random_memory(random)
        least = count(config, shape, memory).cycles
        later = replace(memory, read_latency_cycles=memory.read_latency_cycles + int(random.choice([1, 10, 100])))
        assert count(config, shape, later).cycles > least, f"{shape} {memory}"
        halved = replace(memory, beat_interval_cycles=2 * memory.beat_interval_cycles)
        assert count(config, shape, halved).cycles > least, f"{shape} {memory}"


def test_a_loaded_program_is_not_read_again() -> None:
    shape = Shape(heads=2, queries=20, keys=20, e=16, f=16)
    anew, again = count("small", shape), count("small", shape, loaded=True)
    ii = fusemax.compile(head_dim=16, config="small").ii
    assert again.cycles < anew.cycles
    assert anew.bytes_read - again.bytes_read == 16 + -(-4 * ii // 8) * 8


def test_traffic_by_hand() -> None:
    """Two heads on bus words of four elements: six rows of Q of one word, nine rows of K of one and of V of two."""
    shape = Shape(heads=2, queries=6, keys=9, e=3, f=5)
    counts = count("tiny", shape)
    program_bytes = 16 + 4 * fusemax.compile(head_dim=3, value_dim=5, config="tiny").ii
    assert counts.bytes_read == 8 * (2 * (6 * 1 + 9 * 1 + 9 * 2) + DESCRIPTOR_BYTES // 8 + -(-program_bytes // 8))
    assert counts.bytes_written == 2 * 6 * 5 * 2
    assert counts.tiles == 2 * 2 * 3


def test_default_memory() -> None:
    shape = Shape(queries=20, keys=20, e=16, f=16)
    assert count("small", shape) == count("small", shape, IdealMemory(read_latency_cycles=60, beat_interval_cycles=1))
    assert list(count("small", shape).values) == [name for name, _ in COUNTERS]


# -- wrong arguments ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("field", "value", "error", "message"),
    [
        ("read_latency_cycles", 0, ValueError, "read_latency_cycles must be from 1 to 65535, not 0"),
        ("read_latency_cycles", 65536, ValueError, "read_latency_cycles must be from 1 to 65535, not 65536"),
        ("beat_interval_cycles", -1, ValueError, "beat_interval_cycles must be from 1 to 65535, not -1"),
        ("outstanding_bursts", 257, ValueError, "outstanding_bursts must be from 1 to 256, not 257"),
        ("read_latency_cycles", 60.0, TypeError, "read_latency_cycles must be an integer, not 60.0"),
        ("beat_interval_cycles", True, TypeError, "beat_interval_cycles must be an integer, not True"),
    ],
)
def test_wrong_memories(field: str, value: object, error: type[Exception], message: str) -> None:
    with pytest.raises(error) as raised:
        IdealMemory(**{field: value})  # type: ignore[arg-type]
    assert str(raised.value) == message


class Chance(IdealMemory):
    """A memory that stalls, fails or is of another width, as :class:`fusemax.Memory` can be."""

    stall_probability = 0.25  # type: ignore[assignment]


class Failing(IdealMemory):
    write_errors = (64, 128)


class Wide(IdealMemory):
    width_bits = 512


@pytest.mark.parametrize(
    ("memory", "error", "message"),
    [
        (60, TypeError, "memory must be a fusemax.Memory, an IdealMemory or None, not 60"),
        (Chance(), ValueError, "stall_probability must be 0, not 0.25: the model knows no chance"),
        (Failing(), ValueError, "write_errors must be None, not (64, 128): the model's memory does not fail"),
        (Wide(), ValueError, "width_bits must be the device's bus_bits = 64, not 512"),
    ],
)
def test_memories_that_the_model_does_not_have(memory: IdealMemory, error: type[Exception], message: str) -> None:
    with pytest.raises(error) as raised:
        count("tiny", Shape(queries=1, keys=1, e=1), memory)
    assert str(raised.value) == message


def test_wrong_arguments() -> None:
    program = fusemax.compile(head_dim=8, value_dim=4, config="tiny")
    with pytest.raises(TypeError, match=r"^program must be a Program, not 'tiny'$"):
        cycles("tiny", Shape(queries=1, keys=1, e=8, f=4))  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"^shape must be a Shape, not \(1, 1, 8, 4\)$"):
        cycles(program, (1, 1, 8, 4))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"^the program must be for E=8, F=8, not for E=8, F=4$"):
        cycles(program, Shape(queries=1, keys=1, e=8))
    with pytest.raises(ValueError, match=r"^keys must be at least 1, not 0$"):
        cycles(program, Shape(queries=1, keys=0, e=8, f=4))
    with pytest.raises(ValueError, match=r"^there must be a job, but descriptors is empty$"):
        ring_cycles("tiny", {program.tag: program}, [])
