"""The machine's core description for FuseSoC (CAPI2)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..spec import INTERFACE_VERSION

__all__ = ["core_file", "core_name"]


def core_name(manifest: Mapping[str, Any]) -> str:
    """Vendor, library, name and version; the version is that of registers, descriptor and program."""
    return f"fusemax:ip:{manifest['config']['name']}:{INTERFACE_VERSION}.0.0"


def core_file(manifest: Mapping[str, Any]) -> str:
    """The text of the ``.core`` file that lies beside the Verilog.

    Target ``default`` is for cores that depend on this one; target ``lint`` runs Verilator, with all warnings.
    """
    config, top = manifest["config"], manifest["top"]
    sources = [name for name in manifest["files"] if name.endswith(".v")]
    others = [name for name in manifest["files"] if name.endswith(".vlt")]
    lines = [
        "CAPI=2:",
        "# Written by fusemax; change the generator instead.",
        f"name: {core_name(manifest)}",
        f'description: "Attention accelerator, {config["rows"]} x {config["columns"]} processing elements, AXI4 and AXI4-Lite"',
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
