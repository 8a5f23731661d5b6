"""Spaces and operations are read from cascades, the ones that are compiled and counted elsewhere."""

import pytest

from fusemax.cascade import CASCADES, parse
from fusemax.cascade.catalog import DIRECTORY
from fusemax.cascade.einsum_parser import parse_einsum
from fusemax.evaluation.paper import Operation
from fusemax.evaluation.paper.designs import one_pass, softmax
from fusemax.evaluation.paper.designs.cascade import CASCADE
from fusemax.evaluation.paper.designs.design import ranks_of
from fusemax.evaluation.paper.designs.einsums import Einsums, operations_of
from fusemax.evaluation.paper.designs.fusemax import BINDING
from fusemax.evaluation.paper.designs.ours import OURS
from fusemax.evaluation.paper.workloads import MODELS

MAC, ADD, MAX, EXP, DIVIDE = Operation.MAC, Operation.ADD, Operation.MAX, Operation.EXP, Operation.DIVIDE


@pytest.mark.parametrize(
    ("text", "operations"),
    [
        ("Z[m, p] = Q[e, p] * K[e, m]", {MAC: 1}),
        ("Z[p] = Q[p] * K[p]", {MAC: 1}),
        ("Z[p] = A[m, p] + B[m, p]", {ADD: 2}),
        ("Z[p] = A[m, p]", {ADD: 1}),
        ("Z[p] = A[m, p] ::max(m)", {MAX: 1}),
        ("Z[p] = exp(A[p] - B[p])", {EXP: 1, ADD: 1}),
        ("Z[p] = exp(A[m, p] - B[p])", {EXP: 1, ADD: 2}),
        ("Z[p] = max(A[p], B[p], 0)", {MAX: 2}),
        ("Z[p] = A[p] / B[p]", {DIVIDE: 1}),
        ("Z[p] = -A[p]", {ADD: 1}),
        ("Z[e, m1, m0] = K[e, m1*M0+m0]", {}),
        ("Z[0, p] = 0", {}),
    ],
)
def test_operations(text, operations):
    assert operations_of(parse_einsum(text)) == operations


@pytest.mark.parametrize(
    ("text", "name"),
    [("Z[p] = tanh(A[p])", "'tanh'"), ("Z[p] = A[m, p] ::logaddexp(m)", "'logaddexp'"), ("Z[p] = A[p] < p", "'<'")],
)
def test_what_no_unit_has_is_an_error(text, name):
    with pytest.raises(ValueError, match=f"an operation must be one of .*, not {name} in Z"):
        operations_of(parse_einsum(text))


def test_a_cascade_s_einsums():
    cascade = CASCADES["attention_1pass"]
    einsums = Einsums.of(cascade)
    assert list(einsums.ranks) == [e.result.tensor for e in (*cascade.extended, *cascade.finally_)]
    assert {name: set(ranks.split()) for name, ranks in einsums.ranks.items() if name in ("BQK", "RNV", "AV")} == {
        "BQK": {"e", "m1", "m0", "p"},
        "RNV": {"f", "m1", "p"},
        "AV": {"f", "p"},
    }


def test_units_of_a_machine():
    cascade = Einsums.of("attention_1pass")
    assert cascade.evaluated("SLN RM", {EXP: {MAC: 6}}) == {"SLN": {MAC: 6, ADD: 1}, "RM": {MAX: 1}}


def test_another_text_is_another_count():
    """The paper's 2-pass weights would cost a product and a division each."""
    text = (DIRECTORY / "attention_3pass.yaml").read_text().replace("SN[m, p] / SD[p]", "SN[m, p] * SD[p] / SD[p]")
    assert Einsums.of(parse(text)).operations["A"] == {MAC: 1, DIVIDE: 1}
    assert softmax.CASCADE_4.operations["A"] == {DIVIDE: 1}


@pytest.mark.parametrize("design", [CASCADE, BINDING, OURS], ids=lambda design: design.name)
def test_every_design_evaluates_the_cascade(design):
    """Each Einsum once, over the points of its iteration space in the file."""
    (stage,) = design.attention(MODELS["BERT"], 1024)
    works = {work.einsum: work for phase in stage.phases for work in phase.works}
    ranks = ranks_of(MODELS["BERT"], 1024, design.machine)
    for name, space in Einsums.of("attention_1pass").ranks.items():
        assert stage.ranks.count(works[name].ranks) == ranks.count(space)
    assert set(one_pass.EINSUMS) <= set(works)
