"""Cascades are read from text and from files."""

from __future__ import annotations

from pathlib import Path

import pytest
from texts import SMALL

from fusemax.cascade import CascadeError, parse, read
from fusemax.cascade.einsum_parser import parse_expression


def test_teaal_text_is_read() -> None:
    """What its users know: declaration, expressions, mapping, take, comments."""
    cascade = parse(
        """
        einsum:
          declaration: {A: [K, M], B: [K, N], T: [K, M, N], Z: [M, N]}
          expressions:
          - T[k, m, n] = take(A[k, m], B[k, n], 1)   # sparse
          - Z[m, n] = T[k, m, n] * A[k, m]
        mapping:
          rank-order: {A: [K, M], B: [K, N], T: [M, K, N], Z: [M, N]}
          partitioning:
            Z:
              K: [uniform_occupancy(A.4)]
          loop-order: {T: [K, M, N], Z: [M, N, K1, K0]}
          spacetime:
            T: {space: [], time: [K, M, N]}
            Z: {space: [K1], time: [M, N, K0.pos]}
        """
    )
    assert cascade.results == ("Z",)


def test_file(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(SMALL, encoding="utf-8")
    assert read(path).name == "mine"
    path.write_text(SMALL.replace("exp(", "ex("), encoding="utf-8")
    with pytest.raises(
        CascadeError, match=r"mine\.yaml, line 9, column 14: expected a function, found 'ex'; did you mean exp\?"
    ):
        read(path)
    path.write_bytes(b"\xff")
    with pytest.raises(CascadeError, match="expected text in UTF-8"):
        read(path)
    with pytest.raises(FileNotFoundError):
        read(tmp_path / "none.yaml")


@pytest.mark.parametrize(
    "text",
    ["einsum: " + "[" * 500, "".join(" " * n + "a:\n" for n in range(500)), "- " * 500 + "a"],
    ids=["brackets", "keys", "dashes"],
)
def test_text_that_is_nested_too_deep(text: str) -> None:
    with pytest.raises(CascadeError, match="expected at most 40 blocks within each other"):
        parse(text)


@pytest.mark.parametrize("text", ["(" * 500, "-" * 500, "not " * 500, "exp(" * 500, "A[" * 500, "2 ** " * 500])
def test_expressions_that_are_nested_too_deep(text: str) -> None:
    with pytest.raises(CascadeError, match="expected at most 40 expressions within each other"):
        parse_expression(text)


def test_too_many_operators_in_a_row() -> None:
    parse_expression("1" + " + 1" * 40)
    with pytest.raises(CascadeError, match="expected at most 40 operators in a row"):
        parse_expression("1" + " + 1" * 41)
