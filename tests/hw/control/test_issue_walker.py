"""Issue walker compared with nested loops over batch, head, group, key tile and query tile."""

from itertools import pairwise

import pytest
from bench import Bench
from jobs import random_job, tiles_of

from fusemax.spec import Config, Timing
from fusemax_hw.control.issue_walker import IssueWalker

CONFIG = Config(rows=5, columns=3, max_e=20, max_f=24, query_tiles=2, bus_bits=64)


def random_jobs(rng, config, count):
    jobs = []
    for _ in range(count):
        if not jobs or rng.random() < 0.5:
            e, f = rng.randint(1, config.max_e), rng.randint(1, config.max_f)
        restart = not jobs or (e, f) != (jobs[-1]["e"], jobs[-1]["f"]) or rng.random() < 0.2
        job = random_job(rng, config, e, f, queries=30, keys=30, float32_out=rng.getrandbits(1))
        jobs.append(job | {"restart": int(restart)})
    return jobs


def fields_of(dut, jobs):
    names = dut.jobs.payload.shape().members
    return [{name: job[name] for name in names} for job in jobs]


@pytest.mark.parametrize("seed", range(3))
def test_tiles(seed):
    bench = Bench(IssueWalker(CONFIG), seed)
    jobs = random_jobs(bench.rng, CONFIG, 20)
    expected = list(tiles_of(CONFIG, jobs))
    bench.source(bench.dut.jobs, fields_of(bench.dut, jobs), bench.stalls())
    tiles = bench.sink(bench.dut.tiles, bench.stalls())
    bench.run(lambda: len(tiles.received) >= len(expected), 20 * len(expected) + 500, settle=30)
    assert tiles.received == expected


def test_pace():
    """A tile in ``period`` cycles, that is, faster than any program; between jobs a little more."""
    bench = Bench(IssueWalker(CONFIG), seed=7)
    jobs = random_jobs(bench.rng, CONFIG, 5)
    expected = list(tiles_of(CONFIG, jobs))
    bench.source(bench.dut.jobs, fields_of(bench.dut, jobs))
    tiles = bench.sink(bench.dut.tiles)
    bench.run(lambda: len(tiles.received) == len(expected), 3 * len(expected))
    assert tiles.received == expected
    pauses = [later - earlier for earlier, later in pairwise(tiles.taken)]
    between_jobs = IssueWalker.period + 1
    assert sorted(pauses) == [IssueWalker.period] * (len(expected) - len(jobs)) + [between_jobs] * (len(jobs) - 1)
    assert between_jobs < Timing(CONFIG).recurrence
