"""Lets the tests of the hardware import what they share (bench.py); machines as they are emitted."""

import sys
from pathlib import Path

import pytest

from fusemax.spec import CONFIGS, Config

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(scope="session")
def odd() -> Config:
    """Configuration of which no size is a power of two."""
    return Config(name="odd", rows=3, columns=5, max_e=5, max_f=3, bus_bits=32, contexts=2, query_tiles=1)


@pytest.fixture(scope="session")
def emitted(tmp_path_factory, odd) -> dict[str, Path]:
    """Directories of emitted machines by name."""
    from fusemax_hw.emit import emit

    directories = {}
    for config in (*(CONFIGS[name] for name in ("tiny", "small", "base")), odd):
        directories[config.name] = tmp_path_factory.mktemp(config.name)
        emit(config, directories[config.name])
    return directories
