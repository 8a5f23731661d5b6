"""What a plan costs on a machine: cycles, traffic, operations, utilisation."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from .machine import WORD_BYTES, Machine, Operation, Unit
from .plan import Stage, Work

__all__ = ["Cost", "evaluate"]


@dataclass(frozen=True)
class Cost:
    """Cost of stages one after the other.

    Members
    -------
    latency_s, cycles
        Time from begin to end, and the same in cycles of the machine.
    compute_s, memory_s
        Time that the units and the memory need, each alone.
    bytes_read, bytes_written
        Of the memory.
    buffer_reads, buffer_writes, wrapped_reads
        Of the buffer, in 16-bit words.
    operations
        Operations by unit.
    unbilled
        Operations that are not in ``operations``, see :class:`.plan.Work`.
    useful_cycles
        Cycles that each unit and Einsum would take with all PEs at work.
    """

    latency_s: float
    cycles: float
    compute_s: float
    memory_s: float
    bytes_read: float
    bytes_written: float
    buffer_reads: float
    buffer_writes: float
    wrapped_reads: float
    operations: dict[Unit, Counter[Operation]]
    unbilled: Counter[Operation]
    useful_cycles: dict[tuple[Unit, str], float]

    @property
    def traffic_bytes(self) -> float:
        return self.bytes_read + self.bytes_written

    def utilisation(self, unit: Unit, *einsums: str) -> float:
        """Share of a unit's time that is of use to these Einsums, to all if none is named."""
        useful = sum(c for (u, einsum), c in self.useful_cycles.items() if u is unit and (not einsums or einsum in einsums))
        return useful / self.cycles


def evaluate(stages: Sequence[Stage], machine: Machine) -> Cost:
    """Cost of the stages on a machine."""
    latency_s = compute_s = memory_s = 0.0
    reads = writes = 0.0
    buffer_reads = buffer_writes = wrapped_reads = 0.0
    operations = {unit: Counter[Operation]() for unit in Unit}
    unbilled = Counter[Operation]()
    useful: dict[tuple[Unit, str], float] = {}
    for stage in stages:
        stage_compute_s = sum(phase.cycles(stage.ranks, machine) for phase in stage.phases) / machine.frequency_hz
        stage_reads = sum(move.memory_reads for move in stage.moves) * WORD_BYTES
        stage_writes = sum(move.memory_writes for move in stage.moves) * WORD_BYTES
        channel_bytes = max(stage_reads, stage_writes) if machine.duplex else stage_reads + stage_writes
        requests = sum(move.requests for move in stage.moves)
        stage_memory_s = max(
            channel_bytes / machine.bytes_per_second, requests * machine.read_latency_s / machine.outstanding_reads
        )
        latency_s += max(
            stage_compute_s + stage.lead_cycles / machine.frequency_hz,
            stage_memory_s + stage.trail_cycles / machine.frequency_hz,
        )
        latency_s += stage.latency_cycles / machine.frequency_hz
        compute_s += stage_compute_s
        memory_s += stage_memory_s
        reads += stage_reads
        writes += stage_writes
        buffer_reads += sum(move.buffer_reads for move in stage.moves)
        buffer_writes += sum(move.buffer_writes for move in stage.moves)
        wrapped_reads += sum(move.wrapped_reads for move in stage.moves)
        for work in works_of(stage):
            points = stage.ranks.count(work.ranks)
            for operation, count in work.operations.items():
                counter = unbilled if operation in work.unbilled else operations[work.unit]
                counter[operation] += points * count
            key = (work.unit, work.einsum)
            useful[key] = useful.get(key, 0.0) + work.useful_cycles(stage.ranks, machine)
    return Cost(
        latency_s=latency_s,
        cycles=latency_s * machine.frequency_hz,
        compute_s=compute_s,
        memory_s=memory_s,
        bytes_read=reads,
        bytes_written=writes,
        buffer_reads=buffer_reads,
        buffer_writes=buffer_writes,
        wrapped_reads=wrapped_reads,
        operations=operations,
        unbilled=unbilled,
        useful_cycles=useful,
    )


def works_of(stage: Stage) -> list[Work]:
    return [work for phase in stage.phases for work in phase.works]
