"""This repository's machine in the analytic model: any configuration, any shape, any memory.

The same evaluation as for the paper's designs, with the machine's own initiation interval, groups of query tiles and bus. What
does not overlap is added in closed form. Where :func:`keeps_up` holds, cycles are within 1 % of the cycle model
(:mod:`fusemax.model.cycles`); elsewhere they are a roofline, and the machine may take longer at the joints between groups.
"""

from __future__ import annotations

from dataclasses import replace

from ...arith.state import STATE_BITS
from ...compiler.compilation import compile as compile_program
from ...compiler.program import Program
from ...model.timeline.latencies import Latencies
from ...planning.memory_map import OUTPUT_BYTES, Shape
from ...planning.residency import Residency, residency
from ...spec import DESCRIPTOR_BYTES, Config, Timing, ceil_div, config_named
from .cost import Cost, evaluate
from .designs.ours import OURS_PHASE, QUERY_BITS, ours_moves
from .machine import WORD_BYTES, Machine
from .plan import Move, Stage
from .ranks import attention_ranks

__all__ = ["attention_cost", "attention_stage", "keeps_up", "machine_of"]

#: Cycles from a request to the memory and from the memory to the next request, at most.
HANDSHAKE_CYCLES = 20


def machine_of(
    config: str | Config, *, frequency_hz: float = 1e8, read_latency_cycles: int = 60, beat_interval_cycles: int = 1
) -> Machine:
    """A configuration's machine; the memory gives or takes a bus word every ``beat_interval_cycles`` cycles, each way."""
    config = config_named(config)
    key_value_bytes = config.rows * 2 * (config.key_beats + config.value_beats) * config.bus_bytes
    query_bits = config.query_bank_beats * config.beat_elements * QUERY_BITS
    return Machine(
        rows=config.rows,
        columns=config.columns,
        lanes=config.columns,
        frequency_hz=frequency_hz,
        bytes_per_second=config.bus_bytes / beat_interval_cycles * frequency_hz,
        buffer_bytes=key_value_bytes + config.columns * (query_bits + config.state_words * STATE_BITS) // 8,
        duplex=True,
        read_latency_s=read_latency_cycles / frequency_hz,
        outstanding_reads=config.outstanding_reads,
    )


def attention_cost(
    shape: Shape,
    config: str | Config = "base",
    *,
    frequency_hz: float = 1e8,
    read_latency_cycles: int = 60,
    beat_interval_cycles: int = 1,
) -> Cost:
    """Cost of a call of :func:`fusemax.attention`, from the doorbell to the interrupt, the program not yet loaded."""
    machine = machine_of(
        config,
        frequency_hz=frequency_hz,
        read_latency_cycles=read_latency_cycles,
        beat_interval_cycles=beat_interval_cycles,
    )
    stage = attention_stage(shape, config, read_latency_cycles=read_latency_cycles, beat_interval_cycles=beat_interval_cycles)
    return evaluate((stage,), machine)


def attention_stage(
    shape: Shape, config: str | Config = "base", *, read_latency_cycles: int = 60, beat_interval_cycles: int = 1
) -> Stage:
    """The plan behind :func:`attention_cost`."""
    config = config_named(config)
    program = compile_program(head_dim=shape.e, value_dim=shape.f, config=config)
    output_bytes = OUTPUT_BYTES[shape.out_dtype]
    grouping = residency(config, shape.e, shape.f, shape.queries, shape.keys, output_bytes)
    heads = shape.batch * shape.heads
    ranks = attention_ranks(
        heads=heads,
        e=shape.e,
        f=shape.f,
        queries=shape.queries,
        keys=shape.keys,
        rows=config.rows,
        columns=config.columns,
    )
    phase = replace(OURS_PHASE, stall="t m1", stall_cycles=program.ii - (shape.e + shape.f + 2))
    moves = ours_moves(ranks, grouping.groups, lambda n: config.beats(n) * config.beat_elements, output_bytes // WORD_BYTES)
    job_beats = ceil_div(DESCRIPTOR_BYTES, config.bus_bytes) + program.beats
    job = Move(tensor="descriptor and program", memory_reads=job_beats * config.beat_elements)
    return Stage(
        "attention",
        ranks,
        (phase,),
        (*moves, job),
        lead_cycles=(job_beats + first_beats(config, program, grouping)) * beat_interval_cycles,
        trail_cycles=min(grouping.group_sizes) * program.ii,
        latency_cycles=latency_cycles(config, program, grouping, read_latency_cycles, beat_interval_cycles, output_bytes)
        + heads * output_wait_cycles(config, program, grouping, output_bytes, beat_interval_cycles),
    )


def keeps_up(
    shape: Shape, config: str | Config = "base", *, read_latency_cycles: int = 60, beat_interval_cycles: int = 1
) -> bool:
    """Whether the memory keeps up with the array everywhere, not only on average.

    It has a fifth to spare on average, hides its latency behind the bursts of rows that may be under way, and loads a query
    tile in no more than an initiation interval, so that a group's first pass does not wait. And there are at least 64 tiles.
    """
    config = config_named(config)
    timing = {"read_latency_cycles": read_latency_cycles, "beat_interval_cycles": beat_interval_cycles}
    cost = attention_cost(shape, config, **timing)
    row_cycles = min(config.beats(shape.e), config.beats(shape.f)) * beat_interval_cycles
    query_cycles = min(shape.queries, config.columns) * config.beats(shape.e) * beat_interval_cycles
    ii = compile_program(head_dim=shape.e, value_dim=shape.f, config=config).ii
    query_tiles, key_tiles = ceil_div(shape.queries, config.columns), ceil_div(shape.keys, config.rows)
    return (
        cost.memory_s <= 0.8 * cost.compute_s
        and config.outstanding_reads * row_cycles >= read_latency_cycles + HANDSHAKE_CYCLES
        and query_cycles <= ii
        and shape.batch * shape.heads * query_tiles * key_tiles >= 64
    )


def first_beats(config: Config, program: Program, grouping: Residency) -> int:
    """Bus words of the first tile's queries, keys and values."""
    queries = config.columns if grouping.query_tiles > 1 else grouping.last_queries
    keys = config.rows if grouping.key_tiles > 1 else grouping.last_keys
    return (queries + keys) * config.beats(program.e) + keys * config.beats(program.f)


def latency_cycles(
    config: Config, program: Program, grouping: Residency, read_latency: int, interval: int, output_bytes: int
) -> int:
    """Cycles before the first tile and behind the last one.

    Before: a read latency each for descriptor, program and first tile, and the control between them. Behind: the rest of the
    last tile's schedule, the way through array and lanes, and the results of its query tile.
    """
    timing, control = Timing(config), Latencies(config)
    before = 3 * read_latency + control.fetch + control.descriptor + control.program + control.first_word
    tail = program.schedule.placed[-1].offset + 1 - program.ii
    results = grouping.last_queries * config.beats(program.f, output_bytes) * interval
    return before + control.query_loaded + tail + timing.corner_to_output + config.columns + results


def output_wait_cycles(config: Config, program: Program, grouping: Residency, output_bytes: int, interval: int) -> int:
    """Cycles of a head that wait for room in the output buffers.

    On the last key tile's pass a query tile's results come every initiation interval; those of a group that find no room wait
    for the bus.
    """
    row_beats = config.beats(program.f, output_bytes)
    slots = config.output_beats // row_beats
    late = max(0, config.columns * row_beats * interval - program.ii)
    return late * sum(count * max(0, size - slots) for size, count in grouping.group_sizes.items())
