"""Names that are unknown, unused or misused are errors with their place."""

from __future__ import annotations

import pytest
from texts import LOOP, SMALL

from fusemax.cascade import CascadeError, parse


def mutated(text: str, old: str, new: str) -> str:
    assert old in text
    return text.replace(old, new, 1)


@pytest.mark.parametrize(
    ("old", "new", "place", "message"),
    [
        ("einsum:", "einsums:", (1, 1), "expected one of einsum, mapping, bindings, format, architecture"),
        ("expressions:", "expresions:", (7, 3), "found 'expresions'; did you mean expressions?"),
        ("    Z: [P]\n", "", (8, 7), "expected a declared tensor, found 'Z'"),
        ("Z: [P]", "Z: P", (6, 8), "expected the ranks of Z as a list in brackets, found text"),
        ("Z: [P]", "z: [P]", (6, 5), "expected a tensor (with a capital first), found 'z'"),
        ("Z: [P]", "Z: [p]", (6, 9), "expected a rank (in capitals), found 'p'"),
        ("    Z: [P]\n", "    Z: [P]\n    Y: [P]\n", (7, 5), "Y is declared but not used"),
        ("Q[e, p]", "Q[e]", (8, 18), "expected 2 indices of Q ([E, P]), found 1"),
        ("Q[e, p]", "Q[p, e]", (8, 20), "expected an index of rank E of Q (e), found p"),
        ("Q[e, p]", "Qk[e, p]", (8, 18), "expected a declared tensor, found 'Qk'; did you mean QK?"),
        ("Q[e, p] *", "Q[e, p] * x *", (8, 28), "expected the lower-case name of a rank, found 'x'"),
        ("Q[e, p] *", "Q[e, p] * EPS *", (8, 28), "expected a rank or a constant, found 'EPS'"),
        ("Q[e, p] *", "Q *", (8, 18), "expected Q[e, p], found no indices"),
        ("exp(QK[m, p])", "exp(QK[m, p], 1)", (9, 14), "expected 1 arguments of exp, found 2"),
        ("exp(QK[m, p])", "max(QK[m, p])", (9, 14), "of max, found 1; over a rank it is ::max(m) at the end"),
        ("exp(QK[m, p])", "softmax(QK[m, p])", (9, 14), "found 'softmax'; write it as Einsums: the maximum ::max(m), exp of"),
        ("exp(QK[m, p])", "mean(QK[m, p])", (9, 14), "divide by the rank's shape, as in T[p] / M"),
        ("exp(QK[m, p])", "sum(QK[m, p])", (9, 14), "variables that are not on the left are summed over"),
        ("::max(m)", "::maximum(m)", (9, 28), "expected a reduction, found 'maximum'"),
        ("::max(m)", "::max(p)", (9, 28), "p is on the left and cannot be reduced"),
        ("::max(m)", "::max(e)", (9, 28), "expected a variable of the expression, found 'e'"),
        ("::max(m)", "::max(m) ::add(m)", (9, 28), "expected m to be reduced once"),
        ("::max(m)", "::argtop(m, p)", None, ""),
        ("::max(m)", "::argtop(m, e)", (9, 28), "with the made variable on the left"),
        ("- Z[p] =", "- QK[m, p] = 1\n    - Z[p] =", (9, 7), "QK is written again"),
        ("- QK[m, p] =", "- Z[p] = QK[m, p]\n    - QK[m, p] =", (8, 14), "QK is read before it is written on line 9"),
        (
            "Z[p] = exp",
            "Z[m+p] = exp",
            (9, 9),
            "expected a variable, a number, variable+number or the split of a rank on the left",
        ),
        ("  expressions:", "  outputs: [QK]\n  expressions:", (10, 7), "Z is neither read nor one of the outputs"),
        ("  expressions:", "  constants: {EPS: 1}\n  expressions:", (7, 15), "EPS is defined but not used"),
        ("  expressions:", "  constants: {EPS: x}\n  expressions:", (7, 20), "expected a number, found 'x'"),
        ("  expressions:", "  constants: {M: 1}\n  expressions:", (7, 15), "expected another name than M, which is a rank"),
        ("  expressions:", "  functions: [f(x) = x]\n  expressions:", (7, 15), "f is defined but not used"),
        ("  expressions:", "  functions: [f(x) = y]\n  expressions:", (7, 22), "expected a parameter, found 'y'"),
        (
            "  expressions:",
            "  functions: [exp(x) = x]\n  expressions:",
            (7, 15),
            "expected another name than exp, which is built in",
        ),
        ("  expressions:", "  alias: {N: M}\n  expressions:", (7, 11), "N is defined but not used"),
        ("  expressions:", "  alias: {N: L}\n  expressions:", (7, 11), "expected a rank, found 'L'"),
        ("  expressions:", "  split: {M: [M1, M0]}\n  expressions:", (7, 11), "M1 is a part of M but not used"),
        ("  expressions:", "  split: {M: [M1]}\n  expressions:", (7, 11), "expected at least two parts of M"),
        ("  expressions:", "  initialization:", (8, 7), "expected a section iterative for the Einsums under initialization"),
        ("- QK[m, p] =", "- {QK[m]: 1}\n    - QK[m, p] =", (8, 8), "expected an expression with brackets in quotes"),
        ("::max(m)", ":: max(m)", (9, 28), "without a space between them, as in ::max(m)"),
    ],
)
def test_errors_name_their_place(old: str, new: str, place: tuple[int, int] | None, message: str) -> None:
    text = mutated(SMALL, old, new)
    if place is None:
        parse(text)
        return
    with pytest.raises(CascadeError) as caught:
        parse(text, "mine")
    assert message in str(caught.value)
    assert caught.value.at == place, caught.value
    assert str(caught.value).startswith(f"mine, line {place[0]}, column {place[1]}: ")


