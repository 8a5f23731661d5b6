"""A machine's Verilog and what is written beside it."""

import json
import shutil

import pytest

from fusemax.integration import write
from fusemax.spec import CONFIGS


@pytest.fixture(scope="session")
def emitted(tmp_path_factory):
    """Directory as `fusemax verilog --config tiny` leaves it."""
    from fusemax_sim.emission import emitted as emitted_machine

    directory = tmp_path_factory.mktemp("machine") / "tiny"
    shutil.copytree(emitted_machine(CONFIGS["tiny"]), directory)
    write(json.loads((directory / "manifest.json").read_text()), directory)
    return directory


@pytest.fixture
def manifest(emitted):
    return json.loads((emitted / "manifest.json").read_text())
