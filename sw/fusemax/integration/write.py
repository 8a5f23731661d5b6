"""The files beside the Verilog."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from ..spec.export import c_header
from .board_page import board_page
from .core_file import core_file, has_buses
from .page import page

__all__ = ["DRIVER_FILES", "driver_sources", "write"]

#: The driver in C; it includes the generated ``fusemax.h``.
DRIVER_FILES = ("fusemax_driver.h", "fusemax_driver.c")


def driver_sources() -> dict[str, str]:
    """Text of the generated header and of the driver's files, by name."""
    package = resources.files("fusemax.integration") / "c"
    return {"fusemax.h": c_header()} | {name: (package / name).read_text(encoding="utf-8") for name in DRIVER_FILES}


def write(manifest: Mapping[str, Any], directory: Path) -> list[Path]:
    """Write page, core file, C header and driver to the directory of the Verilog that ``manifest`` describes.

    Beside the Verilog of a board there is no driver: a processor that shares its memory with the machine runs that.

    Returns
    -------
    The files, in the order in which a reader may want to see them.
    """
    if has_buses(manifest):
        texts = {"fusemax.md": page(manifest), "fusemax.core": core_file(manifest), **driver_sources()}
    else:
        texts = {"fusemax.md": board_page(manifest), "fusemax.core": core_file(manifest), "fusemax.h": c_header()}
    for name, text in texts.items():
        (directory / name).write_text(text, encoding="utf-8", newline="\n")
    return [directory / name for name in texts]
