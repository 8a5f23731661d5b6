"""Timing and data of the simulated memory, seen by the stand-in's own counters and by the host."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from fusemax_sim import Failure

pytestmark = pytest.mark.cosim

#: Opens a conftest.Copier.
Open = Callable[..., Any]

#: Fits the stand-in's buffer, so that the memory alone sets the pace.
WORDS = 200


@pytest.mark.parametrize("stall_probability", [0.0, 0.3, 0.9])
@pytest.mark.parametrize(("words", "source", "target"), [(1, 0, 1 << 19), (999, 4088, (1 << 19) + 2040)])
def test_copies_are_right_with_and_without_stalls(
    open_copier: Open, stall_probability: float, words: int, source: int, target: int
) -> None:
    copier = open_copier(stall_probability=stall_probability, seed=7)
    untouched = np.random.default_rng(2).integers(0, 256, 1 << 20, dtype=np.uint8)
    copier.device.memory[:] = untouched
    assert copier.copy(words, source, target)
    assert copier["status"] == 1
    expected = untouched.copy()
    expected[source : source + 8 * words] = copier.device.memory[source : source + 8 * words]
    expected[target : target + 8 * words] = expected[source : source + 8 * words]
    assert (copier.device.memory == expected).all()


@pytest.mark.parametrize("latency", [1, 2, 60, 1000])
def test_latency_is_exact(open_copier: Open, latency: int) -> None:
    copier = open_copier(read_latency_cycles=latency)
    assert copier.copy(WORDS)
    assert copier["read_latency"] == latency
    assert copier["write_latency"] == latency


@pytest.mark.parametrize("interval", [1, 2, 4])
def test_bandwidth_is_a_beat_per_interval(open_copier: Open, interval: int) -> None:
    copier = open_copier(beat_interval_cycles=interval)
    assert copier.copy(WORDS)
    assert copier["read_span"] == (WORDS - 1) * interval
    # Writing needs as long again, less what overlaps.
    assert copier.device.testbench_cycles >= 60 + WORDS * interval


def test_outstanding_bursts_are_bounded(open_copier: Open) -> None:
    many, few = open_copier(), open_copier(outstanding_bursts=2)
    assert many.copy(WORDS)
    assert many["most_reads"] == 8
    assert few.copy(WORDS)
    # Two bursts of 16 words and a third whose address is not yet taken, in about a latency.
    assert few["most_reads"] == 3
    assert few["read_span"] > many["read_span"] + 4 * 30


def test_stalls_follow_the_seed(open_copier: Open) -> None:
    def cycles(seed: int) -> int:
        copier = open_copier(stall_probability=0.3, seed=seed)
        assert copier.copy(WORDS)
        return copier.device.testbench_cycles

    first = cycles(1)
    assert cycles(1) == first
    assert cycles(2) != first


def test_stalls_are_as_frequent_as_asked(open_copier: Open) -> None:
    copier = open_copier(stall_probability=0.5)
    assert copier.copy(20000, 0, 1 << 18, seed=4)
    # A beat takes two cycles on average; the standard deviation of the mean is below 0.5 %.
    assert copier["read_span"] / 20000 > 1.9


def test_strobes_select_bytes(open_copier: Open) -> None:
    copier = open_copier()
    copier["strobe"] = 0b10010110
    copier.device.memory[:] = 0xEE
    copier.start(4)
    copier.device.wait_interrupt(20)
    source, target = (copier.device.memory[base : base + 32].reshape(4, 8) for base in (0, copier.TARGET))
    written = np.array([0, 1, 1, 0, 1, 0, 0, 1], dtype=bool)
    assert (target[:, written] == source[:, written]).all()
    assert (target[:, ~written] == 0xEE).all()


@pytest.mark.parametrize(
    ("properties", "source", "target"),
    [
        ({"read_errors": (80, 88)}, 0, 1 << 19),
        ({"write_errors": ((1 << 19) + 80, (1 << 19) + 81)}, 0, 1 << 19),
        ({}, (1 << 20) - 64, 0),
        ({}, 0, (1 << 20) - 64),
        ({}, 1 << 30, 0),
    ],
)
def test_errors_are_answered(open_copier: Open, properties: dict[str, tuple[int, int]], source: int, target: int) -> None:
    copier = open_copier(**properties)
    copier.start(16, source, target)
    copier.device.wait_interrupt(20)
    assert copier["status"] == 3


def test_a_failed_write_changes_nothing(open_copier: Open) -> None:
    copier = open_copier(write_errors=((1 << 19) + 80, (1 << 19) + 88), read_errors=(0, 8))
    assert not copier.copy(16)
    target = copier.device.memory[1 << 19 :][:128]
    assert (target[80:88] == 0).all()
    assert (target[:8] == 0xFF).all()  # What a failed read delivers.
    assert (target[8:80] == copier.device.memory[8:80]).all()


def test_error_windows_elsewhere_do_not_matter(open_copier: Open) -> None:
    copier = open_copier(read_errors=(128, 1 << 20), write_errors=(0, 1 << 19))
    assert copier.copy(16)
    assert copier["status"] == 1


@pytest.mark.parametrize(("failure", "base"), [(Failure.READ_ERROR, 0), (Failure.WRITE_ERROR, 1 << 19)])
@pytest.mark.parametrize("decode_error", [False, True])
def test_an_error_at_the_nth_word(open_copier: Open, failure: Failure, base: int, decode_error: bool) -> None:
    copier = open_copier()
    copier.device.memory[1 << 19 :] = 0xEE
    copier.device.fail(failure, 10, decode_error=decode_error)
    assert not copier.copy(16)
    assert copier["status"] == 3
    expected = copier.device.memory[: 8 * 16].copy()
    expected[80:88] = 0xFF if failure is Failure.READ_ERROR else 0xEE
    assert (copier.device.memory[1 << 19 :][: 8 * 16] == expected).all()


@pytest.mark.parametrize(
    "failure",
    [Failure.READ_SILENT, Failure.WRITE_SILENT, Failure.READ_CLOSED, Failure.WRITE_CLOSED],
    ids=lambda value: value.name,
)
def test_a_memory_that_stops_and_goes_on(open_copier: Open, failure: Failure) -> None:
    copier = open_copier()
    copier.device.fail(failure, 3)
    copier.start(WORDS)
    copier.device.step(3000)
    assert not copier.device.interrupt
    copier.device.fail(Failure.NONE)
    copier.device.wait_interrupt(20)
    source, target = (copier.device.memory[base : base + 8 * WORDS] for base in (0, copier.TARGET))
    assert (source == target).all()
