"""Watchdog: expires behind as many quiet cycles as it was told, and not before."""

import pytest
from bench import Bench

from fusemax_hw.control.watchdog import Watchdog


def expiries(quiet, limit):
    """Cycles in which it expires, of a sequence of quiet (1) and other (0) cycles; ``limit`` a number, or one per cycle."""
    bench, found = Bench(Watchdog(), 0), []
    limits = limit if isinstance(limit, list) else [limit] * len(quiet)
    bench.drive(bench.dut.quiet, lambda: quiet[bench.cycle])
    bench.drive(bench.dut.limit, lambda: limits[bench.cycle])
    bench.watch(bench.dut.expired, lambda expired: found.append(bench.cycle) if expired else None)
    bench.run(lambda: bench.cycle == len(quiet) - 1, len(quiet) + 1)
    return found


@pytest.mark.parametrize("limit", [1, 2, 17])
def test_expires_after_the_limit(limit):
    assert expiries([0] * 5 + [1] * 40, limit) == [5 + limit]


@pytest.mark.parametrize("limit", [2, 5])
def test_a_cycle_that_is_not_quiet_begins_anew(limit):
    spell = [1] * (limit - 1) + [0]
    assert expiries([0] * 5 + 6 * spell, limit) == []
    assert expiries([0] * 5 + 2 * spell + [1] * limit + [0] * 3, limit) == [5 + 2 * limit + limit]


def test_off():
    assert expiries([0] * 5 + [1] * 200, 0) == []


def test_another_limit_begins_anew():
    limits = [9] * 12 + [4] * 30
    (expired,) = expiries([0] * 5 + [1] * 37, limits)
    assert 12 + 4 <= expired <= 12 + 4 + 3
