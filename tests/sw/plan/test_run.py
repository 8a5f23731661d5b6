"""Cascades on a device against the interpreter: the shipped ones, and ones that only a test has."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import fusemax
from fusemax.cascade import CASCADES, CascadeError, ReachError, parse
from fusemax.cascade.interpreter import interpret
from fusemax.errors import MissingOptionError
from fusemax.evaluation.exact import relative_error
from fusemax.plan.array import DEFAULT
from fusemax.plan.partition import partition
from fusemax.plan.parts import bfloat16

SIZES = {"E": 16, "F": 8, "P": 24, "M": 40, "M0": 8, "M1": 5, "K": 12, "C": 3, "L": 64, "W": 16}


@pytest.fixture(scope="module")
def device() -> Iterator[fusemax.Device]:
    with fusemax.open("model", "base", memory_bytes=1 << 26) as opened:
        yield opened


@pytest.fixture(scope="module")
def functions() -> Iterator[fusemax.Device]:
    """With all options."""
    with fusemax.open("model", DEFAULT, memory_bytes=1 << 26) as opened:
        yield opened


def inputs_of(cascade: Any, sizes: dict[str, int], seed: int = 0, leading: tuple[int, ...] = ()) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)
    return {t: bfloat16(random.standard_normal([*leading, *(sizes[r] for r in cascade.ranks_of[t])])) for t in cascade.inputs}


def own(declaration: str, *expressions: str, more: str = "") -> Any:
    lines = "".join(f"    - {expression}\n" for expression in expressions)
    return parse(f"einsum:\n  declaration: {{{declaration}}}\n  expressions:\n{lines}{more}", "own")


SHIPPED = ["attention_2pass", "attention_2pass_deferred", "attention_3pass", "attention_3pass_deferred", "attention_splitk"]
SHIPPED += ["calibration", "cascade1", "cascade2", "column_means", "column_means_lse", "entropy_naive", "flowformer"]
SHIPPED += ["calibration_factored", "linear_attention", "routing", "sink_first"]


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped(device, name: str) -> None:
    cascade = CASCADES[name]
    inputs = inputs_of(cascade, SIZES | {"P": 40} if name.startswith("calibration") else SIZES)
    sizes = {rank: SIZES[rank] for rank in ("M0", "W") if rank in cascade.ranks}
    found = fusemax.run(name, inputs, device, **sizes)
    expected = interpret(cascade, inputs, **sizes)
    assert set(found) == set(cascade.results)
    for tensor, value in found.items():
        assert value.shape == expected[tensor].shape
        assert relative_error(value, expected[tensor]) <= (6e-5 if "column" in name else 3e-5)


@pytest.mark.parametrize("leading", [(), (2, 3)])
def test_a_cascade_of_tiles_is_a_program(device, leading: tuple[int, ...]) -> None:
    """Whatever its own tile is; the machine has one of its own."""
    cascade = CASCADES["attention_1pass"]
    inputs = inputs_of(cascade, SIZES, leading=leading)
    inputs["Q"] = inputs["Q"] * 0.3
    counters: list[fusemax.Counters] = []
    found = fusemax.run(cascade, inputs, device, counters=counters)["AV"]
    assert found.shape == (*leading, 8, 24)
    assert len(counters) == 1
    for place in np.ndindex(*leading):
        expected = interpret(cascade, {name: value[place] for name, value in inputs.items()}, M0=8)["AV"]
        assert relative_error(found[place], expected) <= 3e-5


def test_an_iteration_of_the_host(device) -> None:
    """Nothing in it grows as a square."""
    inputs = inputs_of(CASCADES["cascade3"], SIZES)
    counters: list[fusemax.Counters] = []
    found = fusemax.run("cascade3", inputs, device, counters=counters)
    np.testing.assert_allclose(found["Z"], interpret(CASCADES["cascade3"], inputs)["Z"])
    assert counters == []


@pytest.mark.parametrize("leading", [(), (2,)])
def test_running_sums(functions, leading: tuple[int, ...]) -> None:
    """A state of E · F numbers that the host does not have is a causal sweep; those that it has go on step by step."""
    cascade = CASCADES["flowformer_causal"]
    inputs = inputs_of(cascade, SIZES, leading=leading)
    counters: list[fusemax.Counters] = []
    found = fusemax.run(cascade, inputs, functions, counters=counters)["AV"]
    assert len(counters) == 1
    for place in np.ndindex(*leading):
        expected = interpret(cascade, {name: value[place] for name, value in inputs.items()})["AV"]
        assert relative_error(found[place], expected) <= 7e-5


def loop(declaration: str, state: str, read: str, start: str = "0", more: str = "", stop: str = "P") -> Any:
    return parse(
        f"einsum:\n  declaration: {{{declaration}}}\n  iterative: {{p: p >= {stop}}}\n"
        f"  initialization: ['KV[e, f, 0] = {start}']\n  extended:\n{more}    - {state}\n    - {read}\n",
        "own",
    )


STATE = "Q: [E, P], K: [E, P], V: [F, P], KV: [E, F, P], AV: [F, P]"
ADDED = "KV[e, f, p+1] = KV[e, f, p] + K[e, p] * V[f, p]"


@pytest.mark.parametrize(
    ("state", "read"),
    [
        (ADDED, "AV[f, p] = Q[e, p] * KV[e, f, p+1]"),
        (ADDED, "AV[f, p] = Q[e, p] * KV[e, f, p]"),
        ("KV[e, f, p+1] = K[e, p] * V[f, p] * (p + 1) + KV[e, f, p]", "AV[f, p] = KV[e, f, p+1] * Q[e, p] / (p + 1)"),
    ],
)
def test_states_behind_a_step_and_before_it(functions, state: str, read: str) -> None:
    cascade = loop(STATE, state, read)
    inputs = inputs_of(cascade, SIZES)
    expected = interpret(cascade, inputs)["AV"]
    assert relative_error(fusemax.run(cascade, inputs, functions)["AV"], expected) <= 7e-5


def test_the_last_state(functions) -> None:
    """Behind the iteration: a sum over all steps."""
    text = "einsum:\n  declaration: {Q: [E, L], K: [E, P], V: [F, P], KV: [E, F, P], AV: [F, L]}\n"
    text += "  iterative: {p: p >= P}\n  initialization: ['KV[e, f, 0] = 0']\n"
    text += f"  extended: ['{ADDED}']\n  finally: ['AV[f, l] = Q[e, l] * KV[e, f, P]']\n"
    cascade = parse(text, "own")
    inputs = inputs_of(cascade, SIZES)
    found = fusemax.run(cascade, inputs, functions)["AV"]
    assert relative_error(found, interpret(cascade, inputs)["AV"]) <= 7e-5


@pytest.mark.parametrize(
    ("cascade", "message"),
    [
        (loop(STATE, ADDED, "AV[f, p] = Q[e, p] * KV[e, f, p+1]", start="1"), "KV is a state that is no running sum from 0"),
        (
            loop(STATE, "KV[e, f, p+1] = 2 * KV[e, f, p] + K[e, p] * V[f, p]", "AV[f, p] = Q[e, p] * KV[e, f, p+1]"),
            "KV is a state that is no running sum from 0",
        ),
        (loop(STATE, ADDED, "AV[f, p] = Q[e, p] * KV[e, f, 3]"), "KV.* is neither the state before a step, nor behind it"),
    ],
)
def test_states_that_are_no_running_sums(functions, cascade: Any, message: str) -> None:
    with pytest.raises(ReachError, match=message):
        fusemax.run(cascade, inputs_of(cascade, SIZES), functions)


def online(maximum: str, denominator: str, numerator: str, *last: str, start: str = "-inf") -> Any:
    lines = [f"RM[i+1, p] = {maximum}", "W[i, p] = exp(S[i, p] - RM[i+1, p])"]
    lines += ["C[i, p] = exp(RM[i, p] - RM[i+1, p])", f"RD[i+1, p] = {denominator}", f"RN[f, i+1, p] = {numerator}"]
    text = "einsum:\n  declaration: {Q: [E, P], K: [E, M], V: [F, M], S: [M, P], RM: [I, P], W: [I, P], C: [I, P], "
    text += (
        "RD: [I, P], RN: [F, I, P], AV: [F, P]}\n  iterative: {i: i >= M}\n  expressions:\n    - S[m, p] = Q[e, p] * K[e, m]\n"
    )
    text += f"  initialization:\n    - RM[0, p] = {start}\n    - RD[0, p] = 0\n    - RN[f, 0, p] = 0\n  extended:\n"
    text += "".join(f"    - {line}\n" for line in lines) + "  finally:\n" + "".join(f"    - {line}\n" for line in last)
    return parse(text, "own")


MAXIMUM, DENOMINATOR = "max(RM[i, p], S[i, p])", "C[i, p] * RD[i, p] + W[i, p]"
NUMERATOR = "W[i, p] * V[f, i] + RN[f, i, p] * C[i, p]"
QUOTIENT = "AV[f, p] = RN[f, M, p] / RD[M, p]"


@pytest.mark.parametrize("maximum", [MAXIMUM, "max(S[i, p], RM[i, p])"])
def test_states_that_are_rescaled_by_a_running_maximum(device, maximum: str) -> None:
    """A line more at the end, which no program has: the states are sums over all keys, and one sweep."""
    cascade = online(maximum, DENOMINATOR, NUMERATOR, "AV[f, p] = RN[f, M, p] / RD[M, p] + RM[M, p] + log(RD[M, p])")
    inputs = inputs_of(cascade, SIZES)
    counters: list[fusemax.Counters] = []
    found = fusemax.run(cascade, inputs, device, counters=counters)["AV"]
    assert len(counters) == 1
    assert relative_error(found, interpret(cascade, inputs)["AV"]) <= 3e-5


@pytest.mark.parametrize(
    ("cascade", "message"),
    [
        (online(MAXIMUM, DENOMINATOR, NUMERATOR, QUOTIENT, start="0"), "RM is a state that is no running sum"),
        (online(MAXIMUM, "2 * C[i, p] * RD[i, p] + W[i, p]", NUMERATOR, QUOTIENT), "RD is a state that is no running sum"),
        (online(MAXIMUM, "W[i, p] * RD[i, p] + W[i, p]", NUMERATOR, QUOTIENT), "RD is a state that is no running sum"),
        (
            online(MAXIMUM, DENOMINATOR, NUMERATOR, "AV[f, p] = RN[f, M, p] / RD[3, p]"),
            r"RD\[3, p\] is a state in the midst, of which the array has the last one",
        ),
        (online("min(RM[i, p], S[i, p])", DENOMINATOR, NUMERATOR, QUOTIENT), "RM is a state that is no running sum"),
    ],
)
def test_states_that_are_rescaled_otherwise(device, cascade: Any, message: str) -> None:
    with pytest.raises(ReachError, match=message):
        fusemax.run(cascade, inputs_of(cascade, SIZES), device)


def test_neither_steps_nor_a_program(device) -> None:
    """Both reasons are said."""
    inputs = inputs_of(CASCADES["entropy_1pass"], SIZES)
    with pytest.raises(ReachError, match=r"no plan for this: a mask.*; and as one program, entropy_1pass, line 39"):
        fusemax.run("entropy_1pass", inputs, device, M0=8)


def test_a_program_of_several_results(device) -> None:
    inputs = inputs_of(CASCADES["attention_entropy"], SIZES)
    with pytest.raises(ReachError, match="a program has one result here, not N, T, D, MAX"):
        fusemax.run("attention_entropy", inputs, device)


def test_axes_in_front(device) -> None:
    """Every head has host steps of its own, and all heads are in one call."""
    cascade = CASCADES["column_means"]
    inputs = inputs_of(cascade, SIZES, leading=(2, 3))
    counters: list[fusemax.Counters] = []
    found = fusemax.run(cascade, inputs, device, counters=counters)["CM"]
    assert found.shape == (2, 3, 40)
    assert len(counters) == 2
    for place in np.ndindex(2, 3):
        expected = interpret(cascade, {name: value[place] for name, value in inputs.items()})["CM"]
        np.testing.assert_allclose(found[place], expected, rtol=3e-4)


@pytest.mark.parametrize(
    ("mask", "sees"),
    [
        ("m <= p", lambda m, p: m <= p),
        ("p < m", lambda m, p: p < m),
        ("m <= p and p - m < 5", lambda m, p: (m <= p) & (p - m < 5)),
        ("m + 2 >= p", lambda m, p: m + 2 >= p),
        ("m - p <= M - P", lambda m, p: m - p <= 16),
    ],
)
def test_masks(device, mask: str, sees: Any) -> None:
    cascade = own(
        "Q: [E, P], K: [E, M], V: [F, M], S: [M, P], X: [M, P], GM: [P], W: [M, P], D: [P], N: [F, P], AV: [F, P]",
        "S[m, p] = Q[e, p] * K[e, m]",
        f"X[m, p] = where({mask}, S[m, p], -inf)",
        "GM[p] = X[m, p] ::max(m)",
        "W[m, p] = exp(X[m, p] - GM[p])",
        "D[p] = W[m, p]",
        "N[f, p] = W[m, p] * V[f, m]",
        "AV[f, p] = N[f, p] / D[p]",
    )
    inputs = inputs_of(cascade, SIZES)
    found = fusemax.run(cascade, inputs, device)["AV"]
    expected = interpret(cascade, inputs)["AV"]
    seen = sees(np.arange(40)[:, None], np.arange(24)).any(axis=0)
    assert relative_error(found[:, seen], expected[:, seen]) <= 3e-5
    # As in the text: a query that sees no key has 0 / 0.
    assert np.isnan(found[:, ~seen]).all()


def test_cosine_attention_of_ones_own(device) -> None:
    """Norms on the host, a temperature as a constant, and a bias for each key in the scores."""
    cascade = own(
        "Q: [E, P], K: [E, M], V: [F, M], B: [M], QL: [P], KL: [M], S: [M, P], W: [M, P], D: [P], AV: [F, P]",
        "QL[p] = Q[e, p] * Q[e, p]",
        "KL[m] = K[e, m] * K[e, m]",
        "S[m, p] = TAU * Q[e, p] / sqrt(QL[p]) * (K[e, m] / sqrt(KL[m]))",
        "W[m, p] = exp(S[m, p] + B[m])",
        "D[p] = W[m, p]",
        "AV[f, p] = W[m, p] / D[p] * V[f, m]",
        more="  constants: {TAU: 10}\n",
    )
    inputs = inputs_of(cascade, SIZES)
    counters: list[fusemax.Counters] = []
    found = fusemax.run(cascade, inputs, device, counters=counters)["AV"]
    assert relative_error(found, interpret(cascade, inputs)["AV"]) <= 3e-5
    assert len(counters) == 1
    coarse = fusemax.run(cascade, inputs, device, parts=1)["AV"]
    assert 1e-4 < relative_error(coarse, interpret(cascade, inputs)["AV"]) < 1e-2


def test_a_maximum_that_is_needed_itself_is_refused(device) -> None:
    """The array gives a number near it; a cascade whose result is another one with another such number has no plan."""
    cascade = own(
        "Q: [E, P], K: [E, M], S: [M, P], GM: [P], W: [M, P], D: [P]",
        "S[m, p] = Q[e, p] * K[e, m]",
        "GM[p] = S[m, p] ::max(m)",
        "W[m, p] = exp(S[m, p] - GM[p])",
        "D[p] = W[m, p]",
    )
    with pytest.raises(ReachError, match="no plan for this: D needs the maximum of scores itself"):
        fusemax.run(cascade, inputs_of(cascade, SIZES), device)
    logarithm = own(
        "Q: [E, P], K: [E, M], S: [M, P], GM: [P], W: [M, P], D: [P], L: [P]",
        *("S[m, p] = Q[e, p] * K[e, m]", "GM[p] = S[m, p] ::max(m)", "W[m, p] = exp(S[m, p] - GM[p])"),
        *("D[p] = W[m, p]", "L[p] = GM[p] + log(D[p])"),
    )
    inputs = inputs_of(logarithm, SIZES)
    np.testing.assert_allclose(fusemax.run(logarithm, inputs, device)["L"], interpret(logarithm, inputs)["L"], atol=1e-4)


def test_wrong_arguments(device) -> None:
    cascade = CASCADES["linear_attention"]
    inputs = inputs_of(cascade, SIZES)
    with pytest.raises(CascadeError, match=r"inputs must be Q, K, V; missing: V$"):
        fusemax.run(cascade, {name: inputs[name] for name in "QK"}, device)
    with pytest.raises(CascadeError, match=r"the axes in front of V's must be \(\), as of the inputs before, not \(2,\)"):
        fusemax.run(cascade, inputs | {"V": np.stack([inputs["V"]] * 2)}, device)
    with pytest.raises(ValueError, match="parts must be 1 or 2, not 3"):
        fusemax.run(cascade, inputs, device, parts=3)


def test_more_elements_than_the_machine_takes(device) -> None:
    cascade = CASCADES["attention_3pass"]
    inputs = inputs_of(cascade, SIZES | {"E": 100})
    inputs["Q"] = inputs["Q"] * 0.3
    split = "queries and keys have 200 elements once they are split into bfloat16 numbers, and max_e of 'base' is 128; parts=1"
    with pytest.raises(ReachError, match=split):
        fusemax.run(cascade, inputs, device)
    assert fusemax.run(cascade, inputs, device, parts=1)["AV"].shape == (8, 24)
    inputs = inputs_of(cascade, SIZES | {"E": 130})
    with pytest.raises(ReachError, match="queries and keys have 130 elements, and max_e of 'base' is 128; a config"):
        fusemax.run(cascade, inputs, device, parts=1)


def test_functions_of_the_score(functions) -> None:
    """Sigmoid of the user's own, with a factor, a bias for each key, a mask and a sum of weights."""
    cascade = own(
        "Q: [E, P], K: [E, M], V: [F, M], B: [M], S: [M, P], W: [M, P], D: [P], N: [F, P], AV: [F, P]",
        "S[m, p] = Q[e, p] * K[e, m] / 2",
        "W[m, p] = where(m <= p, sigmoid(S[m, p] + B[m] - 1), 0)",
        *("D[p] = W[m, p]", "N[f, p] = W[m, p] * V[f, m]", "AV[f, p] = N[f, p] / (D[p] + 1)"),
    )
    inputs = inputs_of(cascade, SIZES)
    found = fusemax.run(cascade, inputs, functions)["AV"]
    assert relative_error(found, interpret(cascade, inputs)["AV"]) <= 9e-5


