"""The same bits for a query, whatever carries it: batch, heads, chunks, pages, packing, queue, parts of a call."""

from __future__ import annotations

import os
from collections.abc import Callable

import carriers
import numpy as np
import pytest
from attention_problems import MACHINES
from carriers import CARRIERS, Prompt, bits, check, from_pages, in_chunks, prompts, whole
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import fusemax
from fusemax.planning.memory_map import LEAST_MEMORY_BYTES
from fusemax.spec import Config

#: Random prompts of each way; ``make regress`` runs 2000.
PROBLEMS = max(1, int(os.environ.get("FUSEMAX_PROBLEMS", "200")) // 8)


def many(test: Callable[..., None]) -> Callable[..., None]:
    return settings(
        max_examples=PROBLEMS, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
    )(test)


@pytest.mark.parametrize("carrier", CARRIERS, ids=lambda carrier: carrier.__name__)
def test_whatever_carries_a_query(devices: dict[str, fusemax.Device], carrier) -> None:
    @many
    @given(st.sampled_from(sorted(MACHINES)), prompts(MACHINES.values()))
    def compare(config: str, prompt: Prompt) -> None:
        check(prompt, whole(devices[config], prompt), carrier, devices[config])

    compare()


def test_parts_for_which_memory_has_room(devices: dict[str, fusemax.Device]) -> None:
    """The least memory that the call fits in, part by part."""
    split = []

    @many
    @given(st.sampled_from(sorted(MACHINES)), prompts(MACHINES.values(), most=200))
    def compare(config: str, prompt: Prompt) -> None:
        expected, size = whole(devices[config], prompt), LEAST_MEMORY_BYTES
        while True:
            with fusemax.open("model", MACHINES[config], memory_bytes=size) as small:
                try:
                    check(prompt, expected, lambda device, prompt, random: whole(device, prompt), small)
                except fusemax.errors.DeviceMemoryError:
                    size += LEAST_MEMORY_BYTES // 4
                    continue
                split.append(small.counters.jobs > devices[config].counters.jobs)
                return

    compare()
    assert any(split)


def test_devices_of_as_many_rows(devices: dict[str, fusemax.Device]) -> None:
    """Columns, bus, query tiles and contexts change when things are done, and nothing else."""
    base = MACHINES["tiny"]
    others = [
        Config(name="other", rows=base.rows, columns=7, bus_bits=128, max_e=24, max_f=24),
        Config(name="another", rows=base.rows, columns=2, query_tiles=2, max_e=16, max_f=16),
    ]
    for other in others:
        with fusemax.open("model", other, memory_bytes=1 << 22) as device:

            @many
            @given(st.just(device), prompts([base, other]))
            def compare(device: fusemax.Device, prompt: Prompt) -> None:
                for ours, theirs in zip(bits(whole(device, prompt)), bits(whole(devices["tiny"], prompt)), strict=True):
                    np.testing.assert_array_equal(ours, theirs)

            compare()


def test_the_comparison_can_fail(devices: dict[str, fusemax.Device], monkeypatch) -> None:
    """Chunks with a key too few, and pages that are no multiple of the rows, where the order of sums tells."""
    many = [Prompt(seed=seed, heads=2, share=1, queries=20, keys=33, e=8, f=8) for seed in range(8)]
    prompt, device = many[0], devices["tiny"]
    expected = whole(device, prompt)
    check(prompt, expected, in_chunks, device)
    with monkeypatch.context() as patch:
        patch.setattr(Prompt, "offset", property(lambda prompt: prompt.keys - prompt.queries - 1))
        with pytest.raises(AssertionError, match="in_chunks"):
            check(prompt, expected, in_chunks, device)
    apart = carriers.scattered
    monkeypatch.setattr(carriers, "scattered", lambda device, prompt, page_size: apart(device, prompt, 3))
    with pytest.raises(AssertionError, match="from_pages"):
        for prompt in many:
            check(prompt, whole(device, prompt), from_pages, device)
