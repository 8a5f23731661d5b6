"""Simulator of a configuration: Verilog, Verilator, C++ compiler; each result cached under the digest of what it came from."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from fusemax.spec import Config

from . import toolchain
from .emission import emission_digest, emit_verilog
from .errors import BuildError

__all__ = ["build", "cache_directory"]

WRAPPER = Path(__file__).parent / "verilog"
TOP = "sim_top"
EXECUTABLE = "simulator"

VERILATOR_FLAGS = (
    *("--cc", "--exe", "--vpi", "--timing", "--prefix", "Vtop", "--top-module", TOP, "-o", EXECUTABLE),
    *("--timescale", "1ns/1ns"),
    *("-O3", "--x-assign", "fast", "--x-initial", "fast", "--noassert", "--output-split", "20000"),
    # The device's Verilog is generated; the wrapper's warnings are looked at by its test.
    *("-Wno-fatal", "-Wno-lint", "-Wno-style"),
)
#: The wheel's makefile was configured for another compiler: what it left empty is given here.
MAKE_VARIABLES = {
    "OPT_FAST": "-O2",
    "OPT_SLOW": "-O0",
    "OPT_GLOBAL": "-O2",
    "CFG_CXXFLAGS_STD": "-std=gnu++20",
    "CFG_CXXFLAGS_COROUTINES": "-fcoroutines",
    "CFG_CXXFLAGS_PCH_I": "-include",
    "CFG_LDLIBS_THREADS": "-pthread",
}


def cache_directory() -> Path:
    """Where Verilog and simulators are kept: $FUSEMAX_CACHE, or fusemax in the user's cache directory."""
    if chosen := os.environ.get("FUSEMAX_CACHE"):
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "fusemax"


def build(config: Config, trace: bool = False, *, verilog: Path | None = None) -> Path:
    """Simulator of ``config``, built if it is not in the cache.

    Parameters
    ----------
    trace
        Build the variant that can write waveforms; it is slower.
    verilog
        Directory whose ``*.v`` files describe the device, instead of those that :mod:`fusemax_hw` emits for ``config``; if it
        has a ``manifest.json``, the modules named there in ``repeated_modules`` are not inlined.

    Returns
    -------
    Path of the executable.

    Raises
    ------
    BuildError
        If a tool is missing, or Verilator or the compiler fails; the message shows the end of its output.
    """
    if verilog is None:
        verilog = cached(f"verilog-{config.name}-{emission_digest(config)}", lambda target: emit_verilog(config, target))
    sources = sorted(verilog.glob("*.v"))
    if not sources:
        raise BuildError(f"verilog must be a directory with *.v files, not {str(verilog)!r}")
    # Of these the array has many. Compiled once and called for every instance, they are quicker to build and no slower.
    manifest = verilog / "manifest.json"
    repeated = json.loads(manifest.read_text()).get("repeated_modules", []) if manifest.is_file() else []
    name = f"simulator-{config.name}{'-trace' if trace else ''}-{simulator_digest(config, sources, repeated, trace)}"
    return cached(name, lambda target: compile_simulator(config, sources, repeated, trace, target)) / EXECUTABLE


