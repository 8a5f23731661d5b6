"""The page that lies beside a machine's Verilog: parameters, ports, clock and reset, buses, registers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..spec import Config, register
from ..spec.export import markdown_table, memory_sections, register_sections

__all__ = ["page", "parameters_section", "values_section"]

#: Ports of an interface have its prefix; those of a channel, which belong together, follow it.
INTERFACES = {
    "s_axil_": ("Registers: AXI4-Lite slave `s_axil`", ("aw", "w", "b", "ar", "r")),
    "m_axi_": ("Memory: AXI4 master `m_axi`", ("ar", "r", "aw", "w", "b")),
}
CHANNELS = {"aw": "write address", "w": "write data", "b": "write response", "ar": "read address", "r": "read data"}
ALONE = {
    "clk": "Clock of everything; the rising edge counts.",
    "rst": "Reset, synchronous, active high.",
    "irq": "Interrupt, a level: high while a pending interrupt is enabled (registers INTERRUPT, INTERRUPT_ENABLE).",
}
MEANINGS = {
    "id": "Identifier: always 0.",
    "addr": "Byte address.",
    "len": "Words of the burst, less one.",
    "lock": "Always 0: no locks.",
    "prot": "Always 0: unprivileged, secure, data.",
    "data": "Data; byte 0 is in bits 7 to 0.",
    "strb": "A bit per byte of data: the byte is written.",
    "last": "The burst's last word.",
    "resp": "Response: OKAY is 0; SLVERR 2 and DECERR 3 are errors.",
    "valid": "What is offered stands beside it, and stays until it is taken.",
    "ready": "What is offered is taken in this cycle.",
}
#: What a slave's ports mean where it is something else.
SLAVE_MEANINGS = {
    "prot": "Not looked at.",
    "strb": "Not looked at: a write is of all 32 bits.",
    "resp": "Response: always OKAY, 0.",
}
MASTER_MEANINGS = {"rid": "Not looked at.", "bid": "Not looked at."}
PARAMETERS = {
    "name": "Name of the configuration.",
    "rows": "Rows of the array: keys of a tile.",
    "columns": "Columns of the array, and lanes: queries of a tile.",
    "max_e": "Largest head dim of queries and keys.",
    "max_f": "Largest head dim of values.",
    "bus_bits": "Width of the memory's data bus.",
    "address_bits": "Width of the memory's addresses.",
    "outstanding_reads": "Read bursts that may be under way.",
    "outstanding_writes": "Write bursts that may be under way.",
    "query_tiles": "Query tiles whose state stays on chip at the largest head dims.",
    "contexts": "Score registers of a processing element.",
    "pe_latency": "Register stages of a processing element.",
    "linear": "Operation LIN, weights with a sign, fixed references.",
    "functions": "Operations SET and ADD, EXP of -|S|, a spare hold register.",
    "entropy": "Operation ENT.",
    "score_bits": "Bits of a score.",
    "score_frac_bits": "Bits of a score's fraction.",
}
#: Clock and reset, bus, memories.
BEHAVIOUR = """\
## Clock and reset

There is one clock. `rst` is high for one of its rising edges at least; every register has its reset value from power-up on,
too. The interconnect must be reset with the machine, since `rst` forgets the bursts that are under way. A reset by register
CONTROL does not: it lets them end (STATUS.draining), and may be used at any time.

## What the machine does on the memory's bus

* Bursts are INCR, of whole words of {config.bus_bytes} bytes, from an address that is a multiple of that; of 256 words at
  most; none crosses a boundary of 4096 bytes.
* Up to {config.outstanding_reads} read and {config.outstanding_writes} write bursts are under way. All have identifier 0:
  data and responses come in the order of the addresses.
* The data of a write burst are offered when its address was taken, not before: a slave must not wait for data to take an
  address.
* Reads and writes are not ordered among each other: a job is complete, and its interrupt raised, when the last of its writes
  was answered.
* Strobes are on for the bytes of the output rows. After an error the words of bursts that were begun are written with none.
* An answer of SLVERR or DECERR stops the machine (ERROR_CAUSE). It neither reads nor writes outside the windows that
  READ_WINDOW and WRITE_WINDOW set.
* Queries, keys, values, programs and descriptors must be in memory before RING_TAIL is written: where a cache lies between,
  the host writes it back before, and discards its copy of the output after.
"""
MEMORIES = """\
## Memories

Every memory that is written is an instance of the one module in `fusemax_ram.v`, whose text is replaced on silicon. It has one
port to write and one to read, on one clock; a word is there in the cycle after its address. What a read gives of a word that is
written at the same edge is undefined, and so are the contents before the first write: the machine relies on neither.

The others hold constants and are never written. They stand in the text as arrays with initial values: logic, or ROM blocks.

A macro is worth it from {bits} bits and {words} words on; smaller memories are better made of flip-flops. That is a rule of
thumb, not a measurement: the memory compiler of your process has the last word.

