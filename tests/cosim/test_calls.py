"""Calls on one device after another: shapes, programs and formats in any order, heads and batch entries in one job."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

import fusemax
from fusemax.errors import NonFiniteError, ScoreOverflowError
from fusemax_sim.problems import CYCLES_OUTSIDE, differences, draw, run

pytestmark = pytest.mark.cosim


@pytest.mark.parametrize(("config", "stall_probability"), [("tiny", 0.3), ("small", 0.0), ("odd3x5", 0.1)])
def test_random_calls_on_one_device(open_pair, config: str, stall_probability: float) -> None:
    """Every third repeats an earlier one, so that a program comes back, or only the format changes."""
    pair = open_pair(config, stall_probability=stall_probability)
    random = np.random.default_rng(5)
    seeds = [3000 + (index if index % 3 else int(random.integers(index + 1))) for index in range(24)]
    for seed in seeds:
        problem = draw(config, seed)
        assert differences(problem, run(problem, pair.rtl), run(problem, pair.model)) == [], problem


def test_every_small_length(open_pair, arrays) -> None:
    pair = open_pair(read_latency_cycles=5)
    for queries, keys in itertools.product(range(1, 10), range(1, 10)):
        pair(*arrays(queries, keys, 3, 2, seed=10 * queries + keys))


def test_every_head_dim(open_pair, arrays) -> None:
    """E up and F down, in both formats."""
    pair = open_pair("odd3x5", read_latency_cycles=1)
    for e in range(1, 65):
        pair(*arrays(6, 7, e, 65 - e, seed=e), out_dtype="float32" if e % 2 else "bfloat16")


@pytest.mark.parametrize(("e", "f"), [(576, 500), (511, 1), (1, 500), (256, 256), (513, 255)])
def test_wide_heads(open_pair, arrays, e: int, f: int) -> None:
    """Features have numbers of up to ten bits, rows have up to 288 bus words."""
    pair = open_pair("flat2x7")
    pair(*arrays(9, 5, e, f, seed=e), out_dtype="float32")
    pair(*arrays(3, 2, e, f, seed=f))


@pytest.mark.parametrize("out_dtype", ["bfloat16", "float32"])
def test_heads_and_batch_entries_are_one_job(open_pair, arrays, out_dtype: str) -> None:
    pair = open_pair("small", stall_probability=0.1)
    q, k, v = arrays(13, 21, 20, 9, leading=(2, 3))
    together = pair(q, k, v, out_dtype=out_dtype)
    assert pair.rtl.counters.jobs == 1
    for entry, head in itertools.product(range(2), range(3)):
        alone = pair(q[entry, head], k[entry, head], v[entry, head], out_dtype=out_dtype)
        np.testing.assert_array_equal(together[entry, head], alone)


def test_counters_are_of_the_latest_call(open_pair, arrays) -> None:
    pair = open_pair()
    first, second = arrays(8, 8, 4), arrays(12, 16, 6, 5)
    counted = []
    for q, k, v in (first, second, first):
        pair(q, k, v)
        counters = pair.rtl.counters
        counted.append(counters.values)
        assert pair.rtl.transport.testbench_cycles == counters.cycles + CYCLES_OUTSIDE
    # The third call finds the program of the second in the machine, the first finds none: both load it.
    assert counted[0] == counted[2] != counted[1]
    assert [values["tiles"] for values in counted] == [4, 12, 4]


def test_a_program_that_is_there_is_not_loaded_again(open_pair, arrays) -> None:
    pair = open_pair()
    first, again = ((pair(*arrays(8, 8, 4)), pair.rtl.counters) for _ in range(2))
    (result, counters), (same, quicker) = first, again
    np.testing.assert_array_equal(result, same)
    program = fusemax.compile(head_dim=4, config="tiny")
    assert counters.bytes_read - quicker.bytes_read == 8 * program.beats
    assert quicker.cycles < counters.cycles


def test_more_jobs_than_the_ring_holds(open_pair, arrays, monkeypatch: pytest.MonkeyPatch) -> None:
    q, k, v = arrays(5, 6, 8, 4, leading=(5, 7))
    pair = open_pair(stall_probability=0.1)
    expected = pair(q, k, v)
    monkeypatch.setattr("fusemax.planning.descriptors.STRIDE_LIMIT", 1)
    cut = pair(q, k, v)
    assert pair.rtl.counters.jobs == 35
    np.testing.assert_array_equal(cut, expected)


def test_scores_out_of_range_are_reported_once(open_pair, arrays) -> None:
    pair = open_pair()
    q, k, v = arrays(5, 9, 8)
    for device in (pair.rtl, pair.model):
        with pytest.raises(ScoreOverflowError, match=r"must stay within ±2\^15"):
            fusemax.attention(1000 * q, 1000 * k, v, device=device, timeout=60)
    pair(q, k, v)


@pytest.mark.parametrize("name", ["q", "k", "v"])
@pytest.mark.parametrize("number", [0x7F80, 0xFF80, 0x7FC1])
def test_the_machine_finds_what_is_not_finite(open_pair, arrays, name: str, number: int) -> None:
    """In memory, where the check of the arguments does not see it."""
    pair = open_pair()
    operands = dict(zip("qkv", arrays(6, 7, 5, 3), strict=True))
    pair(**operands)
    job = pair.job()
    # The last element of the last row.
    row, element = (5, 4) if name == "q" else (6, 4) if name == "k" else (6, 2)
    address = job[f"{name}_address"] + row * job[f"{name}_row_stride"] + 2 * element
    for device in (pair.rtl, pair.model):
        spoil_before_the_doorbell(device, address, number.to_bytes(2, "little"))
        with pytest.raises(NonFiniteError, match="the machine has read an infinity or a NaN"):
            fusemax.attention(**operands, device=device, timeout=60)
    pair(**operands)


def spoil_before_the_doorbell(device: fusemax.Device, address: int, data: bytes) -> None:
    """Overwrite memory just before the next job is started, once."""
    transport = device.transport
    original = transport.write_register

    def write_register(offset: int, value: int) -> None:
        if offset == fusemax.spec.register("RING_TAIL").offset:
            transport.memory[address : address + len(data)] = np.frombuffer(data, np.uint8)
            transport.write_register = original
        original(offset, value)

    transport.write_register = write_register
