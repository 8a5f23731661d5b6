# amaranth: UnusedElaboratable=no
"""Large regular structures built of halves, so that their Verilog stays small.

A block of a size is defined once, from two blocks of half the size: the text grows with the logarithm of the
size. (When emitting, of equal parts only the first is elaborated; hence the line at the top.)
"""

from collections.abc import Callable, Mapping
from typing import Any

from amaranth.hdl import Module, Shape, Value
from amaranth.lib import wiring

from fusemax.spec import Config

from ..shared_modules import instantiate

__all__ = ["Chain", "halve", "slices"]


def halve(count: int) -> tuple[int, int]:
    """``count`` as the sum of two numbers that differ by one at most, the larger first."""
    return count - count // 2, count // 2


def slices(value: Any, sizes: tuple[int, ...]) -> list[Value]:
    """Entries of one width side by side, cut into consecutive groups of ``sizes`` entries."""
    value = Value.cast(value)
    entry_bits = len(value) // sum(sizes)
    parts, start = [], 0
    for size in sizes:
        parts.append(value[start : start + size * entry_bits])
        start += size * entry_bits
    return parts


class Chain(wiring.Component):
    """``count`` parts in a row, each fed by its neighbour.

    Parameters
    ----------
    part : callable
        Makes one part from the configuration; the result has a ``module_name``.
    config : Config
        Machine.
    count : int
        Number of parts, at least 2.
    chained : mapping of str to str
        Inputs that are fed by the part before, and the outputs that feed them.

    Members
    -------
    The chained inputs of the first part and outputs of the last. Every other member is plain bits, the entries of all parts
    one after the other: Amaranth's emission would spend more on naming the fields than on everything else.

    Raises
    ------
    ValueError
        If ``count`` is less than 2.
    """

    def __init__(self, part: Callable[[Config], Any], config: Config, count: int, chained: Mapping[str, str]):
        if count < 2:
            raise ValueError(f"count must be at least 2, not {count!r}")
        self._part, self._config, self._count, self._chained = part, config, count, chained
        prototype = part(config)
        self.module_name = f"{prototype.module_name}_chain_{count}"
        ends = {*chained, *chained.values()}
        super().__init__(
            {
                name: member if name in ends else wiring.Member(member.flow, count * Shape.cast(member.shape).width)
                for name, member in prototype.signature.members.items()
            }
        )

    def _block(self, count: int) -> Any:
        return self._part(self._config) if count == 1 else Chain(self._part, self._config, count, self._chained)

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        sizes = halve(self._count)
        near, far = halves = [
            instantiate(m, name, self._block(size), platform) for name, size in zip(("near", "far"), sizes, strict=True)
        ]
        for chain_in, chain_out in self._chained.items():
            m.d.comb += [
                getattr(near, chain_in).eq(getattr(self, chain_in)),
                getattr(far, chain_in).eq(getattr(near, chain_out)),
                getattr(self, chain_out).eq(getattr(far, chain_out)),
            ]
        for name, member in self.signature.members.items():
            if name in self._chained or name in self._chained.values():
                continue
            for half, own in zip(halves, slices(getattr(self, name), sizes), strict=True):
                port = Value.cast(getattr(half, name))
                m.d.comb += port.eq(own) if member.flow is wiring.In else own.eq(port)
        return m
