"""A mapped cascade as micro operations of one tile."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from ..arith.score_slices import SLICES
from ..errors import MissingOptionError
from ..spec import Config
from .array_program import ArrayProgram
from .feeding import BIAS_ELEMENTS, Feeding
from .functions import WEIGHT_FUNCTIONS, Lowering
from .micro import Micro, Operation

__all__ = ["Lowered", "lower"]


@dataclass(frozen=True)
class Lowered:
    """Micro operations of a tile, and what the machine and the host must do beside them.

    Members
    -------
    micros
        Of a tile, in the order of what they mean.
    e, f
        Head dims of the program: elements more for a bias of the scores, columns more for sums of scores.
    fixed_reference
        There is no running maximum.
    spare_hold
        The last hold register is the spare one.
    feeding
        What the host does.
    """

    micros: tuple[Micro, ...]
    e: int
    f: int
    fixed_reference: bool = False
    spare_hold: bool = False
    feeding: Feeding = field(default_factory=Feeding)


def lower(
    program: ArrayProgram, config: Config, e: int, f: int, score_bound: float | None = None, *, bias: bool = False
) -> Lowered:
    """Lower a mapped cascade to micro operations.

    Parameters
    ----------
    program
        What the array does for a tile.
    config
        The machine.
    e, f
        Slots of the scores, and columns of the output.
    score_bound
        Largest \\|score\\| that a call will have, for functions that have a range; the function's own if not given.
    bias
        Calls bring a bias of every score.

    Raises
    ------
    MissingOptionError
        If the machine does not have an operation that is needed; names the option. A ValueError too.
    ValueError
        If ``score_bound`` is outside the range of the function.
    """
    weigh = program.weigh
    # A factor of an exponential is one of the results.
    score_bias = 0.0 if weigh.function == "exp" else weigh.bias
    # Each slice of the scores is a column of the output in front of the values.
    columns = SLICES if program.sums_scores else 0
    e, f = e + BIAS_ELEMENTS * (score_bias != 0), f + columns
    scores = tuple(Micro(Operation.QK, index=index, first=index == 0) for index in range(e))
    if bias:
        scores += tuple(Micro(Operation.BIAS, index=row) for row in range(config.rows))
    values = tuple(Micro(Operation.SLNV, index=index) for index in range(columns, f))
    total = Micro(Operation.SUM, index=f)
    if program.sums_scores:
        _need(config, ("entropy",), "the sum of weights times scores")
    slices = tuple(Micro(Operation.ENT, index=index) for index in range(columns))
    if program.running_maximum:
        if score_bound is not None:
            raise ValueError(f"score_bound must not be given for weights relative to a running maximum, not {score_bound!r}")
        # A row of the output begins with its state, which SUM gives.
        micros = (*scores, Micro(Operation.MAX, rides=not columns), Micro(Operation.EXP), total, *slices, *values)
        return Lowered(micros, e, f, feeding=Feeding(raw=not program.divides, score_columns=columns))
    function = WEIGHT_FUNCTIONS[weigh.function]
    _need(config, function.needs, weigh.function)
    bound = _bound(weigh.function, score_bound)
    lowering: Lowering = function.lower(config, bound or 0.0)
    feeding = Feeding(
        score_factor=lowering.score_factor * weigh.scale,
        score_bias=score_bias / weigh.scale,
        score_bound=None if bound is None else bound / abs(weigh.scale),
        result_factor=lowering.result_factor * (math.exp(weigh.bias) if weigh.function == "exp" else 1.0),
        quotient_factor=function.sign or 1.0,
        raw=not program.divides,
    )
    micros = (*scores, *lowering.micros, total, *values)
    return Lowered(micros, e, f, fixed_reference=True, spare_hold=function.spare_hold, feeding=feeding)


def _need(config: Config, options: tuple[str, ...], what: str) -> None:
    """Refuse a machine without the options. ``functions`` brings ``linear``, and is behind it where both are needed."""
    missing = [option for option in options if not getattr(config, option)]
    if missing:
        option = missing[-1]
        message = f"{what} needs the option {option}, which {config.name!r} does not have: {option}=True of a fusemax.Config"
        raise MissingOptionError(option, f"{message}, or --set {option}=1")


def _bound(name: str, asked: float | None) -> float | None:
    """The bound of a function's scores."""
    function = WEIGHT_FUNCTIONS[name]
    if function.bound is None:
        if asked is not None:
            raise ValueError(f"score_bound must not be given for {name}, which has no range, not {asked!r}")
        return None
    if asked is None:
        return function.bound
    if not asked > 0 or (function.most is not None and asked > function.most):
        most = "" if function.most is None else f" and at most {function.most:g}"
        raise ValueError(f"score_bound of {name} must be greater than 0{most}, not {asked!r}")
    return float(asked)
