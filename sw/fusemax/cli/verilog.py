"""``fusemax verilog``: write a machine's Verilog."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from ..integration import write
from .extras import require
from .machine import add_machine, machine

__all__ = ["add"]


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "verilog",
        help="write Verilog",
        description="Write the Verilog of a configuration, its manifest, a page of its ports and registers, a FuseSoC core, "
        "and a C header and driver. Extra: hw.",
    )
    add_machine(parser, "base")
    parser.add_argument("-o", dest="directory", type=Path, metavar="DIR", help="directory; default: build/verilog/NAME")
    parser.add_argument("--json", action="store_true", help="print the manifest")
    parser.set_defaults(function=verilog)


def verilog(options: argparse.Namespace) -> int:
    config = machine(options)
    require("fusemax verilog", ["hw"])
    from fusemax_hw.emit import emit

    directory: Path = options.directory or Path("build") / "verilog" / config.name
    manifest = emit(config, directory)
    others = write(manifest, directory)
    if options.json:
        print(json.dumps(manifest, indent=2))
        return 0
    for name in manifest["files"]:
        print(f"{directory / name}  {(directory / name).stat().st_size} bytes")
    for path in (directory / "manifest.json", *others):
        print(path)
    return 0
