"""Attention of two heads on the bit-exact model, and the error of the result."""

import ml_dtypes
import numpy as np

import fusemax
from fusemax.evaluation import exact

# (heads, queries or keys, head dim). The device works on bfloat16; float32 would be rounded.
q = np.random.default_rng(1).standard_normal((2, 50, 32)).astype(ml_dtypes.bfloat16)
k = np.random.default_rng(2).standard_normal((2, 70, 32)).astype(ml_dtypes.bfloat16)
v = np.random.default_rng(3).standard_normal((2, 70, 48)).astype(ml_dtypes.bfloat16)

with fusemax.open("model", config="small") as device:
    result = fusemax.attention(q, k, v, device=device, out_dtype="float32")
    print(f"{result.shape} in {device.counters.cycles} cycles")

print(f"relative error {exact.relative_error(result, exact.attention(q, k, v)):.1e}")
