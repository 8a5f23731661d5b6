#!/usr/bin/env bash
# onnx 1.23.2's reference evaluator against ONNX Runtime 1.32.0: Cast (opset 25) of float32 to FLOAT8E8M0 and back.
#
# Expected: e8m0 has no sign, so a negative number is an error, NaN, or the least scale, in both alike; an infinity with
# saturate=1 is the largest scale.
# Seen: -2 becomes +2 in the reference evaluator and 2^-127 in ONNX Runtime. An infinity becomes NaN in the one and 2^127
# in the other, although saturate is 1.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check numpy==2.4.6 ml_dtypes==0.6.0 onnx==1.23.2 onnxruntime==1.32.0
"$folder/venv/bin/python" - 2> /dev/null <<'PYTHON'
from importlib.metadata import version

import numpy as np
import onnxruntime
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

print("onnx", version("onnx"), "onnxruntime", version("onnxruntime"))
x = np.array([-2, np.inf, 3], np.float32)
nodes = [
    helper.make_node("Cast", ["x"], ["scale"], to=TensorProto.FLOAT8E8M0, saturate=1, round_mode="up"),
    helper.make_node("Cast", ["scale"], ["y"], to=TensorProto.FLOAT),
]
graph = helper.make_graph(
    nodes,
    "cast",
    [helper.make_tensor_value_info("x", TensorProto.FLOAT, x.shape)],
    [helper.make_tensor_value_info("y", TensorProto.FLOAT, x.shape)],
)
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 25)], ir_version=11)
session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
reference, runtime = ReferenceEvaluator(model).run(None, {"x": x})[0], session.run(None, {"x": x})[0]
print("input    ", x.tolist())
print("reference", reference.tolist())
print("runtime  ", runtime.tolist())
assert reference[0] == 2 and np.isnan(reference[1]) and reference[2] == 4
assert runtime[0] == 2.0**-127 and runtime[1] == 2.0**127 and runtime[2] == 4
PYTHON
