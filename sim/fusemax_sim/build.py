"""Simulator of a configuration: Verilog, Verilator, C++ compiler; each result cached under the digest of what it came from."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from fusemax.spec import Config

from . import toolchain
from .cache import cached
from .emission import emitted
from .errors import BuildError
from .tile_view import tile_view
from .waveform import Waveform

__all__ = ["build"]

WRAPPER = Path(__file__).parent / "verilog"
#: What a simulator with a waveform has besides.
WAVEFORM = WRAPPER / "waveform"
#: Headers of the libraries that Verilator's FST writer compresses with.
COMPRESSION = WAVEFORM / "compression"
COMPRESSION_LIBRARIES = ("lz4", "z")
TOP = "sim_top"
EXECUTABLE = "simulator"

VERILATOR_FLAGS = (
    *("--cc", "--exe", "--vpi", "--timing", "--prefix", "Vtop", "--top-module", TOP, "-o", EXECUTABLE),
    *("--timescale", "1ns/1ns"),
    *("-O3", "--x-assign", "fast", "--x-initial", "fast", "--noassert", "--output-split", "20000"),
    # It would move expressions from one instance of a module into the next: see ``control_of``.
    "-fno-dfg-scoped",
    # The device's Verilog is generated; the wrapper's warnings are looked at by its test.
    *("-Wno-fatal", "-Wno-lint", "-Wno-style"),
)
#: Declaration of a signal that has no name in the hardware's source.
NAMELESS = re.compile(r"^  (?:wire|reg) (?:\[[0-9:]+\] )?net_.*;$", re.MULTILINE)
#: Declaration of an input.
INPUT = re.compile(r"^  input (?:\[[0-9:]+\] )?(\w+) ?;", re.MULTILINE)
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


def build(config: Config, waveform: Waveform | None = None, *, verilog: Path | None = None) -> Path:
    """Find the simulator of a configuration in the cache, or build it.

    Parameters
    ----------
    config
        Configuration.
    waveform
        Build the variant that writes waveforms of this format; it is slower. It also has the decoded view of
        :mod:`fusemax_sim.tile_view`, unless ``verilog`` is given.
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
    ours = verilog is None
    if verilog is None:
        verilog = emitted(config)
    sources = sorted(verilog.glob("*.v"))
    if not sources:
        raise BuildError(f"verilog must be a directory with *.v files, not {str(verilog)!r}")
    # Of these the array has many. Compiled once and called for every instance, they are quicker to build and no slower.
    manifest = verilog / "manifest.json"
    repeated = json.loads(manifest.read_text()).get("repeated_modules", []) if manifest.is_file() else []
    flags: list[str] = []
    if waveform is not None:
        flags = waveform_flags(waveform)
        if ours:
            flags.append("+define+TILE_VIEW")
            sources.append(tile_view(config))
    variant = "" if waveform is None else f"-{waveform.format}"
    name = f"simulator-{config.name}{variant}-{simulator_digest(config, sources, repeated, flags)}"
    what = f"the simulator of {config.name} with Verilator and the C++ compiler (once; a minute or more)"
    return cached(name, lambda target: compile_simulator(config, sources, repeated, flags, target), what) / EXECUTABLE


def waveform_flags(waveform: Waveform) -> list[str]:
    """What Verilator is told besides."""
    kind = {"fst": "--trace-fst", "vcd": "--trace"}[waveform.format]
    return [kind, "+define+WAVEFORM"]


