"""Writing a picture so that the same data gives the same file."""

from __future__ import annotations

from os import PathLike, fspath
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["save_picture"]

#: What matplotlib writes beside the picture unless it is told not to: its own version, and the date.
OMITTED: dict[str, dict[str, Any]] = {
    ".pdf": {"CreationDate": None, "Creator": None, "Producer": None},
    ".png": {"Software": None},
    ".svg": {"Creator": None, "Date": None},
}


def save_picture(figure: Figure, path: str | PathLike[str], dpi: int = 130) -> None:
    """Write a figure; the file's suffix chooses the format.

    A figure that does not belong to pyplot is drawn by matplotlib's own renderer of that format (Agg for PNG), whatever the
    environment says. Names inside an SVG follow from what is drawn rather than from chance.
    """
    import matplotlib

    with matplotlib.rc_context({"svg.hashsalt": "fusemax"}):
        figure.savefig(fspath(path), dpi=dpi, metadata=OMITTED.get(Path(path).suffix.lower()))
