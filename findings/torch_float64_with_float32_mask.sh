#!/usr/bin/env bash
# torch 2.14.1, CPU: scaled_dot_product_attention of float64 tensors with a float32 attn_mask.
#
# Expected: the mask is added to the scores, whatever float type it has, or an error says that the types differ.
# Seen: without an error the result is wrong by more than 1, far from that with the same mask as float64. The MATH
# backend is right to the last bits, so it is the default one, flash attention on the CPU, that takes the mask wrongly.
# A reference in float64 beside a model's own float32 mask is then no reference.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check numpy==2.4.6 torch==2.14.1
"$folder/venv/bin/python" - <<'PYTHON'
from importlib.metadata import version

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import scaled_dot_product_attention

print("torch", version("torch"))
torch.manual_seed(0)
q, k, v = (torch.randn(1, 2, 16, 8, dtype=torch.float64) for _ in range(3))
mask = torch.randn(16, 16)
right = scaled_dot_product_attention(q, k, v, attn_mask=mask.double())
default = scaled_dot_product_attention(q, k, v, attn_mask=mask)
with sdpa_kernel(SDPBackend.MATH):
    math = scaled_dot_product_attention(q, k, v, attn_mask=mask)
errors = {name: float((found - right).abs().max()) for name, found in (("default", default), ("MATH", math))}
print("float32 mask against the same as float64, largest difference:", errors)
assert errors["default"] > 0.1 and errors["MATH"] < 1e-12
PYTHON
