"""Every case of Attention that ONNX's own test generator makes, against the reference evaluator on inputs in bfloat16."""

from __future__ import annotations

import warnings
from dataclasses import replace
from functools import cache
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import fusemax
from fusemax.runtime.options import AttentionOptions
from fusemax.spec import config_named

pytest.importorskip("onnx", reason="needs the extra onnx")

from onnx.reference import ReferenceEvaluator

import fusemax.onnx

pytestmark = pytest.mark.filterwarnings("ignore")

#: Options of attention that some cases need, and not every version of this package has.
MAYBE = ("mask", "bias", "softcap", "return_scores", "return_weights")


@cache
def cases() -> dict[str, Any]:
    """The cases by name, but for those that are made of other operators."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from onnx.backend.test.case.node import collect_testcases

        return {case.name: case for case in collect_testcases("Attention") if not case.name.endswith("_expanded")}


#: Capped scores, and scores as results, need the option linear.
MACHINE = replace(config_named("small"), name="small_linear", linear=True)


@pytest.fixture(scope="module")
def device():
    with fusemax.open("model", MACHINE) as opened:
        yield opened


def rounded(name: str, array: np.ndarray) -> np.ndarray:
    """Queries, keys and values as the device sees them."""
    if name in ("Q", "K", "V", "past_key", "past_value"):
        return array.astype(np.float32).astype(ml_dtypes.bfloat16).astype(array.dtype)
    return array


def check(case: Any, device: fusemax.Device) -> None:
    names = [each.name for each in case.model.graph.input]
    for given, expected in case.data_sets:
        inputs = {name: rounded(name, array) for name, array in zip(names, given, strict=True)}
        found = fusemax.onnx.run(case.model, inputs, device)
        exact = ReferenceEvaluator(case.model).run(None, inputs)
        assert len(found) == len(expected)
        for ours, theirs, shown in zip(found, exact, expected, strict=True):
            assert (ours.shape, ours.dtype) == (shown.shape, shown.dtype)
            ours, theirs = ours.astype(np.float64), np.asarray(theirs).astype(np.float64)
            finite = np.isfinite(theirs)
            np.testing.assert_array_equal(ours[~finite], theirs[~finite])
            limit = {np.dtype(np.float32): 2e-4, np.dtype(np.float16): 2e-3}.get(shown.dtype, 8e-3)
            assert np.linalg.norm(ours[finite] - theirs[finite]) <= limit * np.linalg.norm(theirs[finite]) + 1e-7


def missing(error: BaseException | None) -> str | None:
    """The option that attention lacks, if that is why a case has failed."""
    while error is not None:
        for option in MAYBE:
            if f"unexpected keyword argument '{option}'" in str(error):
                return option
        error = error.__cause__
    return None


def test_all_cases(device: fusemax.Device) -> None:
    """Those that today's attention cannot express are refused, not computed wrongly."""
    ran, wrong, lacks = [], {}, {}
    for name, case in cases().items():
        try:
            check(case, device)
            ran.append(name)
        except AssertionError as error:
            wrong[name] = str(error)
        except TypeError as error:
            if missing(error) is None:
                raise
            lacks[name] = missing(error)
    assert len(cases()) == 93
    assert wrong == {}
    there = set(MAYBE) & {*AttentionOptions.__optional_keys__, *fusemax.attention.__annotations__}
    assert not set(lacks.values()) & there
    # All of them, or those without masks and biases.
    assert len(ran) >= (93 if there == set(MAYBE) else 48)


def test_a_model_by_path_and_bytes(device: fusemax.Device, tmp_path: Any) -> None:
    case = cases()["test_attention_4d"]
    names = [each.name for each in case.model.graph.input]
    given, (expected,) = case.data_sets[0]
    (tmp_path / "model.onnx").write_bytes(case.model.SerializeToString())
    for model in (case.model, case.model.SerializeToString(), tmp_path / "model.onnx", str(tmp_path / "model.onnx")):
        (found,) = fusemax.onnx.run(model, dict(zip(names, given, strict=True)), device)
        assert np.linalg.norm(found - expected) < 1e-2 * np.linalg.norm(expected)
    assert device.counters.tiles > 0


def test_wrong_arguments() -> None:
    case = cases()["test_attention_4d"]
    with pytest.raises(TypeError, match="device must be a Device or None, not 'model'"):
        fusemax.onnx.run(case.model, {}, "model")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"inputs must be arrays by name, not \[\]"):
        fusemax.onnx.run(case.model, [])  # type: ignore[arg-type]
