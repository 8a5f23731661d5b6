"""Passes: counted as the brute-force sweeps of sweeps.py need them, for the library and for random cascades."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sweeps import sweeps

from fusemax.cascade import CASCADES, Cascade, CascadeError, parse, to_text
from fusemax.cascade.deferred_division import defer_division
from fusemax.cascade.interpreter import interpret
from fusemax.cascade.passes import count_passes, ranks_to_count

#: Tiny, but longer than the number of passes: the last elements of one sweep are the first of the next.
SIZES = {"E": 4, "F": 3, "P": 3, "M": 5, "K": 4, "L": 5, "C": 2, "W": 3}


def sizes_of(cascade: Cascade) -> dict[str, int]:
    sizes = {rank: SIZES[rank] for tensor in cascade.inputs for rank in cascade.ranks_of[tensor]}
    if cascade.split:
        sizes |= {"M": 10, "M0": 2}
    if "W" in cascade.ranks:
        sizes["W"] = 3
    return sizes


CASES = [
    (name, rank)
    for name, cascade in CASCADES.items()
    for rank in ranks_to_count(cascade)
    # Rows of a tile: a sweep over them is one within every tile. Clusters' own ranks start in the middle of the cascade.
    if rank != "M0" and not (name == "routing" and rank in ("W", "X", "C"))
]


@pytest.mark.parametrize(("name", "rank"), CASES)
def test_library_needs_so_many_sweeps(name: str, rank: str) -> None:
    cascade = CASCADES[name]
    found = count_passes(cascade, rank)
    assert found.passes == sweeps(cascade, rank, sizes_of(cascade))
    deferred = defer_division(cascade)
    if deferred != cascade:
        assert found.passes_deferred_division == sweeps(deferred, rank, sizes_of(cascade))


def test_one_sequence() -> None:
    """Queries and keys of one sequence: Flowformer alternates between them."""
    cascade = CASCADES["flowformer"]
    found = count_passes(cascade, "M", {"P": "M"})
    assert found.passes == sweeps(cascade, "M", {"E": 2, "F": 2, "M": 6, "P": 6}, {"P": "M"}) == 4


@pytest.mark.parametrize(
    ("einsums", "passes"),
    [
        (["Y[m] = X[n] * (n <= m)"], 1),
        (["Y[n] = X[m] * (m <= n)"], 1),
        (["Y[m] = where(n <= m, X[n], 0)"], 1),
        (["Y[m] = X[n] ::max(n)"], 1),
        (["Y[m] = X[n] * A[m]"], 1),
        (["Y[m] = where(n <= m, X[n], 0)", "Z[m] = Y[m] * X[m]"], 1),
        (["Y[m] = X[n] * 1", "Z[m] = Y[m] * X[m]"], 2),
        (["Y[m] = X[n] * 1", "Z[m] = Y[m] * X[n]"], 2),
        (["S = X[m] * 1", "Y[m] = X[n] * S"], 2),
        (["S = X[m] * 1", "T[m] = X[m] / S", "D = T[m] * T[m]", "Y[m] = T[n] / D"], 3),
    ],
)
def test_reading_by_another_name(einsums: list[str], passes: int) -> None:
    """An Einsum that writes by the rank's own name, and reads all of a fiber by another one."""
    written = [re.match(r"\w+", einsum)[0] for einsum in einsums]  # type: ignore[index]
    declared = {name: "[]" if f"{name} =" in " ".join(einsums) else "[M]" for name in ("X", "A", *written)}
    if "A[" not in " ".join(einsums):
        del declared["A"]
    text = "einsum:\n  declaration:\n" + "".join(f"    {name}: {ranks}\n" for name, ranks in declared.items())
    text += "  alias: {N: M}\n  expressions:\n" + "".join(f"    - {einsum}\n" for einsum in einsums)
    found = count_passes(parse(text), "M")
    assert found.passes == sweeps(parse(text), "M", {"M": 6}) == passes
    assert found.per_input["X"] == passes


