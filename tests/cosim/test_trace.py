"""The waveform that ``trace=FILE`` writes, read back by the library that Surfer reads waveforms with."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

import fusemax
from fusemax.spec import CONFIGS, Op
from fusemax_sim.saved_view import viewed_signals
from fusemax_sim.tile_view import CORNER_STATES
from fusemax_sim.waveform_values import Values, read_waveform, signal_widths

pytestmark = pytest.mark.cosim

CONFIG = "tiny"
TUTORIAL = Path(__file__).parents[2] / "docs" / "tutorial" / "first-machine.md"
#: Three query tiles and two key tiles.
SHAPE = {"queries": 9, "keys": 6, "e": 7}


@pytest.fixture(scope="module")
def traced(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, int]]:
    """The waveform of a call, and its counters."""
    path = tmp_path_factory.mktemp("trace") / "call.fst"
    return path, call(trace=path)


def call(**options: object) -> dict[str, int]:
    """Run a call on the Verilog; its counters, and the device's cycles at the end."""
    q, k, v = (
        np.random.default_rng(seed).standard_normal((rows, SHAPE["e"]), np.float32)
        for seed, rows in enumerate((SHAPE["queries"], SHAPE["keys"], SHAPE["keys"]))
    )
    with fusemax.open("rtl", CONFIG, **options) as device:  # type: ignore[arg-type]
        fusemax.attention(q, k, v, device=device, timeout=60)
        return {**device.counters.values, "end": device.transport.cycle}


def view(path: Path, *names: str) -> Values:
    return read_waveform(path, {name: f"sim_top.tiles.{name}" for name in names}, "sim_top.clk")


def test_values_are_those_of_the_call(traced: tuple[Path, dict[str, int]]) -> None:
    path, counters = traced
    signals = {"cycle": "sim_top.cycle", "irq": "sim_top.irq", "valid": "sim_top.m_axi_wvalid", "ready": "sim_top.m_axi_wready"}
    values = read_waveform(path, {**signals, "strobe": "sim_top.m_axi_wstrb"}, "sim_top.clk")
    # One sample a cycle; reset is cycle 0.
    cycles = values["cycle"]
    assert cycles[-1] + 1 == counters["end"] and cycles == sorted(cycles)
    assert [number for number, count in Counter(cycles).items() if count > 1] == [0]
    written = sum(
        strobe.bit_count()
        for valid, ready, strobe in zip(values["valid"], values["ready"], values["strobe"], strict=True)
        if valid and ready
    )
    assert written == counters["bytes_written"] > 0
    # The interrupt rises once, and is cleared.
    edges = [after - before for before, after in zip(values["irq"], values["irq"][1:], strict=False) if after != before]
    assert edges == [1, -1]


def test_the_tile_view_is_what_the_counters_say(traced: tuple[Path, dict[str, int]]) -> None:
    path, counters = traced
    values = view(path, "operation", "operation_tile", "max", "max_tile", "newest_tile", "corner")
    operations = Counter(Op(code).name for code in values["operation"])
    for name in ("QK", "EXP", "SUM", "SLNV"):
        assert operations[name] == counters[f"slots_{name.lower()}"] > 0
    assert sum(values["max"]) == counters["slots_max"] > 0
    corner = Counter(CORNER_STATES[code] for code in values["corner"])
    assert corner["EMPTY"] == counters["slots_empty"]
    for state, counter in (("WAITS_FOR_Q", "q"), ("WAITS_FOR_K", "k"), ("WAITS_FOR_V", "v"), ("WAITS_FOR_OUTPUT", "output")):
        assert corner[state] == counters[f"stall_{counter}"]
    assert corner["WAITS_FOR_Q"] > 0
    # Every tile has the same operations, and is as old as its number says.
    assert max(number for number in values["newest_tile"] if number < 1 << 31) + 1 == counters["tiles"] == 6
    done = [
        Counter(Op(op).name for op, tile in zip(values["operation"], values["operation_tile"], strict=True) if op and tile == n)
        for n in range(6)
    ]
    assert done == [{"QK": SHAPE["e"], "EXP": 1, "SUM": 1, "SLNV": SHAPE["e"]}] * 6
    assert [tile for tile, one in zip(values["max_tile"], values["max"], strict=True) if one] == list(range(6))


def test_the_operation_is_the_one_at_the_corner(traced: tuple[Path, dict[str, int]]) -> None:
    """In the same cycle as in the word that the sequencer hands to the array."""
    from amaranth.lib import data

    from fusemax_hw.words import west_word

    path, _ = traced
    names = {"operation": "sim_top.tiles.operation", "west": "sim_top.device.machine.core.sequencer.west"}
    values = read_waveform(path, names, "sim_top.clk")
    layout = west_word(CONFIGS[CONFIG])
    assert values["operation"] == [data.Const(layout, word).control.op.value for word in values["west"]]


def test_the_fields_are_the_tiles(traced: tuple[Path, dict[str, int]]) -> None:
    """Tile 3 is the second key tile, two keys, against the first query tile; tile 2 the last query tile with one query."""
    path, _ = traced
    values = view(path, "operation", "operation_tile", "keys", "queries", "first", "last")
    fields = {
        tile: (keys, queries, first, last)
        for op, tile, keys, queries, first, last in zip(*values.values(), strict=True)
        if op == Op.QK
    }
    assert fields == {0: (4, 4, 1, 0), 1: (4, 4, 1, 0), 2: (4, 1, 1, 0), 3: (2, 4, 0, 1), 4: (2, 4, 0, 1), 5: (2, 1, 0, 1)}


