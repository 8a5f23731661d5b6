"""Cascades on the array: what is mapped, and what is out of reach."""

from __future__ import annotations

import re

import numpy as np
import pytest

import fusemax
from fusemax.cascade import CASCADES, CascadeError, ReachError, parse, read
from fusemax.cascade.catalog import DIRECTORY
from fusemax.cascade.interpreter import interpret
from fusemax.compiler.mapper import map_cascade

TEXT = (DIRECTORY / "attention_1pass.yaml").read_text(encoding="utf-8")
BARE = TEXT[: TEXT.index("mapping:")]
ATTENTION = map_cascade(CASCADES["attention_1pass"])

#: Cascade 5 as another person might write it: other names, no copies, lanes in fewer lines, denominators last.
MINE = """\
einsum:
  declaration:
    Q: [D, L]
    K: [D, S]
    V: [N, S]
    X: [T, R, L]
    MX: [T, L]
    G: [T, L]
    W: [T, R, L]
    WS: [T, L]
    WV: [T, N, L]
    D: [T, L]
    U: [T, L, N]
    O: [L, N]
  split: {S: [T, R]}
  iterative: {t: t >= T}
  initialization:
    - G[0, l] = -inf
    - U[0, l, n] = 0
    - D[0, l] = 0
  extended:
    - X[t, r, l] = K[d, t*R+r] * Q[d, l]
    - MX[t, l] = X[t, r, l] ::max(r)
    - G[t+1, l] = max(MX[t, l], G[t, l])
    - W[t, r, l] = exp(X[t, r, l] - G[t+1, l])
    - WV[t, n, l] = V[n, t*R+r] * W[t, r, l]
    - WS[t, l] = W[t, r, l] ::add(r)
    - U[t+1, l, n] = U[t, l, n] * exp(G[t, l] - G[t+1, l]) + WV[t, n, l]
    - D[t+1, l] = WS[t, l] + exp(G[t, l] - G[t+1, l]) * D[t, l]
  finally:
    - O[l, n] = U[T, l, n] / D[T, l]
"""


def test_attention_is_the_papers_cascade() -> None:
    tensors = [step.einsum.result.tensor for step in ATTENTION.steps]
    assert tensors == "BK BV RM RD RNV BQK LM RM SLN SLD SLNV PRM SPD RD SPNV RNV AV".split()
    lines = str(ATTENTION).splitlines()
    assert lines[6].split("  ")[0] == "LM[m1, p] = BQK[m1, m0, p] ::max(m0)"
    assert lines[6].endswith("array  the maximum of a tile")


# -- the file is what is compiled ----------------------------------------------------------------------------------