# -- random cascades -----------------------------------------------------------------------------------------------


class Writer:
    """Einsums over one rank M, each reading what is there already."""

    def __init__(self, draw: st.DrawFn) -> None:
        self.draw = draw
        self.declared = {"A": "[M]", "B": "[M]"}
        self.fibers = ["A", "B"]
        self.scalars: list[str] = []
        self.lines: list[str] = []

    def one(self, names: list[str]) -> str:
        return self.draw(st.sampled_from(names))

    def new(self, prefix: str, ranks: str) -> str:
        name = f"{prefix}{len(self.declared)}"
        self.declared[name] = ranks
        return name

    def text(self, head: str, sections: dict[str, list[str]]) -> str:
        lines = ["einsum:", "  declaration:", *(f"    {name}: {ranks}" for name, ranks in self.declared.items())]
        lines += [head] if head else []
        for section, einsums in sections.items():
            lines += [f"  {section}:", *(f"    - {einsum}" for einsum in einsums)]
        return "\n".join(lines)


@st.composite
def flat_cascades(draw: st.DrawFn) -> str:
    """Maps and reductions, in any order."""
    writer = Writer(draw)
    for _ in range(draw(st.integers(3, 12))):
        form = draw(st.sampled_from(["map", "map", "reduce", "scalar", "two"]))
        if form == "reduce":
            name = writer.new("S", "[]")
            reduction = draw(st.sampled_from(["", " ::max(m)"]))
            writer.lines.append(f"{name} = {writer.one(writer.fibers)}[m] * 1{reduction}")
            writer.scalars.append(name)
        elif form == "scalar" and writer.scalars:
            name = writer.new("S", "[]")
            writer.lines.append(f"{name} = {writer.one(writer.scalars)} + {writer.one(writer.scalars)}")
            writer.scalars.append(name)
        elif form == "two":
            name = writer.new("T", "[M]")
            writer.lines.append(f"{name}[m] = {writer.one(writer.fibers)}[m] + {writer.one(writer.fibers)}[m]")
            writer.fibers.append(name)
        else:
            operands = [f"{writer.one(writer.fibers)}[m]"]
            operands += [writer.one(writer.scalars)] if writer.scalars else []
            name = writer.new("T", "[M]")
            writer.lines.append(f"{name}[m] = {' - '.join(operands)}")
            writer.fibers.append(name)
    used = " ".join(line.split("=")[1] for line in writer.lines)
    for tensor in ("A", "B"):
        if f"{tensor}[" not in used:
            del writer.declared[tensor]
    return writer.text("", {"expressions": writer.lines})


@st.composite
def aliased_cascades(draw: st.DrawFn) -> str:
    """Maps and reductions that read by the rank's own name, by another one, or by both."""
    writer = Writer(draw)
    for _ in range(draw(st.integers(2, 8))):
        form = draw(st.sampled_from(["map", "reduce", "all", "prefix", "both"]))
        fiber, name = writer.one(writer.fibers), f"T{len(writer.declared)}"
        factor = f" * {writer.one(writer.scalars)}" if writer.scalars and draw(st.booleans()) else ""
        right = {
            "map": f"{fiber}[m] * 2{factor}",
            "reduce": f"{fiber}[m] * 2{factor}",
            "all": f"{fiber}[n] * 2{factor}",
            "prefix": f"where(n <= m, {fiber}[n]{factor}, 0)",
            "both": f"{fiber}[m] * {writer.one(writer.fibers)}[n]{factor}",
        }[form]
        writer.declared[name] = "[]" if form == "reduce" else "[M]"
        writer.lines.append(f"{name} = {right}" if form == "reduce" else f"{name}[m] = {right}")
        (writer.scalars if form == "reduce" else writer.fibers).append(name)
    used = " ".join(line.split("=", 1)[1] for line in writer.lines)
    for tensor in ("A", "B"):
        if f"{tensor}[" not in used:
            del writer.declared[tensor]
    head = "  alias: {N: M}" if "[n]" in used else ""
    return writer.text(head, {"expressions": writer.lines})


