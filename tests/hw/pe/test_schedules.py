"""A PE runs whole modulo-scheduled programs of overlapping tiles; every sum that leaves it is that of the tile alone.

The programs are chains of operations with registers; a small scheduler places them by the distances of :class:`Timing` only,
so that these are tested too.
"""

from dataclasses import dataclass

import numpy as np
import pytest
from amaranth.sim import Simulator

from fusemax.arith.column_sum import NO_COARSE, TOP_COARSE
from fusemax.arith.score_product import add_shift, set_shift
from fusemax.arith.score_slices import SLICES, slice_exponent
from fusemax.spec import Config, Op, Port, Timing
from fusemax_hw.pe import Pe
from fusemax_hw.pe.model import Partial, PeModel, PeWord, rows_seen

SUMS = (Op.SUM, Op.SLNV, Op.ENT)


@dataclass(frozen=True)
class Micro:
    """An operation of a tile: MAX is NOP with ``max``, MASK with ``mask``. ``t`` is the tile's hold register."""

    op: Op
    index: int = 0
    src: str = "t"
    dst: str = "t"
    first: bool = False
    max: bool = False
    mask: bool = False
    constant: float = 0.0

    @property
    def reads(self):
        """Registers with the way in which each is read."""
        reads = []
        if self.op not in (Op.NOP, Op.QK):
            reads.append((self.src, Port.HOLD))
        if self.max or self.op is Op.ADD or (self.op is Op.QK and not self.first):
            reads.append(("score", Port.SCORE))
        if self.max or self.op is Op.SET:
            reads.append(("mask", Port.VISIBLE))
        if self.op is Op.ADD and self.first:
            reads.append(("score", Port.SIGN))
        if self.op is Op.ENT:
            reads.append(("score", Port.SLICE))
        return reads

    @property
    def writes(self):
        if self.max or self.op in (Op.EXP, Op.LIN, Op.SET):
            return "t" if self.max else self.dst
        return "score" if self.op in (Op.QK, Op.ADD) else "mask" if self.mask else None


def sums(e, f, weight, slices=0):
    """QKs, what makes the weight, and the sums."""
    queries = [Micro(Op.QK, index, first=not index) for index in range(e)]
    numerators = [*(Micro(Op.ENT, index) for index in range(slices)), *(Micro(Op.SLNV, index) for index in range(f))]
    return [Micro(Op.NOP, mask=True), *queries, *weight, Micro(Op.SUM), *numerators]


MOVE = Micro(Op.NOP, max=True)
PROGRAMS = {
    "linear": lambda e, f: sums(e, f, [MOVE, Micro(Op.LIN)]),
    "relu": lambda e, f: sums(e, f, [MOVE, Micro(Op.LIN, first=True)]),
    "sigmoid": lambda e, f: sums(
        e,
        f,
        [
            *(MOVE, Micro(Op.EXP, dst="aux", first=True), Micro(Op.ADD, src="aux", first=True, constant=-0.1142578125)),
            *(Micro(Op.SET, src="aux", constant=-0.76171875), Micro(Op.EXP), Micro(Op.ADD, constant=1.875)),
            *(Micro(Op.SET, src="aux", constant=-3.90625), Micro(Op.EXP), Micro(Op.ADD, constant=0.125)),
            *(MOVE, Micro(Op.EXP, constant=2)),
        ],
    ),
    "elu1": lambda e, f: sums(
        e,
        f,
        [
            *(MOVE, Micro(Op.LIN, dst="aux", first=True), Micro(Op.ADD, src="aux", first=True), MOVE),
            *(Micro(Op.QK, -1, first=True), Micro(Op.EXP), Micro(Op.ADD, constant=4.0)),
            *(Micro(Op.ADD, src="aux", constant=16 * 4 * 177 / 256), Micro(Op.ADD, src="aux", constant=16 * 4 * 0.00174)),
            *(MOVE, Micro(Op.LIN)),
        ],
    ),
    "entropy": lambda e, f: sums(e, f, [MOVE, Micro(Op.EXP, constant=8)], slices=SLICES),
}


