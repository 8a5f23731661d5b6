#!/usr/bin/env bash
# onnx 1.23.2: the generator of its backend tests, collect_testcases(op_type), asked for two operators.
#
# Expected: the cases of the operator that is asked for.
# Seen: the second call gives the cases of the first one again. A backend that checks Attention after another operator
# in one process runs none of Attention's 93 cases, and passes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check numpy==2.4.6 ml_dtypes==0.6.0 onnx==1.23.2
for order in "Attention" "LinearAttention Attention"; do
  "$folder/venv/bin/python" - $order <<'PYTHON'
import sys
import warnings
from importlib.metadata import version

warnings.simplefilter("ignore")
from onnx.backend.test.case.node import collect_testcases

for operator in sys.argv[1:]:
    cases = [case for case in collect_testcases(operator) if "_expanded" not in case.name]
    found = {node.op_type for case in cases for node in case.model.graph.node}
    print(f"onnx {version('onnx')}: asked for {operator} after {sys.argv[1]}: {len(cases)} cases of {sorted(found)}")
alone = len(sys.argv) == 2
assert len(cases) == (93 if alone else 14), len(cases)
assert ("Attention" in found) == alone
PYTHON
done
