"""Processing element: one multiply, shift and add a cycle, for every operation of the cascade.

Stages of ``pe_latency`` 4 (docs/explanation/microarchitecture.md, section 2); 5 has a register more between hold select and
table, 3 none behind the multiplier, 2 none before the final adder either::

    hold -> select -> table -> | -> multiply -------> | -> shift -> | -> add -> accumulator, hold, partial
    operands -> x + y -------> | -> coarse exponent   |             |

The products of legal words have 26 bits: |q~| < 2^17, |sig| < 2^8; and in EXP rest < 2^15, slope < 2^9. A weight is below
2^17, or -2^17 at least.

Options of the configuration add operations (docs/decisions/0020-functions-of-the-score.md); what is off is not there.
"""

from typing import Any

from amaranth.hdl import Array, C, Cat, Module, Mux, Signal, Value, signed
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from fusemax.arith.column_sum import COARSE_BITS, ONE_EXPONENT, ONE_SIG, STEP_LOG2, STEPS
from fusemax.arith.exp2 import MAX_WEIGHT_EXPONENT, Exp2Table
from fusemax.arith.linear import LINEAR_BITS
from fusemax.arith.placement import MAX_SHIFT
from fusemax.spec import NORTH_BITS, Config, Timing, clog2

from ..words import OpCode, north_bus, partial_bus, west_bus
from .hand_on import hand_on
from .interval import KeyInterval
from .pipeline import Pipeline
from .shift import place_product

__all__ = ["RESET_FIELDS", "Pe"]

#: Fields of the west bus that make the others count; only they are cleared by the reset.
RESET_FIELDS = frozenset({"op", "max", "mask"})

#: The like inside the PE.
PIPELINE_RESET = frozenset(
    {"is_qk", "is_exp", "is_sum", "is_lin", "is_set", "is_ent", "is_partial", "is_max", "is_mask", "to_score", "writes"}
)

PRODUCT_BITS = 26
SHIFT_BITS = MAX_SHIFT.bit_length()


class Registers:
    """What a PE keeps between words: the score under construction with its bits, and what MAX put aside or EXP made of it."""

    def __init__(self, config: Config):
        self.score = Signal(signed(config.score_bits), reset_less=True)
        self.visible = Signal(reset_less=True)
        self.overflow = Signal(reset_less=True)
        self.holds = [Signal(config.score_bits + 1, name=f"hold_{index}", reset_less=True) for index in range(config.holds)]


