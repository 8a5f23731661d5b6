#!/usr/bin/env bash
# ml_dtypes 0.6.0: what astype does with numbers that a narrow format has no room for.
#
# Expected: one rule for the formats of one family (OCP microscaling: e4m3fn, e2m3fn, e3m2fn, e2m1fn have no infinity).
# Seen: 500 becomes NaN in e4m3fn, but the largest number in the 6 and 4 bit formats. A NaN becomes -0 in those, and an
# infinity the largest number: a tensor with NaNs has none left after a cast, and no warning is given.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check numpy==2.4.6 ml_dtypes==0.6.0
"$folder/venv/bin/python" -W error - <<'PYTHON'
from importlib.metadata import version

import ml_dtypes
import numpy as np

print("ml_dtypes", version("ml_dtypes"))
values = np.array([500, np.inf, np.nan], np.float32)
expected = {
    "float8_e4m3fn": ["nan", "nan", "nan"],
    "float6_e2m3fn": ["7.5", "7.5", "-0.0"],
    "float6_e3m2fn": ["28.0", "28.0", "-0.0"],
    "float4_e2m1fn": ["6.0", "6.0", "-0.0"],
}
for name, wanted in expected.items():
    with np.errstate(invalid="ignore" if name == "float8_e4m3fn" else "raise"):
        seen = [str(float(x)) for x in values.astype(getattr(ml_dtypes, name))]
    print(f"{name}: 500 -> {seen[0]}, inf -> {seen[1]}, NaN -> {seen[2]}")
    assert seen == wanted, (name, seen)
PYTHON
