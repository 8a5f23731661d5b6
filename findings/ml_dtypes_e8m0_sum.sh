#!/usr/bin/env bash
# ml_dtypes 0.6.0 with NumPy 2.4.6: sums of e8m0 numbers, the scales of the OCP microscaling formats.
#
# Expected: the sum of the scales 1, 2, 4 is 7, rounded to a power of two; np.zeros gives the least scale everywhere.
# Seen: np.sum and np.add.reduce give NaN for every array. A reduction starts from the number 0, e8m0 has no 0, and the
# conversion of 0 gives NaN. np.zeros does not convert: its bytes are 0, which is the scale 2^-127. So np.zeros(1) and
# np.full(1, 0) differ, and neither is zero. max, min and products are right.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check numpy==2.4.6 ml_dtypes==0.6.0
"$folder/venv/bin/python" - <<'PYTHON'
from importlib.metadata import version

import numpy as np
from ml_dtypes import float8_e8m0fnu

scales = np.array([1, 2, 4], float8_e8m0fnu)
total = float(scales.sum())
pairwise = float(scales[0] + scales[1] + scales[2])
zeros = float(np.zeros(1, float8_e8m0fnu)[0])
full = float(np.full(1, 0, float8_e8m0fnu)[0])
integer = float(np.arange(1).astype(float8_e8m0fnu)[0])
print("ml_dtypes", version("ml_dtypes"), "numpy", version("numpy"))
print("sum of 1, 2, 4:", total, "| one by one:", pairwise, "| max:", float(scales.max()), "| product:", float(scales.prod()))
print("np.zeros:", zeros, "| np.full with 0:", full, "| integer 0 converted:", integer)
assert np.isnan(total) and pairwise == 8 and float(scales.max()) == 4 and float(scales.prod()) == 8
assert zeros == 2.0**-127 and np.isnan(full) and np.isnan(integer)
PYTHON
