"""Declarations, splits, aliases, constants, functions and the iteration."""

from __future__ import annotations

from ..builtins import MAPS, REDUCTIONS
from ..cascade import Cascade
from ..einsum import Einsum, Function
from ..errors import CascadeError, Position
from ..expression import Call, Reference, Variable, walk
from .names import check_node, unknown

__all__ = ["check_definitions"]


def check_definitions(cascade: Cascade) -> None:
    """Check what is defined beside the Einsums: names must be new, and what they are defined by must be known."""
    if not cascade.declaration:
        raise CascadeError("expected at least one tensor in declaration", Position(1, 1))
    tensor_ranks = {rank for ranks in cascade.ranks_of.values() for rank in ranks}
    split_ranks = {rank for split in cascade.split for rank in (split.rank, *split.parts)}
    _check_splits(cascade, tensor_ranks)
    for alias in cascade.alias:
        if alias.rank not in tensor_ranks | split_ranks:
            raise unknown("a rank", alias.rank, sorted(tensor_ranks | split_ranks), alias.at)
        if cascade.base(alias.name) == alias.name or alias.name in split_ranks:
            raise CascadeError(f"expected another name than {alias.name}", alias.at)
    ranks = set(cascade.ranks)
    for constant in cascade.constants:
        if constant.name in ranks or constant.name in cascade.ranks_of:
            raise CascadeError(f"expected another name than {constant.name}, which is a rank or a tensor", constant.at)
    for position, function in enumerate(cascade.functions):
        _check_function(cascade, function, {earlier.name for earlier in cascade.functions[:position]})
    _check_iteration(cascade, tensor_ranks | split_ranks)


def _check_splits(cascade: Cascade, tensor_ranks: set[str]) -> None:
    for split in cascade.split:
        if len(split.parts) < 2:
            raise CascadeError(f"expected at least two parts of {split.rank}", split.at)
        if split.rank in split.parts:
            raise CascadeError(f"expected the parts of {split.rank} to have other names", split.at)
        if not {split.rank, *split.parts} & tensor_ranks:
            raise CascadeError(f"no tensor has the rank {split.rank} or a part of it", split.at)


def _check_function(cascade: Cascade, function: Function, earlier: set[str]) -> None:
    """A function must have a name of its own, and use only its parameters and what is defined before it."""
    if function.name in MAPS or function.name in REDUCTIONS:
        raise CascadeError(f"expected another name than {function.name}, which is built in", function.at)
    if len(set(function.parameters)) != len(function.parameters):
        raise CascadeError(f"expected every parameter of {function.name} once", function.at)
    own = {other.name for other in cascade.functions}
    for node in walk(function.body):
        if isinstance(node, Variable) and node.name not in function.parameters:
            raise unknown("a parameter", node.name, function.parameters, node.at)
        if isinstance(node, Reference):
            raise CascadeError(f"expected only parameters and numbers in a function, found {node}", node.at)
        if isinstance(node, Call) and node.function in own and node.function not in earlier:
            raise CascadeError(f"expected {node.function} to be defined before it is used", node.at)
        check_node(cascade, node)


def _check_iteration(cascade: Cascade, known_ranks: set[str]) -> None:
    iteration = cascade.iteration
    if iteration is not None:
        if iteration.stop not in known_ranks:
            raise unknown("a rank", iteration.stop, sorted(known_ranks), iteration.at)
        if not cascade.extended:
            raise CascadeError("expected Einsums under extended for the iterative rank", iteration.at)
        return
    for name in ("initialization", "extended", "finally_"):
        section: tuple[Einsum, ...] = getattr(cascade, name)
        if section:
            raise CascadeError(f"expected a section iterative for the Einsums under {name.rstrip('_')}", section[0].at)
