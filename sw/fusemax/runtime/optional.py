"""Packages that only some modules of this package need."""

from __future__ import annotations

from importlib.util import find_spec

from ..errors import MissingExtraError

__all__ = ["need"]


def need(extra: str, *packages: str) -> None:
    """Check that the packages of an extra are installed, without importing them.

    Raises
    ------
    MissingExtraError
        If one is not; the message has the command that installs it.
    """
    for package in packages:
        found = find_spec(package)
        # A folder of that name, anywhere on the path, has no file.
        if found is None or found.origin is None:
            raise MissingExtraError(f"fusemax.{extra} needs {package}, which is not installed: pip install 'fusemax[{extra}]'")