def test_weights_that_are_the_scores(functions) -> None:
    """A causal kernel written with all pairs: products of three tensors, summed over keys and features."""
    cascade = own(
        "Q: [E, P], K: [E, M], V: [F, M], S: [M, P], X: [M, P], AV: [F, P]",
        "S[m, p] = Q[e, p] * K[e, m]",
        "X[m, p] = where(m <= p, S[m, p], 0)",
        "AV[f, p] = X[m, p] * V[f, m]",
    )
    inputs = inputs_of(cascade, SIZES)
    (sweep,) = partition(cascade).sweeps
    assert sweep.function == "identity"
    assert relative_error(fusemax.run(cascade, inputs, functions)["AV"], interpret(cascade, inputs)["AV"]) <= 7e-5


@pytest.mark.parametrize("name", ["sigmoid_attention", "sigmoid_attention_normalized"])
def test_shipped_with_options(functions, device, name: str) -> None:
    inputs = inputs_of(CASCADES[name], SIZES)
    expected = interpret(CASCADES[name], inputs)["AV"]
    assert relative_error(fusemax.run(name, inputs, functions)["AV"], expected) <= 9e-5
    with pytest.raises(MissingOptionError, match="sigmoid needs the option functions") as caught:
        fusemax.run(name, inputs, device)
    assert caught.value.option == "functions"


def test_both_factors_with_negative_numbers(device, functions) -> None:
    cascade = own("X: [D, P], W: [D, O], Z: [O, P]", "Z[o, p] = W[d, o] * X[d, p]")
    sizes = {"D": 8, "O": 5, "P": 3}
    inputs = inputs_of(cascade, sizes)
    with pytest.raises(MissingOptionError, match="identity needs the option linear, which 'base' does not have"):
        fusemax.run(cascade, inputs, device)
    assert relative_error(fusemax.run(cascade, inputs, functions)["Z"], interpret(cascade, inputs)["Z"]) <= 3e-5
    inputs["W"] = np.abs(inputs["W"])
    assert relative_error(fusemax.run(cascade, inputs, device)["Z"], interpret(cascade, inputs)["Z"]) <= 3e-5
