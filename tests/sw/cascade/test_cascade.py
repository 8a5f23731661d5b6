"""Einsums, bindings and what follows from them."""

from __future__ import annotations

import pytest

from fusemax.cascade import (
    ATTENTION_1PASS,
    CASCADES,
    Cascade,
    Dependence,
    Einsum,
    Operation,
    Step,
    TensorReference,
    Unit,
    cascade_named,
)
from fusemax.spec import Op


def test_einsum_is_read() -> None:
    einsum = Einsum("RM[m1+1, p] = max(RM[m1, p], LM[m1, p])")
    assert einsum.result == TensorReference("RM", ("m1+1", "p"))
    assert [str(operand) for operand in einsum.operands] == ["RM[m1, p]", "LM[m1, p]"]
    assert einsum.ranks == ("m1", "p")
    assert Einsum("BK[e, m1, m0] = K[e, m1*M0+m0]").ranks == ("e", "m1", "m0")


@pytest.mark.parametrize("text", ["", "A[m]", "A = B[m]", "a[m] = B[m]", "A[m] = "])
def test_einsum_must_have_two_sides(text: str) -> None:
    with pytest.raises(ValueError, match="must be 'tensor"):
        Einsum(text)


def test_attention_operations_and_their_ranks_in_time() -> None:
    ranks = {operation: ATTENTION_1PASS.time_rank(operation) for operation in ATTENTION_1PASS.operations}
    assert ranks == {Operation.QK: "e", Operation.MAX: None, Operation.EXP: None, Operation.SUM: None, Operation.SLNV: "f"}
    assert [operation.op for operation in ranks] == [Op.QK, None, Op.EXP, Op.SUM, Op.SLNV]


def test_attention_dependences_follow_from_the_einsums() -> None:
    assert set(ATTENTION_1PASS.dependences) == {
        Dependence(Operation.QK, Operation.MAX, False),
        Dependence(Operation.QK, Operation.EXP, False),
        Dependence(Operation.MAX, Operation.EXP, True),
        Dependence(Operation.EXP, Operation.SUM, False),
        Dependence(Operation.EXP, Operation.SLNV, False),
    }


def test_attention_is_the_papers_cascade() -> None:
    tensors = [step.einsum.result.tensor for step in ATTENTION_1PASS.steps]
    assert tensors == "BK BV RM RD RNV BQK LM RM SLN SLD SLNV PRM SPD RD SPNV RNV AV".split()
    lines = str(ATTENTION_1PASS).splitlines()
    assert lines[6].split("  ")[0] == "LM[m1, p] = BQK[m1, m0, p] ::max(m0)"
    assert lines[6].endswith("array  MAX")


def test_operations_belong_to_the_array() -> None:
    einsum = Einsum("A[m1, p] = B[m1, p]")
    with pytest.raises(ValueError, match="for the array and for nothing else"):
        Step(einsum, Unit.LANE, Operation.SUM)
    with pytest.raises(ValueError, match="for the array and for nothing else"):
        Step(einsum, Unit.ARRAY)


def test_an_operation_is_bound_once_and_has_one_rank_in_time() -> None:
    step = Step(Einsum("A[m1, p] = B[m1, p]"), Unit.ARRAY, Operation.SUM)
    with pytest.raises(ValueError, match="must be bound once"):
        Cascade("twice", (step, step), "m1", ("m0", "p"))
    step = Step(Einsum("A[m1, e, f] = B[m1, e, f]"), Unit.ARRAY, Operation.SUM)
    with pytest.raises(ValueError, match="must have one rank in time, not e, f"):
        Cascade("two ranks", (step,), "m1", ("m0", "p"))


def test_named() -> None:
    assert cascade_named("attention_1pass") is ATTENTION_1PASS is cascade_named(ATTENTION_1PASS)
    assert list(CASCADES) == ["attention_1pass"]
    with pytest.raises(ValueError, match="must be one of attention_1pass or a Cascade, not 'flow'"):
        cascade_named("flow")
    with pytest.raises(TypeError, match="must be a Cascade or a name, not 3"):
        cascade_named(3)  # type: ignore[arg-type]
