"""Cascades by name and by path."""

from __future__ import annotations

from pathlib import Path

import pytest

import fusemax
from fusemax.cascade import CASCADES, cascade_named
from fusemax.cascade.catalog import DIRECTORY


def test_named(tmp_path: Path) -> None:
    assert cascade_named("attention_1pass") is fusemax.ATTENTION_1PASS is cascade_named(fusemax.ATTENTION_1PASS)
    assert next(iter(CASCADES)) == "attention_1pass"
    assert len(CASCADES) == len(list(DIRECTORY.glob("*.yaml")))
    assert "flow" not in CASCADES
    assert repr(CASCADES).startswith("<cascades attention_1pass, ")
    with pytest.raises(KeyError):
        CASCADES["flow"]
    with pytest.raises(ValueError, match=r"must be the path of a file or one of attention_1pass, .*, not 'flow'"):
        cascade_named("flow")
    with pytest.raises(TypeError, match="must be a cascade, a name or a path, not 3"):
        cascade_named(3)  # type: ignore[arg-type]
    with pytest.raises(FileNotFoundError):
        cascade_named(str(tmp_path / "none.yaml"))
