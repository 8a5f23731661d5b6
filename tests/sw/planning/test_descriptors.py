"""Jobs of a call: what they cover, and that the machine takes them."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fusemax
from fusemax.model.descriptor_check import is_valid
from fusemax.model.tiles import issued_tiles
from fusemax.planning.descriptors import Job, cut_jobs, describe, plan
from fusemax.planning.masks import UNBOUNDED, Mask
from fusemax.planning.memory_map import Buffer, Shape, place_arrays
from fusemax.spec import Descriptor
from fusemax_sim.problems import CONFIGS

MACHINES = {
    **{name: CONFIGS[name] for name in ("tiny", "small")},
    "odd3x5 with 2 query tiles": replace(CONFIGS["odd3x5"], query_tiles=2),
    # A bus of 32 bits does not write states, whose words have 64.
    "flat2x7 with a bus of 64 bits": replace(CONFIGS["flat2x7"], bus_bits=64),
}


class Paged(Buffer):
    """Keys in runs of ``size``, apart from each other."""

    size_of_run = 6
    batch_stride = None

    def __init__(self) -> None:
        super().__init__(1 << 16, 16, 0, 1 << 14, 0, 0)

    def runs(self, entry: int, keys: int) -> list[tuple[int, int]]:
        return [(start, min(start + self.size_of_run, keys)) for start in range(0, keys, self.size_of_run)]


Paged.batch_stride = None  # type: ignore[assignment]


@st.composite
def calls(draw: st.DrawFn):
    shape = Shape(
        batch=draw(st.integers(1, 3)),
        heads=draw(st.integers(1, 2)),
        share=draw(st.sampled_from([1, 1, 2, 3, 5, 24])),
        queries=draw(st.integers(1, 30)),
        keys=draw(st.integers(1, 30)),
        e=draw(st.integers(1, 16)),
        f=draw(st.integers(1, 16)),
        out_dtype=draw(st.sampled_from(["bfloat16", "float32"])),
        row_scale=draw(st.booleans()),
        state_out=draw(st.booleans()),
    )
    entry = st.integers(0, shape.keys)
    mask = Mask(
        left=draw(st.one_of(st.none(), st.integers(0, 8))),
        right=draw(st.one_of(st.none(), st.integers(0, 8))),
        offsets=tuple(draw(st.lists(st.integers(-20, 20), min_size=shape.batch, max_size=shape.batch))),
        key_lengths=draw(st.one_of(st.none(), st.lists(entry, min_size=shape.batch, max_size=shape.batch).map(tuple))),
        prefixes=draw(st.one_of(st.just((0,)), st.lists(entry, min_size=shape.batch, max_size=shape.batch).map(tuple))),
    )
    return MACHINES[draw(st.sampled_from(sorted(MACHINES)))], shape, mask, draw(st.booleans())


def visible(shape: Shape, mask: Mask, entry: int, position: int) -> set[int]:
    one = mask.entries(shape.batch, shape.keys)[entry]
    return {key for key in range(one.keys) if one.lo + position <= key < one.hi + position or key < one.prefix}


def job_keys(job: Job, position: int) -> set[int]:
    """Keys of the sequence that a position of the call sees in a job."""
    place = position - job.positions[0]
    return {key for key in range(*job.keys) if job.lo + place <= key - job.keys[0] < job.hi + place}


@settings(max_examples=300, deadline=None)
@given(calls())
def test_every_query_sees_its_keys_once(call) -> None:
    config, shape, mask, paged = call
    buffers = place_arrays(config, shape, 0)
    if paged:
        buffers |= {"k": Paged(), "v": Paged()}
    done: dict[tuple[int, int, int, int], list[int]] = {}
    jobs = list(plan(config, shape, buffers, mask))
    for job in jobs:
        for entry, head, share, position in product(*(range(*r) for r in (job.batch, job.heads, job.share, job.positions))):
            keys = done.setdefault((entry, head, share, position), [])
            keys += sorted(job_keys(job, position))
        seen = set().union(*(job_keys(job, position) for position in range(*job.positions)))
        tiles = {(key - job.keys[0]) // config.rows for key in seen}
        assert paged or job.continues or job.continued or tiles == set(range(-(-(job.keys[1] - job.keys[0]) // config.rows)))
        # Tiles are where they would be if all keys were there.
        assert (job.keys[0] % (Paged.size_of_run if paged else shape.keys)) % config.rows == 0 or job.keys[0] == 0
    for entry, head, share, position in product(*map(range, (shape.batch, shape.heads, shape.share, shape.queries))):
        keys = done.get((entry, head, share, position), [])
        assert keys == sorted(visible(shape, mask, entry, position))


@settings(max_examples=150, deadline=None)
@given(calls(), st.integers(0, 99), st.sampled_from([0.1, 0.3, 0.7]), st.integers(1, 9), st.booleans())
def test_tiles_that_nobody_sees_are_left_out(call, seed: int, share: float, block: int, of_all: bool) -> None:
    """Each query has all its keys of tiles that somebody sees, once and in order, and none that its window does not have."""
    config, shape, mask, _ = call
    key_tiles = -(-shape.keys // config.rows)
    blocks = np.random.default_rng(seed).random((-(-shape.queries // block), key_tiles)) < share
    seen = blocks[:1] if of_all else blocks.repeat(block, axis=0)[: shape.queries]
    done: dict[tuple[int, int, int, int], list[int]] = {}
    for job in plan(config, shape, place_arrays(config, shape, 0), mask, seen_tiles=seen):
        for entry, head, share_of, position in product(*(range(*r) for r in (job.batch, job.heads, job.share, job.positions))):
            done.setdefault((entry, head, share_of, position), []).extend(sorted(job_keys(job, position)))
    for entry, head, share_of, position in product(*map(range, (shape.batch, shape.heads, shape.share, shape.queries))):
        keys = done.get((entry, head, share_of, position), [])
        in_window = visible(shape, mask, entry, position)
        row = seen[0 if of_all else position]
        assert keys == sorted(set(keys))
        assert {key for key in in_window if row[key // config.rows]} <= set(keys) <= in_window


def test_documents_in_a_row_are_as_cheap_as_apart() -> None:
    """A mask of eight documents needs an eighth of the tiles; one of single keys here and there needs them all."""
    machine = CONFIGS["small"]
    shape = Shape(batch=1, heads=3, share=1, queries=256, keys=256, e=8, f=8)
    buffers = place_arrays(machine, shape, 4096)
    program = fusemax.compile(head_dim=8, value_dim=8, config=machine)
    documents = np.repeat(np.arange(8), 32)[:, None] == np.repeat(np.arange(8), 32)[:: machine.rows]

    def tiles(seen: np.ndarray | None) -> int:
        jobs = describe(machine, shape, program, 4096, buffers, seen_tiles=seen)
        return sum(issued_tiles(machine, job) * job.heads for job in jobs)

    assert tiles(documents) == tiles(None) / 8
    assert tiles(np.ones_like(documents)) == tiles(None)
    assert tiles(np.zeros_like(documents)) == 0


@settings(max_examples=300, deadline=None)
@given(calls())
def test_the_machine_takes_them(call) -> None:
    config, shape, mask, paged = call
    buffers = place_arrays(config, shape, 1 << 12)
    if paged:
        buffers |= {"k": Paged(), "v": Paged()}
    program = fusemax.compile(head_dim=shape.e, value_dim=shape.f, config=config)
    before = None
    rows = 0
    for job in describe(config, shape, program, 1 << 10, buffers, 0.5, mask=mask):
        job = Descriptor.unpack(job.pack())
        assert is_valid(config, job, before)
        if before is not None and before.continues:
            assert all(
                getattr(job, f"q_{name}") == getattr(before, f"q_{name}") for name in ("address", "row_stride", "share_stride")
            )
        tiles = job.groups * (job.group_tiles - 1) + job.large_groups
        assert 1 <= issued_tiles(config, job) <= tiles * job.key_tiles
        if not job.continues:
            rows += job.heads * job.batch * ((tiles - 1) * config.columns + job.last_queries)
        before = job
    assert before is None or not before.continues
    positions = sum(
        bool(visible(shape, mask, entry, position)) for entry in range(shape.batch) for position in range(shape.queries)
    )
    assert rows == positions * shape.heads * shape.share


def jobs_of(config: str, mask: Mask, **sizes: int) -> list[dict[str, int]]:
    machine = CONFIGS[config]
    shape = Shape(**sizes)
    program = fusemax.compile(head_dim=shape.e, value_dim=shape.f, config=machine)
    return describe(machine, shape, program, 4096, place_arrays(machine, shape, 8192), mask=mask)


def test_a_causal_call_covers_all_heads_and_entries_with_a_job_per_group() -> None:
    jobs = jobs_of("base", Mask(right=0), batch=3, heads=5, queries=1024, keys=1024, e=64)
    assert all((job.batch, job.heads, job.groups) == (3, 5, 1) for job in jobs)
    # Seven query tiles fit; ten groups are of seven or six.
    assert [job.group_tiles for job in jobs] == [7] * 4 + [6] * 6
    assert [job.key_tiles for job in jobs] == np.cumsum([job.group_tiles for job in jobs]).tolist()
    tiles = sum(issued_tiles(CONFIGS["base"], job) for job in jobs)
    assert tiles == 64 * 65 // 2


def test_equal_lengths_share_a_job() -> None:
    jobs = jobs_of("tiny", Mask(key_lengths=(9, 9, 0, 5, 5, 9)), batch=6, queries=3, keys=12, e=8)
    assert [(job.batch, job.key_tiles, job.last_keys) for job in jobs] == [(2, 3, 1), (2, 2, 1), (1, 3, 1)]


def test_a_window_reads_only_its_keys() -> None:
    jobs = jobs_of("tiny", Mask(left=7, right=0), heads=2, queries=64, keys=64, e=64)
    starts = [(job.k_address - jobs[0].k_address) // job.k_row_stride for job in jobs]
    assert starts == [max(0, (16 * number - 7) // 4 * 4) for number in range(4)]
    assert [job.key_tiles for job in jobs] == [4, 6, 6, 6]


def test_many_query_heads_of_a_key_head() -> None:
    """At most 256 in a job; with a mask as many as stay on chip."""
    jobs = jobs_of("tiny", Mask(), share=600, queries=2, keys=5, e=8)
    assert [job.share for job in jobs] == [256, 256, 88]
    assert jobs[1].q_address - jobs[0].q_address == 256 * jobs[0].q_share_stride
    room = CONFIGS["tiny"].resident_query_tiles(8, 8)
    masked = jobs_of("tiny", Mask(right=0), share=600, queries=2, keys=5, e=8)
    assert max(job.share for job in masked) == min(256, 4 * room)
    assert all(job.groups == 1 and job.group_tiles <= room for job in masked)


def test_a_mask_that_leaves_nothing_out_is_none() -> None:
    for mask in (Mask(right=0, offsets=(63,)), Mask(left=999, right=99), Mask(prefixes=(64,), right=0)):
        (job,) = jobs_of("tiny", mask, heads=3, queries=300, keys=64, e=8)
        assert (job.mask_lo, job.mask_hi, job.heads) == (-UNBOUNDED, UNBOUNDED, 3)
        assert job.groups > 1


def test_prefix_and_window_apart_are_a_chain_per_head() -> None:
    jobs = jobs_of("tiny", Mask(left=3, right=0, prefixes=(6,)), batch=2, heads=2, queries=40, keys=40, e=8)
    chained = [job for job in jobs if job.continues or job.continued]
    assert [(job.continues, job.continued) for job in chained] == [(1, 0), (0, 1)] * (len(chained) // 2)
    assert all(job.heads == job.batch == job.groups == 1 for job in chained)
    first, second = chained[:2]
    assert (first.key_tiles, first.last_keys, first.mask_lo, first.mask_hi) == (2, 2, -UNBOUNDED, UNBOUNDED)
    assert (second.k_address - first.k_address) // first.k_row_stride % 4 == 0


@pytest.mark.parametrize(
    ("batch", "heads", "head_stride", "batch_stride", "jobs"),
    [
        (2, 3, 100, 300, [((0, 2), (0, 3))]),
        (65535, 65535, 1, 1, [((0, 65535), (0, 65535))]),
        (1, 65536, 1, 1, [((0, 1), (0, 65535)), ((0, 1), (65535, 65536))]),
        (65536, 1, 1, 1, [((0, 65535), (0, 1)), ((65535, 65536), (0, 1))]),
        (2, 3, 100, 1 << 32, [((0, 1), (0, 3)), ((1, 2), (0, 3))]),
        (1, 2, 1 << 32, 1 << 33, [((0, 1), (0, 1)), ((0, 1), (1, 2))]),
        (1, 1, 1 << 32, 1 << 32, [((0, 1), (0, 1))]),
    ],
)
def test_jobs_keep_to_the_descriptor(batch: int, heads: int, head_stride: int, batch_stride: int, jobs: list) -> None:
    assert list(cut_jobs(batch, heads, head_stride, batch_stride)) == jobs


def test_a_job_finds_its_rows() -> None:
    """Addresses and strides of a job in the midst of a call lead to the rows that it covers."""
    machine = CONFIGS["small"]
    shape = Shape(batch=2, heads=3, share=4, queries=40, keys=24, e=8, f=12)
    buffers = place_arrays(machine, shape, 4096)
    program = fusemax.compile(head_dim=8, value_dim=12, config=machine)
    mask = Mask(right=0, offsets=(0, 2))
    planned = list(plan(machine, shape, buffers, mask))
    for job, fields in zip(planned, describe(machine, shape, program, 4096, buffers, mask=mask), strict=True):
        for name in "qo":
            rows = np.arange((job.positions[1] - job.positions[0]) * 4)
            for entry, head, row in product(range(fields.batch), range(fields.heads), rows[[0, 1, 4, -1]]):
                address = (
                    getattr(fields, f"{name}_address")
                    + entry * getattr(fields, f"{name}_batch_stride")
                    + head * getattr(fields, f"{name}_head_stride")
                    + row // 4 * getattr(fields, f"{name}_row_stride")
                    + row % 4 * getattr(fields, f"{name}_share_stride")
                )
                position = job.positions[0] + row // 4
                assert address == buffers[name].place(job.batch[0] + entry, job.heads[0] + head, row % 4, position)
