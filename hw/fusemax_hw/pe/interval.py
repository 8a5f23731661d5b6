"""Key interval of a column, in the slot that sets the mask bits; on the north operand if the array has many rows."""

from amaranth.hdl import unsigned
from amaranth.lib import data

__all__ = ["KeyInterval"]


class KeyInterval(data.Struct):
    """The rows ``lo <= row < hi`` are visible; as wide as the north operand."""

    lo: unsigned(9)
    hi: unsigned(9)
