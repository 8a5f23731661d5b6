"""What the manifest says of a machine's memories is what the Verilog has; read here from the text alone."""

import json
import re
from collections import Counter
from pathlib import Path

import pytest
from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from fusemax_hw.emit import emit_component
from fusemax_hw.memory.inventory import MACRO_BITS, MACRO_WORDS, list_memories
from fusemax_hw.memory.ram import RAM_FILE, RAM_MODULE

MODULE = re.compile(r"^module (\S+?) ?[#(](.*?)^endmodule", re.MULTILINE | re.DOTALL)
INSTANCE = re.compile(r"^  (\\?fusemax\S*) +(?:#\((.*?)\) )?(\S+) +\($", re.MULTILINE | re.DOTALL)
PARAMETER = re.compile(r"\.(\w+)\(32'd(\d+)\)")
ARRAY = re.compile(r"^\s*(?:\(\*.*?\*\)\s*)?reg\s*(?:signed\s*)?(?:\[(\d+):0\])?\s*(\S+) ?\[(\d+):0\];", re.MULTILINE)
#: An assignment to an element, but for those of an ``initial`` block, which are constants.
ASSIGNED = r"^\s*(?:\w.*\s)?{name}\s*\[[^\]]*\]\s*(?:\[[^\]]*\]\s*)?<="


def modules_of(directory: Path) -> dict[str, tuple[str, str]]:
    """File's module and text of every module but ``fusemax_ram``."""
    found = {}
    for path in directory.glob("*.v"):
        if path.name != RAM_FILE:
            found |= {match[1]: (path.stem, match[2]) for match in MODULE.finditer(path.read_text())}
    return found


def memories_in_text(directory: Path, top: str = "fusemax") -> Counter:
    """How often each memory is in the machine, by file's module, path below it, kind, width and depth."""
    modules = modules_of(directory)
    found: Counter = Counter()

    def visit(name: str, path: tuple[str, ...]) -> None:
        file, text = modules[name]
        if name == file:
            path = ()
        for width, array, last in ARRAY.findall(text):
            found[file, ".".join((*path, array)), "constants", int(width or 0) + 1, int(last) + 1] += 1
        for module, parameters, instance in INSTANCE.findall(text):
            here = (*path, instance.lstrip("\\"))
            if module == RAM_MODULE:
                values = {parameter: int(value) for parameter, value in PARAMETER.findall(parameters)}
                found[file, ".".join(here), RAM_MODULE, values["WIDTH"], values["DEPTH"]] += 1
            else:
                visit(module, here)

    visit(top, ())
    return found


@pytest.mark.parametrize("name", ["tiny", "small", "base", "odd"])
def test_every_memory_that_is_written_is_a_fusemax_ram(emitted, name):
    arrays = 0
    for module, (_, text) in modules_of(emitted[name]).items():
        declared = re.findall(r"^.*\breg\b[^;=\n]*\S ?\[\d+:0\] *;", text, re.MULTILINE)
        assert len(declared) == len(ARRAY.findall(text)), module
        for _, array, last in ARRAY.findall(text):
            assert not re.search(ASSIGNED.format(name=re.escape(array)), text, re.MULTILINE), f"{array} in {module} is written"
            assert len(re.findall(rf"^    {re.escape(array)}\[\d+\] = ", text, re.MULTILINE)) == int(last) + 1
            arrays += 1
    # The tables of 2^x and of the reciprocal.
    assert arrays == 3


@pytest.mark.parametrize("name", ["tiny", "small", "base", "odd"])
def test_the_manifest_lists_what_the_text_has(emitted, name):
    manifest = json.loads((emitted[name] / "manifest.json").read_text())
    listed = Counter(
        {
            tuple(memory[field] for field in ("module", "instance", "kind", "width", "depth")): memory["count"]
            for memory in manifest["memories"]
        }
    )
    assert listed == memories_in_text(emitted[name])
    assert len(listed) == len(manifest["memories"])


def test_what_the_manifest_says_of_a_memory(emitted):
    manifest = json.loads((emitted["base"] / "manifest.json").read_text())
    assert manifest["macro_rule"] == {"bits": MACRO_BITS, "words": MACRO_WORDS}
    memories = {f"{memory['module']}.{memory['instance']}": memory for memory in manifest["memories"]}
    program = memories["fusemax.machine.core.program.memory.ram_0"]
    assert program == {
        "module": "fusemax",
        "instance": "machine.core.program.memory.ram_0",
        "kind": "fusemax_ram",
        "width": 128,
        "depth": 128,
        "write_ports": 1,
        "read_ports": 1,
        "bits": 128 * 128,
        "count": 1,
        "read_during_write": "undefined",
        "macro": True,
    }
    table = memories["fusemax_pe.slopes"]
    assert (table["count"], table["write_ports"], table["read_during_write"], table["macro"]) == (256, 0, None, False)
    # The job table is too small for a macro, a deep queue of few words too short.
    assert not memories["fusemax.machine.registers.jobs.memory.ram_0"]["macro"]
    for memory in memories.values():
        large = memory["bits"] >= MACRO_BITS and memory["depth"] >= MACRO_WORDS
        assert memory["macro"] == (large and memory["kind"] == "fusemax_ram")
        assert memory["bits"] == memory["width"] * memory["depth"]


class Holder(wiring.Component):
    """A memory with two read ports, of ``bits`` and ``depth``."""

    def __init__(self, bits: int, depth: int):
        self._bits, self._depth = bits, depth
        super().__init__({"address": In(8), "i": In(8), "o": Out(8)})

    def elaborate(self, platform) -> Module:
        m = Module()
        m.submodules.memory = memory = Memory(shape=self._bits, depth=self._depth, init=[])
        write, reads = memory.write_port(), [memory.read_port() for _ in range(2)]
        m.d.comb += [write.addr.eq(self.address), write.data.eq(self.i), write.en.eq(1)]
        m.d.comb += [*(read.addr.eq(self.address) for read in reads), self.o.eq(reads[0].data ^ reads[1].data)]
        return m


@pytest.mark.parametrize(
    ("bits", "depth", "macro"),
    [(MACRO_BITS // 16, 16, True), (MACRO_BITS // 16 - 1, 16, False), (MACRO_BITS, MACRO_WORDS - 1, False)],
)
def test_a_macro_is_a_matter_of_bits_and_words(bits, depth, macro):
    memories = list_memories(emit_component(Holder(bits, depth), "holder").parts, "holder")
    assert [(memory["instance"], memory["macro"]) for memory in memories] == [
        ("memory.ram_0", macro),
        ("memory.ram_1", macro),
    ]
