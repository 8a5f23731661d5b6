#!/usr/bin/env bash
# onnx 1.23.2's reference evaluator against ONNX Runtime 1.32.0: raw scores of Attention (opset 24) with a soft cap.
#
# Expected: with qk_matmul_output_mode 0 the fourth output is the product of queries and keys as it is; with softcap 2
# and scores 1, 2, 3 it is 1, 2, 3. ONNX Runtime gives that.
# Seen: the reference evaluator gives 2 tanh(score / 2): 0.92, 1.52, 1.81, which is mode 1. The attention itself is equal
# in both. A backend that is tested against the reference learns the wrong meaning of mode 0.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check numpy==2.4.6 ml_dtypes==0.6.0 onnx==1.23.2 onnxruntime==1.32.0
"$folder/venv/bin/python" - <<'PYTHON'
from importlib.metadata import version

import numpy as np
import onnxruntime
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

print("onnx", version("onnx"), "onnxruntime", version("onnxruntime"))
keys = np.array([[[[1], [2], [3]]]], np.float32)
feeds = {"q": np.ones((1, 1, 1, 1), np.float32), "k": keys, "v": keys}
seen = {}
for mode in (0, 1):
    node = helper.make_node(
        "Attention", ["q", "k", "v"], ["y", "", "", "qk"], softcap=2.0, scale=1.0, qk_matmul_output_mode=mode
    )
    inputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, array.shape) for name, array in feeds.items()]
    outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ("y", "qk")]
    graph = helper.make_graph([node], "attention", inputs, outputs)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 24)], ir_version=10)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    for name, (y, qk) in (("reference", ReferenceEvaluator(model).run(None, feeds)), ("runtime", session.run(None, feeds))):
        print(f"mode {mode}, {name:9}: qk {np.round(qk.ravel(), 4).tolist()}, y {np.round(y.ravel(), 4).tolist()}")
        seen[mode, name] = qk.ravel()
capped = 2 * np.tanh(keys.ravel() / 2)
assert np.allclose(seen[0, "runtime"], keys.ravel())
assert np.allclose(seen[0, "reference"], capped) and np.allclose(seen[1, "reference"], capped)
PYTHON
