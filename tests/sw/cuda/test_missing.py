"""Without PyTorch or Triton the package works, and the device says what it lacks. Runs with and without them."""

from __future__ import annotations

import subprocess
import sys

import pytest

CODE = """
import sys
sys.modules[{module!r}] = None
import fusemax
from fusemax.errors import MissingExtraError
for call in (lambda: fusemax.open("cuda"), lambda: fusemax.cuda.attention):
    try:
        call()
    except MissingExtraError as error:
        print(error)
"""


@pytest.mark.parametrize("module", ["torch", "triton"])
def test_what_is_missing_is_named(module: str) -> None:
    done = subprocess.run([sys.executable, "-c", CODE.format(module=module)], check=True, capture_output=True, text=True)
    for line in done.stdout.splitlines():
        assert line in {
            f"fusemax.cuda needs {name}, which is not installed: pip install 'fusemax[cuda]'" for name in ("torch", module)
        }
    assert len(done.stdout.splitlines()) == 2
