"""What importing the package brings along."""

from __future__ import annotations

import subprocess
import sys

CODE = """
import sys, time
import numpy, ml_dtypes
start = time.process_time()
import fusemax
taken = time.process_time() - start
heavy = {"amaranth", "matplotlib", "cocotb", "rich", "fusemax_hw", "fusemax_sim"} & set(sys.modules)
print(taken, *sorted(heavy))
"""


def test_import_is_light_and_quick() -> None:
    taken, *heavy = subprocess.run([sys.executable, "-c", CODE], check=True, capture_output=True, text=True).stdout.split()
    assert heavy == []
    assert float(taken) < 0.3