@st.composite
def tiled_cascades(draw: st.DrawFn) -> str:
    """Elements, tiles and totals."""
    writer = Writer(draw)
    writer.declared = {"A": "[M1, M0]", "B": "[M]"}
    writer.lines = ["T2[m1, m0] = A[m1, m0] * B[m1*M0+m0]"]
    writer.declared["T2"] = "[M1, M0]"
    writer.fibers = ["A", "T2"]
    tiles: list[str] = []
    for _ in range(draw(st.integers(3, 12))):
        form = draw(st.sampled_from(["map", "map", "tile", "tiles", "total"]))
        if form == "tile":
            name = writer.new("L", "[M1]")
            writer.lines.append(f"{name}[m1] = {writer.one(writer.fibers)}[m1, m0] ::max(m0)")
            tiles.append(name)
        elif form == "tiles" and tiles:
            name = writer.new("L", "[M1]")
            other = [writer.one(writer.scalars)] if writer.scalars else []
            writer.lines.append(f"{name}[m1] = {' + '.join([f'{writer.one(tiles)}[m1]', *other, '1'])}")
            tiles.append(name)
        elif form == "total":
            name = writer.new("S", "[]")
            operand = f"{writer.one(tiles)}[m1]" if tiles and draw(st.booleans()) else f"{writer.one(writer.fibers)}[m1, m0]"
            writer.lines.append(f"{name} = {operand} * 1")
            writer.scalars.append(name)
        else:
            operands = [f"{writer.one(writer.fibers)}[m1, m0]"]
            if tiles and draw(st.booleans()):
                operands.append(f"{writer.one(tiles)}[m1]")
            if writer.scalars and draw(st.booleans()):
                operands.append(writer.one(writer.scalars))
            name = writer.new("T", "[M1, M0]")
            writer.lines.append(f"{name}[m1, m0] = {' - '.join([*operands, '1'])}")
            writer.fibers.append(name)
    return writer.text("  split: {M: [M1, M0]}", {"expressions": writer.lines})


@st.composite
def scanning_cascades(draw: st.DrawFn) -> str:
    """States that are carried along, and what is computed from their steps and from their last value."""
    writer = Writer(draw)
    loop = []
    states = []
    writer.declared["T2"] = "[M]"
    writer.lines.append("T2[m] = A[m] * B[m]")
    writer.fibers.append("T2")
    if draw(st.booleans()):
        writer.declared["S3"] = "[]"
        writer.lines.append("S3 = T2[m] ::max(m)")
        writer.scalars.append("S3")
    for _ in range(draw(st.integers(1, 3))):
        name = writer.new("R", "[I]")
        operands = [f"{writer.one(writer.fibers)}[i]"]
        if states and draw(st.booleans()):
            operands.append(f"{writer.one(states)}[i+1]")
        if writer.scalars and draw(st.booleans()):
            operands.append(writer.one(writer.scalars))
        loop.append(f"{name}[i+1] = {' - '.join([f'{name}[i]', *operands])}")
        states.append(name)
    after: list[str] = []
    for _ in range(draw(st.integers(1, 6))):
        form = draw(st.sampled_from(["final", "step", "reduce", "map"]))
        if form == "final":
            name = writer.new("S", "[]")
            after.append(f"{name} = {writer.one(states)}[M]")
            writer.scalars.append(name)
        elif form == "reduce":
            name = writer.new("S", "[]")
            after.append(f"{name} = {writer.one(writer.fibers)}[m] * 1")
            writer.scalars.append(name)
        else:
            operands = [f"{writer.one(writer.fibers)}[m]"]
            operands += [f"{writer.one(states)}[{draw(st.sampled_from(['m', 'm+1']))}]"] if form == "step" else []
            operands += [writer.one(writer.scalars)] if writer.scalars and draw(st.booleans()) else []
            name = writer.new("T", "[M]")
            after.append(f"{name}[m] = {' - '.join([*operands, '1'])}")
            writer.fibers.append(name)
    sections = {
        "expressions": writer.lines,
        "initialization": [f"{state}[0] = 0" for state in states],
        "extended": loop,
        "finally": after,
    }
    return writer.text("  iterative: {i: i >= M}", sections)


