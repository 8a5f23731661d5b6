"""Points of the design space: configurations, and what a workload takes on them."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from ...compiler.compilation import compile as compile_program
from ...errors import ScheduleError
from ...model.cycles import IdealMemory, cycles
from ...planning.memory_map import Shape
from ...spec import Config

__all__ = ["Point", "Workload", "design_points", "evaluate", "model_digest"]

MOST_CONTEXTS = 9
#: Counters that are kept.
COUNTED = ("cycles", "tiles", "bytes_read", "bytes_written", "stall_q", "stall_k", "stall_v", "stall_output", "idle")
#: What cycles depend on, within the package.
SOURCES = ("arith", "cascade", "compiler", "model", "planning", "spec")


@dataclass(frozen=True)
class Workload:
    """Calls of attention, one after the other, and the memory that they find.

    Members
    -------
    shapes
        The calls; at least one.
    latency_cycles, beat_interval_cycles
        Read latency of the memory, and cycles per bus word.
    """

    shapes: tuple[Shape, ...]
    latency_cycles: int = 60
    beat_interval_cycles: int = 1

    def __post_init__(self) -> None:
        if not self.shapes:
            raise ValueError("shapes must be at least one, not none")
        _ = self.memory  # Its limits are found now rather than in every worker.

    @property
    def macs(self) -> int:
        """Multiply-accumulates that the results need."""
        return sum(shape.macs for shape in self.shapes)

    @property
    def max_e(self) -> int:
        return max(shape.e for shape in self.shapes)

    @property
    def max_f(self) -> int:
        return max(shape.f for shape in self.shapes)

    @property
    def memory(self) -> IdealMemory:
        return IdealMemory(read_latency_cycles=self.latency_cycles, beat_interval_cycles=self.beat_interval_cycles)


@dataclass(frozen=True)
class Point:
    """A configuration and the workload that it is measured with."""

    config: Config
    workload: Workload

    def parameters(self) -> dict[str, Any]:
        """Everything that the result depends on."""
        workload = self.workload
        shapes = [asdict(shape) for shape in workload.shapes]
        memory = {"latency_cycles": workload.latency_cycles, "beat_interval_cycles": workload.beat_interval_cycles}
        return {"shapes": shapes, **memory, **self.config.to_dict()}

    def __str__(self) -> str:
        config = self.config
        return f"{config.rows} x {config.columns}, {config.query_tiles} query tiles, {config.bus_bits} bits"


def design_points(
    workload: Workload, rows: Sequence[int], columns: Sequence[int], query_tiles: Sequence[int], bus_bits: Sequence[int]
) -> list[Point]:
    """All combinations, the smallest first. Head dims are as large as the workload needs, contexts as few.

    Raises
    ------
    ValueError
        If a number is out of the configuration's range.
    ScheduleError
        If there is no schedule.
    """
    contexts = {row: fewest_contexts(machine(workload, rows=row), workload) for row in set(rows)}
    chosen = itertools.product(*(sorted(set(numbers)) for numbers in (rows, columns, query_tiles, bus_bits)))
    return [
        Point(machine(workload, rows=row, columns=column, query_tiles=tiles, bus_bits=bits, contexts=contexts[row]), workload)
        for row, column, tiles, bits in chosen
    ]


def machine(workload: Workload, *, rows: int, columns: int = 2, **fields: int) -> Config:
    """A configuration for a workload's head dims."""
    smallest = Config(name="explored", rows=rows, columns=columns, max_e=workload.max_e, max_f=workload.max_f)
    return replace(smallest, **fields)


def fewest_contexts(config: Config, workload: Workload) -> int:
    """Contexts with which all programs are as fast as with the most."""

    def intervals(contexts: int) -> list[int]:
        with_contexts = replace(config, contexts=contexts)
        return [compile_program(head_dim=s.e, value_dim=s.f, config=with_contexts).ii for s in workload.shapes]

    least = intervals(MOST_CONTEXTS)
    for contexts in range(2, MOST_CONTEXTS):
        with suppress(ScheduleError):
            if intervals(contexts) == least:
                return contexts
    return MOST_CONTEXTS


def evaluate(point: Point) -> dict[str, Any]:
    """Counters of the cycle model, which are the Verilog's, and the digest of the model that counted them."""
    config, workload = point.config, point.workload
    total = dict.fromkeys(COUNTED, 0)
    for shape in workload.shapes:
        program = compile_program(head_dim=shape.e, value_dim=shape.f, config=config)
        counts = cycles(program, shape, workload.memory).values
        for name in COUNTED:
            total[name] += counts[name]
    return {"model": model_digest(), **total}


@cache
def model_digest() -> str:
    """Digest of the sources that :func:`evaluate` depends on."""
    package = Path(__file__).resolve().parents[2]
    digest = hashlib.sha256()
    for name in SOURCES:
        root = package / name
        for path in sorted(root.rglob("*")) if root.is_dir() else [root]:
            if path.suffix in (".py", ".yaml"):
                digest.update(f"\0{path.relative_to(package)}\0".encode())
                digest.update(path.read_bytes())
    return digest.hexdigest()[:16]
