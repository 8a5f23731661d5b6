"""Pair walkers compared with nested loops: rows, places, deadlines, and blocks that wait for a buffer."""

import pytest
from bench import Bench
from jobs import heads_of, query_tiles_of, random_job, row_offset

from fusemax.planning.residency import residency
from fusemax.spec import Config
from fusemax_hw.control.load_walker import DEADLINE_BITS, LoadKind
from fusemax_hw.control.pair_walker import PairWalker

CONFIG = Config(rows=5, columns=3, max_e=20, max_f=24, query_tiles=2, bus_bits=64)


class Model:
    """Rows of one tensor over all jobs."""

    def __init__(self, config, tensor):
        self.config, self.tensor = config, tensor
        self.iteration = self.block = 0

    def rows(self, job):
        config, masks = self.config, self.tensor == "m"
        blocks = job["mask_blocks"] if masks else job["key_tiles"]
        beats = 1 if masks else -(-config.rows * (32 if job["bias_wide"] else 16) // config.bus_bits)
        last_tile = query_tiles_of(job)[-1][-1]
        for head in heads_of(job, self.tensor):
            for group in query_tiles_of(job):
                for block in range(blocks):
                    for number, tile in enumerate(group):
                        count = job["last_queries"] if tile == last_tile else config.columns
                        for row in range(count):
                            offset = row_offset(job, self.tensor, tile * config.columns + row)
                            yield {
                                "address": (head + offset + block * beats * config.bus_bytes) % (1 << config.address_bits),
                                "beats": beats,
                                "deadline": self.deadline(block, len(group)),
                                "tag": {
                                    "kind": (LoadKind.MASK if masks else LoadKind.BIAS).value,
                                    "place": row,
                                    "base": self.base(number),
                                    "tail": (config.rows - 1) % config.beat_elements + 1,
                                    "last": int(row == count - 1 and tile == group[-1]),
                                    "scale": 0 if masks else job["bias_scale"],
                                    "row_scale": 0,
                                    "wide": 0 if masks else job["bias_wide"],
                                },
                            }
                    self.block += 1
                self.iteration += job["key_tiles"] * len(group)

    def deadline(self, block, tiles):
        of_block = self.config.mask_block_tiles if self.tensor == "m" else 1
        return (self.iteration + block * of_block * tiles) % (1 << DEADLINE_BITS)

    def base(self, number):
        config, second = self.config, self.block % 2
        if self.tensor == "m":
            return config.mask_base + second * config.mask_tiles + number
        return config.bias_base + (second * config.bias_tiles + number) * config.bias_words


@pytest.mark.parametrize("tensor", "mb")
@pytest.mark.parametrize("seed", range(2))
def test_rows(tensor, seed):
    bench = Bench(PairWalker(CONFIG, tensor), seed)
    dut, rng = bench.dut, bench.rng
    jobs = []
    for number in range(12):
        job = random_job(rng, CONFIG, 8, 8, queries=1, keys=40) | {"restart": int(not number)}
        keys = (job["key_tiles"] - 1) * CONFIG.rows + job["last_keys"]
        tiles = residency(CONFIG, 8, 8, rng.randint(1, 24), keys, most_tiles=CONFIG.mask_tiles)
        names = ("last_queries", "groups", "large_groups", "group_tiles", "group_iterations")
        jobs.append(job | {name: getattr(tiles, name) for name in names})
    assert {job["groups"] > 1 for job in jobs} == {False, True}
    model = Model(CONFIG, tensor)
    expected = [row for job in jobs for row in model.rows(job)]
    firsts = [True, *(row["tag"]["last"] for row in expected[:-1])]
    fields = dut.jobs.payload.shape().members
    bench.source(dut.jobs, [{name: job[name] for name in fields} for job in jobs], bench.stalls())
    state = {"begun": 0, "complete": 0, "released": 0, "full": 0}
    release, slow = bench.pulse(dut.release), bench.stalls(0.0, 0.1, 1.0)

    def see(row):
        at = len(rows.received) - 1
        assert row == expected[at], f"row {at}"
        state["begun"] += firsts[at]
        state["complete"] += row["tag"]["last"]
        used = state["begun"] - state["released"]
        assert used <= 2
        state["full"] += used == 2

    def act():
        if state["released"] < state["complete"] and slow():
            state["released"] += 1
            release()

    rows = bench.sink(dut.rows, bench.stalls(), see)
    bench.each(act)
    bench.run(lambda: len(rows.received) >= len(expected), limit=60 * len(expected), settle=30)
    assert len(rows.received) == len(expected)
    assert state["full"] > len(expected) // 50
    assert min(later - earlier for earlier, later in zip(rows.taken, rows.taken[1:], strict=False)) >= 2


def test_tensor():
    with pytest.raises(ValueError, match="tensor must be 'm' or 'b', not 'q'"):
        PairWalker(CONFIG, "q")
