#!/usr/bin/env bash
# gguf 0.19.0: MXFP4 as GGUF files have it, against the elements of the OCP microscaling specification.
#
# Expected: a block's bytes hold neighbouring elements, as ONNX packs float4 (elements 2i and 2i+1), and a number halfway
# between two codes goes to the even one, as the specification's round-to-nearest-even has it and ml_dtypes does.
# Seen: byte i of a block holds elements i and i + 16. Halfway numbers go towards zero: 0.75, 1.75 and 3.5 become 0.5, 1.5
# and 3 (ml_dtypes: 1, 2, 4). So blocks that are copied between the formats must be shuffled, and re-quantising differs.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check numpy==2.4.6 ml_dtypes==0.6.0 gguf==0.19.0
"$folder/venv/bin/python" - <<'PYTHON'
from importlib.metadata import version

import numpy as np
from gguf import GGMLQuantizationType, quants
from ml_dtypes import float4_e2m1fn

kind = GGMLQuantizationType.MXFP4
print("gguf", version("gguf"), "ml_dtypes", version("ml_dtypes"))

block = np.zeros((1, 32), np.float32)
block[0, [0, 1, 16]] = 6, 1, 2
stored = quants.quantize(block, kind)[0].tolist()
print("scale, bytes 0 and 1 of 6 (element 0), 1 (element 1), 2 (element 16):", [hex(byte) for byte in stored[:3]])
assert stored[:3] == [0x7F, 0x47, 0x02] and not any(stored[3:])

halfway = np.zeros((1, 32), np.float32)
halfway[0, :8] = 6, 0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5
gguf = quants.dequantize(quants.quantize(halfway, kind), kind)[0, :8].tolist()
even = [float(x) for x in halfway[0, :8].astype(float4_e2m1fn)]
print("halfway  ", halfway[0, :8].tolist())
print("gguf     ", gguf)
print("ml_dtypes", even)
assert gguf == [6, 0, 0.5, 1, 1.5, 2, 3, 4] and even == [6, 0, 1, 1, 2, 2, 4, 4]
PYTHON
