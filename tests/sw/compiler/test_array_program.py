"""Programs of the array: operations, their variables in time, and what depends on what."""

from __future__ import annotations

import pytest

from fusemax.cascade import CASCADES
from fusemax.cascade.einsum_parser import parse_einsum
from fusemax.compiler.array_program import Dependence, Operation, Step, Unit
from fusemax.compiler.recognizer import recognise
from fusemax.spec import Op

ATTENTION = recognise(CASCADES["attention_1pass"])


def test_operations_and_their_variables_in_time() -> None:
    program = ATTENTION
    variables = {operation: program.time_variable(operation) for operation in program.operations}
    assert variables == {
        Operation.QK: "e",
        Operation.MAX: None,
        Operation.EXP: None,
        Operation.SUM: None,
        Operation.SLNV: "f",
    }
    assert [operation.op for operation in variables] == [Op.QK, None, Op.EXP, Op.SUM, Op.SLNV]
    assert list(program.slots(7, 5).values()) == [7, 1, 1, 1, 5]
    assert (program.tile_variable, program.space_variables) == ("m1", ("m0", "p"))


def test_dependences_follow_from_the_einsums() -> None:
    assert set(ATTENTION.dependences) == {
        Dependence(Operation.QK, Operation.MAX, False),
        Dependence(Operation.QK, Operation.EXP, False),
        Dependence(Operation.MAX, Operation.EXP, True),
        Dependence(Operation.EXP, Operation.SUM, False),
        Dependence(Operation.EXP, Operation.SLNV, False),
    }


def test_operations_belong_to_the_array() -> None:
    einsum = parse_einsum("A[m1, p] = B[m1, p]")
    with pytest.raises(ValueError, match="for the array and for nothing else"):
        Step(einsum, Unit.LANE, Operation.SUM)
    with pytest.raises(ValueError, match="for the array and for nothing else"):
        Step(einsum, Unit.ARRAY)
