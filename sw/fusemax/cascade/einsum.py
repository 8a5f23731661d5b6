"""Extended Einsums, read from text as the FuseMax paper writes them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property

__all__ = ["Einsum", "TensorReference"]

REFERENCE = re.compile(r"([A-Z][A-Z0-9]*)\[([^\]]*)\]")


@dataclass(frozen=True)
class TensorReference:
    """A tensor with its indices: ``RM[m1+1, p]`` is ``TensorReference("RM", ("m1+1", "p"))``."""

    tensor: str
    indices: tuple[str, ...]

    @property
    def ranks(self) -> tuple[str, ...]:
        """Index variables, in order of appearance: ``m1``, ``p``."""
        return tuple(dict.fromkeys(re.findall(r"[a-z][a-z0-9]*", " ".join(self.indices))))

    def __str__(self) -> str:
        return f"{self.tensor}[{', '.join(self.indices)}]"


@dataclass(frozen=True)
class Einsum:
    """One equation: a tensor on the left, an expression of tensors on the right.

    Indices that are only on the right are reduced, by addition or by what ``::`` names, as in
    ``LM[m1, p] = BQK[m1, m0, p] ::max(m0)``.

    Raises
    ------
    ValueError
        If the text is not ``tensor[indices] = expression``.
    """

    text: str

    def __post_init__(self) -> None:
        left, equals, right = self.text.partition("=")
        if not equals or not REFERENCE.fullmatch(left.strip()) or not right.strip():
            raise ValueError(f"an Einsum must be 'tensor[indices] = expression', not {self.text!r}")

    @cached_property
    def result(self) -> TensorReference:
        return _references(self.text.partition("=")[0])[0]

    @cached_property
    def operands(self) -> tuple[TensorReference, ...]:
        return _references(self.text.partition("=")[2])

    @cached_property
    def ranks(self) -> tuple[str, ...]:
        """Index variables of the iteration space, those of the result first."""
        return tuple(dict.fromkeys(rank for reference in (self.result, *self.operands) for rank in reference.ranks))

    def __str__(self) -> str:
        return self.text


def _references(text: str) -> tuple[TensorReference, ...]:
    return tuple(
        TensorReference(tensor, tuple(index.replace(" ", "") for index in indices.split(",")))
        for tensor, indices in REFERENCE.findall(text)
    )