@pytest.mark.parametrize(
    ("old", "new", "place", "message"),
    [
        ("i: i >= M", "i: i < M", (7, 8), "expected the variable and when it stops, as in i: i >= I"),
        ("i: i >= M", "i: i >= L", (7, 5), "expected a rank, found 'L'"),
        ("i: i >= M", "j: j >= L1", (7, 5), "expected a rank, found 'L1'; known: I, M"),
        ("    i: i >= M", "    i: i >= M\n    m: m >= M", (7, 5), "expected iterative to name one variable"),
        ("R[i+1] = R[i] + A[i]", "R[i] = A[i]", (11, 7), "expected R to be written at [i+1], because it is initialized at [0]"),
        ("R[0] = 0", "R[1] = 0", (9, 7), "expected R to be initialized at index 0"),
        ("  initialization:\n    - R[0] = 0\n", "", (9, 16), "R is read before it is written on line 9"),
        ("R[i] + A[i]", "R[i] + A[m]", (11, 16), "R[i] does not depend on m, which the whole right side is summed over"),
        (
            "R[i] + A[i]",
            "R[i] - (A[i] - A[m])",
            (11, 16),
            "so it would be added M times; give the sum over m an Einsum of its own",
        ),
        ("  finally:\n    - Z = R[M]", "  finally:\n    - Z = R[i]", None, None),
        ("+ A[i]\n  finally:\n    - Z = R[M]", "+ A[i]\n    - Z = A[i]", (12, 7), "expected the index i of Z"),
    ],
)
def test_errors_of_iterations(old: str, new: str, place: tuple[int, int] | None, message: str | None) -> None:
    text = mutated(LOOP, old, new)
    if message is None:
        parse(text)
        return
    with pytest.raises(CascadeError) as caught:
        parse(text)
    assert message in str(caught.value)
    assert caught.value.at == place, caught.value


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ("mapping: {loop-order: [X, P]}", "expected a rank, found 'X'"),
        ("mapping: {spacetime: {space: [L], time: [P]}}", "expected a rank, found 'L'"),
        ("mapping: {partitioning: {Y: {M: [uniform_shape(4)]}}}", "expected a tensor or a rank, found 'Y'"),
        ("bindings: {array: [QK, Qk]}", "expected a declared tensor, found 'Qk'; did you mean QK?"),
        ("bindings: {array: [QK], lane: [QK]}", "QK is bound twice, to lane too"),
    ],
)
def test_errors_of_mapping_and_bindings(section: str, message: str) -> None:
    with pytest.raises(CascadeError, match="line 10, column") as caught:
        parse(SMALL + section)
    assert message in str(caught.value)
