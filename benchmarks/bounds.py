"""Cycles that a case must take, and may take, with given groups of query tiles (docs/measurements/residency.md)."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

from fusemax.compiler.compilation import compile as compile_program
from fusemax.evaluation.bench import Case
from fusemax.model.cycles import CycleCounts, IdealMemory, ring_cycles
from fusemax.model.timeline.latencies import Latencies
from fusemax.planning.descriptors import describe
from fusemax.planning.memory_map import RING_BYTES, Shape, place_arrays, place_program
from fusemax.planning.residency import Residency, residency
from fusemax.spec import Timing

__all__ = ["Bounds", "bounds", "choice", "group_sizes", "least_query_tiles", "load_cycles", "modelled", "row_cycles"]

#: From a burst's address to the next one that takes its place, beyond the memory's latency.
BURST_CYCLES = 2


def row_cycles(case: Case, elements: int) -> float:
    """Cycles per row of bfloat16 elements, which is one burst: bus words, or the bursts that may be under way."""
    config = case.machine
    return max(
        config.beats(elements) * case.beat_interval_cycles,
        (case.latency_cycles + BURST_CYCLES) / config.outstanding_reads,
    )


def load_cycles(case: Case) -> tuple[float, float]:
    """Cycles in which the bus delivers a tile of keys and values, and one of queries."""
    key_row, value_row = row_cycles(case, case.e), row_cycles(case, case.f)
    return case.machine.rows * (key_row + value_row), case.machine.columns * key_row


def least_query_tiles(case: Case) -> int | None:
    """Least P1 for which the array, not the bus, sets the pace; None if none is enough.

    A group works P1·T·(E + F + 2) cycles through T key tiles and loads them and P1 query tiles.
    """
    key_tile, query_tile = load_cycles(case)
    tiles = -(-case.keys // case.machine.rows)
    spare = tiles * (case.e + case.f + 2) - query_tile
    return math.ceil(tiles * key_tile / spare) if spare > 0 else None


@dataclass(frozen=True)
class Bounds:
    """Cycles of a case with given groups.

    Members
    -------
    array
        Tiles alone.
    roofline
        The larger of ``array`` and what the bytes of the whole run take at the memory's bandwidth.
    by_groups
        The same comparison for each group by itself, bursts in flight included.
    by_passes
        The same for every pass of a group over a key tile: the first one loads all query tiles of the group.
    first_fill
        Descriptor, program, the first tiles, each after the memory's latency.
    last_drain
        The last tile's later half, and its results and those that still wait in the output buffers.
    """

    array: int
    roofline: int
    by_groups: int
    by_passes: int
    first_fill: int
    last_drain: int

    @property
    def most(self) -> int:
        """Cycles that the run may take."""
        return self.by_passes + self.first_fill + self.last_drain


def bounds(case: Case, groups: Residency, bytes_read: int, bytes_written: int) -> Bounds:
    """Bounds of a case of one head whose run read and wrote so many bytes."""
    config, interval = case.machine, case.beat_interval_cycles
    program = compile_program(head_dim=case.e, value_dim=case.f, config=config)
    key_tile, query_tile = load_cycles(case)
    output_row = config.beats(case.f)
    output_tile = config.columns * output_row * interval
    slots = config.output_beats // output_row
    waits_for_output = max(0, output_tile - program.ii)
    by_groups = by_passes = 0.0
    for size, count in groups.group_sizes.items():
        work = size * program.ii
        output = max(0, size - slots) * waits_for_output
        by_groups += count * (max(groups.key_tiles * work, groups.key_tiles * key_tile + size * query_tile) + output)
        first, others = max(work, key_tile + size * query_tile), max(work, key_tile)
        by_passes += count * (first + (groups.key_tiles - 1) * others + output)
    control = Latencies(config)
    registers = sum(getattr(control, field.name) for field in fields(control) if field.name != "config")
    words = control.descriptor_beats + program.beats
    waiting = min(groups.group_tiles, slots) * waits_for_output
    drain = (program.stages - 1) * program.ii + waiting + output_tile + case.latency_cycles + Timing(config).corner_to_output
    array = groups.tiles * program.ii
    return Bounds(
        array=array,
        roofline=max(array, max(bytes_read, bytes_written) * interval // config.bus_bytes),
        by_groups=math.floor(by_groups),
        by_passes=math.ceil(by_passes),
        first_fill=math.ceil(3 * case.latency_cycles + words * interval + key_tile + query_tile + registers),
        last_drain=drain,
    )


def choice(case: Case, most_tiles: int | None = None) -> Residency:
    """The host's groups, or those with at most so many query tiles."""
    return residency(case.machine, case.e, case.f, case.queries, case.keys, most_tiles=most_tiles)


def group_sizes(case: Case) -> list[int]:
    """Every P1 that there is: sizes of the largest group when at most 1, 2, ... query tiles are allowed."""
    room = case.machine.resident_query_tiles(case.e, case.f)
    return sorted({choice(case, most).group_tiles for most in range(1, room + 1)})


def modelled(case: Case, most_tiles: int | None = None) -> CycleCounts:
    """Counters of the cycle model."""
    config = case.machine
    program = compile_program(head_dim=case.e, value_dim=case.f, config=config)
    shape = Shape(heads=case.heads, queries=case.queries, keys=case.keys, e=case.e, f=case.f)
    address, free = place_program(config, program, RING_BYTES)
    jobs = describe(config, shape, program, address, place_arrays(config, shape, free), most_tiles=most_tiles)
    memory = IdealMemory(read_latency_cycles=case.latency_cycles, beat_interval_cycles=case.beat_interval_cycles)
    return ring_cycles(config, {program.tag: program}, jobs, memory)
