"""Load walkers compared with nested loops: rows, places, deadlines, and tiles that wait for a buffer."""

from itertools import accumulate

import pytest
from bench import Bench
from jobs import heads_of, query_tiles_of, random_job, row_offset

from fusemax.spec import Config
from fusemax_hw.control.load_walker import DEADLINE_BITS, LoadKind, LoadWalker

CONFIG = Config(rows=5, columns=3, max_e=20, max_f=24, query_tiles=2, bus_bits=64)
KINDS = {"q": LoadKind.QUERY, "k": LoadKind.KEY, "v": LoadKind.VALUE}


class Model:
    """Rows of one tensor over all jobs."""

    def __init__(self, config, tensor):
        self.config, self.tensor = config, tensor
        self.iteration = 0
        self.query_slot = self.key_tile = 0

    def rows(self, job):
        if job["restart"]:
            self.iteration = self.query_slot = self.key_tile = 0
        for head in heads_of(job, self.tensor):
            for group in query_tiles_of(job):
                yield from self.query_rows(job, head, group) if self.tensor == "q" else self.key_rows(job, head, group)
                self.iteration += job["key_tiles"] * len(group)

    def query_rows(self, job, head, group):
        """None if the queries of the job before stay."""
        if job["continued"]:
            return
        last_tile = query_tiles_of(job)[-1][-1]
        for tile in group:
            count = job["last_queries"] if tile == last_tile else self.config.columns
            base = self.query_slot * self.config.beats(job["e"])
            self.query_slot = (self.query_slot + 1) % job["query_slots"]
            deadline = self.iteration + tile - group[0]
            yield from self.tile(job, head, tile * self.config.columns, count, base, deadline, job["e"], job["scale"])

    def key_rows(self, job, head, group):
        for tile in range(job["key_tiles"]):
            count = job["last_keys"] if tile == job["key_tiles"] - 1 else self.config.rows
            buffer = self.key_tile % buffers_of(self.tensor, job)
            self.key_tile += 1
            deadline = self.iteration + tile * len(group)
            if self.tensor == "k":
                base, head_dim = buffer * self.config.key_beats, job["e"]
            else:
                # A tile's first SLNV comes at least an iteration behind its first QK.
                base, head_dim, deadline = 2 * self.config.key_beats + buffer * self.config.value_beats, job["f"], deadline + 1
            yield from self.tile(job, head, tile * self.config.rows, count, base, deadline, head_dim, 0)

    def tile(self, job, head, first_row, count, base, deadline, head_dim, scale):
        for row in range(count):
            number = first_row + row
            offset = row_offset(job, "q", number) if self.tensor == "q" else number * job[f"{self.tensor}_row_stride"]
            row_scale = job["row_scale"] if self.tensor == "q" else 0
            yield {
                "address": (head + offset) % (1 << self.config.address_bits),
                "beats": self.config.beats(head_dim) + row_scale,
                "deadline": deadline % (1 << DEADLINE_BITS),
                "tag": {
                    "kind": KINDS[self.tensor].value,
                    "place": row,
                    "base": base,
                    "tail": (head_dim - 1) % self.config.beat_elements + 1,
                    "last": int(row == count - 1),
                    "scale": scale,
                    "row_scale": row_scale,
                    "wide": 0,
                },
            }


def buffers_of(tensor, job):
    """Tiles of which there may be rows at a time."""
    return {"q": job["query_slots"], "k": 3 if job["values_in_keys"] else 2, "v": 2}[tensor]


@pytest.mark.parametrize("tensor", "qkv")
@pytest.mark.parametrize("seed", range(2))
def test_rows(tensor, seed):
    bench = Bench(LoadWalker(CONFIG, tensor), seed)
    dut, rng = bench.dut, bench.rng
    jobs = []
    in_keys = 0
    for _ in range(20):
        if not jobs or rng.random() < 0.4:
            e, f = rng.randint(1, CONFIG.max_e), rng.randint(1, CONFIG.max_f)
        restart = not jobs or (e, f) != (jobs[-1]["e"], jobs[-1]["f"]) or rng.random() < 0.2
        in_keys = rng.getrandbits(1) * (tensor != "v") if restart else in_keys
        job = random_job(rng, CONFIG, e, f, queries=20, keys=22) | {"restart": int(restart), "row_scale": rng.getrandbits(1)}
        job["values_in_keys"] = in_keys
        if not restart and rng.random() < 0.3:
            one = {"heads": 1, "batch": 1, "groups": 1, "large_groups": 1}
            job |= one | {"continued": 1, "group_iterations": job["key_tiles"] * job["group_tiles"]}
        jobs.append(job)
    model = Model(CONFIG, tensor)
    expected, slots_of, starts = [], [], []
    for job in jobs:
        starts.append(len(expected))
        expected += model.rows(job)
        slots_of += [buffers_of(tensor, job)] * (len(expected) - starts[-1])
    total = len(expected)

    fields = dut.jobs.payload.shape().members
    source = bench.source(dut.jobs, (), bench.stalls())
    state = {"begun": 0, "complete": 0, "released": 0, "offered": 0, "full": 0}
    release = bench.pulse(dut.release)
    slow = bench.stalls(0.0, 0.1, 1.0)

    def see(row):
        at = len(rows.received) - 1
        assert row == expected[at], f"row {at}"
        state["begun"] += at == 0 or expected[at - 1]["tag"]["last"]
        state["complete"] += row["tag"]["last"]
        used = state["begun"] - state["released"]
        assert used <= slots_of[at]
        state["full"] += used == slots_of[at]

    def act():
        if state["released"] < state["complete"] and slow():
            state["released"] += 1
            release()
        # A job that restarts is given to an empty machine.
        while state["offered"] < len(jobs) and not source.items:
            job = jobs[state["offered"]]
            done = len(rows.received) == starts[state["offered"]]
            if job["restart"] and not (done and state["released"] == state["complete"]):
                break
            source.items.append({name: job[name] for name in fields})
            state["offered"] += 1

    rows = bench.sink(dut.rows, bench.stalls(), see)
    bench.each(act)
    bench.run(lambda: len(rows.received) >= total, 40 * total, settle=30)
    assert len(rows.received) == total
    assert state["full"] > total // 50


def test_a_row_every_cycle_within_a_tile():
    bench = Bench(LoadWalker(CONFIG, "k"), seed=5)
    job = random_job(bench.rng, CONFIG, 8, 8, queries=20, keys=60) | {"restart": 1, "heads": 2}
    expected = list(Model(CONFIG, "k").rows(job))
    bench.source(bench.dut.jobs, [{name: job[name] for name in bench.dut.jobs.payload.shape().members}])
    release = bench.pulse(bench.dut.release)
    rows = bench.sink(bench.dut.rows, see=lambda row: release() if row["tag"]["last"] else None)
    bench.run(lambda: len(rows.received) == len(expected), 3 * len(expected) + 10)
    assert rows.received == expected
    # A cycle between tiles, in which the next one's deadline is compared.
    gaps = [1 + row["tag"]["last"] for row in expected[:-1]]
    assert rows.taken == list(accumulate(gaps, initial=rows.taken[0]))


def test_tensor():
    with pytest.raises(ValueError, match="tensor must be 'q', 'k' or 'v', not 'o'"):
        LoadWalker(CONFIG, "o")
