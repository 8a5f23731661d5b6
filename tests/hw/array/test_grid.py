"""The grid against one word-by-word model per PE, with the skew of the wavefront."""

import numpy as np
import pytest
from amaranth.lib import data
from amaranth.sim import Simulator

from fusemax.spec import Config, Op, Timing
from fusemax_hw.array.grid import Grid
from fusemax_hw.pe.model import Partial, PeModel, PeWord, rows_seen
from fusemax_hw.words import north_bus, partial_bus, west_bus

E, F = 4, 3


def tile_words(config: Config, rng: np.random.Generator, rows: int, columns: int, models):
    """(control word, words by row and column) of one tile, executed on ``models`` as they are made."""
    gap = PeWord()
    latency = config.pe_latency

    def sigs():
        return [int(rng.choice([-1, 1]) * rng.integers(128, 256)) for _ in range(rows)]

    def step(control: PeWord, west=None, north=None):
        west, north = west or [(0, 0)] * rows, north or [(0, 0)] * columns
        grid = [
            [
                control._replace(sig=sig, exponent=exponent, operand=operand, query_exponent=query_exponent)
                for operand, query_exponent in north
            ]
            for sig, exponent in west
        ]
        bottom = []
        for column in range(columns):
            partial = Partial()
            for row in range(rows):
                partial = models[row][column].step(grid[row][column], partial)
            bottom.append(partial)
        return grid, bottom

    for index in range(E):
        west = [(sig, int(rng.integers(240, 256))) for sig in sigs()]
        north = [(int(rng.choice([-1, 1]) * rng.integers(1 << 16, 1 << 17)), -233) for _ in range(columns)]
        yield step(PeWord(op=Op.QK, first=index == 0), west, north)
    interval = [tuple(rows_seen(config, 0, int(rng.integers(0, rows + 1))).values()) for _ in range(columns)]
    yield step(PeWord(op=Op.NOP, mask=True), [(0, row) for row in range(rows)], interval)
    yield step(PeWord(max=True, hold_max=1))
    for _ in range(latency - 1):
        yield step(gap)
    references = []
    for column in range(columns):
        top = max(models[row][column].holds[1][0] for row in range(rows))
        references.append(((-(-top >> config.score_frac_bits)) + 1, 0))
    yield step(PeWord(op=Op.EXP, hold=1), None, references)
    for _ in range(latency - 1):
        yield step(gap)
    yield step(PeWord(op=Op.SUM, hold=1))
    for spread in (4, 40, 250)[:F]:
        yield step(PeWord(op=Op.SLNV, hold=1), [(sig, int(rng.integers(spread))) for sig in sigs()])


@pytest.mark.parametrize(("rows", "columns"), [(2, 3), (1, 2), (5, 1)])
def test_partial_values(rows, columns):
    config = Config(rows=8, columns=8)
    rng = np.random.default_rng(rows)
    models = [[PeModel(config) for _ in range(columns)] for _ in range(rows)]
    words = [word for _ in range(8) for word in tile_words(config, rng, rows, columns, models)]
    dut = Grid(config, rows, columns)
    west = data.View(data.ArrayLayout(west_bus(config), rows), dut.west)
    north = data.View(data.ArrayLayout(north_bus(config), columns), dut.north)
    partial_out = data.View(data.ArrayLayout(partial_bus(config), columns), dut.partial_out)
    idle = [[PeWord()] * columns for _ in range(rows)]
    valid, checked = set(), set()

    async def bench(ctx):
        for cycle in range(len(words) + rows + columns + config.pe_latency):

            def at(slot):
                return words[slot][0] if 0 <= slot < len(words) else idle

            for row in range(rows):
                word = at(cycle - row)[row][0]
                control = {name: getattr(word, name) for name in ("first", "max", "mask", "hold", "hold_max")}
                fields = {"control": control | {"op": word.op.value}, "sig": word.sig, "exponent": word.exponent}
                ctx.set(west[row], fields)
            for column in range(columns):
                word = at(cycle - column)[0][column]
                ctx.set(north[column], {"operand": word.operand, "exponent": word.query_exponent})
                slot = cycle - (rows - 1) - column - config.pe_latency
                if 0 <= slot < len(words):
                    out, word, want = ctx.get(partial_out[column]), words[slot][0][0][column], words[slot][1][column]
                    if word.max:
                        assert (out.value, bool(out.valid), bool(out.overflow)) == want[:3]
                        valid.add(bool(out.valid))
                    elif word.op in (Op.SUM, Op.SLNV):
                        assert out.value == want.value
                        checked.add(word.op)
                slot += Timing(config).coarse_lead
                if 0 <= slot < len(words) and words[slot][0][0][column].op in (Op.SUM, Op.SLNV):
                    assert ctx.get(partial_out[column].coarse) == words[slot][1][column].coarse
            await ctx.tick()

    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
    assert valid == {False, True}
    assert checked == {Op.SUM, Op.SLNV}


def test_size_is_checked():
    with pytest.raises(ValueError, match="rows and columns must be at least 1 and not both 1, not 1 and 1"):
        Grid(Config(rows=2, columns=2), 1, 1)
