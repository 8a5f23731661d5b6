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


class Emitted(dict[str, Path]):
    """Directories of emitted machines by name, each emitted when it is asked for; to be left as they are."""

    def __init__(self, odd: Config) -> None:
        super().__init__()
        self._odd = odd

    def __missing__(self, name: str) -> Path:
        from fusemax_sim.emission import emitted

        self[name] = emitted(self._odd if name == self._odd.name else CONFIGS[name])
        return self[name]


@pytest.fixture(scope="session")
def emitted(odd: Config) -> Emitted:
    return Emitted(odd)
