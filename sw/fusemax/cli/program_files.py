"""The files that describe a program, which ``fusemax compile`` and ``fusemax run`` both write."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import MissingExtraError

if TYPE_CHECKING:
    from ..compiler.program import Program

__all__ = ["program_figures", "write_program"]

#: Tiles of the picture: enough to see them overlap.
TILES = 5


def program_figures(program: Program, cascade: str) -> dict[str, Any]:
    """Return what ``program.json`` says: the cascade's name, the machine, the head dims, slots a tile and peak utilisation."""
    return {
        "cascade": cascade,
        "config": program.config.to_dict(),
        "head_dim": program.e,
        "value_dim": program.f,
        "initiation_interval": program.ii,
        "stages": program.schedule.stages,
        "needs": list(program.needs),
        "fixed_reference": program.fixed_reference,
        "spare_hold": program.spare_hold,
        "feeding": asdict(program.feeding),
        "peak_utilisation": (program.e + program.f) / program.ii,
    }


def write_program(program: Program, cascade: str, directory: Path, tiles: int = TILES) -> list[Path]:
    """Write a program, its listing, its figures and a picture of its schedule, and return the files.

    The picture is left out, with a word on stderr, if matplotlib is not installed.

    Parameters
    ----------
    cascade
        Name of the cascade that the program computes.
    directory
        Created if it is not there.
    tiles
        Tiles in the picture.
    """
    directory.mkdir(parents=True, exist_ok=True)
    program_file, listing, figures, picture = (
        directory / name for name in ("program.bin", "listing.txt", "program.json", "schedule.png")
    )
    program_file.write_bytes(program.to_bytes())
    listing.write_text(program.listing(), encoding="utf-8", newline="\n")
    text = json.dumps(program_figures(program, cascade), indent=2) + "\n"
    figures.write_text(text, encoding="utf-8", newline="\n")
    written = [program_file, listing, figures]
    try:
        program.schedule.plot(picture, tiles=tiles)
        written.append(picture)
    except MissingExtraError as error:
        picture.unlink(missing_ok=True)  # One of an earlier program would be taken for this one's.
        print(f"without {picture.name}: {error}", file=sys.stderr)
    return written