class Pe(wiring.Component):
    """Processing element.

    Operands that are on ``west`` and ``north`` in cycle t are on ``east`` and ``south`` in t + 1, meet the partial
    value that is on ``partial`` in cycle t + ``latency`` - 1, and have their results (``partial_out``, accumulator,
    hold registers) in cycle t + ``latency``. The partial's coarse exponent runs ahead of its value: it is on ``partial`` in
    cycle t + :attr:`coarse_stage` and on ``partial_out`` a cycle later.

    The class is long because a method is a part of a stage, and all of them share what the pipeline carries.

    Parameters
    ----------
    config : Config
        Machine.

    Members
    -------
    west, east : west_bus
        Control and west operand; handed on.
    north, south : north_bus
        North operand; handed on.
    partial, partial_out : partial_bus
        Running maximum (MAX) or sum (SUM, SLNV, ENT), ``valid`` of MAX, ``overflow`` of MAX and LIN; arbitrary behind other
        words.
    registers : Registers
        What stays from word to word.
    """

    module_name = "fusemax_pe"

    def __init__(self, config: Config):
        self.config = config
        self._table = Exp2Table(config.score_frac_bits)
        self.registers = Registers(config)
        super().__init__(
            {
                "west": In(west_bus(config)),
                "east": Out(west_bus(config)),
                "north": In(north_bus(config)),
                "south": Out(north_bus(config)),
                "partial": In(partial_bus(config)),
                "partial_out": Out(partial_bus(config)),
            }
        )

    @property
    def latency(self) -> int:
        """Cycles from operands to results."""
        return self.config.pe_latency

    @property
    def coarse_stage(self) -> int:
        """Cycles from operands to the partial's coarse exponent."""
        return Timing(self.config).coarse_stage

    def elaborate(self, platform: Any) -> Module:
        latency, config = self.latency, self.config
        linear, functions = (("half",) if config.linear else ()), (("clips",) if config.functions else ())
        m = Module()
        hand_on(m, self.west, self.east, RESET_FIELDS, "east_")
        hand_on(m, self.north, self.south, frozenset(), "south_")
        p = Pipeline(m, "hold", PIPELINE_RESET)
        self._decode(p)
        self._select_hold(p)
        p.register("select", when=latency >= 5)
        self._select_operands(m, p)
        p.register("multiply", last_read=("is_sum", "held", "operand", "query_exponent", "sig", "exponent"))
        self._multiply(m, p)
        self._compare_exponents(m, p)
        p.register("shift", last_read=("factor_a", "factor_b", "amount", "live"), when=latency >= 4)
        self._shift(m, p)
        p.register("add", last_read=("product", "shift", "index", "is_exp", *linear, *functions), when=latency >= 3)
        total = self._add(m, p)
        self._accumulate(m, p, total)
        self._write_holds(m, p, total)
        self._pass_partial(m, p, total)
        return m

    def _decode(self, p: Pipeline) -> None:
        """What the word asks for, and whether the word says that the row is seen."""
        config, west, control = self.config, self.west, self.west.control
        p.is_qk = control.op == OpCode.QK
        p.is_exp = control.op == OpCode.EXP
        p.is_sum = control.op == OpCode.SUM
        p.is_partial = p.is_sum | (control.op == OpCode.SLNV)
        p.is_max = control.max
        p.is_mask = control.mask
        p.add_score = p.is_qk & ~control.first
        to_hold = p.is_exp
        if config.linear:
            p.is_lin = control.op == OpCode.LIN
            p.first = control.first
            to_hold = to_hold | p.is_lin
        if config.functions:
            p.is_set = control.op == OpCode.SET
            is_add = control.op == OpCode.ADD
            p.to_score = p.is_qk | is_add
            p.add_score = p.add_score | is_add
            p.clips = is_add & control.first
            to_hold = to_hold | p.is_set
        if config.entropy:
            p.is_ent = (control.op == OpCode.SLNV) & control.first
        # With LIN there is one destination for all.
        p.writes = Cat(
            (to_hold | control.max) & (control.hold_max == index)
            if config.linear
            else (to_hold & (control.hold == index)) | (control.max & (control.hold_max == index))
            for index in range(config.holds)
        )
        if config.rows <= NORTH_BITS:
            bits = self.north.as_value()[: config.rows]
            p.in_view = Array(bits)[west.exponent[: clog2(config.rows)]]
        else:
            interval = data.View(KeyInterval, self.north.operand)
            row_bits = config.rows.bit_length()
            lo, hi, row = interval.lo[:row_bits], interval.hi[:row_bits], west.exponent[:row_bits]
            p.in_view = (lo <= row) & (row < hi)

    def _select_hold(self, p: Pipeline) -> None:
        """The word's hold register and its operands."""
        holds = self.registers.holds
        p.held = Array(holds)[self.west.control.hold] if len(holds) > 1 else holds[0]
        p.operand = self.north.operand
        p.query_exponent = self.north.exponent
        p.sig = self.west.sig
        p.exponent = self.west.exponent

    def _select_operands(self, m: Module, p: Pipeline) -> None:
        """Factors of the product and its exponent x + y, by operation; slope from the table."""
        table, config = self._table, self.config
        score = p.held[: config.score_bits]
        # A weight lies in the low bits of its hold register: mantissa, then exponent.
        mantissa = p.held[: config.mantissa_bits]
        weight_exponent = p.held[config.mantissa_bits :][: MAX_WEIGHT_EXPONENT.bit_length()]
        p.masked = ~p.held[config.score_bits]
        if config.linear:
            mantissa = mantissa.as_signed()
            p.live = p.is_partial & mantissa.any()
            lowest, top = config.linear_shift, config.linear_shift + LINEAR_BITS
            linear, above, sign = score[lowest:top].as_signed(), score[top - 1 :], score[-1]
            p.half = p.is_lin & score[lowest - 1] if lowest else C(0, 1)
            p.masked = ~p.held[config.score_bits] | (p.is_lin & p.first & sign)
            p.too_large = above.any() & ~above.all()
        else:
            # Unless it is 0, its leading one is set.
            linear = C(0, 1)
            p.live = p.is_partial & mantissa[-1]
        if config.functions:
            # What SET reads is a weight, whose register has no mask bit: a masked one is 0.
            p.masked = p.masked & ~p.is_set
            # -|S| by its one's complement, which is a score too.
            score = score ^ (p.is_exp & p.first & ~score[-1]).replicate(config.score_bits)
        rest = score[: table.rest_bits]
        p.index = score[table.rest_bits : config.score_frac_bits]
        floor = score[config.score_frac_bits :].as_signed()

        m.submodules.slopes = slopes = Memory(shape=table.SLOPE_BITS, depth=len(table.slopes), init=table.slopes)
        slope = slopes.read_port(domain="comb")
        m.d.comb += slope.addr.eq(p.index)

        factor_a = Signal(signed(18))
        factor_b = Signal(signed(10))
        # That of EXP is the new weight's: RM' + 1 comes from the north, -floor - 1 is ~floor.
        x = Signal(signed(18))
        y = Signal(signed(max(9, len(floor))))
        with m.If(p.is_qk):
            m.d.comb += [factor_a.eq(p.operand), x.eq(p.query_exponent)]
        with m.Elif(p.is_exp):
            m.d.comb += [factor_a.eq(rest), x.eq(p.operand)]
        with m.Elif(p.is_lin if config.linear else C(0)):
            m.d.comb += [factor_a.eq(linear), x.eq(p.operand)]
        with m.Else():
            m.d.comb += [factor_a.eq(mantissa), x.eq(weight_exponent)]
        with m.If(p.is_exp):
            m.d.comb += [factor_b.eq(slope.data), y.eq(~floor)]
        # The score that LIN takes is multiplied by 1, as the weight in SUM.
        with m.Elif(p.is_sum | p.is_lin if config.linear else p.is_sum):
            m.d.comb += [factor_b.eq(ONE_SIG), y.eq(ONE_EXPONENT)]
        with m.Else():
            # Beside ENT the significand is 0.
            m.d.comb += [factor_b.eq(p.sig | self._slice(p) if config.entropy else p.sig), y.eq(p.exponent)]
        amount = Signal(signed(19))
        m.d.comb += amount.eq(x + y)
        p.factor_a, p.factor_b, p.amount = factor_a, factor_b, amount
        if config.linear:
            del p.first
        if config.entropy:
            del p.is_ent
        if config.functions:
            del p.is_qk

    def _slice(self, p: Pipeline) -> Value:
        """Slice of the score in the accumulator that ENT's exponent belongs to (:mod:`fusemax.arith.score_slices`); else 0.

        The exponents are eight apart: bit 7 is that of the lowest slice, bit 3 that of the one above it.
        """
        score = self.registers.score[self.config.linear_shift :]
        low, middle = p.exponent[7], p.exponent[3]
        highest = score[16:25].as_signed() & (p.is_ent & ~low & ~middle).replicate(9).as_signed()
        return highest | Mux(p.is_ent & middle, score[8:16], 0) | Mux(p.is_ent & low, score[:8], 0)

    def _multiply(self, m: Module, p: Pipeline) -> None:
        """Product; what its exponent says of a score or of a weight."""
        product = Signal(signed(PRODUCT_BITS))
        m.d.comb += product.eq(p.factor_a * p.factor_b)
        p.product = product
        p.negative = p.amount[-1]
        # A weight too small to have an exponent is as one that is masked.
        p.weight_exponent = p.amount[:SHIFT_BITS]
        p.masked = p.masked | p.amount[SHIFT_BITS:].any()

    def _compare_exponents(self, m: Module, p: Pipeline) -> None:
        """Which is shifted to the other's unit, product or partial sum, and how far (:mod:`fusemax.arith.column_sum`).

        Words other than SUM and SLNV place the product on a fixed unit: for them the partial's coarse exponent is the largest.
        """
        fine, own = p.amount[:STEP_LOG2], ~p.amount[STEP_LOG2:][:COARSE_BITS]
        coarse = self.partial.coarse | ~p.is_partial.replicate(COARSE_BITS)
        # coarse - own + 2^COARSE_BITS, by an adder with carry.
        behind = Signal(COARSE_BITS + 1)
        m.d.comb += behind.eq((Cat(C(1, 1), coarse) + Cat(C(1, 1), ~own))[1:])
        ahead = ~behind[-1]
        raises = ahead & p.live

        # QK's x + y is from -256 to 510, so that a negative one reads as 256 or more in nine bits.
        step_bits = SHIFT_BITS - STEP_LOG2
        beyond = ~ahead & behind[step_bits:COARSE_BITS].any()
        amount = Cat(fine, behind[:step_bits] & ~ahead.replicate(step_bits)) | beyond.replicate(SHIFT_BITS)
        if self.config.linear:
            # To where the mantissa is taken from, a bit above the lowest.
            amount = Mux(p.is_lin, self.config.product_align + ONE_SIG.bit_length() - 2, amount)
        p.shift = Mux(p.is_exp, self._table.shift(self.config.product_align), amount)
        # One for every number of steps by which the partial sum can be shifted.
        p.keeps = Cat(
            p.is_partial & ~raises,
            (raises & (behind[:COARSE_BITS] == (1 << COARSE_BITS) - steps) for steps in range(1, STEPS + 1)),
        )
        coarse_out = Signal(COARSE_BITS, reset_less=True)
        m.d.sync += coarse_out.eq(Mux(raises, own, self.partial.coarse))
        m.d.comb += self.partial_out.coarse.eq(coarse_out)

    def _shift(self, m: Module, p: Pipeline) -> None:
        """Product on its unit; table entry, 0 for other words than EXP."""
        table = self._table
        placed = place_product(p.product, self.config.product_align, p.shift)
        m.submodules.values = values = Memory(shape=table.VALUE_BITS, depth=len(table.values), init=table.values)
        value = values.read_port(domain="comb")
        m.d.comb += value.addr.eq(p.index)
        p.floor = placed.floor
        p.carry = placed.carry
        p.entry = Mux(p.is_exp, value.data, Cat(C(0, 1), p.half) if self.config.linear else 0)
        if self.config.functions:
            p.keeps_overflow = p.add_score
            p.add_score = p.add_score & ~(p.clips & ~self.registers.score[-1])

    def _add(self, m: Module, p: Pipeline) -> Value:
        """Sum of the placed product and what the operation adds it to. The carry enters below the lowest bits: one adder."""
        before, width = self.partial.value, self.config.sum_bits
        kept: Value = C(0, width)
        for steps, keep in enumerate(p.keeps):
            moved = steps << STEP_LOG2
            kept = kept | (keep.replicate(width) & Cat(before[moved:], before[-1].replicate(moved)))
        addend = Signal(signed(width))
        total = Signal(signed(width))
        m.d.comb += [
            addend.eq(Mux(p.add_score, self.registers.score, 0) | kept.as_signed() | p.entry),
            total.eq((Cat(C(1, 1), addend).as_signed() + Cat(p.carry, p.floor).as_signed())[1:]),
        ]
        return total

    def _accumulate(self, m: Module, p: Pipeline, total: Value) -> None:
        """Score of QK, and whether it has left its range; mask bit."""
        registers = self.registers
        # |score| < 2^(score_bits-1) and |placed| <= 2^score_bits: three bits tell whether the sum is a score.
        high = total[self.config.score_bits - 1 :][:3]
        functions = self.config.functions
        keeps_overflow = p.keeps_overflow if functions else p.add_score
        with m.If(p.to_score if functions else p.is_qk):
            m.d.sync += [
                registers.score.eq(total),
                registers.overflow.eq((high.any() & ~high.all()) | p.negative | (keeps_overflow & registers.overflow)),
            ]
        with m.If(p.is_mask):
            m.d.sync += registers.visible.eq(p.in_view)

    def _write_holds(self, m: Module, p: Pipeline, total: Value) -> None:
        """Score that MAX puts aside or SET makes, weight of EXP or LIN; above the weight's bits nothing is read after these."""
        config, registers = self.config, self.registers
        mantissa = Mux(p.masked, 0, total[1:][: config.mantissa_bits])
        weight = Cat(mantissa, p.weight_exponent)
        put_aside = Cat(registers.score, registers.visible)
        if config.functions:
            # A product is 0 already where the weight is.
            made = total[1:][: config.score_bits]
            weight = Cat(mantissa, Mux(p.is_set, made[len(mantissa) : len(weight)], p.weight_exponent))
            put_aside = Cat(
                put_aside[: len(weight)],
                Mux(p.is_set, made[len(weight) :], put_aside[len(weight) : config.score_bits]),
                registers.visible,
            )
        new_held = Cat(Mux(p.is_max, put_aside[: len(weight)], weight), put_aside[len(weight) :])
        for hold, write in zip(registers.holds, p.writes, strict=True):
            with m.If(write):
                m.d.sync += hold.eq(new_held)

    def _pass_partial(self, m: Module, p: Pipeline, total: Value) -> None:
        """Running maximum or sum.

        The bus has the complement of the maximum: score > maximum is the sign of a sum, and no bit is inverted before it.
        """
        registers, partial = self.registers, self.partial
        score, visible = registers.score, registers.visible
        complement = partial.value[: len(score)].as_signed()
        above = Signal(signed(len(score) + 1))
        m.d.comb += above.eq(score + complement)
        take = visible & (~partial.valid | ~above[-1])
        leaves_range = registers.overflow & visible
        if self.config.linear:
            # Rounded up, the largest scores are negative.
            wraps = ~p.floor[-1] & total[self.config.mantissa_bits]
            leaves_range = Mux(p.is_lin, (p.too_large | wraps) & ~p.masked, leaves_range)
        value = Signal(signed(self.config.sum_bits), name="partial_value", reset_less=True)
        valid = Signal(name="partial_valid", reset_less=True)
        overflow = Signal(name="partial_overflow", reset_less=True)
        m.d.sync += [
            value.eq(Mux(p.is_max, Mux(take, ~score, partial.value), total)),
            valid.eq(partial.valid | visible),
            overflow.eq(partial.overflow | leaves_range),
        ]
        m.d.comb += [self.partial_out.value.eq(value), self.partial_out.valid.eq(valid), self.partial_out.overflow.eq(overflow)]
