"""Processing element: one multiply, shift and add a cycle, for every operation of the cascade.

Stages of ``pe_latency`` 4 (docs/explanation/microarchitecture.md, section 2); 5 has a register more between hold select and
table, 3 none behind the multiplier, 2 none before the final adder either::

    hold -> select -> table -> | -> multiply ----> | -> shift -> | -> add -> accumulator, hold, partial
    operands ----------------> | -> x + y: amount  |             |

The products of legal words have 26 bits: |q~| < 2^17, |sig| < 2^8; and in EXP rest < 2^15, slope < 2^9.
"""

from amaranth.hdl import Array, Cat, Module, Mux, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from fusemax.arith.exp2 import MAX_WEIGHT_EXPONENT, Exp2Table
from fusemax.arith.placement import MAX_SHIFT
from fusemax.spec import Config

from ..words import OpCode, north_bus, partial_bus, west_bus
from .hand_on import hand_on
from .interval import KeyInterval
from .pipeline import Pipeline
from .shift import place_product

__all__ = ["RESET_FIELDS", "Pe"]

#: Fields of the west bus that make the others count; only they are cleared by the reset.
RESET_FIELDS = frozenset({"op", "max", "mask"})

#: The like inside the PE.
PIPELINE_RESET = frozenset({"is_qk", "is_exp", "is_sum", "is_partial", "is_max", "is_mask", "writes"})

PRODUCT_BITS = 26
#: Sig of 1.0: SUM is an SLNV with v = 1.
ONE_SIG = 128


