#!/usr/bin/env bash
# torch 2.14.1 and ml_dtypes 0.6.0: float32 to float8 e4m3fn, the format of quantised keys and values.
#
# Expected: e4m3fn has no infinity, and conversion gives NaN for what is not finite, as ml_dtypes does.
# Seen: torch gives 448 for an infinity and for all that is larger than 448; only NaN stays NaN. So an overflow in the
# layers before is not seen any more behind the cast, and the same tensor has NaNs where ml_dtypes (JAX, NumPy) made it.
# To e8m0, torch drops the sign of -2 and gives the least scale for 0; ml_dtypes gives NaN for both.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check numpy==2.4.6 ml_dtypes==0.6.0 torch==2.14.1
"$folder/venv/bin/python" - <<'PYTHON'
from importlib.metadata import version

import ml_dtypes
import numpy as np
import torch

print("torch", version("torch"), "ml_dtypes", version("ml_dtypes"))
seen = {}
for name, values in (("float8_e4m3fn", [464, 465, 500, np.inf, np.nan]), ("float8_e8m0fnu", [-2, 0])):
    x = np.array(values, np.float32)
    with np.errstate(invalid="ignore"):
        seen[name] = (
            torch.from_numpy(x).to(getattr(torch, name)).float().tolist(),
            x.astype(getattr(ml_dtypes, name)).astype(np.float32).tolist(),
        )
    for library, found in zip(("torch", "ml_dtypes"), seen[name], strict=True):
        print(f"{name} of {x.tolist()}: {library} {found}")
torch_seen, ml_seen = seen["float8_e4m3fn"]
assert torch_seen[:4] == [448] * 4 and np.isnan(torch_seen[4])
assert ml_seen[0] == 448 and np.isnan(ml_seen[1:]).all()
torch_seen, ml_seen = seen["float8_e8m0fnu"]
assert torch_seen == [2, 2.0**-127] and np.isnan(ml_seen).all()
PYTHON
