"""Cutting cascades: which lines are the host's, which are sweeps, and what has no plan."""

from __future__ import annotations

import pytest

from fusemax.cascade import CASCADES, ReachError, parse
from fusemax.plan.partition import partition
from fusemax.plan.plan import HostLoop, HostStep, Product


def cascade(declaration: str, *expressions: str, more: str = ""):
    lines = "".join(f"    - {expression}\n" for expression in expressions)
    return parse(f"einsum:\n  declaration: {{{declaration}}}\n  expressions:\n{lines}{more}", "own")


ATTENTION = "Q: [E, P], K: [E, M], V: [F, M], S: [M, P], W: [M, P], D: [P], N: [F, P], AV: [F, P]"


@pytest.mark.parametrize("name", ["attention_3pass", "attention_3pass_deferred", "attention_2pass", "attention_splitk"])
def test_softmax_in_any_number_of_passes_is_one_sweep(name: str) -> None:
    """Maxima that are taken off and put back cancel, and denominators are of the same sweep."""
    plan = partition(CASCADES[name])
    (sweep,) = plan.sweeps
    assert sweep.function == "exp"
    assert len(sweep.columns) == 1
    assert plan.products == ()


@pytest.mark.parametrize(
    ("name", "sweeps", "products"),
    [
        ("column_means", 2, 0),
        ("column_means_lse", 2, 0),
        ("entropy_naive", 1, 0),
        ("calibration", 3, 0),
        ("routing", 1, 0),
        ("flowformer", 0, 2),
        ("linear_attention", 0, 2),
        ("cascade1", 0, 0),
        ("sigmoid_attention", 1, 0),
    ],
)
def test_numbers_of_sweeps(name: str, sweeps: int, products: int) -> None:
    plan = partition(CASCADES[name])
    assert (len(plan.sweeps), len(plan.products)) == (sweeps, products)


def test_text_of_a_plan() -> None:
    assert str(partition(CASCADES["column_means"])).splitlines() == [
        "sweep: exp(Q[e, p] * K[e, m]), values 1, over m (sweep 1)",
        "host:  GM[p] from sweep 1",
        "host:  SD[p] from sweep 1",
        "sweep: exp(K[e, m] * Q[e, p] + -GM[p]), values 1 / SD[p], over p (sweep 2)",
        "host:  CM[m] from sweep 2",
    ]


def test_what_grows_as_n_times_d_is_the_hosts() -> None:
    plan = partition(CASCADES["flowformer"])
    on_host = [einsum.result.tensor for step in plan.steps if isinstance(step, HostStep) for einsum in step.einsums]
    assert on_host == ["SK", "KS", "SQ", "QS", "IN", "QSN", "OUT", "KSN", "CO", "EX", "SCD", "CS", "AV"]


def test_bindings_give_the_host_more() -> None:
    text = "C[n] = where(m < n, X[m], 0)"
    with pytest.raises(ReachError, match="line 4, column 7: no plan for this: a sum that is neither"):
        partition(cascade("X: [M], C: [M]", text, more="  alias: {N: M}\n"))
    bound = partition(cascade("X: [M], C: [M]", text, more="  alias: {N: M}\nbindings: {host: [C]}\n"))
    assert [type(step) for step in bound.steps] == [HostStep]


def test_a_function_of_ones_own_is_put_in_place() -> None:
    own = cascade(
        ATTENTION,
        "S[m, p] = Q[e, p] * K[e, m]",
        "W[m, p] = soft(S[m, p])",
        "D[p] = W[m, p]",
        "N[f, p] = W[m, p] * V[f, m]",
        "AV[f, p] = N[f, p] / D[p]",
        more="  functions: ['soft(x) = exp(x / 4)']\n",
    )
    (sweep,) = partition(own).sweeps
    assert sweep.function == "exp"
    assert str(sweep.score[0]) == "Q[e, p] * 0.25 * K[e, m]"