@settings(max_examples=150)
@given(flat_cascades())
def test_random_cascades(text: str) -> None:
    cascade = parse(text)
    assert count_passes(cascade, "M").passes == sweeps(cascade, "M", {"M": 12})


@settings(max_examples=150)
@given(aliased_cascades())
def test_random_cascades_of_two_names(text: str) -> None:
    cascade = parse(text)
    found = count_passes(cascade, "M")
    assert found.passes == sweeps(cascade, "M", {"M": 6})
    assert found.passes >= 1


@settings(max_examples=150)
@given(tiled_cascades(), st.sampled_from(["M", "M1"]))
def test_random_tiled_cascades(text: str, rank: str) -> None:
    cascade = parse(text)
    assert count_passes(cascade, rank).passes == sweeps(cascade, rank, {"M1": 11, "M0": 2})


@settings(max_examples=150)
@given(scanning_cascades())
def test_random_scanning_cascades(text: str) -> None:
    cascade = parse(text)
    assert count_passes(cascade, "M").passes == sweeps(cascade, "M", {"M": 12})


# -- what is reported ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "rank", "passes", "deferred", "each", "footprint"),
    [
        ("attention_3pass", "M", 3, 2, {"K": 3, "V": 1}, ("QK", "SN")),
        ("attention_3pass_deferred", "M", 2, 2, {"K": 2, "V": 1}, ("QK",)),
        ("attention_2pass", "M", 2, 2, {"K": 2, "V": 1}, ("SLN",)),
        ("attention_2pass", "M1", 3, 2, {"K": 3, "V": 1}, ("LM", "SLN", "SLD", "PLM")),
        ("attention_splitk", "M", 1, 1, {"K": 1, "V": 1}, ()),
        ("attention_splitk", "M1", 2, 2, {"K": 2, "V": 1}, ("LM", "SLD", "SLNV")),
        ("attention_1pass", "M", 1, 1, {"K": 1, "V": 1}, ()),
        ("attention_1pass", "P", 1, 1, {"Q": 1}, ()),
        ("attention_1pass", "M0", 2, 2, {"K": 2, "V": 1}, ("BQK",)),
        ("sigmoid_attention", "M", 1, 1, {"K": 1, "V": 1}, ()),
        ("sigmoid_attention_normalized", "M", 2, 1, {"K": 2, "V": 1}, ("W",)),
        ("linear_attention", "M", 1, 1, {"K": 1, "V": 1}, ()),
        ("linear_attention", "P", 1, 1, {"Q": 1}, ()),
        ("entropy_naive", "M", 3, 3, {"K": 3}, ("QK", "SN")),
        ("entropy_1pass", "M", 1, 1, {"K": 1, "V": 1}, ()),
        ("sink_first", "M", 1, 1, {"K": 1}, ()),
        ("column_means", "M", 3, 3, {"K": 3}, ("QK", "SN")),
        ("column_means_lse", "M", 2, 2, {"K": 2}, ("QK",)),
        ("calibration", "M", 4, 4, {"K": 4, "V": 1}, ("QK", "SN", "A", "S")),
        ("calibration", "P", 2, 2, {"Q": 2}, ("A",)),
        ("calibration_factored", "M", 2, 2, {"K": 2, "V": 1}, ("QK",)),
        ("calibration_factored", "P", 2, 2, {"Q": 2}, ("AV0", "A")),
        ("flowformer", "M", 2, 2, {"K": 2, "V": 1}, ("SK",)),
        ("flowformer", "P", 2, 2, {"Q": 2}, ("SQ", "IN")),
        ("flowformer_causal", "L", 1, 1, {"Q": 1, "K": 1, "V": 1}, ()),
        ("routing", "L", 2, 2, {"QN": 2, "KN": 1, "V": 1}, ("QN",)),
        ("routing", "W", 2, 2, {}, ("IDX", "QG")),
        ("routing", "X", 2, 2, {}, ("SM",)),
        ("cascade1", "K", 2, 2, {"A": 2, "B": 1}, ("A",)),
        ("cascade2", "K", 1, 1, {"A": 1, "B": 1}, ()),
        ("cascade3", "K", 1, 1, {"A": 1, "B": 1}, ()),
    ],
)
def test_published_counts(
    name: str, rank: str, passes: int, deferred: int, each: dict[str, int], footprint: tuple[str, ...]
) -> None:
    found = count_passes(CASCADES[name], rank)
    assert (found.passes, found.passes_deferred_division) == (passes, deferred)
    assert found.per_input == each
    assert found.footprint == footprint
    assert len(found.chain) == passes - 1
    assert [barrier.number for barrier in found.chain] == list(range(2, passes + 1))


