"""The machine's core description for FuseSoC (CAPI2)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..spec import INTERFACE_VERSION

__all__ = ["core_file", "core_name", "has_buses"]


def core_name(manifest: Mapping[str, Any]) -> str:
    """Return vendor, library, name and version; the version is that of registers, descriptor and program.

    The library is ``ip`` for a machine, and ``board`` for what ``fusemax board build`` puts around one.
    """
    library = "ip" if has_buses(manifest) else "board"
    return f"fusemax:{library}:{manifest['config']['name']}:{INTERFACE_VERSION}.0.0"


def has_buses(manifest: Mapping[str, Any]) -> bool:
    """Tell whether the module has the machine's AXI ports; that of a board has a serial line instead."""
    return any(port["name"].startswith("m_axi_") for port in manifest["ports"])


def core_file(manifest: Mapping[str, Any]) -> str:
    """The text of the ``.core`` file that lies beside the Verilog.

    Target ``default`` is for cores that depend on this one; target ``lint`` runs Verilator, with all warnings.
    """
    config, top = manifest["config"], manifest["top"]
    interfaces = "AXI4 and AXI4-Lite" if has_buses(manifest) else "memory and serial line"
    sources = [name for name in manifest["files"] if name.endswith(".v")]
    others = [name for name in manifest["files"] if name.endswith(".vlt")]
    lines = [
        "CAPI=2:",
        "# Written by fusemax; change the generator instead.",
        f"name: {core_name(manifest)}",
        f'description: "Attention accelerator, {config["rows"]} x {config["columns"]} processing elements, {interfaces}"',
        "",
        "filesets:",
        "  rtl:",
        "    files:",
        *(f"      - {name}" for name in sources),
        "    file_type: verilogSource-2005",
        "  waivers:",
        "    files:",
        *(f"      - {name}" for name in others),
        "    file_type: vlt",
        "",
        "targets:",
        "  default: &default",
        '    filesets: ["tool_verilator? (waivers)", rtl]',
        f"    toplevel: {top}",
        "  lint:",
        "    <<: *default",
        "    description: All of Verilator's warnings",
        "    flow: lint",
        "    flow_options:",
        "      tool: verilator",
        "      verilator_options: [-Wall]",
        "    flags:",
        "      tool: verilator",
        "",
    ]
    return "\n".join(lines)
