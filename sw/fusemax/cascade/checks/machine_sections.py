"""Names in the sections ``mapping`` and ``bindings``; their other words are left to who reads them."""

from __future__ import annotations

from ..cascade import Cascade
from ..errors import CascadeError
from ..yaml_reader import Mapping, Node, Scalar, Sequence
from .names import unknown

__all__ = ["check_machine_sections"]


def check_machine_sections(cascade: Cascade) -> None:
    """Check that the ranks and tensors exist that mapping and bindings name."""
    for section, node in cascade.extras:
        if section == "mapping":
            _check_mapping(cascade, node)
        elif section == "bindings":
            _check_bindings(cascade, node)


def _check_mapping(cascade: Cascade, node: Node) -> None:
    if not isinstance(node, Mapping):
        raise CascadeError("expected mapping to be a mapping", node.at)
    for key, value in node.pairs:
        if key.text in ("loop-order", "rank-order"):
            _check_ranks(cascade, value)
        elif key.text == "spacetime" and isinstance(value, Mapping):
            for name, inner in value.pairs:
                if name.text in ("space", "time"):
                    _check_ranks(cascade, inner)
                else:
                    _check_tensor(cascade, name)
                    if isinstance(inner, Mapping):
                        for _, ranks in inner.pairs:
                            _check_ranks(cascade, ranks)
        elif key.text == "partitioning" and isinstance(value, Mapping):
            for name, _ in value.pairs:
                _check_tensor(cascade, name)


def _check_tensor(cascade: Cascade, name: Scalar) -> None:
    """A tensor, or a rank that the mapping splits for all tensors."""
    if name.text not in cascade.ranks_of and name.text not in cascade.ranks:
        raise unknown("a tensor or a rank", name.text, [*cascade.ranks_of, *cascade.ranks], name.at)


def _check_ranks(cascade: Cascade, node: Node) -> None:
    """A list of ranks, or one for each tensor."""
    if isinstance(node, Mapping):
        for name, ranks in node.pairs:
            _check_tensor(cascade, name)
            _check_ranks(cascade, ranks)
    elif isinstance(node, Sequence):
        for item in node.items:
            # A mapping may split a rank further: P1 of P; TeAAL adds .pos or .coord.
            text = item.text.split(".")[0] if isinstance(item, Scalar) else ""
            if text in cascade.ranks or text.rstrip("0123456789") in cascade.ranks:
                continue
            # With a format, TeAAL flattens ranks: MK of M and K.
            flattened = any(rank in text for rank in cascade.ranks) and text.isupper()
            if not (flattened and "format" in dict(cascade.extras)):
                raise unknown("a rank", text, cascade.ranks, item.at)


def _check_bindings(cascade: Cascade, node: Node) -> None:
    """Tensors that are bound to a part of a machine: each once."""
    bound: set[str] = set()
    for key, value in node.pairs if isinstance(node, Mapping) else ():
        if not isinstance(value, Sequence) or not all(isinstance(item, Scalar) for item in value.items):
            continue
        for item in value.items:
            assert isinstance(item, Scalar)
            if item.text not in cascade.ranks_of:
                raise unknown("a declared tensor", item.text, cascade.ranks_of, item.at)
            if item.text in bound:
                raise CascadeError(f"{item.text} is bound twice, to {key.text} too", item.at)
            bound.add(item.text)