class Pe(wiring.Component):
    """Processing element.

    Operands that are on ``west`` and ``north`` in cycle t are on ``east`` and ``south`` in t + 1, meet the partial
    value that is on ``partial`` in cycle t + ``latency`` - 1, and have their results (``partial_out``, accumulator,
    hold registers) in cycle t + ``latency``.

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
        Running maximum (MAX) or sum (SUM, SLNV), ``valid`` and ``overflow`` of MAX; unchanged by other words.
    """

    module_name = "fusemax_pe"

    def __init__(self, config: Config):
        self.config = config
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

    def elaborate(self, platform) -> Module:
        config = self.config
        table = Exp2Table(config.score_frac_bits)
        latency = config.pe_latency
        score_bits, frac_bits = config.score_bits, config.score_frac_bits
        m = Module()

        hand_on(m, self.west, self.east, RESET_FIELDS, "east_")
        hand_on(m, self.north, self.south, frozenset(), "south_")

        # The score under construction with its bits, and what MAX put aside or EXP made of it.
        score = Signal(signed(score_bits), reset_less=True)
        visible = Signal(reset_less=True)
        overflow = Signal(reset_less=True)
        holds = [Signal(score_bits + 1, name=f"hold_{index}", reset_less=True) for index in range(config.holds)]

        # Decode; hold select.
        west, control = self.west, self.west.control
        interval = data.View(KeyInterval, self.north.operand)
        p = Pipeline(m, "hold", PIPELINE_RESET)
        p.is_qk = control.op == OpCode.QK
        p.is_exp = control.op == OpCode.EXP
        p.is_sum = control.op == OpCode.SUM
        p.is_partial = p.is_sum | (control.op == OpCode.SLNV)
        p.is_max = control.max
        p.is_mask = control.mask
        p.add_score = p.is_qk & ~control.first
        p.writes = Cat(
            (p.is_exp & (control.hold == index)) | (control.max & (control.hold_max == index)) for index in range(config.holds)
        )
        row_bits = config.rows.bit_length()
        lo, hi, row = interval.lo[:row_bits], interval.hi[:row_bits], west.exponent[:row_bits]
        p.in_view = (lo <= row) & (row < hi)
        p.held = Array(holds)[control.hold] if config.holds > 1 else holds[0]
        p.operand = self.north.operand
        p.query_exponent = self.north.exponent
        p.sig = west.sig
        p.exponent = west.exponent

        # Table and operand select. A weight lies in the low bits of its hold register: mantissa, then exponent.
        p.register("select", when=latency >= 5)
        rest = p.held[: table.rest_bits]
        p.index = p.held[table.rest_bits : frac_bits]
        floor = p.held[frac_bits:score_bits].as_signed()
        mantissa = p.held[: table.MANTISSA_BITS]
        weight_exponent = p.held[table.MANTISSA_BITS :][: MAX_WEIGHT_EXPONENT.bit_length()]
        p.masked = ~p.held[score_bits]

        m.submodules.slopes = slopes = Memory(shape=table.SLOPE_BITS, depth=len(table.slopes), init=table.slopes)
        slope = slopes.read_port(domain="comb")
        m.d.comb += slope.addr.eq(p.index)

        factor_a = Signal(signed(18))
        factor_b = Signal(signed(10))
        # x + y is the shift, or the new weight's exponent: RM' + weight_shift + 1 comes from the north, -floor - 1 is ~floor.
        x = Signal(signed(18))
        y = Signal(signed(max(9, len(floor))))
        with m.If(p.is_qk):
            m.d.comb += [factor_a.eq(p.operand), x.eq(p.query_exponent)]
        with m.Elif(p.is_exp):
            m.d.comb += [factor_a.eq(rest), x.eq(p.operand)]
        with m.Else():
            m.d.comb += [factor_a.eq(mantissa), x.eq(weight_exponent)]
        with m.If(p.is_exp):
            m.d.comb += [factor_b.eq(slope.data), y.eq(~floor)]
        with m.Elif(p.is_sum):
            m.d.comb += [factor_b.eq(ONE_SIG), y.eq(0)]
        with m.Else():
            m.d.comb += [factor_b.eq(p.sig), y.eq(p.exponent)]
        p.factor_a, p.factor_b, p.x, p.y = factor_a, factor_b, x, y

        # Multiply; amount of the shift.
        p.register("multiply", last_read=("is_sum", "held", "operand", "query_exponent", "sig", "exponent"))
        product = Signal(signed(PRODUCT_BITS))
        amount = Signal(signed(19))
        m.d.comb += [product.eq(p.factor_a * p.factor_b), amount.eq(p.x + p.y)]
        negative = amount[-1]
        saturated = Mux(negative, 0, Mux(amount[6:-1].any(), MAX_SHIFT, amount[:6]))
        p.product = product
        p.shift = Mux(p.is_exp, table.shift(config.product_align), saturated)
        p.weight_exponent = saturated
        p.negative = negative

        # Shift; table entry, 0 for other words than EXP.
        p.register("shift", last_read=("factor_a", "factor_b", "x", "y"), when=latency >= 4)
        placed = place_product(p.product, config.product_align, p.shift)
        m.submodules.values = values = Memory(shape=table.VALUE_BITS, depth=len(table.values), init=table.values)
        value = values.read_port(domain="comb")
        m.d.comb += value.addr.eq(p.index)
        p.floor = placed.floor
        p.carry = placed.carry
        p.entry = Mux(p.is_exp, value.data, 0)

        # Add. The carry enters below the lowest bits: one adder.
        p.register("add", last_read=("product", "shift", "index", "is_exp"), when=latency >= 3)
        addend = Signal(signed(config.sum_bits))
        total = Signal(signed(config.sum_bits))
        m.d.comb += [
            addend.eq(Mux(p.add_score, score, 0) | Mux(p.is_partial, self.partial.value, 0) | p.entry),
            total.eq((Cat(1, addend).as_signed() + Cat(p.carry, p.floor).as_signed())[1:]),
        ]
        # |score| < 2^(score_bits-1) and |placed| <= 2^score_bits: three bits tell whether the sum is a score.
        high = total[score_bits - 1 :][:3]
        with m.If(p.is_qk):
            m.d.sync += [
                score.eq(total),
                overflow.eq((high.any() & ~high.all()) | p.negative | (p.add_score & overflow)),
            ]
        with m.If(p.is_mask):
            m.d.sync += visible.eq(p.in_view)

        # A masked weight is 0. Above the weight's bits nothing is read after EXP: no choice is made there.
        new_mantissa = Mux(p.masked, 0, total[1:][: table.MANTISSA_BITS])
        weight = Cat(new_mantissa, p.weight_exponent)
        put_aside = Cat(score, visible)
        new_held = Cat(Mux(p.is_max, put_aside[: len(weight)], weight), put_aside[len(weight) :])
        for hold, write in zip(holds, p.writes, strict=True):
            with m.If(write):
                m.d.sync += hold.eq(new_held)

        # Running maximum or sum.
        partial_value = Signal(signed(config.sum_bits), reset_less=True)
        partial_valid = Signal(reset_less=True)
        partial_overflow = Signal(reset_less=True)
        # The bus has the complement of the maximum: score > maximum is the sign of a sum, and no bit is inverted before it.
        complement = self.partial.value[:score_bits].as_signed()
        above = Signal(signed(score_bits + 1))
        m.d.comb += above.eq(score + complement)
        take = visible & (~self.partial.valid | ~above[-1])
        with m.If(p.is_max):
            m.d.sync += [
                partial_value.eq(Mux(take, ~score, self.partial.value)),
                partial_valid.eq(self.partial.valid | visible),
                partial_overflow.eq(self.partial.overflow | (overflow & visible)),
            ]
        with m.Elif(p.is_partial):
            m.d.sync += partial_value.eq(total)
        m.d.comb += [
            self.partial_out.value.eq(partial_value),
            self.partial_out.valid.eq(partial_valid),
            self.partial_out.overflow.eq(partial_overflow),
        ]
        return m
