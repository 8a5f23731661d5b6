"""Cycle model: every counter of a call, without simulating it.

Tiles, slots and bytes follow from the descriptors. Cycles and waits come from the machine's timeline (:mod:`.timeline`), in
which the first and the last tiles are walked through and the periods between passed over exactly: what a call costs does
not grow with its keys and queries, but with the tiles until the machine is where it was.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

from ..compiler.program import Program
from ..planning.descriptors import describe
from ..planning.memory_map import RING_BYTES, Shape, place_arrays, place_program
from ..spec import COUNTERS, MICROWORD, Config, Descriptor, Op, config_named
from .descriptor_check import settings
from .tiles import issued_tiles, query_tiles, read_beats, written_bytes
from .timeline import IdealMemory, MemoryTiming, Run
from .timeline.latencies import Latencies

__all__ = ["SLOT_COUNTERS", "CycleCounts", "IdealMemory", "MemoryTiming", "cycles", "ring_cycles"]

#: Counters of main operations, and which of them each counts.
SLOT_COUNTERS = {
    "slots_qk": (Op.QK,),
    "slots_exp": (Op.EXP,),
    "slots_sum": (Op.SUM,),
    "slots_slnv": (Op.SLNV,),
    "slots_function": (Op.LIN, Op.SET, Op.ADD, Op.ENT, Op.BIAS),
}


@dataclass(frozen=True)
class CycleCounts:
    """Counters as the machine has them after a call (:data:`fusemax.spec.COUNTERS`)."""

    cycles: int
    jobs: int
    tiles: int
    tiles_skipped: int
    slots_qk: int
    slots_exp: int
    slots_sum: int
    slots_slnv: int
    slots_max: int
    slots_empty: int
    stall_q: int
    stall_k: int
    stall_v: int
    stall_output: int
    idle: int
    bytes_read: int
    bytes_written: int
    slots_function: int = 0

    @property
    def values(self) -> dict[str, int]:
        """Counters by name."""
        return {field.name: getattr(self, field.name) for field in fields(self)}


assert tuple(field.name for field in fields(CycleCounts)) == tuple(name for name, _ in COUNTERS)


def cycles(
    program: Program, shape: Shape, memory: MemoryTiming | None = None, *, loaded: bool = False, extrapolate: bool = True
) -> CycleCounts:
    """Counters after a call of that shape on a device that has just been opened.

    They are those of the emitted Verilog with the same memory, to the cycle: the same bursts are read and written at the same
    addresses, since programs and arrays are placed as the driver places them. Numbers in the arrays have no influence. The time
    runs from the doorbell until the last response to a write is taken and the head of the ring has moved on.

    Parameters
    ----------
    program
        From :func:`fusemax.compile`, for the head dims of ``shape``; it says what the machine is.
    shape
        Shape of the call, a :class:`fusemax.planning.memory_map.Shape`.
    memory
        Timing of the memory in cycles, a :class:`fusemax.Memory` or an :class:`IdealMemory`; if not given, one that answers
        after 60 cycles with a bus word a cycle.
    loaded
        The program is loaded already, and the results before were of the same format.
    extrapolate
        Pass over periods; without it every row and tile is walked through, to the same result.

    Returns
    -------
    Every counter of :data:`fusemax.spec.COUNTERS`; words for empty slots, cycles for waits, bytes for traffic.

    Raises
    ------
    TypeError
        If an argument is not of its type.
    ValueError
        If the program is for other head dims, or the memory stalls by chance, fails, or is not as wide as the bus.
    """
    if not isinstance(program, Program):
        raise TypeError(f"program must be a Program, not {program!r}")
    if not isinstance(shape, Shape):
        raise TypeError(f"shape must be a Shape, not {shape!r}")
    config = program.config
    if (program.e, program.f) != (shape.e, shape.f):
        raise ValueError(f"the program must be for E={shape.e}, F={shape.f}, not for E={program.e}, F={program.f}")
    address, free = place_program(config, program, RING_BYTES)
    descriptors = describe(config, shape, program, address, place_arrays(config, shape, free))
    state = settings(descriptors[0]) if loaded else None
    return ring_cycles(config, {program.tag: program}, descriptors, memory, loaded=state, extrapolate=extrapolate)


def ring_cycles(
    config: str | Config,
    programs: Mapping[int, Program],
    descriptors: Sequence[Descriptor],
    memory: MemoryTiming | None = None,
    *,
    loaded: tuple[int, ...] | None = None,
    extrapolate: bool = True,
) -> CycleCounts:
    """Counters after the jobs of a ring at address 0, all of them there when the doorbell rings.

    Parameters
    ----------
    programs
        Programs by tag.
    descriptors
        The descriptors in order.
    loaded
        Values of :data:`fusemax.spec.SETTINGS` of the job before, if there was one since the last reset.

    Raises
    ------
    TypeError
        If ``memory`` is not the timing of one.
    ValueError
        If the memory stalls by chance, fails, or is not as wide as the bus; if there is no job.
    """
    machine = config_named(config)
    memory = IdealMemory() if memory is None else memory
    _check_memory(machine, memory)
    if not descriptors:
        raise ValueError("there must be a job, but descriptors is empty")
    run = Run(machine, descriptors, programs, memory, loaded, extrapolate=extrapolate)
    end = run.cycles()
    waits = run.machine.issue.waits
    total = dict.fromkeys((name for name, _ in COUNTERS), 0)
    total |= {"cycles": end, "jobs": sum(not job.continues for job in descriptors), "slots_empty": waits.words}
    for name in ("stall_q", "stall_k", "stall_v", "stall_output", "idle"):
        total[name] = getattr(waits, name)
    for job in descriptors:
        _count_job(machine, job, programs[job.program_tag], total)
        if loaded != (loaded := settings(job)):
            total["bytes_read"] += programs[job.program_tag].beats * machine.bus_bytes
    return CycleCounts(**total)


def _check_memory(config: Config, memory: MemoryTiming) -> None:
    """Refuse a memory that the model does not have."""
    if not isinstance(memory, MemoryTiming):
        raise TypeError(f"memory must be a fusemax.Memory, an IdealMemory or None, not {memory!r}")
    if memory.stall_probability:
        raise ValueError(f"stall_probability must be 0, not {memory.stall_probability!r}: the model knows no chance")
    # These only a fusemax.Memory has.
    for name in ("read_errors", "write_errors"):
        if (window := getattr(memory, name, None)) is not None:
            raise ValueError(f"{name} must be None, not {window!r}: the model's memory does not fail")
    if (width := getattr(memory, "width_bits", None)) not in (None, config.bus_bits):
        raise ValueError(f"width_bits must be the device's bus_bits = {config.bus_bits}, not {width!r}")


def _count_job(config: Config, job: Descriptor, program: Program, total: dict[str, int]) -> None:
    """Add what does not depend on time."""
    heads = job.heads * job.batch
    tiles = heads * issued_tiles(config, job)
    words = [MICROWORD.unpack(word) for word in program.microwords]
    slots = {name: sum(word["op"] in ops for word in words) for name, ops in SLOT_COUNTERS.items()}
    total["tiles"] += tiles
    total["tiles_skipped"] += heads * query_tiles(job) * job.key_tiles - tiles
    for name, count in slots.items():
        total[name] += tiles * count
        total["slots_empty"] -= tiles * count
    total["slots_max"] += tiles * sum(word["max"] for word in words)
    total["bytes_read"] += (read_beats(config, job) + Latencies(config).descriptor_beats) * config.bus_bytes
    total["bytes_written"] += written_bytes(config, job)