@pytest.mark.parametrize(
    ("expressions", "message"),
    [
        (
            ["S[m, p] = Q[e, p] * K[e, m]", "W[m, p] = tanh(S[m, p])"],
            "tanh of a number for every query and key",
        ),
        (["S[m, p] = Q[e, p] * K[e, m]", "W[m, p] = exp(S[m, p]) * sigmoid(S[m, p])"], "a product of two weights"),
        (["S[m, p] = Q[e, p] * K[e, m]", "W[m, p] = S[m, p] * S[m, p]"], "a product of two sums over e"),
        (["S[m, p] = Q[e, p] * K[e, m]", "W[m, p] = 1 / S[m, p]"], "division by S"),
        (
            ["S[m, p] = Q[e, p] * K[e, m]", "W[m, p] = where(m <= p, S[m, p], 1)"],
            "a mask whose other value is neither",
        ),
        (["S[m, p] = Q[e, p] * K[e, m]", "W[m, p] = exp(S[m, p])", "D[p] = W[m, p] ::max(m)"], "a maximum over weights"),
        (["S[m, p] = Q[e, p] * K[e, m]", "D[p] = S[m, p] ::mul(m)"], "mul over a tensor that grows as a square"),
    ],
)
def test_lines_without_a_plan(expressions: list[str], message: str) -> None:
    """The first line that has none is named."""
    used = [*expressions, "AV[f, p] = V[f, m] * " + ("D[p]" if "D[p]" in expressions[-1] else "W[m, p]")]
    names = {name for name in "QKVSWDN" if any(f"{name}[" in line for line in used)} | {"AV"}
    declared = ", ".join(part for part in ATTENTION.split(", ") if part)
    declaration = ", ".join(item + "]" for item in declared.strip("]").split("], ") if item.split(":")[0] in names)
    with pytest.raises(ReachError, match=f"own, line {3 + len(expressions)}, column .*: no plan for this: {message}"):
        partition(cascade(declaration, *used))


@pytest.mark.parametrize(
    ("more", "why"), [("", "is a result, as no Einsum reads it"), ("  outputs: [AV, GM]\n", "is one of outputs")]
)
def test_a_maximum_of_scores_is_no_result(more: str, why: str) -> None:
    used = cascade(
        "Q: [E, P], K: [E, M], V: [F, M], S: [M, P], GM: [P], W: [M, P], AV: [F, P]",
        *("S[m, p] = Q[e, p] * K[e, m]", "GM[p] = S[m, p] ::max(m)", "W[m, p] = exp(S[m, p])", "AV[f, p] = W[m, p] * V[f, m]"),
        more=more,
    )
    message = f"own, line 5, column 7: no plan for this: GM {why}, but the array gives only a number near this maximum$"
    with pytest.raises(ReachError, match=message):
        partition(used)


def test_a_tensor_that_is_asked_for_is_one_that_the_host_has() -> None:
    """A map of weights as the result: then the scores are a matrix product, and the rest is the host's."""
    own = cascade("Q: [E, P], K: [E, M], S: [M, P], W: [M, P]", "S[m, p] = Q[e, p] * K[e, m]", "W[m, p] = exp(S[m, p])")
    plan = partition(own)
    assert [type(step) for step in plan.steps] == [Product, HostStep]


def test_a_running_sum_that_only_the_array_has_is_a_causal_sweep() -> None:
    """The other lines of the iteration are the host's, and so is what is a number for each query alone."""
    plan = partition(CASCADES["flowformer_causal"])
    loop, sweep, _ = plan.steps
    assert isinstance(loop, HostLoop)
    assert "AV" not in {einsum.result.tensor for einsum in loop.einsums}
    assert str(sweep) == (
        "sweep: identity(SQ[e, l] * SK[e, l0]) where l0 <= l, values EX[l0] * (l0 + 1) * (1 / SCD[l0+1]) * V[f, l0], over l0"
    )
