"""The order in which tensors are written and read, and the steps of those that the iteration carries."""

from __future__ import annotations

from ..cascade import Cascade
from ..einsum import Einsum
from ..errors import CascadeError
from ..expression import Reference
from ..indices import classify_all
from .names import unknown

__all__ = ["check_order"]


def check_order(cascade: Cascade) -> None:
    """Check that tensors are written before they are read, and once; those that are carried from step to step twice."""
    written = set(cascade.inputs)
    for section in (cascade.expressions, cascade.initialization, cascade.extended, cascade.finally_):
        in_section: set[str] = set()
        for einsum in section:
            _check_declared(cascade, einsum.result)
            for operand in einsum.operands:
                _check_declared(cascade, operand)
                if operand.tensor not in written:
                    later = [e for e in cascade.einsums if e.result.tensor == operand.tensor]
                    line = f" on line {later[0].at.line}" if later and later[0].at else ""
                    raise CascadeError(f"{operand.tensor} is read before it is written{line}", operand.at)
            tensor = einsum.result.tensor
            carried = section is cascade.extended and tensor in cascade.iterative
            if tensor in in_section or (tensor in written and not carried):
                raise CascadeError(f"{tensor} is written again", einsum.at)
            in_section.add(tensor)
            written.add(tensor)
    for einsum in cascade.extended:
        _check_step(cascade, einsum)
    for einsum in cascade.initialization:
        if einsum.result.tensor in cascade.iterative and not any(i.constant == 0 for i in classify_all(cascade, einsum.result)):
            raise CascadeError(f"expected {einsum.result.tensor} to be initialized at index 0", einsum.at)


def _check_declared(cascade: Cascade, reference: Reference) -> None:
    """A tensor must be declared, with as many ranks as it has indices."""
    if reference.tensor not in cascade.ranks_of:
        raise unknown("a declared tensor", reference.tensor, cascade.ranks_of, reference.at)
    ranks = cascade.ranks_of[reference.tensor]
    if len(reference.indices) != len(ranks):
        listed = f"[{', '.join(ranks)}]" if ranks else "none"
        raise CascadeError(
            f"expected {len(ranks)} indices of {reference.tensor} ({listed}), found {len(reference.indices)}", reference.at
        )


def _check_step(cascade: Cascade, einsum: Einsum) -> None:
    """A state must be written for the next step, any other tensor for this one."""
    if cascade.iteration is None:
        return
    variable, tensor = cascade.iteration.variable, einsum.result.tensor
    own = [index for index in classify_all(cascade, einsum.result) if index.part == variable]
    if tensor in cascade.iterative:
        if len(own) != 1 or own[0].offset != 1:
            raise CascadeError(
                f"expected {tensor} to be written at [{variable}+1], because it is initialized at [0]", einsum.at
            )
    elif len(own) != 1 or own[0].offset != 0:
        why = " (or an initialization of it)" if len(own) == 1 else ""
        raise CascadeError(f"expected the index {variable} of {tensor}, as it is written in every step{why}", einsum.at)
