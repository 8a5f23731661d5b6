"""What cascades compute: attention cascades agree with each other and with NumPy, the others with their formulas."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fusemax.cascade import CASCADES, Cascade, CascadeError, parse
from fusemax.cascade.deferred_division import defer_division
from fusemax.cascade.interpreter import interpret, shapes_of

ATTENTION = [name for name, cascade in CASCADES.items() if name.startswith("attention_") and "AV" in cascade.results] + [
    "entropy_1pass",
    "calibration_factored",
]


def problem(e: int, f: int, m: int, p: int, scale: float = 1.0, seed: int = 0) -> dict[str, np.ndarray]:
    """Queries, keys and values from three seeds."""
    shapes = {"Q": (e, p), "K": (e, m), "V": (f, m)}
    return {
        name: scale * np.random.default_rng(1000 * seed + index).normal(size=shape)
        for index, (name, shape) in enumerate(shapes.items())
    }


def run(name: str | Cascade, data: dict[str, np.ndarray], **sizes: int) -> dict[str, np.ndarray]:
    """The cascade on the inputs that it has."""
    cascade = CASCADES[name] if isinstance(name, str) else name
    if any("M0" in split.parts for split in cascade.split):
        sizes.setdefault("M0", 1)
    else:
        sizes.pop("M0", None)
    return interpret(cascade, {tensor: data[tensor] for tensor in cascade.inputs}, **sizes)


def weights(data: dict[str, np.ndarray]) -> np.ndarray:
    scores = data["K"].T @ data["Q"]
    exponentials = np.exp(scores - scores.max(0))
    return exponentials / exponentials.sum(0)


def test_there_are_attention_cascades() -> None:
    assert {"attention_1pass", "attention_2pass", "attention_3pass"} < set(ATTENTION)


dims = st.integers(1, 9)


@settings(max_examples=40)
@given(dims, dims, dims, st.integers(1, 7), st.integers(1, 4), st.sampled_from([0.1, 1.0, 4.0]), st.integers(0, 99))
def test_attention_cascades_agree(e: int, f: int, p: int, m0: int, m1: int, scale: float, seed: int) -> None:
    data = problem(e, f, m0 * m1, p, scale, seed)
    exact = data["V"] @ weights(data)
    for name in ATTENTION[:-1]:
        for cascade in (CASCADES[name], defer_division(CASCADES[name])):
            found = run(cascade, data, M0=m0)["AV"]
            assert np.abs(found - exact).max() <= 1e-12 * max(1, np.abs(data["V"]).max()), name


def test_large_scores_do_not_overflow() -> None:
    data = problem(16, 4, 24, 5, scale=40.0)
    assert (data["K"].T @ data["Q"]).max() > 800
    for name in ATTENTION[:-1]:
        np.testing.assert_allclose(run(name, data, M0=4)["AV"], data["V"] @ weights(data), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", ["cascade1", "cascade2", "cascade3"])
def test_first_cascades(name: str) -> None:
    a, b = np.random.default_rng(1).normal(size=9), np.random.default_rng(2).normal(size=9)
    assert interpret(CASCADES[name], {"A": a, "B": b})["Z"] == pytest.approx(a @ b * a.sum(), rel=1e-12)


def test_weights_and_what_is_computed_from_them() -> None:
    data = problem(5, 4, 12, 7)
    a = weights(data)
    entropy = -(a * np.log(a)).sum(0)
    np.testing.assert_allclose(run("entropy_naive", data)["H"], entropy, rtol=1e-12)
    np.testing.assert_allclose(run("entropy_1pass", data, M0=3)["H"], entropy, rtol=1e-12)
    np.testing.assert_allclose(run("sink_first", data, M0=4)["A0"], a[0], rtol=1e-12)
    for name in ("column_means", "column_means_lse"):
        np.testing.assert_allclose(run(name, data)["CM"], a.mean(1), rtol=1e-12)


def test_other_weights() -> None:
    data = problem(5, 4, 12, 7)
    scores = data["K"].T @ data["Q"]
    sigmoid = 1 / (1 + np.exp(-scores))
    np.testing.assert_allclose(run("sigmoid_attention", data)["AV"], data["V"] @ sigmoid, rtol=1e-12, atol=1e-13)
    expected = data["V"] @ sigmoid / (sigmoid.sum(0) + 1e-8)
    np.testing.assert_allclose(run("sigmoid_attention_normalized", data)["AV"], expected, rtol=1e-12, atol=1e-13)
    q, k = (np.where(x > 0, x + 1, np.exp(np.minimum(x, 0))) for x in (data["Q"], data["K"]))
    expected = data["V"] @ (k.T @ q) / (k.T @ q).sum(0)
    np.testing.assert_allclose(run("linear_attention", data)["AV"], expected, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize(("name", "tolerance"), [("calibration", 1e-12), ("calibration_factored", 1e-9)])
def test_calibration(name: str, tolerance: float) -> None:
    data = problem(4, 3, 10, 10, scale=1.5, seed=3)
    a = weights(data)
    means = a.sum(1) / (10 - np.arange(10))
    sinks = np.flatnonzero(means > 0.1)[1:]
    assert 0 < len(sinks) < 9
    share = a[sinks].sum(0)
    changed = a * (1 - 0.4 * share) / (1 - share)
    changed[sinks] = 0.4 * a[sinks]
    np.testing.assert_allclose(changed.sum(0), 1)
    np.testing.assert_allclose(run(name, data)["AV"], data["V"] @ changed, rtol=tolerance, atol=tolerance)


def flow(q: np.ndarray, k: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Flow attention of row vectors, by its formulas."""
    eps, m, p = 1e-6, len(k), len(q)
    q, k = 1 / (1 + np.exp(-q)), 1 / (1 + np.exp(-k))
    incoming = ((q + eps) * (k.sum(0) + eps)).sum(1)
    outgoing = ((k + eps) * (q.sum(0) + eps)).sum(1)
    conserved_in = ((q + eps) * ((k / outgoing[:, None]).sum(0) + eps)).sum(1)
    conserved_out = np.clip(((k + eps) * ((q / incoming[:, None]).sum(0) + eps)).sum(1), -1, 1)
    competition = m * np.exp(conserved_out) / np.exp(conserved_out).sum()
    allocation = 1 / (1 + np.exp(-conserved_in * p / m))
    return allocation[:, None] * (q / incoming[:, None]) @ (k.T @ (competition[:, None] * v))


