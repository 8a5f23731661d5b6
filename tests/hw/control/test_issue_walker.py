"""Issue walker compared with nested loops over batch, head, group, key tile and query tile."""

from itertools import pairwise

import pytest
from bench import Bench
from jobs import UNBOUNDED, query_tiles_of, random_job, random_mask, tiles_of

from fusemax.spec import Config, Timing
from fusemax_hw.control.issue_walker import IssueWalker

CONFIG = Config(rows=5, columns=3, max_e=20, max_f=24, query_tiles=3, bus_bits=64)


def random_jobs(rng, config, count):
    jobs = []
    in_keys = 0
    for _ in range(count):
        if not jobs or rng.random() < 0.5:
            e, f = rng.randint(1, config.max_e), rng.randint(1, config.max_f)
        restart = not jobs or (e, f) != (jobs[-1]["e"], jobs[-1]["f"]) or rng.random() < 0.2
        job = random_job(rng, config, e, f, queries=30, keys=30, float32_out=rng.getrandbits(1))
        in_keys = rng.getrandbits(1) if restart else in_keys
        job |= {"restart": int(restart), "state_out": rng.getrandbits(1), "raw_out": rng.getrandbits(1)}
        job["values_in_keys"] = in_keys
        jobs.append(job | random_mask(rng, config, job))
    return jobs


def random_chain(rng, config, job):
    """Jobs that continue each other with the first group's queries of ``job``."""
    tiles = query_tiles_of(job)[0]
    one = {"heads": 1, "batch": 1, "groups": 1, "large_groups": 1, "group_tiles": len(tiles)}
    count = rng.randint(2, 4)
    for index in range(count):
        keys = {"key_tiles": rng.randint(1, 3), "last_keys": rng.randint(1, config.rows)}
        mask = {"mask_lo": rng.randint(-40, 40), "mask_hi": rng.randint(-40, 40)}
        chain = {"continues": int(index < count - 1), "continued": int(index > 0), "restart": job["restart"] & (index == 0)}
        yield job | one | keys | mask | chain


def fields_of(dut, jobs):
    names = dut.jobs.payload.shape().members
    return [{name: job[name] for name in names} for job in jobs]


@pytest.mark.parametrize("seed", range(3))
def test_tiles(seed):
    bench = Bench(IssueWalker(CONFIG), seed)
    jobs = random_jobs(bench.rng, CONFIG, 20)
    jobs = [link for job in jobs for link in (random_chain(bench.rng, CONFIG, job) if bench.rng.random() < 0.3 else [job])]
    expected = list(tiles_of(CONFIG, jobs))
    bench.source(bench.dut.jobs, fields_of(bench.dut, jobs), bench.stalls())
    tiles = bench.sink(bench.dut.tiles, bench.stalls())
    skipped = []
    bench.watch(bench.dut.skipped, skipped.append)
    bench.run(lambda: len(tiles.received) >= len(expected), 20 * len(expected) + 500, settle=30)
    assert tiles.received == expected
    every = sum(job["heads"] * job["batch"] * job["key_tiles"] * sum(map(len, query_tiles_of(job))) for job in jobs)
    assert sum(skipped) == every - len(expected) > 0


def test_pace():
    """A tile in ``period`` cycles, that is, faster than any program; between jobs a little more."""
    bench = Bench(IssueWalker(CONFIG), seed=7)
    jobs = [job | UNBOUNDED for job in random_jobs(bench.rng, CONFIG, 5)]
    expected = list(tiles_of(CONFIG, jobs))
    bench.source(bench.dut.jobs, fields_of(bench.dut, jobs))
    tiles = bench.sink(bench.dut.tiles)
    bench.run(lambda: len(tiles.received) == len(expected), 6 * len(expected))
    assert tiles.received == expected
    pauses = [later - earlier for earlier, later in pairwise(tiles.taken)]
    between_jobs = IssueWalker.period + 1
    assert sorted(pauses) == [IssueWalker.period] * (len(expected) - len(jobs)) + [between_jobs] * (len(jobs) - 1)
    assert between_jobs < Timing(CONFIG).recurrence
