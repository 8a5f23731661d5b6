"""A machine's Verilog and what is written beside it."""

import json

import pytest

from fusemax.integration import write


@pytest.fixture(scope="session")
def emitted(tmp_path_factory):
    """Directory as `fusemax verilog --config tiny` leaves it."""
    from fusemax_hw.emit import emit

    directory = tmp_path_factory.mktemp("tiny")
    write(emit("tiny", directory), directory)
    return directory


@pytest.fixture
def manifest(emitted):
    return json.loads((emitted / "manifest.json").read_text())