def test_flow_attention() -> None:
    data = problem(4, 3, 9, 6)
    expected = flow(data["Q"].T, data["K"].T, data["V"].T).T
    np.testing.assert_allclose(run("flowformer", data)["AV"], expected, rtol=1e-12)


def test_causal_flow_attention_scans() -> None:
    e, f, n = 3, 2, 6
    data = problem(e, f, n, n)
    eps, count = 1e-6, np.arange(1, n + 1)
    q, k, v = 1 / (1 + np.exp(-data["Q"].T)), 1 / (1 + np.exp(-data["K"].T)), data["V"].T
    incoming = ((q + eps) * (k.cumsum(0) + eps)).sum(1) / count
    outgoing = ((k + eps) * (q.cumsum(0) + eps)).sum(1) / count
    conserved_in = ((q + eps) * ((k / outgoing[:, None]).cumsum(0) + eps)).sum(1) / count
    conserved_out = ((k + eps) * ((q / incoming[:, None]).cumsum(0) + eps)).sum(1) / count
    exponentials = np.exp(np.clip(conserved_out, -1, 1))
    competition = exponentials / exponentials.cumsum() * count
    state = (k[:, :, None] * (competition[:, None] * v)[:, None, :]).cumsum(0)
    scaled = q / (incoming * count)[:, None]
    expected = (1 / (1 + np.exp(-conserved_in)))[:, None] * np.einsum("le,lef->lf", scaled, state)
    np.testing.assert_allclose(run("flowformer_causal", data)["AV"], expected.T, rtol=1e-12)


def test_routing() -> None:
    clusters, length, window, e, f = 3, 8, 4, 4, 2
    tensors = {"MU": (clusters, e), "QN": (e, length), "KN": (e, length), "V": (f, length)}
    data = {name: np.random.default_rng(i).normal(size=shape) for i, (name, shape) in enumerate(tensors.items())}
    found = interpret(CASCADES["routing"], data, W=window)
    numerator, count = np.zeros((f, length)), np.zeros(length)
    for cluster in range(clusters):
        chosen = np.sort(np.argsort(-(data["MU"][cluster] @ data["QN"]))[:window])
        assert found["IDX"][cluster].tolist() == chosen.tolist()
        scores = data["KN"][:, chosen].T @ data["QN"][:, chosen]
        scores[np.tril_indices(window, -1)] = -np.inf
        exponentials = np.exp(scores)
        numerator[:, chosen] += data["V"][:, chosen] @ (exponentials / exponentials.sum(0))
        count[chosen] += 1
    np.testing.assert_allclose(found["AV"], numerator / (count + 0.01), rtol=1e-12, atol=1e-15)


# -- the language --------------------------------------------------------------------------------------------------


def one(declaration: str, einsum: str, inputs: dict[str, object], extra: str = "", **sizes: int) -> np.ndarray:
    """The result Z of a single Einsum."""
    text = f"einsum:\n  declaration: {{{declaration}}}\n{extra}  expressions:\n    - {einsum}\n"
    return interpret(parse(text), inputs, **sizes)["Z"]