def test_a_cascade_of_the_users_own_is_compiled(tmp_path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(MINE, encoding="utf-8")
    program = fusemax.compile(path, head_dim=16, value_dim=9)
    assert program.to_bytes() == fusemax.compile(head_dim=16, value_dim=9).to_bytes()
    assert fusemax.compile(str(path), head_dim=16, value_dim=9) is program
    units = [
        {(type(step.operation), step.unit) for step in map_cascade(c).steps} for c in (read(path), CASCADES["attention_1pass"])
    ]
    assert units[0] < units[1], "all operations but those of the copies and of the factor's own lines"


def test_one_head_dim_of_keys_and_values() -> None:
    cascade = parse(re.sub(r"\bn\b", "d", re.sub(r"\bN\b", "D", MINE)))
    assert fusemax.compile(cascade, head_dim=8).ii >= 18
    with pytest.raises(ValueError, match="head_dim and value_dim must be equal, as both are D in the cascade, not 8 and 4"):
        fusemax.compile(cascade, head_dim=8, value_dim=4)


def test_only_the_result_leaves() -> None:
    text = TEXT.replace("outputs: [AV]", "outputs: [AV, RD]")
    line = line_of(text, "- RD[m1+1")
    with pytest.raises(ReachError, match=f"line {line}, .* RD leaves the cascade, but the machine writes only the one result"):
        fusemax.compile(parse(text), head_dim=8)


# -- out of reach --------------------------------------------------------------------------------------------------


def line_of(text: str, part: str) -> int:
    return text[: text.index(part)].count("\n") + 1


@pytest.mark.parametrize(
    ("name", "line", "reason"),
    [
        (
            "attention_3pass",
            "- GM[",
            "GM is the max over the whole of m, known behind the last tile only; write the running one",
        ),
        ("attention_2pass", "- BQK[", "BQK is computed over whole ranks, but the array works tile by tile"),
        ("attention_splitk", "- BQK[", "the keys' rank must be split"),
        ("linear_attention", "- FQ[", "FQ is a function of an input, one point per element of it, which is the host's"),
        ("entropy_1pass", "- DRM[", "it has no where"),
        ("sink_first", "- RD[m1+1", "no Einsum up to here gives the sum of a tile's weighted values"),
        ("routing", "- IDX[", "it reduces by max and add, not by argtop"),
        ("column_means_lse", "- LSE[", "it reduces by max and add, not by logaddexp"),
        ("cascade2", "- Y =", "tile by tile"),
        ("flowformer_causal", "- SQ[", "SQ is a function of an input"),
    ],
)
def test_the_librarys_other_cascades(name: str, line: str, reason: str) -> None:
    text = (DIRECTORY / f"{name}.yaml").read_text(encoding="utf-8")
    with pytest.raises(ReachError) as caught:
        fusemax.compile(name, head_dim=8)
    assert reason in str(caught.value)
    assert caught.value.at is not None
    assert caught.value.at.line == line_of(text, line), caught.value
    assert str(caught.value).startswith(f"{name}, line {caught.value.at.line}, column ")


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        (
            "BQK[m1, m0, p] = Q[e, p] * BK[e, m1, m0]",
            "BQK[m1, m0, p] = 0.125 * Q[e, p] * BK[e, m1, m0]",
            "a scale of the scores is an argument",
        ),
        (
            "BQK[m1, m0, p] = Q[e, p] * BK[e, m1, m0]",
            "BQK[m1, m0, p] = Q[e, p] + BK[e, m1, m0]",
            "a lane adds the sum of a tile",
        ),
        ("BQK[m1, m0, p] ::max(m0)", "BQK[m1, m0, p]", "the array sums weights over its rows, not of scores"),
        ("max(RM[m1, p], LM[m1, p])", "max(RM[m1, p], 0)", "0 has no place"),
        ("exp(BQK[m1, m0, p] - RM[m1+1, p])", "exp(BQK[m1, m0, p] - RM[m1, p])", "minus the new running maximum (index m1+1)"),
        ("exp(BQK[m1, m0, p] - RM[m1+1, p])", "exp(BQK[m1, m0, p])", "exp is of a difference"),
        (
            "exp(BQK[m1, m0, p] - RM[m1+1, p])",
            "exp(BQK[m1, m0, p] - max(RM[m1, p], LM[m1, p]))",
            "minus the new running maximum",
        ),
        ("SLD[m1, p] = SLN[m1, m0, p]", "SLD[m1, p] = SLN[m1, m0, p] ::max(m0)", "takes the maximum of scores over its rows"),
        ("RD[m1, p] * PRM[m1, p]", "RD[m1, p]", "which SPD only renames"),
        ("SLD[m1, p] + SPD[m1, p]", "SLD[m1, p] - SPD[m1, p]", "it has no operation for SLD[m1, p] - SPD[m1, p]"),
        ("SLD[m1, p] + SPD[m1, p]", "SPD[m1, p]", "RD must be max(RD, the maximum of a tile)"),
        ("RNV[f, M1, p] / RD[M1, p]", "RNV[f, M1, p] * RD[M1, p]", "a lane multiplies a state by the factor"),
        ("RNV[f, M1, p] / RD[M1, p]", "RNV[f, 0, p] / RD[M1, p]", "must be a state before the tile (m1), after it (m1+1)"),
    ],
)
def test_the_line_that_cannot_be_run_is_named(old: str, new: str, reason: str) -> None:
    assert BARE.count(old) == 1
    text = BARE.replace(old, new)
    try:
        cascade = parse(text, "mine")
    except CascadeError:
        text = text.replace("  outputs: [AV]\n", "")
        cascade = parse(text, "mine")
    with pytest.raises(ReachError) as caught:
        fusemax.compile(cascade, head_dim=8)
    assert reason in str(caught.value), caught.value
    assert caught.value.at is not None
    assert caught.value.at.line == line_of(BARE, old), caught.value


@pytest.mark.parametrize(
    ("start", "wrong", "right", "role", "update"),
    [
        ("RM[0, p] = -inf", "0", "-inf", "the running maximum", "- RM[m1+1, p] = max"),
        ("RM[0, p] = -inf", "-1000", "-inf", "the running maximum", "- RM[m1+1, p] = max"),
        ("RM[0, p] = -inf", "inf", "-inf", "the running maximum", "- RM[m1+1, p] = max"),
        ("RD[0, p] = 0", "1", "0", "the running denominator", "- RD[m1+1, p] = SLD"),
        ("RD[0, p] = 0", "-inf", "0", "the running denominator", "- RD[m1+1, p] = SLD"),
        ("RNV[f, 0, p] = 0", "1", "0", "the running numerator", "- RNV[f, m1+1, p] = SLNV"),
        ("RNV[f, 0, p] = 0", "-inf", "0", "the running numerator", "- RNV[f, m1+1, p] = SLNV"),
    ],
)
def test_a_wrong_initial_value_is_reported_where_it_is_written(
    start: str, wrong: str, right: str, role: str, update: str
) -> None:
    text = BARE.replace(start, f"{start[: start.index('=')]}= {wrong}")
    tensor = start.partition("[")[0]
    with pytest.raises(ReachError) as caught:
        map_cascade(parse(text, "mine"))
    assert caught.value.at is not None
    assert caught.value.at.line == line_of(text, start[: start.index("=")])
    cause = f"{tensor} must start at {right}, not at {wrong}, because line {line_of(text, update)} makes it {role}: {tensor}["
    assert cause in str(caught.value)


