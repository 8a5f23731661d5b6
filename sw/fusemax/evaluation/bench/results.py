"""Rows that have been measured, kept in a file."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any, Protocol

__all__ = ["Measured", "Results", "key_of"]

Row = dict[str, Any]


class Measured(Protocol):
    """What a row is about: a :class:`.case.Case`, or a point of :mod:`fusemax.evaluation.explore`."""

    def parameters(self) -> dict[str, Any]: ...


def key_of(case: Measured, digest: str) -> str:
    """Key of a row: all parameters, and the digest of what it was measured on."""
    text = json.dumps([case.parameters(), digest], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


class Results:
    """Rows by key in a JSON file, which is written anew with every row, in one step.

    Rows of a machine that has changed since have other keys: they are not found again, and :meth:`keep` drops them.

    Parameters
    ----------
    path
        The file; it need not be there.

    Raises
    ------
    ValueError
        If the file is not one that this class wrote, or is a directory.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows: dict[str, Row] = {}
        # Found now rather than after the first row has been measured.
        if path.is_dir():
            raise ValueError(f"the results must be a file, not the directory {str(path)!r}")
        if path.is_file():
            try:
                rows = json.loads(path.read_text(encoding="utf-8"))["rows"]
                self.rows = {row["key"]: row for row in rows}
            except (ValueError, KeyError, TypeError) as error:
                raise ValueError(f"{str(path)!r} must hold results of the benchmark ({error!r})") from None

    def get(self, case: Measured, digest: str) -> Row | None:
        """The row of a case that has been measured."""
        return self.rows.get(key_of(case, digest))

    def put(self, case: Measured, digest: str, row: Row) -> Row:
        """Add a row, and save."""
        key = key_of(case, digest)
        self.rows[key] = {"key": key, **row}
        self.save()
        return self.rows[key]

    def keep(self, keys: list[str]) -> None:
        """Drop all rows but these, put them in this order, and save."""
        self.rows = {key: self.rows[key] for key in keys}
        self.save()

    @property
    def _partial(self) -> Path:
        return self.path.with_name(self.path.name + ".partial")

    def check_writable(self) -> None:
        """Find out now whether rows can be saved.

        Raises
        ------
        OSError
            If they cannot.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._partial.touch()
        self._partial.unlink()

    def save(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        partial = self._partial
        lines = ",\n  ".join(json.dumps(row) for row in self.rows.values())
        partial.write_text(f'{{"rows": [\n  {lines}\n]}}\n' if lines else '{"rows": []}\n', encoding="utf-8")
        os.replace(partial, self.path)
