"""Einsums of a shipped cascade as the model counts them: iteration space and operations of a point.

Both are read from the cascade's file, so what is counted is what ``fusemax passes`` analyses and ``fusemax compile`` compiles.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from ....cascade import CASCADES, Cascade, Einsum
from ....cascade.expression import Binary, Call, Expression, Number, Reference, Unary
from ..machine import Operation

__all__ = ["Einsums", "operations_of"]

MAPS: Mapping[str, Operation] = {"*": Operation.MAC, "/": Operation.DIVIDE, "+": Operation.ADD, "-": Operation.ADD}
FUNCTIONS: Mapping[str, Operation] = {"max": Operation.MAX, "min": Operation.MAX, "exp": Operation.EXP}
REDUCTIONS: Mapping[str, Operation] = {"add": Operation.ADD, "max": Operation.MAX, "min": Operation.MAX}


def operations_of(einsum: Einsum) -> dict[Operation, int]:
    """Operations of each point of an Einsum's iteration space.

    A product is a multiply-accumulate, so that its sum costs nothing more; a sum of anything else is an addition for each
    point. What only renames a tensor's elements has no operations.

    Raises
    ------
    ValueError
        If the model has no operation for a part of it.
    """
    found: Counter[Operation] = Counter()
    _count(einsum.expression, einsum, found)
    product = isinstance(einsum.expression, Binary) and einsum.expression.operator == "*"
    if einsum.summed and not product:
        found[Operation.ADD] += 1
    for reduction in einsum.reductions:
        found[_known(REDUCTIONS, reduction.operation, einsum)] += 1
    return dict(found)


def _count(expression: Expression, einsum: Einsum, found: Counter[Operation]) -> None:
    """Add the operations of a tree, the outer ones first; the indices of its tensors are none."""
    match expression:
        case Reference() | Number():
            return
        case Binary(operator):
            found[_known(MAPS, operator, einsum)] += 1
        case Call(function, arguments):
            found[_known(FUNCTIONS, function, einsum)] += max(1, len(arguments) - 1)
        case Unary("-"):
            found[Operation.ADD] += 1
        case _:
            _known({}, str(expression), einsum)
    for child in expression.children:
        _count(child, einsum, found)


def _known(table: Mapping[str, Operation], name: str, einsum: Einsum) -> Operation:
    if name not in table:
        raise ValueError(f"an operation must be one of {', '.join((*MAPS, *FUNCTIONS))}, not {name!r} in {einsum}")
    return table[name]


@dataclass(frozen=True)
class Einsums:
    """Einsums of a cascade that cost something, in the order of evaluation.

    Members
    -------
    ranks
        Ranks of each one's iteration space (see :class:`fusemax.evaluation.paper.Ranks`).
    operations
        :func:`operations_of` each one.
    """

    ranks: Mapping[str, str]
    operations: Mapping[str, Mapping[Operation, int]]

    @classmethod
    def of(cls, cascade: str | Cascade) -> Einsums:
        """Those of a cascade or of a shipped one; the start values of its states are none."""
        cascade = CASCADES[cascade] if isinstance(cascade, str) else cascade
        einsums = {e.result.tensor: e for e in (*cascade.expressions, *cascade.extended, *cascade.finally_)}
        operations = {name: counted for name, einsum in einsums.items() if (counted := operations_of(einsum))}
        return cls({name: " ".join(einsums[name].ranks) for name in operations}, operations)

    def evaluated(
        self, names: str, units: Mapping[Operation, Mapping[Operation, int]] | None = None
    ) -> dict[str, dict[Operation, int]]:
        """Operations of the named Einsums, as in ``"BQK LM"``; ``units`` has those that take several of a machine's own."""
        found = {}
        for name in names.split():
            counts: Counter[Operation] = Counter()
            for operation, count in self.operations[name].items():
                for own, times in (units or {}).get(operation, {operation: 1}).items():
                    counts[own] += count * times
            found[name] = dict(counts)
        return found
