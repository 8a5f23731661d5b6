"""Measured rows in a file, and tables of them."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

__all__ = ["Row", "Rows", "markdown"]

Row = dict[str, Any]


class Rows:
    """Rows by name in a JSON file, written anew with every row, in one step."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows: dict[str, Row] = json.loads(path.read_text()) if path.is_file() else {}

    def put(self, name: str, row: Row) -> None:
        self.rows[name] = row
        self.path.parent.mkdir(parents=True, exist_ok=True)
        lines = ",\n".join(f"  {json.dumps(key)}: {json.dumps(value)}" for key, value in self.rows.items())
        partial_file = self.path.with_name(self.path.name + ".partial")
        partial_file.write_text(f"{{\n{lines}\n}}\n")
        os.replace(partial_file, self.path)


def markdown(header: Sequence[str], lines: Sequence[Sequence[str]], left: int = 1) -> str:
    """A table; its first columns stand to the left, the others to the right."""
    rule = ["---"] * left + ["---:"] * (len(header) - left)
    return "\n".join("| " + " | ".join(line) + " |" for line in (header, rule, *lines))
