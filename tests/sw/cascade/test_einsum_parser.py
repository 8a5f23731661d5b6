"""Einsums and expressions from text, and back."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fusemax.cascade import CascadeError
from fusemax.cascade.einsum_parser import parse_einsum, parse_expression, parse_function
from fusemax.cascade.expression import Binary, Call, Expression, Name, Number, Reference, Unary, Variable


def test_einsum_is_read() -> None:
    einsum = parse_einsum("RM[m1+1, p] = max(RM[m1, p], LM[m1, p])")
    assert einsum.result == Reference("RM", (Binary("+", Variable("m1"), Number(1.0)), Variable("p")))
    assert [str(operand) for operand in einsum.operands] == ["RM[m1, p]", "LM[m1, p]"]
    assert einsum.ranks == ("m1", "p")
    assert einsum.reduced == ()
    assert parse_einsum("BK[e, m1, m0] = K[e, m1*M0+m0]").ranks == ("e", "m1", "m0")


def test_reductions() -> None:
    einsum = parse_einsum("Z[p] = A[m, p] * B[e, p] ::max(m)")
    assert einsum.reduced == ("m", "e")
    assert einsum.summed == ("e",)
    assert [str(reduction) for reduction in einsum.reductions] == ["::max(m)"]
    assert len(parse_einsum("Z = A[m, p] ::max(m) ::add(p)").reductions) == 2


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("a + b * c", "a + (b * c)"),
        ("a - b - c", "(a - b) - c"),
        ("a / b * c", "(a / b) * c"),
        ("-a ** b", "-(a ** b)"),
        ("a ** -b ** c", "a ** (-(b ** c))"),
        ("-a * b", "(-a) * b"),
        ("not a < b and c == d or e", "((not (a < b)) and (c == d)) or e"),
        ("a < b + 1", "a < (b + 1)"),
    ],
)
def test_precedence(text: str, same: str) -> None:
    assert parse_expression(text) == parse_expression(same)


def test_atoms() -> None:
    assert parse_expression("1e-6") == Number(1e-6)
    assert parse_expression(".5") == Number(0.5)
    assert parse_expression("inf") == Number(math.inf)
    assert parse_expression("pi") == Number(math.pi)
    assert parse_expression("M1") == Name("M1")
    assert parse_expression("m1") == Variable("m1")
    assert parse_expression("T[]") == Reference("T", ())
    assert parse_expression("Q[e, IDX[c, w]]").children[1] == Reference("IDX", (Variable("c"), Variable("w")))
    assert str(parse_function("gelu(x) = x / 2 * (1 + erf(x / sqrt(2)))")) == "gelu(x) = x / 2 * (1 + erf(x / sqrt(2)))"


names = st.sampled_from(["m", "p", "m1"])
leaves = st.one_of(
    st.floats(0, 1e9, allow_nan=False).map(Number),
    st.sampled_from([Number(math.inf), Number(math.pi), Name("M"), Name("EPS")]),
    names.map(Variable),
)
affine = st.one_of(names.map(Variable), names.map(lambda n: Binary("+", Variable(n), Number(1.0))), st.just(Number(0.0)))
references = st.lists(affine, min_size=1, max_size=3).map(lambda indices: Reference("T", tuple(indices)))
operators = ["+", "-", "*", "/", "**", "<", "<=", ">", ">=", "==", "!=", "and", "or"]


def compound(inner: st.SearchStrategy[Expression]) -> st.SearchStrategy[Expression]:
    return st.one_of(
        st.builds(Binary, st.sampled_from(operators), inner, inner),
        st.builds(Unary, st.sampled_from(["-", "not"]), inner),
        st.builds(Call, st.sampled_from(["exp", "max"]), st.lists(inner, min_size=1, max_size=3).map(tuple)),
    )


@settings(max_examples=300)
@given(st.recursive(st.one_of(leaves, references), compound, max_leaves=12))
def test_round_trip(expression: Expression) -> None:
    assert parse_expression(str(expression)) == expression


@pytest.mark.parametrize(
    ("text", "column", "message"),
    [
        ("", 1, "expected a tensor (its name starts with a capital letter), found the end"),
        ("A[m]", 5, "expected '=', found the end"),
        ("a[m] = B[m]", 1, "expected a tensor (its name starts with a capital letter), found 'a'"),
        ("A[m] = ", 8, "expected a tensor, a variable, a number, a function or '(', found the end"),
        ("A[m] = B[m", 11, "expected ',' or ']', found the end"),
        ("A[m] = b[m]", 8, "expected a tensor's name to start with a capital letter"),
        ("A[m] = Exp(B[m])", 8, "expected a function's name in lower case before '('"),
        ("A[m] = B[m] C[m]", 13, "expected an operator, '::' or the end, found 'C'"),
        ("A[m] = (B[m] + 1", 17, "expected an operator or ')', found the end"),
        ("A[m] = exp(B[m]", 16, "expected ',' or ')', found the end"),
        ("A[p] = B[m, p] ::", 18, "expected the name of a reduction, found the end"),
        ("A[p] = B[m, p] ::max(M)", 22, "expected a variable to reduce, found 'M'"),
        ("A[p] = B[m, p] ::max m", 22, "expected '(', found 'm'"),
        ("A[p] = B[m, p] ::max(m) + 1", 25, "expected an operator, '::' or the end, found '+'"),
        ("A[p] = where(p < m < n, 1, 0)", 20, "expected 'and' between two comparisons, found '<'"),
        ("A[p] = B[p] $ 2", 13, "expected an Einsum's text, found '$'"),
    ],
)
def test_errors_name_the_column(text: str, column: int, message: str) -> None:
    with pytest.raises(CascadeError) as caught:
        parse_einsum(text)
    assert caught.value.at == (1, column)
    assert message in str(caught.value)
