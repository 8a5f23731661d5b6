"""One line of the benchmark: a shape on a machine with a memory."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from typing import Any, Self

from ...spec import CONFIGS, Config, ceil_div

__all__ = ["Case"]


@dataclass(frozen=True, kw_only=True)
class Case:
    """What is measured.

    Members
    -------
    config
        Name of a configuration.
    heads, queries, keys, e, f
        Shape: H, P, M, E, F.
    latency_cycles
        Read latency of the memory.
    beat_interval_cycles
        A bus word in this many cycles at most: the bandwidth is the bus's over it.
    target
        Least utilisation that the case must reach; none if it is only shown.
    modelled
        By the cycle model, since a simulation would take too long.
    """

    config: str = "base"
    heads: int
    queries: int
    keys: int
    e: int
    f: int
    latency_cycles: int = 60
    beat_interval_cycles: int = 1
    target: float | None = None
    modelled: bool = False

    @classmethod
    def from_shape(cls, shape: str, **fields: Any) -> Self:
        """Case of a shape written as HxPxMxExF.

        Raises
        ------
        ValueError
            If ``shape`` is not five positive numbers.
        """
        if not re.fullmatch(r"[1-9]\d*(x[1-9]\d*){4}", shape):
            raise ValueError(f"a shape must be heads, queries, keys, E and F as in 8x256x256x64x64, not {shape!r}")
        names = ("heads", "queries", "keys", "e", "f")
        return cls(**dict(zip(names, map(int, shape.split("x")), strict=True)), **fields)

    @property
    def machine(self) -> Config:
        return CONFIGS[self.config]

    @property
    def shape(self) -> str:
        """As :meth:`from_shape` takes it."""
        return f"{self.heads}x{self.queries}x{self.keys}x{self.e}x{self.f}"

    @property
    def macs(self) -> int:
        """Useful multiply-accumulates: P·M·E for QK and P·M·F for SLNV, per head."""
        return self.heads * self.queries * self.keys * (self.e + self.f)

    @property
    def expected_cycles(self) -> int:
        """Cycles of the tiles alone."""
        tiles = ceil_div(self.queries, self.machine.columns) * ceil_div(self.keys, self.machine.rows)
        return self.heads * tiles * (self.e + self.f + 2)

    @property
    def limit(self) -> float:
        """Utilisation without any wait: (E + F) / (E + F + 2) if all tiles are full."""
        return self.utilisation(self.expected_cycles)

    @property
    def bytes_per_cycle(self) -> float:
        """The memory's bandwidth."""
        return self.machine.bus_bytes / self.beat_interval_cycles

    def utilisation(self, cycles: int) -> float:
        """FLOPs utilisation: useful multiply-accumulates over those that the array could have done in ``cycles``."""
        return self.macs / (self.machine.rows * self.machine.columns * cycles)

    def parameters(self) -> dict[str, Any]:
        """Everything that the result depends on, as written to the results; the target is not part of it."""
        fields = asdict(self)
        del fields["target"]
        return fields
