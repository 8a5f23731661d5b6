"""Model devices of every machine that random problems are drawn for."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from attention_problems import MACHINES

import fusemax


@pytest.fixture(scope="module")
def devices() -> Iterator[dict[str, fusemax.Device]]:
    opened = {name: fusemax.open("model", machine, memory_bytes=1 << 22) for name, machine in MACHINES.items()}
    yield opened
    for each in opened.values():
        each.close()
