"""Functions, operators and reductions that some part of the machine has."""

from __future__ import annotations

from ..cascade.cascade import Cascade
from ..cascade.einsum import Einsum
from ..cascade.expression import Binary, Call, Expression, Unary, walk
from .functions import WEIGHT_FUNCTIONS
from .refusal import refusal

__all__ = ["ARRAY_CAN", "MASK_HINT", "SCALE_HINT", "check_vocabulary"]

ARRAY_CAN = (
    "it multiplies queries by keys, takes the maximum over a tile, exp(score - running maximum) or another function of the "
    f"score ({', '.join(WEIGHT_FUNCTIONS)}), and sums weights and weighted values"
)
SCALE_HINT = "a scale of the scores is an argument of the call (scale)"
MASK_HINT = "masks are arguments of the call (causal, window, key_lengths, prefix)"

FUNCTIONS = ("exp", "max", *WEIGHT_FUNCTIONS)
OPERATORS = ("+", "-", "*", "/")
REDUCTIONS = ("max", "add", "sum")
#: What people mean by a word that the machine does not have, if it is an argument of the call.
HINTS = {
    **dict.fromkeys(("sqrt", "rsqrt", "**"), SCALE_HINT),
    **dict.fromkeys(("where", "take", "<", "<=", ">", ">=", "==", "!=", "and", "or", "not"), MASK_HINT),
}


def check_vocabulary(cascade: Cascade) -> None:
    """Look for words that the machine does not have: the clearest reason of all why it cannot run a cascade.

    Raises
    ------
    ReachError
        If there is one; names its line and column.
    """
    for einsum in cascade.einsums:
        for node in () if _is_map(cascade, einsum) else walk(einsum.expression):
            word = _missing(node)
            if word is not None:
                what = word if isinstance(node, Call) else f"operator {word}"
                # What a function's name does not explain, the list of what there is does.
                rest = HINTS.get(word) or (ARRAY_CAN if isinstance(node, Call) else "")
                raise refusal(cascade, f"it has no {what}; {rest}" if rest else f"it has no {what}", node.at)
        for reduction in einsum.reductions:
            if reduction.operation not in REDUCTIONS:
                raise refusal(cascade, f"it reduces by max and add, not by {reduction.operation}", reduction.at)


def _is_map(cascade: Cascade, einsum: Einsum) -> bool:
    """Whether it is a function of one computed tensor, whose words may be any: what function it is, is asked later."""
    read = set(einsum.operands)
    return (
        len(read) == 1
        and not einsum.reduced
        and read.isdisjoint(einsum.result.indices)
        and not ({reference.tensor for reference in read} & set(cascade.inputs))
    )


def _missing(node: Expression) -> str | None:
    """The function or operator of a node if the machine does not have it."""
    match node:
        case Call(name, _) if name not in FUNCTIONS:
            return name
        case Binary(operator, _, _) if operator not in OPERATORS:
            return operator
        case Unary("not", _):
            return "not"
    return None