def edges(program, timing):
    """(position, later position, least distance): reads behind writes, writes behind reads and writes, and the order of QKs."""
    for j, later in enumerate(program):
        for i, earlier in enumerate(program[:j]):
            distances = [timing.read_distance(port) for register, port in later.reads if register == earlier.writes]
            distances += [timing.overwrite_distance(port) for register, port in earlier.reads if register == later.writes]
            if earlier.writes and earlier.writes == later.writes:
                distances.append(1)
            if distances:
                yield i, j, max(distances)


def schedule(program, timing, rotating):
    """Smallest interval, and the offset of every operation of a tile; the search is as simple as it can be."""
    found = list(edges(program, timing))
    for ii in range(len(program), 40 * len(program)):
        offsets, taken = {}, set()
        for j in range(len(program)):
            at = max([0, *(offsets[i] + distance for i, later, distance in found if later == j)])
            while at % ii in taken:
                at += 1
            offsets[j] = at
            taken.add(at % ii)
        if fits(program, offsets, ii, timing, rotating):
            return ii, offsets
    raise AssertionError("there must be an interval")


def fits(program, offsets, ii, timing, rotating):
    """Whether no tile disturbs the next one that uses the same register."""
    period = {"score": ii, "mask": ii, "aux": ii, "t": ii * rotating}
    for i, earlier in enumerate(program):
        for j, later in enumerate(program):
            # The later tile's write of what the earlier one still reads.
            for register, port in earlier.reads:
                if later.writes == register and offsets[j] + period[register] - offsets[i] < timing.overwrite_distance(port):
                    return False
            if earlier.writes and earlier.writes == later.writes and offsets[j] + period[earlier.writes] <= offsets[i]:
                return False
    return True


def constant(config, micro):
    """Significand and shift of the nearest constant."""
    value = micro.constant
    k = int(np.floor(np.log2(abs(value)))) - 7 if value else 0
    sig = round(value / 2.0**k)
    if abs(sig) == 256:
        sig, k = sig // 2, k + 1
    return sig, (set_shift if micro.op is Op.SET else add_shift)(config, k)


class Tiles:
    """Random operands of tiles: what the word of an operation is for one of them."""

    def __init__(self, config, name, e, f, count, seed):
        self.config, self.name = config, name
        rng = np.random.default_rng(seed)

        def signed(low, high, size):
            return rng.integers(low, high, size) * rng.choice([-1, 1], size)

        self.q, self.k, self.v = (
            signed(1 << 16, 1 << 17, (count, e)),
            signed(128, 256, (count, e)),
            signed(128, 256, (count, f)),
        )
        # Sums of e products of about 2^24.3: spread is their standard deviation, in units of 1.
        spread = {"linear": 9.0, "relu": 9.0, "elu1": 0.8, "entropy": 1.2}.get(name, 5.0)
        shift = 24.3 + config.product_align - np.log2(spread / np.sqrt(e) * 2.0**config.score_frac_bits)
        self.shift = round(shift) + rng.integers(-1, 2, (count, e))
        self.y = np.minimum(rng.integers(100, 140, (count, f)), 255)
        self.visible = rng.random(count) < 0.8

    def word(self, micro, tile, holds, rotating):
        """Word of an operation of a tile, whose hold register is one of those that rotate."""
        config = self.config
        registers = {"t": tile % rotating, "aux": holds - 1}
        fields = {"op": micro.op, "first": micro.first, "hold": registers[micro.src], "hold_max": registers[micro.dst]}
        if micro.max:
            return PeWord(max=True, hold_max=registers["t"])
        if micro.mask:
            lo = 0 if self.visible[tile] else 1
            return PeWord(mask=True, **rows_seen(config, lo, 1))
        match micro.op:
            case Op.QK if micro.index >= 0:
                fields |= {"operand": int(self.q[tile, micro.index]), "sig": int(self.k[tile, micro.index])}
                fields |= {"exponent": int(self.shift[tile, micro.index])}
            case Op.EXP:
                fields["operand"] = int(micro.constant) + 1
            case Op.LIN:
                fields["operand"] = -128
            case Op.SET | Op.ADD:
                fields["sig"], fields["exponent"] = constant(config, micro)
            case Op.SLNV:
                fields |= {"sig": int(self.v[tile, micro.index]), "exponent": int(self.y[tile, micro.index])}
            case Op.ENT:
                fields["exponent"] = slice_exponent(config, micro.index)
        return PeWord(**fields)


