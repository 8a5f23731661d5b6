"""Simulator of bridge and memory, cached like those of the machine."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from pathlib import Path

from fusemax.spec import Config

from .. import tools
from ..build import EXECUTABLE, MAKE_VARIABLES, WRAPPER, cached, run
from ..emission import emission_digest

__all__ = ["MODULE", "build_bridge"]

BENCH = Path(__file__).parent / "verilog"
#: Parts of the machine's bench that serve here as well.
SHARED = ("axi_memory.sv", "stall_source.sv", "storage.cpp")
MODULE = "fusemax_bridge"
SIZES = {"payload_bytes": 512, "receive_bytes": 4096, "send_bytes": 4096}
FLAGS = (
    *("--cc", "--exe", "--prefix", "Vtop", "--top-module", "bridge_top", "-o", EXECUTABLE),
    *("-O3", "--x-assign", "fast", "--x-initial", "fast", "--noassert", "-Wno-fatal", "-Wno-lint", "-Wno-style"),
)
#: The library of Verilator's own is not what takes the time here.
VARIABLES = MAKE_VARIABLES | {"OPT_GLOBAL": "-O0"}


def build_bridge(config: Config, *, divisor: int, memory_bytes: int, **sizes: int) -> Path:
    """Executable of the bench, built if it is not in the cache; parameters as of :class:`fusemax_hw.bridge.bridge.Bridge`.

    Raises
    ------
    BuildError
        If a tool is missing, or Verilator or the compiler fails.
    """
    parameters = {"divisor": divisor, "memory_bytes": memory_bytes, **SIZES, **sizes}
    recipe = {
        "parameters": parameters,
        "emission": emission_digest(config),
        "flags": FLAGS,
        "make": VARIABLES,
        "versions": tools.tool_versions(),
    }
    digest = hashlib.sha256(json.dumps(recipe, sort_keys=True).encode())
    for path in (*sorted(BENCH.iterdir()), *(WRAPPER / name for name in SHARED)):
        digest.update(f"\0{path.name}\0".encode())
        digest.update(path.read_bytes())
    name = f"bridge-{config.name}-{digest.hexdigest()[:32]}"
    return cached(name, lambda target: compile_bridge(config, parameters, target)) / EXECUTABLE


def compile_bridge(config: Config, parameters: dict[str, int], target: Path) -> None:
    """Emit, translate and compile in ``target``, and leave only the executable there."""
    from fusemax_hw.bridge.bridge import Bridge
    from fusemax_hw.emit import write_modules

    root = tools.verilator_root()
    work = target / "work"
    work.mkdir()
    write_modules(Bridge(config, **parameters), MODULE, config, work / "rtl")
    ours = ("MAKEFLAGS", "MFLAGS", "CXXFLAGS", "CPPFLAGS", "LDFLAGS")
    environment = {key: value for key, value in os.environ.items() if key not in ours} | {"VERILATOR_ROOT": str(root)}
    sources = [*sorted(BENCH.iterdir()), *(WRAPPER / name for name in SHARED), *sorted((work / "rtl").glob("*.v"))]
    parameters_given = (f"-GADDRESS_BITS={config.address_bits}", f"-GBUS_BITS={config.bus_bits}")
    verilator = [str(root / "bin" / "verilator_bin"), *FLAGS, *parameters_given, "-Mdir", str(work), *map(str, sources)]
    run(verilator, work, environment)
    cxx = tools.compiler()
    variables = {"CXX": cxx, "LINK": cxx, "VM_PARALLEL_BUILDS": "1", **VARIABLES}
    jobs = str(len(os.sched_getaffinity(0)))
    make = [tools.make_program(), "-j", jobs, *(f"{name}={value}" for name, value in variables.items()), "-f", "Vtop.mk"]
    run(make, work, environment)
    (work / EXECUTABLE).rename(target / EXECUTABLE)
    shutil.rmtree(work)
