"""Sections of a document as a cascade."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from difflib import get_close_matches
from os import PathLike
from pathlib import Path
from typing import TypeVar

from .cascade import Alias, Cascade, Constant, Declaration, Iteration, Split
from .checks import check_cascade
from .einsum import Einsum
from .einsum_parser import parse_einsum, parse_expression, parse_function
from .errors import CascadeError
from .expression import Binary, Expression, Name, Number, Reference, Unary, Variable, map_expression
from .yaml_reader import Mapping, Node, Scalar, Sequence, read_document

__all__ = ["parse", "read"]

SECTIONS = ("einsum", "mapping", "bindings", "format", "architecture")
EINSUM_SECTIONS = (
    "declaration",
    "split",
    "alias",
    "constants",
    "functions",
    "iterative",
    "expressions",
    "initialization",
    "extended",
    "finally",
    "outputs",
)
TENSOR = re.compile(r"[A-Z][A-Za-z0-9_]*")
RANK = re.compile(r"[A-Z][A-Z0-9_]*")

T = TypeVar("T")


def parse(text: str, name: str = "cascade") -> Cascade:
    """Read the text of a cascade (docs/reference/cascades.md) and check its names.

    Parameters
    ----------
    text
        A whole YAML document with the section ``einsum``.
    name
        What errors call the cascade.

    Returns
    -------
    Cascade
        Its Einsums know their lines and columns.

    Raises
    ------
    CascadeError
        If the text is not a cascade; names line, column and what was expected.
    """
    try:
        cascade = _cascade(read_document(text), name)
        check_cascade(cascade)
    except CascadeError as error:
        raise error.within(name) from None
    return cascade


def read(path: str | PathLike[str]) -> Cascade:
    """Read a cascade from a file.

    Parameters
    ----------
    path
        A YAML file in UTF-8 (docs/reference/cascades.md).

    Returns
    -------
    Cascade
        Its name is the file's, without the suffix.

    Raises
    ------
    CascadeError
        If the file is not a cascade; names the path, line, column and what was expected.
    OSError
        If it cannot be read.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise CascadeError("expected text in UTF-8", name=str(path)) from None
    try:
        return parse(text, Path(path).stem)
    except CascadeError as error:
        raise error.within(str(path)) from None


def _cascade(document: Node, name: str) -> Cascade:
    sections = _keys(document, "the document", SECTIONS)
    if "einsum" not in sections:
        raise CascadeError("expected the section einsum", document.at)
    parts = _keys(sections["einsum"], "einsum", EINSUM_SECTIONS)
    if "declaration" not in parts:
        raise CascadeError("expected the section declaration in einsum", sections["einsum"].at)

    def einsums(section: str) -> tuple[Einsum, ...]:
        return _each(parts.get(section), section, "Einsums, one after each '- '", parse_einsum)

    cascade = Cascade(
        name=name,
        declaration=_pairs(parts["declaration"], "declaration", lambda key, value: Declaration(*_ranked(key, value, TENSOR))),
        split=_pairs(parts.get("split"), "split", lambda key, value: Split(*_ranked(key, value, RANK))),
        alias=_pairs(parts.get("alias"), "alias", _alias),
        constants=_pairs(parts.get("constants"), "constants", _constant),
        functions=_each(parts.get("functions"), "functions", "functions, one after each '- '", parse_function),
        iteration=_iteration(parts.get("iterative")),
        expressions=einsums("expressions"),
        initialization=einsums("initialization"),
        extended=einsums("extended"),
        finally_=einsums("finally"),
        outputs=_each(parts.get("outputs"), "outputs", "a list of tensors", lambda node: _name(node, TENSOR, "a tensor")),
        extras=tuple((section, node) for section, node in sections.items() if section != "einsum"),
    )
    scalars = {declaration.tensor for declaration in cascade.declaration if not declaration.ranks}

    def resolve(node: Expression) -> Expression:
        """A tensor without ranks is written like a shape."""
        return Reference(node.name, (), at=node.at) if isinstance(node, Name) and node.name in scalars else node

    def resolved(einsums: tuple[Einsum, ...]) -> tuple[Einsum, ...]:
        return tuple(replace(einsum, expression=map_expression(resolve, einsum.expression)) for einsum in einsums)

    return replace(
        cascade,
        expressions=resolved(cascade.expressions),
        initialization=resolved(cascade.initialization),
        extended=resolved(cascade.extended),
        finally_=resolved(cascade.finally_),
    )


