"""Plans: what the host does and what the array does, in order."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import reduce

from ..cascade.cascade import Cascade
from ..cascade.einsum import Einsum
from ..cascade.expression import Binary, Expression, Number

__all__ = ["Assembly", "Bilinear", "HostLoop", "HostStep", "Part", "Plan", "Product", "Sweep"]


def _product(factors: tuple[Expression, ...]) -> str:
    """Text of a product, with sums in parentheses; 1 if there is no factor."""
    return str(reduce(lambda left, right: Binary("*", left, right), factors) if factors else Number(1.0))


@dataclass(frozen=True)
class Bilinear:
    """A part of a score: a product of queries and keys, summed over ``inner``; without it, one contraction element."""

    queries: tuple[Expression, ...]
    keys: tuple[Expression, ...]
    inner: tuple[str, ...]

    def __str__(self) -> str:
        return _product((*self.queries, *self.keys))


@dataclass(frozen=True)
class Sweep:
    """A sweep of the array: sums over ``keys`` of values with weights that are a function of scores.

    Members
    -------
    function
        Of the score: ``exp``, ``identity``, ``sigmoid``, …
    score
        Sum of products.
    mask
        Conditions on the coordinates of queries and keys.
    batch, queries, keys
        Variables: heads, the array's columns, and its rows in tiles.
    columns
        Values: each a product of expressions over batch, keys and variables of their own.
    """

    function: str
    score: tuple[Bilinear, ...]
    mask: tuple[Expression, ...]
    batch: tuple[str, ...]
    queries: tuple[str, ...]
    keys: tuple[str, ...]
    columns: tuple[tuple[Expression, ...], ...] = ()

    @property
    def weights(self) -> tuple[object, ...]:
        """What the weights depend on: sweeps that have this in common may be one."""
        return (self.function, self.score, self.mask, self.batch, self.queries, self.keys)

    def __str__(self) -> str:
        score = " + ".join(map(str, self.score))
        mask = f" where {' and '.join(map(str, self.mask))}" if self.mask else ""
        values = ", ".join(map(_product, self.columns))
        return f"sweep: {self.function}({score}){mask}, values {values or '1'}, over {', '.join(self.keys)}"


@dataclass(frozen=True)
class Part:
    """A summand of a tensor that a sweep gives: factors · exp(exponents) · column, summed over variables by the host."""

    sweep: int
    column: tuple[Expression, ...]
    factors: tuple[Expression, ...] = ()
    exponents: tuple[tuple[Expression, ...], ...] = ()
    summed: tuple[str, ...] = ()


@dataclass(frozen=True)
class Assembly:
    """The host puts a tensor together from what sweeps left.

    Members
    -------
    einsum
        The Einsum whose result it is.
    parts
        Summands.
    form
        ``sum``; ``log``, the logarithm of the sum, of one part; ``reference``, a number near the largest score.
    """

    einsum: Einsum
    parts: tuple[Part, ...]
    form: str = "sum"

    def __str__(self) -> str:
        return f"host:  {self.einsum.result} from sweep {', '.join(str(part.sweep + 1) for part in self.parts)}"


@dataclass(frozen=True)
class Product:
    """A matrix product on the array, Z[left, right] = Σ A[inner, left] · B[inner, right]: a sweep against an identity."""

    einsum: Einsum
    left: tuple[Expression, ...]
    right: tuple[Expression, ...]
    batch: tuple[str, ...]
    left_variables: tuple[str, ...]
    right_variables: tuple[str, ...]
    inner: tuple[str, ...]

    def __str__(self) -> str:
        return f"sweep: {self.einsum}, a matrix product"


@dataclass(frozen=True)
class HostStep:
    """Einsums that the host evaluates, in float64."""

    einsums: tuple[Einsum, ...]

    def __str__(self) -> str:
        return "\n".join(f"host:  {einsum}" for einsum in self.einsums)


@dataclass(frozen=True)
class HostLoop:
    """Steps of the cascade's iteration that the host evaluates, one after another, in float64.

    Members
    -------
    initialization, einsums
        Before the first step, and of every step.
    """

    initialization: tuple[Einsum, ...]
    einsums: tuple[Einsum, ...]

    def __str__(self) -> str:
        every = [f"host:  {einsum}, step by step" for einsum in self.einsums]
        return "\n".join([*(f"host:  {einsum}" for einsum in self.initialization), *every])


@dataclass(frozen=True)
class Plan:
    """A cascade as steps of host and array.

    Members
    -------
    cascade
        The cascade.
    steps
        In order. Sweeps are numbered from 0; products are not.
    """

    cascade: Cascade
    steps: tuple[HostStep | HostLoop | Sweep | Product | Assembly, ...]

    @property
    def sweeps(self) -> tuple[Sweep, ...]:
        return tuple(step for step in self.steps if isinstance(step, Sweep))

    @property
    def products(self) -> tuple[Product, ...]:
        return tuple(step for step in self.steps if isinstance(step, Product))

    def _lines(self) -> Iterator[str]:
        number = 0
        for step in self.steps:
            if isinstance(step, Sweep):
                number += 1
                yield f"{step} (sweep {number})"
            else:
                yield str(step)

    def __str__(self) -> str:
        return "\n".join(self._lines())
