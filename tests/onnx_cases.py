"""Cases of ONNX's own test generator for an operator: its nodes, inputs and outputs, without a model around them."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np
import pytest

__all__ = ["OnnxCase", "onnx_cases"]


@dataclass(frozen=True)
class OnnxCase:
    """A node with what goes in and what must come out.

    Members
    -------
    name
        ONNX's name of the case.
    attributes
        Of the node, those that are given.
    inputs, outputs
        Arrays by the names that the operator's specification has for them.
    """

    name: str
    attributes: dict[str, Any]
    inputs: dict[str, np.ndarray]
    outputs: dict[str, np.ndarray]


def onnx_cases(module: str, operator: str, named: tuple[tuple[str, ...], tuple[str, ...]]) -> dict[str, OnnxCase]:
    """All cases of an operator by their names; skips the test without onnx 1.23.

    Parameters
    ----------
    module
        Of ``onnx.backend.test.case.node``.
    operator
        Class of the module.
    named
        What the specification calls inputs and outputs, in order.
    """
    onnx = pytest.importorskip("onnx", "1.23", reason="onnx 1.23, whose cases these are, is not installed")
    source = import_module(f"onnx.backend.test.case.node.{module}")
    found: dict[str, OnnxCase] = {}

    def record(node: Any, inputs: Any, outputs: Any, name: str, **_: Any) -> None:
        attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
        attributes = {key: value.decode() if isinstance(value, bytes) else value for key, value in attributes.items()}
        arrays = []
        for places, names, values in zip((node.input, node.output), named, (inputs, outputs), strict=True):
            given = [what for what, edge in zip(names, places, strict=False) if edge]
            arrays.append(dict(zip(given, values, strict=True)))
        found[name] = OnnxCase(name, attributes, *arrays)

    # The generator's functions hand each case to ``expect``, which makes a model of it.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(source, "expect", record)
        cases = getattr(source, operator)
        for name in dir(cases):
            if name.startswith("export"):
                np.random.seed(0)  # noqa: NPY002, which is what the cases draw from.
                getattr(cases, name)()
    return found
