"""What an index of a tensor says about a coordinate of its rank."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Literal

from .cascade import Cascade
from .expression import Binary, Expression, Name, Number, Reference, Unary, Variable, walk

__all__ = ["Index", "classify", "classify_all"]


@dataclass(frozen=True)
class Index:
    """An index, by its form.

    Members
    -------
    kind
        ``variable`` (plus ``offset``): the coordinate of ``part``; ``split``: all parts of the rank; ``constant``: a fixed
        coordinate (``constant`` is its number, none for a shape such as M1); ``affine``: another sum of variables; ``gather``:
        an index that is read from a tensor.
    rank
        Rank that the tensor declares here.
    wrong
        Why it is no index of that rank; none if it is one.
    """

    expression: Expression
    rank: str
    kind: Literal["variable", "split", "constant", "affine", "gather"]
    parts: tuple[str, ...] = ()
    offset: int = 0
    constant: float | None = None
    wrong: str | None = None

    @property
    def part(self) -> str | None:
        """The variable, if there is one."""
        return self.parts[0] if self.kind == "variable" else None


def classify_all(cascade: Cascade, reference: Reference) -> list[Index]:
    """Classify the indices of a tensor, in their order."""
    ranks = cascade.ranks_of[reference.tensor]
    return [classify(cascade, index, rank) for index, rank in zip(reference.indices, ranks, strict=True)]


def classify(cascade: Cascade, index: Expression, rank: str) -> Index:
    """Find the form of ``index`` at a place of rank ``rank``."""
    nodes = list(walk(index))
    if any(isinstance(node, Reference) for node in nodes):
        return Index(index, rank, "gather")
    terms = linear(index)
    if terms is None:
        return Index(index, rank, "affine", wrong="variables, shapes and numbers, added and multiplied")
    variables = [node.name for node in nodes if isinstance(node, Variable)]
    if not variables:
        constant = terms.get((), 0) if set(terms) <= {()} else None
        return Index(index, rank, "constant", constant=constant)
    if len(variables) == 1 and set(terms) <= {(), (variables[0],)} and terms.get((variables[0],)) == 1:
        (variable,) = variables
        wrong = None
        if cascade.base(variable.upper()) != cascade.base(rank):
            wrong = f"{rank.lower()}"
            parts = next((split.parts for split in cascade.split if split.rank == cascade.base(rank)), None)
            if parts is not None:
                wrong += f" or {split_text(parts)}"
        return Index(index, rank, "variable", (variable,), terms.get((), 0), wrong=wrong)
    for split in cascade.split:
        if split.rank == cascade.base(rank) and terms == split_terms(split.parts):
            return Index(index, rank, "split", tuple(part.lower() for part in split.parts))
    return Index(index, rank, "affine", tuple(dict.fromkeys(variables)))


def split_terms(parts: tuple[str, ...]) -> dict[tuple[str, ...], int]:
    """m1*M0+m0, as :func:`linear` gives it."""
    return {tuple(sorted((part.lower(), *parts[i + 1 :]))): 1 for i, part in enumerate(parts)}


def split_text(parts: tuple[str, ...]) -> str:
    return "+".join("*".join((part.lower(), *parts[i + 1 :])) for i, part in enumerate(parts))


def linear(expression: Expression) -> dict[tuple[str, ...], int] | None:
    """Sum of products: factors (names, sorted) to their integer coefficient; none if it is no such sum."""
    match expression:
        case Number(value) if value.is_integer():
            return {(): int(value)}
        case Variable(name) | Name(name):
            return {(name,): 1}
        case Unary("-", operand):
            terms = linear(operand)
            return None if terms is None else {names: -count for names, count in terms.items()}
        case Binary("+" | "-" | "*" as operator, left, right):
            a, b = linear(left), linear(right)
            if a is None or b is None:
                return None
            found: Counter[tuple[str, ...]] = Counter()
            if operator == "*":
                for names, count in a.items():
                    for others, factor in b.items():
                        found[tuple(sorted(names + others))] += count * factor
            else:
                found.update(a)
                found.update(b if operator == "+" else {names: -count for names, count in b.items()})
            return {names: count for names, count in found.items() if count}
    return None
