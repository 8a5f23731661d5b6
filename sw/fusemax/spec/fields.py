"""Bit fields of words that hardware and host share, defined once in plain Python."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

__all__ = ["Field", "Layout"]


@dataclass(frozen=True)
class Field:
    """A run of bits in a word.

    Members
    -------
    name, bits
        Name and width.
    doc
        One sentence for the documentation page and the C header.
    signed
        Two's complement if true.
    """

    name: str
    bits: int
    doc: str
    signed: bool = False


@dataclass(frozen=True)
class Layout:
    """Fields side by side, the first at bit 0; names that start with ``_`` are reserved and zero."""

    name: str
    doc: str
    fields: tuple[Field, ...]

    @property
    def bits(self) -> int:
        return sum(field.bits for field in self.fields)

    def placed(self) -> Iterator[tuple[int, Field]]:
        """Every field with the number of its lowest bit."""
        offset = 0
        for field in self.fields:
            yield offset, field
            offset += field.bits

    def pack(self, values: Mapping[str, int]) -> int:
        """The word with these fields; those that are not named are zero.

        Raises
        ------
        ValueError
            If a name is unknown or a value does not fit its field.
        """
        unknown = set(values) - {field.name for field in self.fields}
        if unknown:
            raise ValueError(f"{self.name} has no field {', '.join(sorted(unknown))}")
        word = 0
        for offset, field in self.placed():
            value = int(values.get(field.name, 0))
            low, high = (-(1 << field.bits - 1), (1 << field.bits - 1) - 1) if field.signed else (0, (1 << field.bits) - 1)
            if not low <= value <= high:
                raise ValueError(f"{self.name}.{field.name} must be from {low} to {high}, not {value}")
            word |= (value & ((1 << field.bits) - 1)) << offset
        return word

    def unpack(self, word: int) -> dict[str, int]:
        """Fields of ``word`` by name, reserved ones left out."""
        values = {}
        for offset, field in self.placed():
            value = word >> offset & ((1 << field.bits) - 1)
            if field.signed and value >> field.bits - 1:
                value -= 1 << field.bits
            if not field.name.startswith("_"):
                values[field.name] = value
        return values
