"""The emitted Verilog at the bus models of cocotbext-axi, which know nothing of this project: a second opinion on its ports.

Unlike the other simulators there is no wrapper: the device is the top, cocotb makes the clock, and AxiRam is the memory. The
tests themselves are in bus_models/bus_bench.py and run inside the simulator.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from fusemax.spec import CONFIGS
from fusemax_sim import build, cache, toolchain
from fusemax_sim.emission import emitted
from fusemax_sim.process import cocotb_environment

pytestmark = pytest.mark.cosim

BENCH = Path(__file__).parent / "bus_models"
CONFIG = CONFIGS["tiny"]
TOP = "fusemax"
#: Seconds for a simulation that takes a few.
TIMEOUT_S = 120
#: Options behind those of the wrapped simulators; the last one of a kind counts.
OPTIONS = ("--top-module", TOP)


def build_bare(verilog: Path) -> Path:
    """Simulator of the device alone, its ports open to cocotb; cached."""
    sources = sorted(verilog.glob("*.v"))
    manifest = json.loads((verilog / "manifest.json").read_text())
    control = [
        "`verilator_config",
        *(f'public_flat_rw -module "{TOP}" -var "{port["name"]}"' for port in manifest["ports"]),
        *(f'no_inline -module "{name}"' for name in manifest["repeated_modules"]),
    ]
    recipe = [build.simulator_digest(CONFIG, sources, [], []), OPTIONS, control]
    digest = hashlib.sha256(json.dumps(recipe).encode()).hexdigest()[:32]

    def compile_bare(target: Path) -> None:
        root, cocotb = toolchain.verilator_root(), toolchain.cocotb_root()
        work = target / "work"
        work.mkdir()
        (work / "control.vlt").write_text("\n".join(control) + "\n")
        environment = os.environ | {"VERILATOR_ROOT": str(root)}
        libraries = cocotb / "libs"
        build.run(
            [
                str(root / "bin" / "verilator_bin"),
                *build.VERILATOR_FLAGS,
                *OPTIONS,
                *("-Mdir", str(work)),
                *("-LDFLAGS", f"-Wl,-rpath,{libraries} -L{libraries} -lcocotbvpi_verilator"),
                str(work / "control.vlt"),
                str(cocotb / "share" / "lib" / "verilator" / "verilator.cpp"),
                *map(str, sources),
            ],
            work,
            environment,
        )
        cxx = toolchain.compiler()
        variables = {"CXX": cxx, "LINK": cxx, "PYTHON3": sys.executable, "VM_PARALLEL_BUILDS": "1", **build.MAKE_VARIABLES}
        # Verilator's runtime library, if another simulator has compiled it.
        for path in (cache.cache_directory() / f"runtime-{build.runtime_digest()}").glob("*.o"):
            shutil.copyfile(path, work / path.name)
        jobs = str(len(os.sched_getaffinity(0)))
        settings = [f"{name}={value}" for name, value in variables.items()]
        build.run([toolchain.make_program(), "-j", jobs, *settings, "-f", "Vtop.mk"], work, environment)
        (work / build.EXECUTABLE).rename(target / build.EXECUTABLE)
        shutil.rmtree(work)

    return cache.cached(f"bare-{CONFIG.name}-{digest}", compile_bare, "the simulator without our bench") / build.EXECUTABLE


@pytest.fixture(scope="module")
def simulator() -> Path:
    """The simulator's executable."""
    return build_bare(emitted(CONFIG))


def simulate(simulator: Path, test: str, seed: int, directory: Path) -> None:
    """Run one test of bus_bench.py; fails with the simulator's log if that does."""
    results, log = directory / "results.xml", directory / "log"
    environment = cocotb_environment()
    environment |= {
        "PYTHONPATH": os.pathsep.join((str(BENCH), environment["PYTHONPATH"])),
        "COCOTB_TOPLEVEL": TOP,
        "COCOTB_TEST_MODULES": "bus_bench",
        "COCOTB_TEST_FILTER": rf"\.{test}$",
        "COCOTB_RANDOM_SEED": str(seed),
        "COCOTB_RESULTS_FILE": str(results),
    }
    with log.open("w") as file:
        subprocess.run(
            [str(simulator)],
            cwd=directory,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            timeout=TIMEOUT_S,
            check=False,
        )
    text = log.read_text(errors="replace")
    cases = list(ElementTree.parse(results).iter("testcase")) if results.is_file() else []
    assert [case.get("name") for case in cases] == [test], text
    assert [child.tag for child in cases[0] if child.tag in ("failure", "error", "skipped")] == [], text


@pytest.mark.parametrize(
    ("test", "seed"),
    [
        *(("problems", seed) for seed in (1, 2)),
        ("unpaused", 1),
        ("faults", 1),
        ("soft_reset", 1),
        *(("registers", seed) for seed in (1, 2)),
        ("bad_descriptor", 1),
    ],
)
def test_bus_models(simulator: Path, tmp_path: Path, test: str, seed: int) -> None:
    simulate(simulator, test, seed, tmp_path)