Where a memory stands is its module and the path of instances in it; a module that is placed many times has it as often."""


def page(manifest: Mapping[str, Any]) -> str:
    """The text of the page, in Markdown.

    Raises
    ------
    ValueError
        If a port of the manifest belongs to no interface that is known here.
    """
    fields = manifest["config"]
    config = Config(**fields)
    lines = [
        f"# {manifest['top']}, configuration {config.name}",
        "",
        "Written by fusemax beside the Verilog; change the generator instead. "
        f"The Verilog's files together have the SHA-256 {manifest['sha256']} (`manifest.json`).",
        "",
        "Module and registers are joined to a system by two AXI ports, an interrupt, a clock and a reset. "
        "`fusemax.h` has the registers for C, `fusemax_driver.h` a driver.",
        "",
        *parameters_section(fields),
        "",
        "## Ports",
    ]
    ports = {port["name"]: port for port in manifest["ports"]}
    lines += ["", "### Clock, reset, interrupt", *_table([ports.pop(name) for name in ALONE], ALONE)]
    for prefix, (title, channels) in INTERFACES.items():
        lines += ["", f"### {title}"]
        for channel in channels:
            found = _channel(ports, prefix + channel)
            meanings = {port["name"]: _meaning(config, prefix, channel, port["name"]) for port in found}
            lines += ["", f"{CHANNELS[channel].capitalize()} channel:", *_table(found, meanings)]
    if ports:
        raise ValueError(f"every port must belong to an interface of the page, but {', '.join(ports)} does not")
    lines += ["", BEHAVIOUR.format(config=config)]
    lines += _memories(manifest["memories"], manifest["macro_rule"])
    lines += register_sections()
    lines += values_section(config)
    lines += memory_sections()
    return "\n".join([*lines, ""])


def parameters_section(fields: Mapping[str, Any]) -> list[str]:
    """Return the lines of the section with the configuration's parameters."""
    return [
        "## Parameters",
        "",
        "Fixed when the Verilog was written; the module has no parameters of its own.",
        *markdown_table(
            ("parameter", "value", "meaning"), [(f"`{name}`", f"{value}", PARAMETERS[name]) for name, value in fields.items()]
        ),
    ]


def values_section(config: Config) -> list[str]:
    """Return the lines of the section with what the configuration's registers read."""
    lines = ["", "## Values of this configuration"]
    rows = []
    for name in ("SHAPE", "LIMITS", "OPTIONS"):
        layout = register(name).fields
        assert layout is not None
        values = {field.name: getattr(config, field.name) for field in layout.fields}
        rows += [
            (f"`{name}`", f"0x{layout.pack(values):08X}", ", ".join(f"{field} {value:d}" for field, value in values.items()))
        ]
    return [*lines, *markdown_table(("register", "value", "fields"), rows)]


def _memories(memories: Sequence[Mapping[str, Any]], rule: Mapping[str, int]) -> list[str]:
    rows = [
        (
            f"`{memory['module']}`",
            f"`{memory['instance']}`",
            f"{memory['depth']}",
            f"{memory['width']}",
            f"{memory['bits']}",
            f"{memory['write_ports']} / {memory['read_ports']}",
            memory["read_during_write"] or "constants",
            f"{memory['count']}",
            "yes" if memory["macro"] else "no",
        )
        for memory in memories
    ]
    total = sum(memory["bits"] * memory["count"] for memory in memories if memory["write_ports"])
    columns = (
        "module",
        "instance",
        "words",
        "bits per word",
        "bits",
        "write / read ports",
        "read during write",
        "number",
        "macro",
    )
    sentence = f"Those that are written hold {total} bits together."
    return ["", MEMORIES.format(**rule), "", sentence, *markdown_table(columns, rows)]


def _channel(ports: dict[str, Any], prefix: str) -> list[Any]:
    """Takes the channel's ports out of ``ports``: of its signals, and of no longer channel name that begins alike."""
    signals = {*MEANINGS, "size", "burst", "cache"}
    names = [name for name in ports if name.startswith(prefix) and name.removeprefix(prefix) in signals]
    return [ports.pop(name) for name in names]


def _meaning(config: Config, prefix: str, channel: str, name: str) -> str:
    signal = name.removeprefix(prefix + channel)
    if prefix == "s_axil_":
        meanings = MEANINGS | SLAVE_MEANINGS | {"addr": "Byte offset of a register."}
    else:
        size = (config.bus_bytes - 1).bit_length()
        constants = {
            "size": f"Always {size}: words of {config.bus_bytes} bytes.",
            "burst": "Always 1: INCR.",
            "cache": "Always 3: modifiable, bufferable, not allocating.",
        }
        meanings = MEANINGS | constants
        if name.removeprefix(prefix) in MASTER_MEANINGS:
            return MASTER_MEANINGS[name.removeprefix(prefix)]
    return meanings[signal]


def _table(ports: Sequence[Mapping[str, Any]], meanings: Mapping[str, str]) -> list[str]:
    rows = [(f"`{port['name']}`", port["direction"], f"{port['bits']}", meanings[port["name"]]) for port in ports]
    return markdown_table(("port", "direction", "bits", "meaning"), rows)