def test_the_default_depth_leaves_the_array_out(traced: tuple[Path, dict[str, int]]) -> None:
    path, _ = traced
    names, core = set(signal_widths(path)), "sim_top.device.machine.core"
    edge = {name.removeprefix(f"{core}.array.") for name in names if name.startswith(f"{core}.array.")}
    assert "word" in edge and not any("." in name for name in edge)
    assert {f"{core}.sequencer.running", f"{core}.dispatcher.tail", f"{core}.reader.idle"} <= names
    assert not any(name.startswith(f"{core}.dispatcher.query_jobs.") for name in names)
    # What synthesis has made up is not shown at any depth.
    assert not any(name.rpartition(".")[2].startswith("$") for name in names)


def test_every_signal_of_the_saved_views_is_there(traced: tuple[Path, dict[str, int]]) -> None:
    path, _ = traced
    widths = signal_widths(path)
    wanted = {signal.name: signal.bits for signals in viewed_signals(CONFIGS[CONFIG]).values() for signal in signals}
    assert {name: widths.get(name) for name in wanted} == wanted
    saved = path.with_suffix(".gtkw").read_text()
    assert f'[dumpfile] "{path.name}"' in saved
    shown = re.findall(r"^(sim_top\.[^\[\n]*)(?:\[(\d+):0\])?$", saved, re.MULTILINE)
    assert {name: int(high or 0) + 1 for name, high in shown} == wanted
    commands = path.with_suffix(".sucl").read_text()
    assert re.findall(r"^variable_add (.*)$", commands, re.MULTILINE) == list(wanted)


def test_depth_and_cycles(tmp_path: Path) -> None:
    """The buses alone, for eleven cycles; the saved view names nothing that is not there."""
    path = tmp_path / "window.fst"
    call(trace=path, trace_depth=1, trace_cycles=(100, 110))
    widths = signal_widths(path)
    assert {name.count(".") for name in widths} == {1}
    assert {"sim_top.irq", "sim_top.m_axi_araddr"} <= set(widths)
    # The edge that begins cycle 100 is the first thing that is written.
    values = read_waveform(path, {"cycle": "sim_top.cycle"}, "sim_top.clk")
    assert values["cycle"][1:] == list(range(100, 110))
    assert "sim_top.device" not in path.with_suffix(".gtkw").read_text()


def test_a_saved_view_that_is_there_stays(tmp_path: Path) -> None:
    mine = tmp_path / "call.gtkw"
    mine.write_text("mine")
    call(trace=tmp_path / "call.fst", trace_depth=1)
    assert mine.read_text() == "mine"
    assert (tmp_path / "call.sucl").is_file()


def test_the_ending_chooses_the_format(traced: tuple[Path, dict[str, int]], tmp_path: Path) -> None:
    """The same values in text."""
    path = tmp_path / "call.vcd"
    call(trace=path)
    assert path.read_text().startswith("$version")
    assert view(path, "operation_tile") == view(traced[0], "operation_tile")
    assert traced[0].stat().st_size < path.stat().st_size / 5


def test_the_command_writes_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from fusemax.cli import main

    path = tmp_path / "run.fst"
    options = ["--trace", str(path), "--trace-depth", "2", "--trace-cycles", "0:50"]
    assert main(["run", "--config", CONFIG, "--heads", "1", "-o", str(tmp_path), "--json", *options]) == 0
    assert json.loads(capsys.readouterr().out)["correct"]
    names = set(signal_widths(path))
    assert "sim_top.device.irq" in names and not any(name.startswith("sim_top.device.machine") for name in names)
    assert main(["run", "--config", CONFIG, "-o", str(tmp_path), "--trace", str(tmp_path / "absent" / "run.fst")]) == 1
    assert "trace cannot be written: No such file or directory" in capsys.readouterr().err


def test_the_tutorials_tile_is_the_one_that_is_seen(tmp_path: Path) -> None:
    """Its table of tile 3, from the run that it shows."""
    rng = np.random.default_rng(1)
    q, k, v = (rng.normal(size=(length, 16)).astype(np.float32) for length in (4, 16, 16))
    path = tmp_path / "tiles.fst"
    with fusemax.open("rtl", CONFIG, trace=path) as device:
        fusemax.attention(q, k, v, device=device, timeout=60)
    values = view(path, "operation", "operation_tile", "max", "max_tile")
    seen: dict[str, list[int]] = {}
    for cycle, (operation, tile, maximum, maximum_tile) in enumerate(zip(*values.values(), strict=True)):
        if tile == 3 and operation:
            seen.setdefault(Op(operation).name, []).append(cycle)
        if maximum and maximum_tile == 3:
            seen.setdefault("max", []).append(cycle)
    start = seen["QK"][0]
    spans = {name: (cycles[0] - start, cycles[-1] - start) for name, cycles in seen.items()}
    section = (TUTORIAL.read_text(encoding="utf-8").partition("## Look at tile 3\n")[2]).partition("\n## ")[0]
    rows = re.findall(r"^\| (\d+)(?: to (\d+))? \| `?(\w+)", section, re.MULTILINE)
    assert spans == {name: (int(first), int(last or first)) for first, last, name in rows}