def _keys(node: Node, what: str, allowed: tuple[str, ...]) -> dict[str, Node]:
    """Values by key; the keys are some of ``allowed``."""
    if not isinstance(node, Mapping):
        raise CascadeError(f"expected {what} to be a mapping of {', '.join(allowed)}", node.at)
    for key, _ in node.pairs:
        if key.text not in allowed:
            close = get_close_matches(key.text, allowed, 1)
            hint = f"; did you mean {close[0]}?" if close else ""
            raise CascadeError(f"expected one of {', '.join(allowed)} in {what}, found {key.text!r}{hint}", key.at)
    return {key.text: value for key, value in node.pairs}


def _each(node: Node | None, section: str, what: str, read: Callable[[Scalar], T]) -> tuple[T, ...]:
    """Every item of a sequence of texts."""
    if node is None or node == Scalar(""):
        return ()
    if not isinstance(node, Sequence):
        raise CascadeError(f"expected {section} to be {what}", node.at)
    texts = []
    for item in node.items:
        if not isinstance(item, Scalar):
            raise CascadeError(f"expected text in {section}, found {_kind(item)}; quotes make any text one", item.at)
        texts.append(item)
    return tuple(read(item) for item in texts)


def _pairs(node: Node | None, section: str, read: Callable[[Scalar, Node], T]) -> tuple[T, ...]:
    """Every pair of a mapping."""
    if node is None or node == Scalar(""):
        return ()
    if not isinstance(node, Mapping):
        raise CascadeError(f"expected {section} to be a mapping, found {_kind(node)}", node.at)
    return tuple(read(key, value) for key, value in node.pairs)


def _kind(node: Node) -> str:
    return {Mapping: "a mapping", Sequence: "a list", Scalar: "text"}[type(node)]


def _name(node: Node, pattern: re.Pattern[str], what: str) -> str:
    if not isinstance(node, Scalar) or not pattern.fullmatch(node.text):
        found = repr(node.text) if isinstance(node, Scalar) else _kind(node)
        case = "in capitals" if pattern is RANK else "with a capital first"
        raise CascadeError(f"expected {what} ({case}), found {found}", node.at)
    return node.text


def _ranked(key: Scalar, value: Node, pattern: re.Pattern[str]) -> tuple:
    """A name, a list of ranks, and where they stand."""
    name = _name(key, pattern, "a rank" if pattern is RANK else "a tensor")
    if not isinstance(value, Sequence):
        raise CascadeError(f"expected the ranks of {name} as a list in brackets, found {_kind(value)}", value.at)
    ranks = tuple(_name(item, RANK, "a rank") for item in value.items)
    repeated = next((item for i, item in enumerate(value.items) if ranks[i] in ranks[:i]), None)
    if repeated is not None and pattern is RANK:
        raise CascadeError(f"expected every rank of {name} once", repeated.at)
    return name, ranks, key.at


def _alias(key: Scalar, value: Node) -> Alias:
    return Alias(_name(key, RANK, "a rank"), _name(value, RANK, "a rank"), key.at)


def _constant(key: Scalar, value: Node) -> Constant:
    name = _name(key, RANK, "a constant")
    if not isinstance(value, Scalar):
        raise CascadeError(f"expected a number, found {_kind(value)}", value.at)
    match parse_expression(value):
        case Number(number):
            return Constant(name, number, key.at)
        case Unary("-", Number(number)):
            return Constant(name, -number, key.at)
    raise CascadeError(f"expected a number, found {value.text!r}", value.at)


def _iteration(node: Node | None) -> Iteration | None:
    if node is None:
        return None
    if not isinstance(node, Mapping) or len(node.pairs) != 1:
        raise CascadeError("expected iterative to name one variable and when it stops, as in m1: m1 >= M1", node.at)
    ((key, value),) = node.pairs
    message = f"expected the variable and when it stops, as in {key.text}: {key.text} >= {key.text.upper()}"
    if not isinstance(value, Scalar):
        raise CascadeError(message, value.at)
    match parse_expression(value):
        case Binary(">=", Variable(variable), Name(stop)) if variable == key.text:
            return Iteration(variable, stop, key.at)
    raise CascadeError(message, value.at)