@pytest.mark.parametrize(
    ("scores", "hint"),
    [
        ("Q[e, p] * BK[e, m1, m0] / sqrt(E)", "it has no sqrt; a scale of the scores is an argument of the call (scale)"),
        ("Q[e, p] * BK[e, m1, m0] * rsqrt(E)", "it has no rsqrt; a scale of the scores is an argument of the call (scale)"),
        ("Q[e, p] * BK[e, m1, m0] / E ** 0.5", "it has no operator **; a scale of the scores is an argument"),
        ("Q[e, p] * BK[e, m1, m0] / E", "E has no place; a scale of the scores is an argument of the call (scale)"),
        ("Q[e, p] * BK[e, m1, m0] / 8", "8 has no place; a scale of the scores is an argument of the call (scale)"),
        ("where(m1*M0+m0 <= p, Q[e, p] * BK[e, m1, m0], -inf)", "it has no where; masks are arguments of the call (causal, "),
        ("Q[e, p] * BK[e, m1, m0] * (m0 <= p)", "it has no operator <=; masks are arguments of the call (causal, window, "),
        ("Q[e, p] * BK[e, m1, m0] * (not m0)", "it has no operator not; masks are arguments of the call"),
        ("Q[e, p] * BK[e, m1, m0] * (m0 - p)", "it has no operation for m0 - p; masks are arguments of the call"),
    ],
)
def test_what_is_an_argument_of_the_call_is_said(scores: str, hint: str) -> None:
    text = BARE.replace("Q[e, p] * BK[e, m1, m0]", scores)
    with pytest.raises(ReachError) as caught:
        map_cascade(parse(text, "mine"))
    assert hint in str(caught.value), caught.value
    assert caught.value.at is not None
    assert caught.value.at.line == line_of(text, scores)


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("edge: [BK, BV]", "edge: [BK, BV, BQK]", "BQK is evaluated by array, not by edge"),
        ("lane: [RM", "pe1d: [RM", "its parts are edge, array and lane, not pe1d"),
        ("space: [M0, P0]", "space: [P0, M0]", "rows and columns are M0 and P (or a part of it), not P0, M0"),
    ],
)
def test_mapping_and_bindings_must_be_the_machines(old: str, new: str, reason: str) -> None:
    text = TEXT.replace(", BQK, LM", ", LM").replace("[BQK, LM", "[LM") if "BQK]" in new else TEXT
    with pytest.raises(ReachError) as caught:
        fusemax.compile(parse(text.replace(old, new)), head_dim=8)
    assert reason in str(caught.value)
    assert caught.value.at is not None
    assert caught.value.at.line == line_of(text, old)


def mutants() -> list[str]:
    """The text with one token of one Einsum changed, in every way that might still be a cascade."""
    found = []
    alternatives = {
        "+": "-*/",
        "-": "+*",
        "*": "+/",
        "/": "*",
        "max": ["min", "add"],
        "exp": ["exp2"],
        "m1": ["m1+1"],
        "inf": ["0"],
        "0": ["1", "M1"],
        "M1": ["0"],
    }
    tensors = "Q K V BK BV BQK LM RM SLN SLD SLNV PRM SPD RD SPNV RNV".split()
    alternatives |= {tensor: [other for other in tensors if other != tensor] for tensor in tensors}
    lines = BARE.splitlines()
    for number, line in enumerate(lines):
        if not line.startswith("    - "):
            continue
        for token in re.finditer(r"[A-Za-z][A-Za-z0-9]*|\d|[-+*/]", line[6:]):
            for other in alternatives.get(token[0], ()):
                start, end = token.start() + 6, token.end() + 6
                changed = f"{line[:start]}{other}{line[end:]}"
                found.append("\n".join([*lines[:number], changed, *lines[number + 1 :]]))
        found.append("\n".join([*lines[:number], *lines[number + 1 :]]))
    return found


def test_what_is_accepted_computes_attention() -> None:
    """No change of one token may be compiled, unless it changes nothing."""
    data = {
        name: np.random.default_rng(seed).normal(size=shape)
        for name, shape, seed in (("Q", (3, 4), 1), ("K", (3, 6), 2), ("V", (3, 6), 3))
    }
    scores = np.exp(data["K"].T @ data["Q"])
    expected = data["V"] @ (scores / scores.sum(0))
    accepted = refused = 0
    for text in mutants():
        try:
            cascade = parse(text)
        except CascadeError:
            continue
        try:
            map_cascade(cascade)
        except ReachError as error:
            assert error.at is not None
            refused += 1
            continue
        accepted += 1
        (result,) = cascade.results
        np.testing.assert_allclose(interpret(cascade, data, M0=2)[result], expected, rtol=1e-12, err_msg=text)
    assert refused > 50
    assert accepted < 20, "swapped Q and K, and the like"