def test_chain_explains() -> None:
    chain = [str(barrier) for barrier in count_passes(CASCADES["attention_3pass"], "M").chain]
    assert chain == [
        "pass 2: SN (line 16) reads QK along M again, because it needs GM (line 15), which is complete only when every m was "
        "visited",
        "pass 3: A (line 18) reads SN along M again, because it needs SD (line 17), which is complete only when every m was "
        "visited",
    ]
    (barrier,) = count_passes(CASCADES["attention_2pass"], "M").chain
    assert "A (line 30) reads SLN along M again, because it needs PLM and so GM (line 27)" in str(barrier)


LAYERNORM = """
einsum:
  declaration: {X: [D, P], MU: [P], C: [D, P], VAR: [P], Y: [D, P], W: [D, O], Z: [O, P]}
  constants: {EPS: 1e-5}
  expressions:
    - MU[p] = X[d, p] / D
    - C[d, p] = X[d, p] - MU[p]
    - VAR[p] = C[d, p] * C[d, p] / D
    - Y[d, p] = C[d, p] / sqrt(VAR[p] + EPS)
    - Z[o, p] = Y[d, p] * W[d, o]
"""


def test_layer_norm() -> None:
    cascade = parse(LAYERNORM)
    found = count_passes(cascade, "D")
    assert (found.passes, found.passes_deferred_division) == (3, 2)
    assert found.footprint == ("X", "C")
    assert found.passes == sweeps(cascade, "D", {"D": 6, "P": 2, "O": 2})


def test_same_running_maximum_used_at_every_step_or_at_the_end() -> None:
    text = """
    einsum:
      declaration: {{A: [M], R: [I], Z: []}}
      iterative: {{i: i >= M}}
      initialization: ["R[0] = -inf"]
      extended: ["R[i+1] = max(R[i], A[i])"]
      finally: ["Z = exp(A[m] - R[{}])"]
    """
    assert count_passes(parse(text.format("m+1")), "M").passes == 1
    assert count_passes(parse(text.format("M")), "M").passes == 2


POWER = """
einsum:
  declaration: {A: [D, B], X: [I, D], N: [I, B], S: [STEP]}
  iterative: {i: i >= STEP}
  initialization: ["X[0, d] = 1"]
  extended:
    - N[i, b] = A[d, b] * X[i, d] * S[i]
    - X[i+1, d] = A[d, b] * N[i, b]
  outputs: [X]
"""


