"""The page beside the Verilog: every port, parameter and register, as they are in this machine."""

import json
import re
from dataclasses import fields, replace

import pytest

from fusemax.integration import page, write
from fusemax.model.model_transport import ModelTransport
from fusemax.spec import CONFIGS, COUNTERS, REGISTERS, Config, register


def rows(text: str, section: str) -> list[list[str]]:
    """Cells of the tables of a section, and of those in it."""
    level = len(section) - len(section.lstrip("#"))
    body = text.split(f"\n{section}\n")[1]
    body = re.split(rf"^#{{1,{level}}} ", body, flags=re.MULTILINE)[0]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in body.splitlines() if line.startswith("| `")]


def test_every_port_once_in_its_interface(manifest):
    text = page(manifest)
    ports = [(f"`{port['name']}`", port["direction"], f"{port['bits']}") for port in manifest["ports"]]
    assert sorted(tuple(row[:3]) for row in rows(text, "## Ports")) == sorted(ports)
    for prefix, section in (
        ("s_axil_", "### Registers: AXI4-Lite slave `s_axil`"),
        ("m_axi_", "### Memory: AXI4 master `m_axi`"),
    ):
        names = [row[0].strip("`") for row in rows(text, section)]
        assert sorted(names) == sorted(port["name"] for port in manifest["ports"] if port["name"].startswith(prefix))


def test_channels(manifest):
    """A port stands under the channel that it belongs to, in the order of the channels."""
    text = page(manifest)
    for channel, signals in (("write data", "data strb last valid ready"), ("read data", "id data resp last valid ready")):
        body = text.split("### Memory")[1].split(f"{channel.capitalize()} channel:")[1].split("channel:")[0]
        letter = channel[0]
        assert re.findall(r"`m_axi_(\w+)`", body) == [letter + signal for signal in signals.split()]


def test_constants_are_those_of_the_configuration(manifest):
    meanings = {row[0]: row[3] for row in rows(page(manifest), "## Ports")}
    assert meanings["`m_axi_arsize`"] == "Always 3: words of 8 bytes."
    assert meanings["`s_axil_wstrb`"] != meanings["`m_axi_wstrb`"]
    wide = replace(CONFIGS["tiny"], bus_bits=256)
    meanings = {row[0]: row[3] for row in rows(page(manifest | {"config": wide.to_dict()}), "## Ports")}
    assert meanings["`m_axi_awsize`"] == "Always 5: words of 32 bytes."


def test_memories(manifest):
    found = [[cell.strip("`") for cell in row] for row in rows(page(manifest), "## Memories")]
    names = ("module", "instance", "depth", "width", "bits")
    assert [row[:5] for row in found] == [[f"{memory[name]}" for name in names] for memory in manifest["memories"]]
    by_name = {f"{row[0]}.{row[1]}": row[5:] for row in found}
    assert by_name["fusemax_lane.states.ram_0"] == ["1 / 1", "undefined", "4", "yes"]
    assert by_name["fusemax.machine.registers.jobs.memory.ram_0"] == ["1 / 1", "undefined", "1", "no"]
    assert by_name["fusemax_pe.slopes"] == ["0 / 1", "constants", "16", "no"]
    rule = manifest["macro_rule"]
    assert f"from {rule['bits']} bits and {rule['words']} words on" in page(manifest)


def test_parameters(manifest):
    found = {row[0].strip("`"): row[1] for row in rows(page(manifest), "## Parameters")}
    assert found == {name: f"{value}" for name, value in CONFIGS["tiny"].to_dict().items()}
    assert set(found) == {field.name for field in fields(Config)}


@pytest.mark.parametrize("name", list(CONFIGS))
def test_values_are_what_the_machine_says(manifest, name):
    text = page(manifest | {"config": CONFIGS[name].to_dict()})
    found = {row[0].strip("`"): int(row[1], 0) for row in rows(text, "## Values of this configuration")}
    device = ModelTransport(CONFIGS[name], 1 << 13)
    assert found == {register_name: device.read_register(register(register_name).offset) for register_name in found}
    assert set(found) == {"SHAPE", "LIMITS", "OPTIONS"}


def test_registers_and_counters(manifest):
    text = page(manifest)
    found = {row[1].strip("`"): int(row[0].strip("`"), 0) for row in rows(text, "## Registers") if row[0].startswith("0x")}
    listed = re.findall(r"^\| (0x\w{3}) \| `(\w+)` \|", text, re.MULTILINE)
    assert [name for _, name in listed] == [entry.name for entry in REGISTERS] + [name for name, _ in COUNTERS]
    assert not found


def test_a_port_that_nobody_knows(manifest):
    ports = [*manifest["ports"], {"name": "m_axi_awuser", "bits": 1, "direction": "output"}]
    with pytest.raises(ValueError, match=r"^every port must belong to an interface of the page, but m_axi_awuser does not$"):
        page(manifest | {"ports": ports})


def test_files_are_reproducible(manifest, emitted, tmp_path):
    """From the manifest alone the same bytes, with no trace of place and time."""
    for path in write(json.loads(json.dumps(manifest)), tmp_path):
        text = path.read_bytes()
        assert text == (emitted / path.name).read_bytes()
        assert not re.search(rb"/tmp|/home|/work|20\d\d-", text), path.name
        assert b"\r" not in text
