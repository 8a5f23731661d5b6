"""Simulators whose main program is C++ of their own, without cocotb; cached like those of the machine."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from fusemax.spec import Config

from . import toolchain
from .build import EXECUTABLE, MAKE_VARIABLES, run
from .cache import cached
from .emission import SYSTEM, emission_digest
from .plain_paths import PlainPaths

__all__ = ["LINE", "build_cpp_testbench"]

#: Header of the serial line with noise.
LINE = Path(__file__).parent / "bridge" / "line"
FLAGS = (
    *("--cc", "--exe", "--prefix", "Vtop", "-o", EXECUTABLE, "--output-split", "20000"),
    *("-O3", "--x-assign", "fast", "--x-initial", "fast", "--noassert", "-Wno-fatal", "-Wno-lint", "-Wno-style"),
)
#: The library of Verilator's own is not what takes the time here.
VARIABLES = MAKE_VARIABLES | {"OPT_GLOBAL": "-O0"}


def build_cpp_testbench(
    name: str,
    config: Config,
    parameters: Mapping[str, Any],
    write_rtl: Callable[[Path], Mapping[str, Any]],
    sources: Sequence[Path],
    *arguments: str,
) -> Path:
    """Executable, built if it is not in the cache.

    Parameters
    ----------
    name
        In front of the configuration's in the cache.
    config, parameters
        What the hardware is made from.
    write_rtl
        Writes the Verilog of the hardware to a directory and returns its manifest.
    sources
        C++ and SystemVerilog around it.
    arguments
        Of Verilator: the top module, parameters.

    Raises
    ------
    BuildError
        If a tool is missing, or Verilator or the compiler fails.
    """
    recipe = {
        "parameters": dict(parameters),
        "emission": emission_digest(config, SYSTEM),
        "flags": [*FLAGS, *arguments],
        "make": VARIABLES,
        "versions": toolchain.tool_versions(),
    }
    digest = hashlib.sha256(json.dumps(recipe, sort_keys=True).encode())
    for path in (*sources, *sorted(LINE.iterdir())):
        digest.update(f"\0{path.name}\0".encode())
        digest.update(path.read_bytes())
    what = f"the simulator of the {name} with {config.name} (once; a minute or more)"
    name = f"{name}-{config.name}-{digest.hexdigest()[:32]}"
    return cached(name, lambda target: compile_cpp_testbench(write_rtl, sources, arguments, target), what) / EXECUTABLE


def compile_cpp_testbench(
    write_rtl: Callable[[Path], Mapping[str, Any]], sources: Sequence[Path], arguments: Sequence[str], target: Path
) -> None:
    """Emit, translate and compile in ``target``, and leave only the executable there."""
    with PlainPaths() as plain:
        work = plain.workplace(target / "work")
        compile_in(write_rtl, sources, arguments, work, plain)
        shutil.move(work / EXECUTABLE, target / EXECUTABLE)
        shutil.rmtree(work)


def compile_in(
    write_rtl: Callable[[Path], Mapping[str, Any]],
    sources: Sequence[Path],
    arguments: Sequence[str],
    work: Path,
    plain: PlainPaths,
) -> None:
    """Emit, translate and compile in a directory, with names of paths that make takes."""
    root = plain(toolchain.verilator_root())
    flags = (*FLAGS, "-CFLAGS", f"-I{plain(LINE)}")
    manifest = write_rtl(work / "rtl")
    control = work / "repeated.vlt"
    control.write_text(
        "`verilator_config\n" + "".join(f'no_inline -module "{name}"\n' for name in manifest["repeated_modules"])
    )
    ours = ("MAKEFLAGS", "MFLAGS", "CXXFLAGS", "CPPFLAGS", "LDFLAGS")
    environment = {key: value for key, value in os.environ.items() if key not in ours} | {"VERILATOR_ROOT": str(root)}
    texts = [control, *(plain(path.parent) / path.name for path in sources), *sorted((work / "rtl").glob("*.v"))]
    run(
        [str(root / "bin" / "verilator_bin"), *flags, *arguments, "-Mdir", str(work), *map(str, texts)],
        work,
        environment,
    )
    cxx = toolchain.compiler()
    variables = {"CXX": cxx, "LINK": cxx, "VM_PARALLEL_BUILDS": "1", **VARIABLES}
    jobs = str(len(os.sched_getaffinity(0)))
    make = [toolchain.make_program(), "-j", jobs, *(f"{name}={value}" for name, value in variables.items()), "-f", "Vtop.mk"]
    run(make, work, environment)
