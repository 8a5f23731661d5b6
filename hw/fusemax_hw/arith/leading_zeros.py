"""Count of leading zeros."""

from amaranth.hdl import C, Cat, Module, Mux, Signal, Value

__all__ = ["count_leading_zeros"]


def count_leading_zeros(m: Module, value: Value, name: str = "leading_zeros") -> tuple[Value, Value]:
    """Zeros above the highest one of ``value``, and whether there is no one at all (the count is meaningless then).

    A tree of pairs, combinational: ⌈log2(len(value))⌉ levels of a 2:1 multiplexer.
    """
    width = 1 << max(len(value) - 1, 0).bit_length()
    padded = Cat(C(0, width - len(value)), value)
    zero = Signal(width, name=f"{name}_zero0")
    m.d.comb += zero.eq(~padded)
    counts: list[Value] = [C(0, 0)] * width
    level = 0
    while len(counts) > 1:
        level += 1
        pairs = len(counts) // 2
        pair_zero = Signal(pairs, name=f"{name}_zero{level}")
        pair_counts = []
        for i in range(pairs):
            low, high = 2 * i, 2 * i + 1
            count = Signal(level, name=f"{name}_count{level}_{i}")
            m.d.comb += [
                pair_zero[i].eq(zero[low] & zero[high]),
                count.eq(Cat(Mux(zero[high], counts[low], counts[high]), zero[high])),
            ]
            pair_counts.append(count)
        zero, counts = pair_zero, pair_counts
    return counts[0], zero[0]
