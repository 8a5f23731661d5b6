"""Rewriting a cascade so that it divides as late as it can.

A divisor that a sum does not run over can be taken out of the sum: A = SN / SD, AV = sum of A * V becomes SNV = sum of SN * V,
AV = SNV / SD (FuseMax, equations 31 and 32). The sum then needs no denominator, and often one pass less.
"""

from __future__ import annotations

from dataclasses import replace

from .cascade import Cascade, Declaration
from .einsum import Einsum
from .expression import Binary, Expression, Number, Reference, factors, map_expression, variables_of

__all__ = ["defer_division"]


def defer_division(cascade: Cascade) -> Cascade:
    """Move the divisions of a cascade behind the sums that they can be behind.

    Parameters
    ----------
    cascade
        Any cascade.

    Returns
    -------
    Cascade
        One that computes the same results; the same object if there is no division to move.
    """
    for _ in range(2 * len(cascade.einsums)):
        step = _inline(cascade) or _hoist(cascade)
        if step is None:
            break
        cascade = step
    return cascade


def _sections(cascade: Cascade) -> dict[str, tuple[Einsum, ...]]:
    """Sections in which a division can move: not those of the iteration, where it is part of a recurrence."""
    return {"expressions": cascade.expressions, "finally_": cascade.finally_}


def _quotient(einsum: Einsum) -> tuple[list[Expression], list[Expression]] | None:
    """Numerators and denominators of an Einsum that divides by tensors."""
    above, below = factors(einsum.expression)
    return (above, below) if any(variables_of(divisor) or isinstance(divisor, Reference) for divisor in below) else None


def _product(above: list[Expression], below: list[Expression]) -> Expression:
    above = [factor for factor in above if factor != Number(1.0)]
    expression: Expression = above[0] if above else Number(1.0)
    for factor in above[1:]:
        expression = Binary("*", expression, factor)
    for divisor in below:
        expression = Binary("/", expression, divisor)
    return expression


def _inline(cascade: Cascade) -> Cascade | None:
    """Put a quotient into a sum of products that reads it, if the sum can then do without the denominator."""
    for name, section in _sections(cascade).items():
        for producer in section:
            quotient = _quotient(producer)
            if quotient is None or producer.reduced or not _plain(producer.result):
                continue
            for consumer in section:
                reciprocal = all(isinstance(factor, Number) for factor in quotient[0])
                if consumer.reductions or not (consumer.reduced or reciprocal):
                    continue
                above, below = factors(consumer.expression)
                uses = [factor for factor in above if isinstance(factor, Reference) and factor.tensor == producer.result.tensor]
                everywhere = [operand for operand in consumer.operands if operand.tensor == producer.result.tensor]
                if len(uses) != 1 or len(everywhere) != 1 or not _plain(uses[0]):
                    continue
                renamed = _substitute(producer, uses[0])
                if renamed is None:
                    continue
                new_above, new_below = factors(renamed)
                if any(set(variables_of(divisor)) & set(consumer.reduced) for divisor in new_below):
                    continue
                others = [factor for factor in above if factor is not uses[0]]
                expression = _product(new_above + others, new_below + below)
                return _clean(_replaced(cascade, name, consumer, [replace(consumer, expression=expression)]), producer)
    return None


def _hoist(cascade: Cascade) -> Cascade | None:
    """Take the divisors that a sum does not run over out of it."""
    for name, section in _sections(cascade).items():
        for einsum in section:
            quotient = _quotient(einsum)
            if quotient is None or einsum.reductions or not einsum.reduced:
                continue
            above, below = quotient
            out = [divisor for divisor in below if not set(variables_of(divisor)) & set(einsum.reduced)]
            if not out or not _plain(einsum.result):
                continue
            tensor = _fresh(cascade, f"{einsum.result.tensor}N")
            numerator = replace(einsum.result, tensor=tensor)
            stay = [divisor for divisor in below if divisor not in out]
            added = Declaration(tensor, cascade.ranks_of[einsum.result.tensor])
            new = [
                Einsum(numerator, _product(above, stay), at=einsum.at),
                replace(einsum, expression=_product([numerator], out)),
            ]
            return _replaced(replace(cascade, declaration=(*cascade.declaration, added)), name, einsum, new)
    return None


def _plain(reference: Reference) -> bool:
    """Whether all indices are different variables."""
    return len(set(reference.variables)) == len(reference.indices) == sum(not index.children for index in reference.indices)


def _substitute(producer: Einsum, use: Reference) -> Expression | None:
    """The producer's right side, with the variables of ``use``; none if another variable stands in the way."""
    names = dict(zip(producer.result.indices, use.indices, strict=True))
    if any(index.children for index in use.indices):
        return None
    return map_expression(lambda node: names.get(node, node), producer.expression)


def _replaced(cascade: Cascade, section: str, old: Einsum, new: list[Einsum]) -> Cascade:
    einsums: tuple[Einsum, ...] = getattr(cascade, section)
    position = einsums.index(old)
    changed = (*einsums[:position], *new, *einsums[position + 1 :])
    if section == "expressions":
        return replace(cascade, expressions=changed)
    return replace(cascade, finally_=changed)


def _clean(cascade: Cascade, producer: Einsum) -> Cascade:
    """Without ``producer``, if nothing reads it any more."""
    tensor = producer.result.tensor
    if tensor in cascade.outputs or any(o.tensor == tensor for e in cascade.einsums for o in e.operands):
        return cascade
    return replace(
        cascade,
        declaration=tuple(d for d in cascade.declaration if d.tensor != tensor),
        expressions=tuple(e for e in cascade.expressions if e.result.tensor != tensor),
        finally_=tuple(e for e in cascade.finally_ if e.result.tensor != tensor),
    )


def _fresh(cascade: Cascade, name: str) -> str:
    while name in cascade.ranks_of or name in cascade.ranks:
        name += "N"
    return name
