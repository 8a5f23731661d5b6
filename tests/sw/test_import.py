"""What importing the package brings along."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

CODE = """
import sys, time
first = time.process_time()
import numpy, ml_dtypes
start = time.process_time()
import fusemax
taken = (time.process_time() - start) / (start - first)
heavy = {"amaranth", "matplotlib", "cocotb", "rich", "fusemax_hw", "fusemax_sim", "torch", "triton"} & set(sys.modules)
print(taken, *sorted(heavy))
"""


def test_import_is_light_and_quick(tmp_path: Path) -> None:
    """Less than twice NumPy's time, as a user sees it from the second time on: compiling the sources takes as long again."""
    environment = {**os.environ, "PYTHONPYCACHEPREFIX": str(tmp_path)}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    times = []
    for _ in range(4):
        command = [sys.executable, "-c", CODE]
        printed = subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout
        taken, *heavy = printed.split()
        assert heavy == []
        times.append(float(taken))
    assert min(times) < 2


def test_importing_reads_no_cascade() -> None:
    code = "import fusemax; from fusemax.cascade import catalog; print(catalog.shipped.cache_info().currsize)"
    assert subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout == "0\n"
