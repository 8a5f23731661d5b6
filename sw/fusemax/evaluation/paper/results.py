"""All designs on all models and lengths, and what is compared."""

from __future__ import annotations

import enum
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

from .cost import Cost, evaluate
from .designs import DESIGNS, linear_layers
from .energy import Energy, energy_of
from .machine import Unit
from .workloads import LENGTHS, MODELS

__all__ = ["Result", "Scope", "mean", "ratios", "records", "result", "results_of"]


class Scope(enum.Enum):
    """What is run: attention alone, or with the layer's linear layers before and behind it."""

    ATTENTION = "attention"
    END_TO_END = "end_to_end"


@dataclass(frozen=True)
class Result:
    """A design on a model and a length.

    Members
    -------
    design, model, length, scope
        Names as in ``designs.DESIGNS``, ``workloads.MODELS`` and ``workloads.LENGTHS``.
    cost, energy
        Of one layer, all sequences of the batch.
    """

    design: str
    model: str
    length: str
    scope: Scope
    cost: Cost
    energy: Energy

    @property
    def util_2d(self) -> float:
        """Share of the PEs' time in which they do something for an Einsum."""
        return self.cost.utilisation(Unit.ARRAY)

    @property
    def util_1d(self) -> float:
        """The same of the lanes."""
        return self.cost.utilisation(Unit.LANES)

    @property
    def flops_utilisation(self) -> float:
        """Share of the PEs' time in which they multiply for one of attention's two matrix products."""
        return self.cost.utilisation(Unit.ARRAY, "QK", "BQK", "AV", "SLNV")

    def record(self) -> dict[str, Any]:
        """As ``fusemax paper --json`` prints it."""
        return {
            "design": self.design,
            "model": self.model,
            "length": self.length,
            "scope": self.scope.value,
            "latency_s": self.cost.latency_s,
            "traffic_bytes": self.cost.traffic_bytes,
            "energy_pj": self.energy.total_pj,
            "util_2d": self.util_2d,
            "util_1d": self.util_1d,
        }


@cache
def result(design: str, model: str, length: str, scope: Scope = Scope.ATTENTION) -> Result:
    """One result.

    Raises
    ------
    ValueError
        If there is no such design, model or length.
    """
    for kind, value, known in (("design", design, DESIGNS), ("model", model, MODELS), ("length", length, LENGTHS)):
        if value not in known:
            raise ValueError(f"{kind} must be one of {', '.join(known)}, not {value!r}")
    chosen = DESIGNS[design]
    stages = chosen.attention(MODELS[model], LENGTHS[length])
    if scope is Scope.END_TO_END:
        stages += linear_layers(MODELS[model], LENGTHS[length], chosen.machine)
    cost = evaluate(stages, chosen.machine)
    return Result(design, model, length, scope, cost, energy_of(cost, chosen.machine))


def results_of(design: str, scope: Scope = Scope.ATTENTION) -> Iterator[Result]:
    """All models and lengths of a design, in the paper's order."""
    for model in MODELS:
        for length in LENGTHS:
            yield result(design, model, length, scope)


def records() -> list[dict[str, Any]]:
    """Every result as a record."""
    return [found.record() for design in DESIGNS for scope in Scope for found in results_of(design, scope)]


def ratios(quantity: str, design: str, baseline: str, scope: Scope = Scope.ATTENTION) -> list[float]:
    """Speed-ups (``quantity`` "speed-up") or energies ("energy", "energy without wraps") relative to ``baseline``.

    All models and lengths, in the order of :func:`results_of`.

    Raises
    ------
    ValueError
        If ``quantity`` is something else.
    """
    pairs = list(zip(results_of(design, scope), results_of(baseline, scope), strict=True))
    if quantity == "speed-up":
        return [base.cost.latency_s / found.cost.latency_s for found, base in pairs]
    if quantity == "energy":
        return [found.energy.total_pj / base.energy.total_pj for found, base in pairs]
    if quantity == "energy without wraps":
        return [found.energy.without_wraps_pj / base.energy.without_wraps_pj for found, base in pairs]
    raise ValueError(f"quantity must be speed-up, energy or energy without wraps, not {quantity!r}")


def mean(values: list[float]) -> float:
    """Arithmetic mean."""
    return sum(values) / len(values)
