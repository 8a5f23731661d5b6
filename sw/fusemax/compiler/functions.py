"""Weight functions: what a weight can be of a score, and by which micro operations.

A new score function is an entry of :data:`WEIGHT_FUNCTIONS`, with its constants and its error. A row's score S is in the
accumulator when a function's operations begin; its weight is in the tile's hold register behind them.

Sigmoid is 2^(min(S, 0) - log2(1 + P)) with P = 2^-|S|, so that it is relatively accurate at every score. The logarithm is a sum
of exponentials of the weight P, which the same table gives:
log2(1 + P) ≈ 2 + γ·P + a1·2^(-b1·P) + a2·2^(-b2·P), where the 2 is the last EXP's reference. The constants were fitted on the
grid of sig · 2^k to the table of :mod:`fusemax.arith.exp2`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..arith.linear import LINEAR_BITS, linear_scale_log2
from ..cascade.builtins import MAPS
from ..spec import Config
from .feeding import LOG2_E
from .micro import Constant, Micro, Operation, Register

__all__ = ["WEIGHT_FUNCTIONS", "Lowering", "WeightFunction"]


@dataclass(frozen=True)
class Lowering:
    """Micro operations of a function, and what the host multiplies by.

    Members
    -------
    micros
        From the finished score to the weight.
    score_factor
        Factor of the scores besides the call's scale: log2(e) for exponentials.
    result_factor
        Factor by which a sum of weighted values must be multiplied.
    """

    micros: tuple[Micro, ...]
    score_factor: float
    result_factor: float = 1.0


@dataclass(frozen=True)
class WeightFunction:
    """A function of the score that the array can make a weight of.

    Members
    -------
    text
        Its formula.
    compute
        It in float64.
    lower
        From the machine and the largest \\|score\\| that a call will have, to its micro operations.
    needs
        Options of the machine that it needs (:class:`fusemax.spec.Config`).
    bound
        Largest \\|score\\| if the caller does not say; none if the function takes any.
    most
        Largest bound that it can have; none if it takes any.
    relative_error
        Largest relative error of a weight; none if its error is an absolute one.
    absolute_error
        Largest absolute error of a weight at its default bound.
    spare_hold
        It needs the spare hold register.
    sign
        1 if the machine's weights are never negative, -1 if never positive; none if they have both signs, so that a lane cannot
        divide by their sum.
    """

    text: str
    compute: Callable[[Any], Any]
    lower: Callable[[Config, float], Lowering]
    needs: tuple[str, ...]
    bound: float | None = None
    most: float | None = None
    relative_error: float | None = None
    absolute_error: float | None = None
    spare_hold: bool = False
    sign: float | None = 1.0


SPARE = Register.SPARE


def _move(*, rides: bool = False) -> Micro:
    return Micro(Operation.MAX, rides=rides)


def _exp(
    reference: int = 0, *, source: Register = Register.HOLD, target: Register = Register.HOLD, absolute: bool = False
) -> Micro:
    return Micro(Operation.EXP, source=source, target=target, first=absolute, reference=reference)


def _lin(*, target: Register = Register.HOLD, relu: bool = False) -> Micro:
    return Micro(Operation.LIN, target=target, first=relu)


def _set(constant: Constant, source: Register = Register.HOLD, target: Register = Register.HOLD) -> Micro:
    return Micro(Operation.SET, source=source, target=target, constant=constant)


def _add(constant: Constant, source: Register = Register.HOLD, *, minimum: bool = False) -> Micro:
    return Micro(Operation.ADD, source=source, first=minimum, constant=constant)


# -- exponential ---------------------------------------------------------------------------------------------------


def _lower_exp(config: Config, bound: float) -> Lowering:
    """A constant reference above all scores, by which the result is too small."""
    reference = math.ceil(bound * LOG2_E)
    return Lowering((_move(rides=True), _exp(reference)), LOG2_E, 2.0**reference)


# -- linear --------------------------------------------------------------------------------------------------------


def _power_below(number: float) -> float:
    return 2.0 ** math.floor(math.log2(number))


def _linear_unit(config: Config) -> float:
    """Score of which LIN makes a weight of 1."""
    return 2.0 ** -linear_scale_log2(config)


def _linear_range(config: Config) -> float:
    """Largest score that LIN takes, with room for what rounding adds to it: 31.5 at 12 fraction bits and more."""
    return 63 / 64 * 2.0 ** (LINEAR_BITS - 1 - (config.score_frac_bits - config.linear_shift))


def _lower_linear(config: Config, bound: float, *, relu: bool = False) -> Lowering:
    """Scores times a power of two that uses LIN's range."""
    factor = _power_below(_linear_range(config) / bound)
    return Lowering((_move(rides=True), _lin(relu=relu)), factor, _linear_unit(config) / factor)


