"""Value grid: the largest exponent of every element over a tile's rows, while other rows come and the array reads."""

import pytest
from bench import Bench, unpack

from fusemax.spec import Config
from fusemax_hw.control.value_grid import ValueGrid


def random_updates(rng, config, tiles):
    """Bus words of tiles in alternating buffers; rows of one word come back to back to the same address."""
    for tile in range(tiles):
        beats, rows = rng.choice((1, 1, min(2, config.value_beats), config.value_beats)), rng.randint(1, 6)
        go = rng.choice((0.3, 1.0))
        for row in range(rows):
            for beat in range(beats):
                while rng.random() > go:
                    yield None
                exponents = [rng.choice((0, 255, rng.getrandbits(8))) for _ in range(config.beat_elements)]
                yield {"first": int(row == 0), "address": tile % 2 * config.value_beats + beat, "exponents": exponents}
        for _ in range(rng.choice((0, 0, 5))):
            yield None


@pytest.mark.parametrize(("bus_bits", "max_f"), [(32, 9), (64, 12), (128, 8)])
def test_largest(bus_bits, max_f):
    config = Config(rows=4, columns=4, max_f=max_f, bus_bits=bus_bits)
    bench = Bench(ValueGrid(config), seed=max_f)
    dut, rng = bench.dut, bench.rng
    updates = list(random_updates(rng, config, 150))
    shape = dut.exponents.shape()
    zeros = [0] * config.beat_elements
    grid = {}
    recent = []
    now, expected, compared = {}, None, 0

    def act():
        update = updates[bench.cycle] if bench.cycle < len(updates) else None
        now["update"] = update or {"first": rng.getrandbits(1), "address": 0, "exponents": zeros}
        now["valid"] = update is not None
        # What is read was not written in the last two cycles: nobody reads a tile that has just come.
        recent.append(update and update["address"])
        settled = [address for address in grid if address not in recent[-dut.latency + 1 :]]
        now["read"] = rng.choice(settled) if settled and rng.random() < 0.7 else None

    bench.each(act)
    bench.drive(dut.update, lambda: now["valid"])
    bench.drive(dut.first, lambda: now["update"]["first"])
    bench.drive(dut.address, lambda: now["update"]["address"])
    bench.drive(dut.exponents, lambda: sum(value << 8 * index for index, value in enumerate(now["update"]["exponents"])))
    bench.drive(dut.read_enable, lambda: now["read"] is not None)
    bench.drive(dut.read_address, lambda: now["read"] or 0)

    def check(data):
        nonlocal expected, compared
        if expected is not None:
            assert unpack(shape, data) == expected, f"cycle {bench.cycle}"
            compared += 1
        if now["read"] is not None:
            expected = list(grid[now["read"]])
        if now["valid"]:
            update = now["update"]
            old = zeros if update["first"] else grid[update["address"]]
            grid[update["address"]] = [max(pair) for pair in zip(old, update["exponents"], strict=True)]

    bench.watch(dut.read_data, check)
    bench.run(lambda: bench.cycle >= len(updates), len(updates) + 10, settle=5)
    assert compared > len(updates) // 2