A = np.random.default_rng(5).normal(size=(3, 4))
B = np.random.default_rng(6).normal(size=(4, 5))
X = np.random.default_rng(7).normal(size=4)


@pytest.mark.parametrize(
    ("declaration", "einsum", "expected"),
    [
        ("A: [M, N], B: [N, L], Z: [M, L]", "Z[m, l] = A[m, n] * B[n, l]", A @ B),
        ("A: [M, N], Z: [N, M]", "Z[n, m] = A[m, n]", A.T),
        ("A: [M, N], Z: []", "Z = A[m, n]", A.sum()),
        ("A: [M, N], Z: [M]", "Z[m] = A[m, n] ::max(n)", A.max(1)),
        ("A: [M, N], Z: []", "Z = A[m, n] ::min(m, n)", A.min()),
        ("A: [M, N], Z: []", "Z = A[m, n] ::add(n) ::max(m)", A.sum(1).max()),
        ("A: [M, N], Z: []", "Z = A[m, n] ::max(n) ::add(m)", A.max(1).sum()),
        ("A: [M, N], Z: []", "Z = A[m, n] ::max(m)", A.sum(1).max()),
        ("A: [M, N], Z: [M]", "Z[m] = A[m, n] ::mul(n)", A.prod(1)),
        ("A: [M, N], Z: [M]", "Z[m] = A[m, n] ::logaddexp(n)", np.log(np.exp(A).sum(1))),
        ("A: [M, N], Z: [M]", "Z[m] = A[m, n] ::argmax(n)", A.argmax(1)),
        ("A: [M, N], Z: [M]", "Z[m] = A[m, n] > 0 ::any(n)", (A > 0).any(1)),
        ("A: [M, N], Z: [M]", "Z[m] = A[m, n] ** 2 / N", (A**2).mean(1)),
        ("A: [M, N], Z: [M, N]", "Z[m, n] = where(n <= m and not n == 0, A[m, n], -1)",
         np.where(np.tri(3, 4, dtype=bool) & (np.arange(4) > 0), A, -1)),
        ("A: [M, N], Z: [M, N]", "Z[m, n] = A[m, n] * (N - n)", A * (4 - np.arange(4))),
        ("A: [M, N], Z: [M]", "Z[m] = A[m, 0] - A[m, N-1]", A[:, 0] - A[:, -1]),
        ("A: [M, N], X: [N], Z: [M, N]", "Z[m, n] = max(A[m, n], X[n], 0)", np.maximum(np.maximum(A, X), 0)),
        ("X: [N], Z: [M, N]", "Z[m, n] = X[n]", np.stack([X] * 3)),
        ("X: [N], Z: [N]", "Z[n] = clip(X[n], -0.5, 0.5)", np.clip(X, -0.5, 0.5)),
        ("X: [N], Z: []", "Z = X[n] * X[n] * X[n]", (X**3).sum()),
        ("X: [N], Z: []", "Z = 2 * X[n]", 2 * X.sum()),
        ("X: [N], Z: [N]", "Z[n] = take(X[n], n, 0)", np.where(np.arange(4) > 0, X, 0)),
        ("X: [N], Z: [Q]", "Z[q] = X[q+s] * W[s]", None),
    ],
)  # fmt: skip
def test_expressions(declaration: str, einsum: str, expected: np.ndarray | None) -> None:
    inputs: dict[str, object] = {n: v for n, v in (("A", A), ("B", B), ("X", X)) if f"{n}:" in declaration}
    if expected is None:
        weights = np.array([1.0, 2.0])
        found = one("X: [N], W: [S], Z: [Q]", einsum, {**inputs, "W": weights}, Q=3)
        np.testing.assert_allclose(found, np.correlate(X, weights, "valid"))
        return
    sizes = {"M": 3} if "A:" not in declaration and "M" in declaration else {}
    np.testing.assert_allclose(one(declaration, einsum, inputs, **sizes), expected, rtol=1e-12)


def test_functions_of_the_user() -> None:
    extra = "  functions: ['square(x) = x * x', 'norm(x, y) = sqrt(square(x) + square(y))']\n"
    found = one("A: [M, N], Z: [M]", "Z[m] = A[m, n] ::norm(n)", {"A": A}, extra)
    expected = np.abs(A[:, 0])
    for n in range(1, 4):
        expected = np.hypot(expected, A[:, n])
    np.testing.assert_allclose(found, expected)


def test_gather() -> None:
    found = one("X: [N], I: [M], Z: [M]", "Z[m] = X[I[m]]", {"X": X, "I": [2, 0, 2]})
    assert found.tolist() == X[[2, 0, 2]].tolist()
    with pytest.raises(CascadeError, match="must be whole numbers to be an index"):
        one("X: [N], I: [M], Z: [M]", "Z[m] = X[I[m]]", {"X": X, "I": [0.5]})
    with pytest.raises(CascadeError, match=r"index I\[m\] must be from 0 to 3 along N of X, not 4"):
        one("X: [N], I: [M], Z: [M]", "Z[m] = X[I[m]]", {"X": X, "I": [4]})


