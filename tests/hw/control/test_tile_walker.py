"""Tile walkers compared with nested loops, for every tensor, with jobs and tiles that wait."""

import pytest
from bench import Bench
from jobs import heads_of, query_tiles_of, random_job

from fusemax.spec import Config
from fusemax_hw.control.job import ROW_FIELDS, tensor_fields
from fusemax_hw.control.tile_walker import TileWalker

CONFIG = Config(rows=5, columns=3, max_e=20, max_f=24, query_tiles=2, bus_bits=64)


def tiles(config, tensor, job):
    """Tiles of a job; ``address`` only where a run begins."""
    of_keys = tensor in ("k", "v")
    heads = list(heads_of(job, tensor))
    first = True
    for number, head in enumerate(heads):
        groups = query_tiles_of(job)
        for index, group in enumerate(groups):
            blocks = {"m": job["mask_blocks"], "b": job["key_tiles"]}.get(tensor, 1)
            numbers = range(job["key_tiles"]) if of_keys else group * blocks
            for place, tile in enumerate(numbers):
                group_end = place == len(numbers) - 1
                block_start, block_end = place % len(group) == 0, place % len(group) == len(group) - 1
                pairs = {
                    "again": int(block_start and place > 0),
                    "group_start": int(place == 0 and index > 0),
                    "block_end": int(block_end),
                }
                if of_keys:
                    rows = job["last_keys"] if group_end else config.rows
                else:
                    rows = job["last_queries"] if tile == groups[-1][-1] else config.columns
                yield {
                    # The tiles of keys begin anew with every group, those of queries go on.
                    "jump": int(place == 0 and (of_keys or index == 0)),
                    "address": head % (1 << config.address_bits),
                    "rows": rows - 1,
                    "group_tiles": len(group),
                    "large": int(index < job["large_groups"]),
                    "group_end": int(group_end),
                    "job_end": int(group_end and index == len(groups) - 1 and number == len(heads) - 1),
                    **(pairs if tensor in "mb" else {}),
                    "job": {name: job[name] for name in ROW_FIELDS[tensor]} | {"restart": job["restart"] * first},
                }
                first = False


@pytest.mark.parametrize("stalls", [False, True])
@pytest.mark.parametrize("tensor", list("qkvmbo"))
def test_jobs(tensor, stalls):
    dut = TileWalker(CONFIG, tensor)
    bench = Bench(dut, seed=ord(tensor))
    rng = bench.rng
    jobs = []
    for _ in range(25):
        job = random_job(
            rng, CONFIG, rng.randint(1, 20), rng.randint(1, 24), queries=rng.choice((3, 25)), keys=rng.choice((5, 22))
        )
        jobs.append(job | {"restart": rng.getrandbits(1), "ring_index": rng.getrandbits(16)})
    go = {"go": bench.stalls()} if stalls else {}
    names = (*tensor_fields(tensor), "restart")
    source = bench.source(dut.jobs, [{name: job[name] for name in names} for job in jobs], **go)
    sink = bench.sink(dut.tiles, **({"go": bench.stalls()} if stalls else {}))
    expected = [tile for job in jobs for tile in tiles(CONFIG, tensor, job)]
    assert {len(query_tiles_of(job)) > 1 for job in jobs} == {False, True}
    bench.run(lambda: len(sink.received) >= len(expected), limit=40 * len(expected), settle=10)

    assert not source.items
    assert sink.received == expected
    gaps = [later - earlier for earlier, later in zip(sink.taken, sink.taken[1:], strict=False)]
    assert min(gaps) >= TileWalker.period
    if not stalls:
        # Within a job it keeps its period.
        inside = [gap for gap, tile in zip(gaps, expected, strict=False) if not tile["job_end"]]
        assert set(inside) == {TileWalker.period}


def test_unknown_tensor():
    with pytest.raises(ValueError, match="tensor must be one of q, k, v, m, b, o, not 's'"):
        TileWalker(CONFIG, "s")
