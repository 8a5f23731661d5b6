"""Timing: distances between a PE's operations follow from the stages in which registers are read."""

import pytest

from fusemax.spec import Config, Port, Timing


@pytest.mark.parametrize("latency", [2, 3, 4, 5])
def test_distances_follow_from_the_table_of_ports(latency):
    timing = Timing(Config(rows=4, columns=4, pe_latency=latency))
    for port in Port:
        # A register that is written by one word and read by the next that may: the two distances leave no slot out.
        assert timing.read_distance(port) - timing.overwrite_distance(port) == 2 * (latency - timing.read_stage(port)) - 1
        assert 0 <= timing.read_stage(port) < latency
    assert timing.read_distance(Port.HOLD) == timing.exp_to_sum == latency
    assert timing.read_distance(Port.SCORE) == 1 and timing.overwrite_distance(Port.SCORE) == 0
    assert timing.read_distance(Port.SIGN) == (2 if latency >= 3 else 1)
    assert timing.read_distance(Port.SLICE) == (latency if latency < 5 else 4)
    assert timing.overwrite_distance(Port.HOLD) == 1 - latency
