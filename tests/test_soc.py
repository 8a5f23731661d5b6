"""The example of a system in plain Verilog: its memory ends as the model's."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from fusemax.spec import CONFIGS
from fusemax_sim.emission import emitted

SOC = Path(__file__).parent.parent / "examples" / "soc"


@pytest.mark.cosim
def test_memory_ends_as_the_models(tmp_path):
    command = [sys.executable, "-W", "error", str(SOC / "run.py"), "-o", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    first, second = done.stdout.splitlines()
    assert first.startswith("done after ")
    assert second == "memory is as the model's, byte for byte"
    # The result was written by the machine: it was not in the image.
    before, after = ((tmp_path / name).read_text().split() for name in ("memory.hex", "memory_after.hex"))
    changed = [index for index, (one, other) in enumerate(zip(before, after[-len(before) :], strict=True)) if one != other]
    assert len(changed) == 2 * 7 * 16 * 4 // 8


@pytest.mark.tools
@pytest.mark.parametrize("options", ["", "--keys 1", "--keys 3", "--keys 7 --query-heads 4"])
def test_no_unknown_bit_gets_out(tmp_path: Path, options: str) -> None:
    """Four states: registers and memories begin as X, which a reset and the first writes must have cleared where it counts."""
    if shutil.which("iverilog") is None:
        pytest.skip("Icarus Verilog is not installed (Debian: iverilog)")
    command = [sys.executable, "-W", "error", str(SOC / "run.py"), "-o", str(tmp_path), "--simulator", "icarus"]
    command += ["--verilog", str(emitted(CONFIGS["tiny"]))]
    done = subprocess.run([*command, *options.split()], capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[1] == "memory is as the model's, byte for byte"
