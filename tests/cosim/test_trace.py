"""The waveform that ``trace=FILE`` writes."""

from __future__ import annotations

import re

import pytest

pytestmark = pytest.mark.cosim


def test_the_waveform_shows_a_call(open_pair, arrays, tmp_path) -> None:
    path = tmp_path / "call.vcd"
    pair = open_pair(trace=path)
    q, k, v = arrays(5, 6, 7)
    pair(q, k, v)
    cycles = pair.rtl.transport.cycle
    pair.close()
    header, _, changes = path.read_text().partition("$enddefinitions $end")
    scopes = re.findall(r"\$scope module (\S+) \$end", header)
    assert "device" in scopes
    # Name to the code under which its changes are listed.
    codes = {name: code for code, name in re.findall(r"\$var \w+ +\d+ (\S+) (\w+)", header)}
    for name in ("clk", "rst", "irq", "m_axi_araddr", "m_axi_rdata", "m_axi_wdata", "s_axil_awaddr", "s_axil_wdata"):
        assert name in codes, name
    # The interrupt rises and is cleared.
    assert re.findall(rf"^([01]){re.escape(codes['irq'])}$", changes, re.MULTILINE) == ["0", "1", "0"]
    times = [int(time) for time in re.findall(r"^#(\d+)$", changes, re.MULTILINE)]
    assert times == sorted(times)
    assert times[-1] >= 2 * cycles