def simulator_digest(config: Config, sources: list[Path], repeated: list[str], trace: bool) -> str:
    """Digest of everything that the executable depends on."""
    recipe = {
        "address_bits": config.address_bits,
        "bus_bits": config.bus_bits,
        "trace": trace,
        "repeated": repeated,
        "verilator": VERILATOR_FLAGS,
        "make": MAKE_VARIABLES,
        "versions": toolchain.tool_versions(),
        # The executable looks for these libraries where they are now.
        "libraries": str(toolchain.cocotb_root() / "libs"),
    }
    digest = hashlib.sha256(json.dumps(recipe, sort_keys=True).encode())
    for path in (*sources, *sorted(WRAPPER.iterdir())):
        digest.update(f"\0{path.name}\0".encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()[:32]


def runtime_digest() -> str:
    """Digest of everything that Verilator's compiled runtime library depends on."""
    recipe = [VERILATOR_FLAGS, MAKE_VARIABLES, toolchain.tool_versions()]
    return hashlib.sha256(json.dumps(recipe, sort_keys=True).encode()).hexdigest()[:32]


def cached(name: str, make: Callable[[Path], None]) -> Path:
    """Directory ``name`` of the cache, filled by ``make`` if it is not there.

    It appears in one step when it is complete; of several processes one makes it and the others wait.
    """
    root = cache_directory()
    target = root / name
    if target.is_dir():
        return target
    root.mkdir(parents=True, exist_ok=True)
    with locked(root / f"{name}.lock"):
        if not target.is_dir():
            partial = Path(tempfile.mkdtemp(prefix=f"{name}.", suffix=".partial", dir=root))
            try:
                make(partial)
                partial.chmod(0o755)
                partial.rename(target)
            finally:
                shutil.rmtree(partial, ignore_errors=True)
    return target


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold an exclusive lock of the file, which stays: removing it would let two holders in."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def compile_simulator(config: Config, sources: list[Path], repeated: list[str], trace: bool, target: Path) -> None:
    """Translate and compile in ``target``, and leave only the executable there."""
    root, cocotb, cxx, make = (
        toolchain.verilator_root(),
        toolchain.cocotb_root(),
        toolchain.compiler(),
        toolchain.make_program(),
    )
    work = target / "work"
    work.mkdir()
    control = work / "repeated.vlt"
    control.write_text("`verilator_config\n" + "".join(f'no_inline -module "{name}"\n' for name in repeated))
    # Settings of a make around this one would change what the digest does not see.
    ours = ("MAKEFLAGS", "MFLAGS", "CXXFLAGS", "CPPFLAGS", "LDFLAGS")
    environment = {key: value for key, value in os.environ.items() if key not in ours} | {"VERILATOR_ROOT": str(root)}
    libraries = cocotb / "libs"
    run(
        [
            str(root / "bin" / "verilator_bin"),
            *VERILATOR_FLAGS,
            *(("--trace",) if trace else ()),
            f"-GADDRESS_BITS={config.address_bits}",
            f"-GBUS_BITS={config.bus_bits}",
            *("-Mdir", str(work)),
            *("-LDFLAGS", f"-Wl,-rpath,{libraries} -L{libraries} -lcocotbvpi_verilator"),
            str(control),
            str(cocotb / "share" / "lib" / "verilator" / "verilator.cpp"),
            *(str(path) for pattern in ("*.cpp", "*.sv") for path in sorted(WRAPPER.glob(pattern))),
            *(str(path.resolve()) for path in sources),
        ],
        work,
        environment,
    )
    variables = {"CXX": cxx, "LINK": cxx, "PYTHON3": sys.executable, "VM_PARALLEL_BUILDS": "1", **MAKE_VARIABLES}
    command = [make, "-j", str(len(os.sched_getaffinity(0))), *(f"{name}={value}" for name, value in variables.items())]

    def compile_runtime(runtime: Path) -> None:
        (work / "runtime.mk").write_text("include Vtop.mk\nruntime: $(VK_GLOBAL_OBJS) verilated_vcd_c.o\n")
        run([*command, "-f", "runtime.mk", "runtime"], work, environment)
        for path in work.glob("*.o"):
            path.rename(runtime / path.name)

    # Verilator's runtime library is the same for every device, traced or not: compiled once. make leaves alone what is newest.
    for path in cached(f"runtime-{runtime_digest()}", compile_runtime).iterdir():
        shutil.copyfile(path, work / path.name)
    run([*command, "-f", "Vtop.mk"], work, environment)
    (work / EXECUTABLE).rename(target / EXECUTABLE)
    shutil.rmtree(work)


def run(command: list[str], directory: Path, environment: dict[str, str]) -> None:
    """Run a build step.

    Raises
    ------
    BuildError
        If it fails; the message shows the end of its output.
    """
    result = subprocess.run(
        command,
        cwd=directory,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    if result.returncode != 0:
        tail = "\n".join(result.stdout.splitlines()[-30:])
        raise BuildError(f"{Path(command[0]).name} failed with status {result.returncode}:\n{tail}")
