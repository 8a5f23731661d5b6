"""Figures that the paper gives, each with how it follows from the model."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from .results import Scope, mean, ratios

__all__ = ["PUBLISHED", "Published"]


def geometric_mean(values: list[float]) -> float:
    return math.exp(mean([math.log(value) for value in values]))


@dataclass(frozen=True)
class Published:
    """A figure over all models and lengths.

    Members
    -------
    what
        Description.
    design, baseline, quantity, scope
        What is compared with what, see :func:`.results.ratios`.
    over
        How the 24 ratios become one figure.
    value
        As printed, which gives its digits.
    """

    what: str
    design: str
    baseline: str
    quantity: str
    scope: Scope
    over: Callable[[list[float]], float]
    value: str

    @property
    def digits(self) -> int:
        """Digits behind the point."""
        return len(self.value.partition(".")[2])

    def of(self, design: str) -> float:
        """The figure, of ``design`` instead of the published one."""
        return self.over(ratios(self.quantity, design, self.baseline, self.scope))

    @property
    def computed(self) -> float:
        return self.of(self.design)

    @property
    def reproduced(self) -> bool:
        """To the printed digits."""
        return f"{self.computed:.{self.digits}f}" == self.value


ATTENTION, END_TO_END = Scope.ATTENTION, Scope.END_TO_END

PUBLISHED: tuple[Published, ...] = (
    Published("attention, speed-up over FLAT", "binding", "flat", "speed-up", ATTENTION, mean, "6.72"),
    Published("  smallest", "binding", "flat", "speed-up", ATTENTION, min, "3.44"),
    Published("  largest", "binding", "flat", "speed-up", ATTENTION, max, "8.57"),
    Published("attention, speed-up over unfused", "binding", "unfused", "speed-up", ATTENTION, mean, "10.05"),
    Published("  smallest", "binding", "unfused", "speed-up", ATTENTION, min, "5.84"),
    Published("  largest", "binding", "unfused", "speed-up", ATTENTION, max, "11.58"),
    Published("end to end, speed-up over FLAT", "binding", "flat", "speed-up", END_TO_END, mean, "5.30"),
    Published("  geometric mean", "binding", "flat", "speed-up", END_TO_END, geometric_mean, "4.60"),
    Published("end to end, speed-up over unfused", "binding", "unfused", "speed-up", END_TO_END, mean, "7.60"),
    Published("attention, energy over FLAT", "binding", "flat", "energy", ATTENTION, mean, "0.787"),
    Published("attention, energy over unfused", "binding", "unfused", "energy", ATTENTION, mean, "0.767"),
    Published("end to end, energy over FLAT", "binding", "flat", "energy", END_TO_END, mean, "0.833"),
    Published("end to end, energy over unfused", "binding", "unfused", "energy", END_TO_END, mean, "0.821"),
    Published("step unfused to FLAT", "flat", "unfused", "speed-up", ATTENTION, mean, "1.51"),
    Published("step FLAT to +Cascade", "cascade", "flat", "speed-up", ATTENTION, mean, "0.907"),
    Published("step +Cascade to +Architecture", "arch", "cascade", "speed-up", ATTENTION, mean, "2.40"),
    Published("step +Architecture to +Binding", "binding", "arch", "speed-up", ATTENTION, mean, "3.03"),
)
