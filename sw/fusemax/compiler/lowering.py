"""A mapped cascade as micro operations of one tile."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import MissingOptionError
from ..spec import Config
from .array_program import ArrayProgram
from .functions import LOG2_E, WEIGHT_FUNCTIONS, Lowering
from .micro import Micro, Operation

__all__ = ["ENTROPY_COLUMNS", "Lowered", "lower"]

#: Slices of a score that ENT multiplies weights by, each a column of the output in front of the values.
ENTROPY_COLUMNS = 3


@dataclass(frozen=True)
class Lowered:
    """Micro operations of a tile, and what the machine and the host must do beside them.

    Members
    -------
    micros
        Of a tile, in the order of what they mean.
    fixed_reference
        There is no running maximum.
    spare_hold
        The last hold register is the spare one.
    score_factor
        Factor of the scores besides the call's scale.
    score_bias
        What is added to scale · q·k.
    score_bound
        Largest \\|scale · q·k + bias\\| that the program is for; none if there is no limit.
    result_factor
        Factor by which a sum of weighted values must be multiplied.
    """

    micros: tuple[Micro, ...]
    fixed_reference: bool = False
    spare_hold: bool = False
    score_factor: float = LOG2_E
    score_bias: float = 0.0
    score_bound: float | None = None
    result_factor: float = 1.0


def lower(program: ArrayProgram, config: Config, e: int, f: int, score_bound: float | None = None) -> Lowered:
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

    Raises
    ------
    MissingOptionError
        If the machine does not have an operation that is needed; names the option. A ValueError too.
    ValueError
        If ``score_bound`` is outside the range of the function.
    """
    scores = tuple(Micro(Operation.QK, index=index, first=index == 0) for index in range(e))
    first_value = ENTROPY_COLUMNS if program.sums_scores else 0
    values = tuple(Micro(Operation.SLNV, index=index) for index in range(first_value, f))
    total = Micro(Operation.SUM, index=f)
    if program.running_maximum:
        move = Micro(Operation.MAX, rides=not program.sums_scores)
        if program.sums_scores:
            _need(config, ("entropy",), "weights times scores")
        slices = tuple(Micro(Operation.ENT, index=index) for index in range(first_value))
        return Lowered((*scores, move, Micro(Operation.EXP), *slices, total, *values))
    weigh = program.weigh
    function = WEIGHT_FUNCTIONS[weigh.function]
    _need(config, function.needs, weigh.function)
    bound = _bound(weigh.function, score_bound)
    lowering: Lowering = function.lower(bound or 0.0)
    return Lowered(
        (*scores, *lowering.micros, total, *values),
        fixed_reference=True,
        spare_hold=function.spare_hold,
        score_factor=lowering.score_factor * weigh.scale,
        score_bias=weigh.bias,
        score_bound=bound,
        result_factor=lowering.result_factor,
    )


def _need(config: Config, options: tuple[str, ...], what: str) -> None:
    for option in options:
        if not getattr(config, option):
            raise MissingOptionError(option, f"{what} needs the option {option}, which {config.name!r} does not have")


def _bound(name: str, asked: float | None) -> float | None:
    """The bound of a function's scores."""
    function = WEIGHT_FUNCTIONS[name]
    if function.bound is None:
        return None
    if asked is None:
        return function.bound
    if not asked > 0 or (function.most is not None and asked > function.most):
        most = "" if function.most is None else f" and at most {function.most:g}"
        raise ValueError(f"score_bound of {name} must be greater than 0{most}, not {asked!r}")
    return float(asked)