# -- sigmoid -------------------------------------------------------------------------------------------------------

GAMMA, A1, B1, A2, B2 = (Constant.of(number) for number in (0.1142578125, -1.875, 0.76171875, -0.125, 3.90625))


def _lower_sigmoid(config: Config, bound: float) -> Lowering:
    micros = (
        _move(),
        _exp(absolute=True, target=SPARE),
        _add(-GAMMA, SPARE, minimum=True),
        _set(-B1, SPARE),
        _set(-B2, SPARE, SPARE),
        _exp(),
        _exp(source=SPARE, target=SPARE),
        _add(-A1),
        _add(-A2, SPARE),
        _move(rides=True),
        _exp(2),
    )
    return Lowering(micros, LOG2_E)


# -- elu + 1 -------------------------------------------------------------------------------------------------------

#: log2(e), by which 1 is a score, as two constants.
LOG2_E_HIGH = Constant.of(LOG2_E)
LOG2_E_LOW = Constant.of(LOG2_E - LOG2_E_HIGH.value)


def _lower_elu1(config: Config, bound: float) -> Lowering:
    """-(max(S, 0) + log2(e)·2^min(S, 0)) by scores of the other sign, S' = -S.

    min(S', 0) is the linear part, already in the accumulator; -max(S', 0) is the exponent.
    """
    unit = _linear_unit(config)
    micros = (
        _move(),
        _lin(relu=True),
        _set(Constant.of(-unit)),
        _exp(),
        _add(-LOG2_E_HIGH, minimum=True),
        _add(-LOG2_E_LOW),
        _move(rides=True),
        _lin(),
    )
    return Lowering(micros, -LOG2_E, -unit * math.log(2))


def _lower_exp_min(config: Config, bound: float) -> Lowering:
    return Lowering((_add(Constant(0, 0), minimum=True), _move(rides=True), _exp()), LOG2_E)


#: Weight functions by their names in cascades.
WEIGHT_FUNCTIONS: dict[str, WeightFunction] = {
    "exp": WeightFunction(
        "exp(x), without a running maximum",
        np.exp,
        _lower_exp,
        ("linear",),
        bound=16.0,
        most=20.0,
        relative_error=5.9e-5,
    ),
    "identity": WeightFunction(
        "x",
        lambda x: x,
        _lower_linear,
        ("linear",),
        bound=31.5,
        absolute_error=2.0**-13,
        sign=None,
    ),
    "relu": WeightFunction(
        "max(x, 0)",
        MAPS["relu"].compute,
        lambda config, bound: _lower_linear(config, bound, relu=True),
        ("linear",),
        bound=31.5,
        absolute_error=2.0**-13,
    ),
    "sigmoid": WeightFunction(
        "1 / (1 + exp(-x))",
        MAPS["sigmoid"].compute,
        _lower_sigmoid,
        ("linear", "functions"),
        relative_error=1.52e-4,
        spare_hold=True,
    ),
    "elu1": WeightFunction(
        "exp(min(x, 0)) + max(x, 0)",
        MAPS["elu1"].compute,
        _lower_elu1,
        ("linear", "functions"),
        bound=20.0,
        most=20.0,
        absolute_error=2.2e-4,
        sign=-1.0,
    ),
    "exp_min": WeightFunction(
        "exp(min(x, 0))",
        lambda x: np.exp(np.minimum(x, 0)),
        _lower_exp_min,
        ("linear", "functions"),
        relative_error=5.9e-5,
    ),
}
