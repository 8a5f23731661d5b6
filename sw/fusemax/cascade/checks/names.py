"""Names that are not known, and what each node of an expression may name."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

from ..builtins import MAPS, REDUCTIONS
from ..cascade import Cascade
from ..errors import CascadeError, Position
from ..expression import Call, Expression, Name, Number

__all__ = ["check_node", "unknown"]

#: What to write for functions that people look for, and that are no functions of one element.
WRITTEN_OTHERWISE = {
    "mean": "write the sum as an Einsum of its own, and divide by the rank's shape, as in T[p] / M",
    "softmax": "write it as Einsums: the maximum ::max(m), exp of the difference, its sum, and a division",
    "sum": "variables that are not on the left are summed over without a word",
}


def unknown(what: str, name: str, known: Iterable[str], at: Position | None) -> CascadeError:
    """Make the error that a name is none of ``known``; it proposes a close one."""
    known = list(known)
    close = [k for k in known if k.lower() == name.lower()] or get_close_matches(name, known, 1)
    hint = f"did you mean {close[0]}?" if close else f"known: {', '.join(dict.fromkeys(known)) or 'none'}"
    return CascadeError(f"expected {what}, found {name!r}; {hint}", at)


def check_node(cascade: Cascade, node: Expression) -> None:
    """Check the name of one node: a shape, a constant or a function. Tensors and variables are checked with their Einsum."""
    if isinstance(node, Name):
        _check_name(cascade, node)
    elif isinstance(node, Call):
        _check_call(cascade, node)


def _check_name(cascade: Cascade, node: Name) -> None:
    known = [*cascade.ranks, *(constant.name for constant in cascade.constants)]
    if node.name in known:
        return
    if node.name in cascade.ranks_of:
        ranks = ", ".join(cascade.ranks_of[node.name]).lower()
        raise CascadeError(f"expected {node.name}[{ranks}], found no indices", node.at)
    raise unknown("a rank or a constant", node.name, known, node.at)


def _check_call(cascade: Cascade, node: Call) -> None:
    name, arguments = node.function, node.arguments
    own = {function.name: len(function.parameters) for function in cascade.functions}
    if name in own:
        least = most = own[name]
    elif name in MAPS:
        least, most = MAPS[name].least, MAPS[name].most
    elif name in WRITTEN_OTHERWISE:
        raise CascadeError(f"expected a function, found {name!r}; {WRITTEN_OTHERWISE[name]}", node.at)
    else:
        raise unknown("a function", name, [*MAPS, *own], node.at)
    if len(arguments) < least or (most is not None and len(arguments) > most):
        wanted = f"{least}" if least == most else f"at least {least}"
        hint = f"; over a rank it is ::{name}(m) at the end of the line" if name in REDUCTIONS else ""
        raise CascadeError(f"expected {wanted} arguments of {name}, found {len(arguments)}{hint}", node.at)
    if name == "take":
        which = arguments[-1]
        if not isinstance(which, Number) or not (which.value.is_integer() and 0 <= which.value < len(arguments) - 1):
            raise CascadeError(
                "expected the number of an argument as the last one of take, counted from 0", which.at or node.at
            )