def simulator_digest(config: Config, sources: list[Path], repeated: list[str], flags: list[str]) -> str:
    """Digest of everything that the executable depends on."""
    recipe = {
        "address_bits": config.address_bits,
        "bus_bits": config.bus_bits,
        "control": control_of(repeated, sources),
        "verilator": [*VERILATOR_FLAGS, *flags],
        "make": MAKE_VARIABLES,
        "versions": toolchain.tool_versions(),
        # The executable looks for these libraries where they are now.
        "libraries": str(toolchain.cocotb_root() / "libs"),
    }
    digest = hashlib.sha256(json.dumps(recipe, sort_keys=True).encode())
    for path in (*sources, *wrapper_sources(traced=bool(flags))):
        digest.update(f"\0{path.name}\0".encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()[:32]


def wrapper_sources(*, traced: bool) -> list[Path]:
    """C++ and SystemVerilog around the device."""
    directories = (WRAPPER, WAVEFORM) if traced else (WRAPPER,)
    return [path for directory in directories for suffix in ("*.cpp", "*.sv") for path in sorted(directory.glob(suffix))]


def runtime_digest() -> str:
    """Digest of everything that Verilator's compiled runtime library depends on."""
    recipe = [VERILATOR_FLAGS, MAKE_VARIABLES, toolchain.tool_versions()]
    digest = hashlib.sha256(json.dumps(recipe, sort_keys=True).encode())
    for header in sorted(COMPRESSION.iterdir()):
        digest.update(header.read_bytes())
    return digest.hexdigest()[:32]


def compile_simulator(config: Config, sources: list[Path], repeated: list[str], flags: list[str], target: Path) -> None:
    """Translate and compile in ``target``, and leave only the executable there."""
    cxx, make = toolchain.compiler(), toolchain.make_program()
    work = target / "work"
    work.mkdir()
    environment = build_environment()
    translate(config, sources, repeated, flags, work)
    variables = {"CXX": cxx, "LINK": cxx, "PYTHON3": sys.executable, "VM_PARALLEL_BUILDS": "1", **MAKE_VARIABLES}
    command = [make, "-j", str(len(os.sched_getaffinity(0))), *(f"{name}={value}" for name, value in variables.items())]

    def compile_runtime(runtime: Path) -> None:
        (work / "runtime.mk").write_text("include Vtop.mk\nruntime: $(VK_GLOBAL_OBJS)\n")
        run([*command, "-f", "runtime.mk", "runtime"], work, environment)
        for path in work.glob("*.o"):
            path.rename(runtime / path.name)

    # Verilator's runtime library is the same for every device, traced or not: compiled once, but for the writer of waveforms
    # if the first device had none. make leaves alone what is newest.
    for path in cached(f"runtime-{runtime_digest()}", compile_runtime, "Verilator's runtime library").iterdir():
        shutil.copyfile(path, work / path.name)
    run([*command, "-f", "Vtop.mk"], work, environment)
    (work / EXECUTABLE).rename(target / EXECUTABLE)
    shutil.rmtree(work)


def build_environment() -> dict[str, str]:
    """Environment of Verilator and make: settings of a make around this one would change what the digest does not see."""
    ours = ("MAKEFLAGS", "MFLAGS", "CXXFLAGS", "CPPFLAGS", "LDFLAGS")
    kept = {key: value for key, value in os.environ.items() if key not in ours}
    return kept | {"VERILATOR_ROOT": str(toolchain.verilator_root())}


def translate(config: Config, sources: list[Path], repeated: list[str], flags: list[str], work: Path) -> None:
    """Write the simulator's C++ and its makefile to ``work``."""
    root, cocotb = toolchain.verilator_root(), toolchain.cocotb_root()
    control = work / "repeated.vlt"
    control.write_text(control_of(repeated, sources))
    libraries = cocotb / "libs"
    for header in COMPRESSION.iterdir():
        shutil.copyfile(header, work / header.name)
    if "--trace-fst" in flags:
        # The linker looks for a name that only a development package has.
        for name in COMPRESSION_LIBRARIES:
            (work / f"lib{name}.so").symlink_to(toolchain.compression_library(name))
    run(
        [
            str(root / "bin" / "verilator_bin"),
            *VERILATOR_FLAGS,
            *flags,
            f"-GADDRESS_BITS={config.address_bits}",
            f"-GBUS_BITS={config.bus_bits}",
            *("-Mdir", str(work)),
            *("-LDFLAGS", f"-L. -Wl,-rpath,{libraries} -L{libraries} -lcocotbvpi_verilator"),
            str(control),
            str(cocotb / "share" / "lib" / "verilator" / "verilator.cpp"),
            *(str(path) for path in wrapper_sources(traced=bool(flags))),
            *(str(path.resolve()) for path in (without_nameless(sources, work) if flags else sources)),
        ],
        work,
        build_environment(),
    )


def control_of(repeated: list[str], sources: list[Path]) -> str:
    """Verilator's control file that makes one code of all instances of a module.

    They are not inlined, and their inputs stay what they are: Verilator would put in what drives them, which is different in
    every instance.
    """
    lines = ["`verilator_config"]
    for name in repeated:
        lines.append(f'no_inline -module "{name}"')
        for text in (source.read_text(encoding="utf-8") for source in sources if source.stem == name):
            body = text[text.index(f"module {name}(") : text.index("endmodule", text.index(f"module {name}("))]
            lines += [f'public_flat_rd -module "{name}" -var "{port}"' for port in INPUT.findall(body)]
    return "\n".join(lines) + "\n"


def without_nameless(sources: list[Path], directory: Path) -> list[Path]:
    """Copies in which the signals that synthesis has made up (``net_12``, ``net_procmux_34_Y``) are left out of waveforms."""
    copies = []
    for source in sources:
        copies.append(directory / source.name)
        text = NAMELESS.sub(r"/*verilator tracing_off*/\g<0>/*verilator tracing_on*/", source.read_text(encoding="utf-8"))
        copies[-1].write_text(text, encoding="utf-8")
    return copies


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