def run(config, name, e, f, count, seed, broken=None):
    """Number of sums compared, of those that differ, and the interval; ``broken`` is a port that a wrong table has."""
    timing, program = Timing(config), PROGRAMS[name](e, f)
    rotating = config.holds - any("aux" in (micro.src, micro.dst) for micro in program)
    planned = timing if broken is None else Broken(config, broken)
    ii, offsets = schedule(program, planned, rotating)
    tiles, rng = Tiles(config, name, e, f, count, seed), np.random.default_rng(seed)
    issued, expected = {}, {}
    for tile in range(count):
        model = PeModel(config)
        for position, micro in enumerate(program):
            word, at = tiles.word(micro, tile, config.holds, rotating), tile * ii + offsets[position]
            assert at not in issued
            partial = Partial(int(rng.integers(-1000, 1000)), False, False, int(rng.integers(TOP_COARSE // 2)) or NO_COARSE)
            if partial.coarse == NO_COARSE:
                partial = partial._replace(value=0)
            out = model.step(word, partial)
            issued[at] = word, partial
            if word.op in SUMS:
                expected[at] = out
            elif word.op is Op.LIN:
                assert not out.overflow
    return simulate(config, issued, expected), len(expected), ii


class Broken(Timing):
    """A timetable that is wrong in one place."""

    def __new__(cls, config, port):
        return object.__new__(cls)

    def __init__(self, config, port):
        super().__init__(config)
        object.__setattr__(self, "port", port)

    def read_distance(self, port):
        return super().read_distance(port) - (port is self.port)


def simulate(config, issued, expected):
    """How many of the expected sums are others; behind other words the bus carries anything."""
    dut, timing, latency = Pe(config), Timing(config), config.pe_latency
    last = max(issued) + latency + 1
    nothing = (PeWord(), Partial())
    wrong = 0

    def west(word):
        control = {name: getattr(word, name) for name in ("first", "max", "mask", "hold", "hold_max")}
        control |= {"op": Op.SLNV.value, "first": 1} if word.op is Op.ENT else {"op": word.op.value}
        return {"control": control, "sig": word.sig, "exponent": word.exponent}

    async def bench(ctx):
        nonlocal wrong
        coarse_of = {}
        for cycle in range(last):
            word, _ = issued.get(cycle, nothing)
            ctx.set(dut.west, west(word))
            operand = word.operand - (1 << 18) if word.operand >= 1 << 17 else word.operand
            ctx.set(dut.north, {"operand": operand, "exponent": word.query_exponent})
            partial = issued.get(cycle - (latency - 1), nothing)[1]
            coarse = issued.get(cycle - timing.coarse_stage, nothing)[1].coarse
            ctx.set(dut.partial, partial._replace(coarse=coarse)._asdict())
            out = ctx.get(dut.partial_out)
            coarse_of[cycle - timing.coarse_stage - 1] = out.coarse
            if (want := expected.get(cycle - latency)) is not None:
                wrong += (out.value, coarse_of[cycle - latency]) != (want.value, want.coarse)
            await ctx.tick()

    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
    return wrong


def machine(**changes):
    return Config(**{"rows": 4, "columns": 4, "functions": True, "entropy": True, **changes})


@pytest.mark.parametrize("name", PROGRAMS)
@pytest.mark.parametrize("contexts", [3, 4])
@pytest.mark.parametrize("pe_latency", [2, 3, 4, 5])
def test_overlapped_tiles(pe_latency, contexts, name):
    wrong, compared, _ = run(machine(pe_latency=pe_latency, contexts=contexts), name, 8, 12, 30, seed=pe_latency)
    assert (wrong, compared) == (0, 30 * (13 + SLICES * (name == "entropy")))


@pytest.mark.parametrize("name", PROGRAMS)
@pytest.mark.parametrize("changes", [{"rows": 16, "contexts": 4}, {"rows": 256, "contexts": 6}])
def test_larger_machines(changes, name):
    wrong, compared, _ = run(machine(**changes), name, 32, 32, 12, seed=7)
    assert (wrong, compared) == (0, 12 * (33 + SLICES * (name == "entropy")))


def test_a_distance_that_is_too_short_is_seen():
    """A slot less than the table says, and sums are wrong."""
    wrong, compared, _ = run(machine(contexts=4), "linear", 8, 12, 20, seed=3, broken=Port.HOLD)
    assert 0 < wrong <= compared