def test_three_parts_of_a_rank() -> None:
    text = """
    einsum:
      declaration: {A: [M], B: [M2, M1, M0], Z: [M]}
      split: {M: [M2, M1, M0]}
      expressions:
        - B[m2, m1, m0] = A[m2*M1*M0+m1*M0+m0]
        - Z[m2*M1*M0+m1*M0+m0] = B[m2, m1, m0]
    """
    found = interpret(parse(text), {"A": np.arange(24.0)}, M0=2, M1=3)
    assert found["B"].shape == (4, 3, 2)
    assert found["Z"].tolist() == list(range(24))


def test_states_are_there_for_every_step() -> None:
    text = """
    einsum:
      declaration: {A: [M], R: [I], Z: [M]}
      iterative: {i: i >= M}
      initialization: ["R[0] = 1"]
      extended: ["R[i+1] = R[i] * A[i]"]
      finally: ["Z[m] = R[m+1] - R[m]"]
    """
    found = interpret(parse(text), {"A": [2.0, 3.0, 4.0]})
    assert found["R"].tolist() == [1, 2, 6, 24]
    assert found["Z"].tolist() == [1, 4, 18]


def test_shapes() -> None:
    cascade = CASCADES["attention_1pass"]
    sizes = {"E": 2, "P": 3, "M": 12, "F": 5, "M1": 4}
    assert shapes_of(cascade, sizes)["M0"] == 3
    assert shapes_of(CASCADES["calibration_factored"], {"E": 1, "P": 1, "M": 7, "F": 1})["I"] == 7
    with pytest.raises(CascadeError, match="M must be M1 \\* M0 = 4 \\* 2, not 12"):
        shapes_of(cascade, {**sizes, "M0": 2})
    with pytest.raises(CascadeError, match="M = 12 must be a multiple of M1 = 5"):
        shapes_of(cascade, {**sizes, "M1": 5})
    with pytest.raises(CascadeError, match="the size of P must be given"):
        shapes_of(cascade, {"E": 2, "M": 12, "F": 5, "M1": 4})


@pytest.mark.parametrize(
    ("change", "sizes", "message"),
    [
        ({"Q": None}, {"M0": 2}, "inputs must be Q, K, V; missing: Q$"),
        ({"X": np.ones(3)}, {"M0": 2}, "inputs must be Q, K, V; unknown: X$"),
        ({"Q": None, "X": np.ones(3)}, {"M0": 2}, "inputs must be Q, K, V; missing: Q; unknown: X$"),
        ({"Q": np.ones(3)}, {"M0": 2}, "Q must have the ranks E, P, not 1 axes"),
        ({"K": np.ones((4, 6))}, {"M0": 2}, r"E must have one size, not 2 and 4: K of shape \(4, 6\) is read as \[E, M\]$"),
        ({}, {}, "the size of M1 must be given: the inputs do not say it"),
        ({}, {"M0": 4}, "M = 6 must be a multiple of M0 = 4"),
        ({}, {"M0": 0}, "the size of M0 must be a positive integer, not 0"),
        ({}, {"M0": 2, "L": 2}, "the size of L must not be given: it is no rank of attention_1pass"),
        ({}, {"M0": 2, "P": 4}, "P must have one size, not 4 and 3"),
    ],
)
def test_wrong_inputs(change: dict, sizes: dict[str, int], message: str) -> None:
    inputs = {k: v for k, v in ({**problem(2, 2, 6, 3), **change}).items() if v is not None}
    with pytest.raises(CascadeError, match=message):
        interpret(CASCADES["attention_1pass"], inputs, **sizes)


def test_index_out_of_range() -> None:
    with pytest.raises(CascadeError, match=r"index m\+1 must be from 0 to 3 along N of X, not 4"):
        text = "einsum: {declaration: {X: [N], Z: [M]}, alias: {M: N}, expressions: ['Z[m] = X[m+1]']}"
        interpret(parse(text), {"X": X})


def test_sums_without_the_product_in_memory() -> None:
    """A sum of products of 10^9 terms would not fit."""
    n = 1000
    a, b = np.ones((n, n)), np.ones((n, n))
    found = one("A: [M, N], B: [N, L], Z: [M, L]", "Z[m, l] = A[m, n] * B[n, l]", {"A": a, "B": b})
    assert (found == n).all()


def test_results_do_not_depend_on_the_tile() -> None:
    data = problem(3, 2, 12, 4)
    found = [run("attention_1pass", data, M0=m0)["AV"] for m0 in (1, 2, 3, 4, 6, 12)]
    for a, b in itertools.pairwise(found):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-14)
