"""Names that are defined but not used."""

from __future__ import annotations

from ..cascade import Cascade
from ..errors import CascadeError
from ..expression import Call, Name, walk
from .names import unknown

__all__ = ["check_use"]


def check_use(cascade: Cascade) -> None:
    """Check that every tensor, part of a split, alias, constant, function and result is used."""
    used = used_names(cascade)
    for declaration in cascade.declaration:
        if declaration.tensor not in used:
            raise CascadeError(f"{declaration.tensor} is declared but not used", declaration.at)
    used_ranks = used | {rank for ranks in cascade.ranks_of.values() for rank in ranks}
    for split in cascade.split:
        for part in split.parts:
            if part not in used_ranks:
                raise CascadeError(f"{part} is a part of {split.rank} but not used", split.at)
    for item in (*cascade.alias, *cascade.constants, *cascade.functions):
        if item.name not in used:
            raise CascadeError(f"{item.name} is defined but not used", item.at)
    if cascade.outputs:
        _check_outputs(cascade)


def used_names(cascade: Cascade) -> set[str]:
    """Names of tensors, ranks, constants, functions and reductions that Einsums and functions use."""
    found: set[str] = set()
    for einsum in cascade.einsums:
        found.update(reference.tensor for reference in (einsum.result, *einsum.operands))
        found.update(variable.upper() for variable in einsum.ranks)
        found.update(reduction.operation for reduction in einsum.reductions)
    for expression in (*(e.expression for e in cascade.einsums), *(f.body for f in cascade.functions)):
        for node in walk(expression):
            if isinstance(node, Name):
                found.add(node.name)
            elif isinstance(node, Call):
                found.add(node.function)
    return found


def _check_outputs(cascade: Cascade) -> None:
    """Outputs must be results, and every result that is not read one of them."""
    for tensor in cascade.outputs:
        if tensor not in cascade.ranks_of or tensor in cascade.inputs:
            raise unknown("a result", tensor, [t for t in cascade.ranks_of if t not in cascade.inputs], None)
    read = {o.tensor for e in cascade.einsums for o in e.operands if o.tensor != e.result.tensor}
    for einsum in cascade.einsums:
        if einsum.result.tensor not in read and einsum.result.tensor not in cascade.outputs:
            raise CascadeError(f"{einsum.result.tensor} is neither read nor one of the outputs", einsum.at)
