"""The page that lies beside a board's Verilog: parameters, pins, registers behind the serial line."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..spec import Config
from ..spec.export import markdown_table, memory_sections, register_sections
from .page import parameters_section, values_section

__all__ = ["board_page"]

PORTS = {
    "clk": "Clock of everything; the rising edge counts.",
    "rst": "Reset, synchronous, active high.",
    "rx": "Serial line from the host, in any phase: 8 data bits, no parity, one stop bit, the lowest bit first.",
    "tx": "Serial line to the host, likewise.",
    "busy": "Jobs are under way.",
    "error": "The machine has stopped (register ERROR_CAUSE).",
}


def board_page(manifest: Mapping[str, Any]) -> str:
    """Return the text of the page, in Markdown.

    Raises
    ------
    ValueError
        If the manifest has a port that is not known here.
    """
    fields = manifest["config"]
    config = Config(**fields)
    if unknown := [port["name"] for port in manifest["ports"] if port["name"] not in PORTS]:
        raise ValueError(f"every port must be one of {', '.join(PORTS)}, but {', '.join(unknown)} is not")
    rows = [(f"`{port['name']}`", port["direction"], f"{port['bits']}", PORTS[port["name"]]) for port in manifest["ports"]]
    lines = [
        f"# {manifest['top']}, configuration {config.name}",
        "",
        "Written by fusemax beside the Verilog; change the generator instead. "
        f"The Verilog's files together have the SHA-256 {manifest['sha256']} (`manifest.json`).",
        "",
        "The module is a machine with a memory of its own. A host reaches its registers and its memory through a serial line, "
        'with frames that the host\'s library makes (`fusemax.open("board", ...)`). `fusemax.h` has the registers for C.',
        "",
        *parameters_section(fields),
        "",
        "## Ports",
        *markdown_table(("port", "direction", "bits", "meaning"), rows),
        "",
        *register_sections(),
        *values_section(config),
        *memory_sections(),
        "",
    ]
    return "\n".join(lines)