def test_passes_that_grow_with_the_iteration() -> None:
    """Every step multiplies by the whole matrix, which it has in common with the other steps."""
    cascade = parse(POWER)
    with pytest.raises(CascadeError, match="line 7, column 7: the passes over D grow with the iteration: every step goes over"):
        count_passes(cascade, "D")
    assert count_passes(cascade, "STEP").passes == 1


def test_a_step_with_fibers_of_its_own_is_given_its_state() -> None:
    """Rows of a tile: the denominator of the tile before is there."""
    text = """
    einsum:
      declaration: {A: [M1, M0], S: [M1], R: [M1]}
      iterative: {m1: m1 >= M1}
      initialization: ["R[0] = 1"]
      extended: ["S[m1] = A[m1, m0] * R[m1]", "R[m1+1] = S[m1] + R[m1]"]
    """
    assert count_passes(parse(text), "M0").passes == 1


def test_wrong_ranks() -> None:
    with pytest.raises(CascadeError, match="rank must be one of E, P, M, F, not 'K'; K is a tensor, its ranks are E, M"):
        count_passes(CASCADES["attention_3pass"], "K")
    with pytest.raises(CascadeError, match=r"rank must be one of E, P, M, F, not 'X'$"):
        count_passes(CASCADES["attention_3pass"], "M", {"X": "M"})
    assert count_passes(CASCADES["calibration"], "N").passes == 4, "another name of M"


# -- deferred division ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CASCADES)
def test_deferred_division_computes_the_same(name: str) -> None:
    cascade = CASCADES[name]
    deferred = defer_division(cascade)
    assert defer_division(deferred) == deferred
    assert parse(to_text(deferred)) == deferred
    inputs = {
        tensor: np.random.default_rng(index).normal(size=[sizes_of(cascade)[rank] for rank in cascade.ranks_of[tensor]])
        for index, tensor in enumerate(cascade.inputs)
    }
    sizes = {rank: size for rank, size in sizes_of(cascade).items() if rank in ("M0", "W")}
    for tensor in cascade.results:
        a, b = (interpret(c, inputs, **sizes)[tensor] for c in (cascade, deferred))
        np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-13)


def test_deferred_attention_is_the_published_one() -> None:
    def lines(cascade: Cascade) -> list[str]:
        return [str(einsum).replace("AVN", "SNV") for einsum in cascade.einsums]

    assert lines(defer_division(CASCADES["attention_3pass"])) == lines(CASCADES["attention_3pass_deferred"])


@pytest.mark.parametrize(
    ("einsums", "passes"),
    [
        (["S = A[m] * 1", "T[m] = B[m] / S", "Z = T[m] * A[m]"], 1),
        (["S = A[m] * 1", "R = 1 / S", "T[m] = B[m] * R", "Z = T[m] * A[m]"], 1),
        (["S = A[m] * 1", "Z = B[m] / S * A[m]"], 1),
        (["S = A[m] * 1", "T[m] = A[m] / S", "Z = T[m] * T[m]"], 2),
        (["S = A[m] * 1", "T[m] = A[m] / S", "Z = exp(T[m]) * B[m]"], 2),
        (["S = A[m] * 1", "T[m] = A[m] / S", "Z = T[m] * B[m] ::max(m)"], 2),
        (["S = A[m] * 1", "T[m] = A[m] / (S + B[m])", "Z = T[m] * B[m]"], 2),
    ],
)
def test_what_can_be_deferred(einsums: list[str], passes: int) -> None:
    declared = {"A": "[M]", "B": "[M]"} | {e[0]: "[M]" if e[1] == "[" else "[]" for e in einsums}
    text = "einsum:\n  declaration:\n" + "".join(f"    {k}: {v}\n" for k, v in declared.items()) + "  expressions:\n"
    text += "\n".join(f"    - {einsum}" for einsum in einsums)
    if "B[" not in text.split("expressions")[1]:
        text = text.replace("    B: [M]\n", "")
    found = count_passes(parse(text), "M")
    assert (found.passes, found.passes_deferred_division) == (2, passes)
