"""Layout: pack and unpack are inverse, values that do not fit are refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusemax.spec import (
    DESCRIPTOR,
    DESCRIPTOR_BYTES,
    DESCRIPTOR_STRIDE_BYTES,
    MICROWORD,
    PROGRAM_HEADER,
    REGISTERS,
    Field,
    Layout,
)

EXAMPLE = Layout(
    "Example", "", (Field("low", 3, ""), Field("_gap", 2, ""), Field("number", 4, "", signed=True), Field("top", 1, ""))
)


@st.composite
def layouts_with_values(draw):
    fields, values = [], {}
    for index in range(draw(st.integers(1, 12))):
        field = Field(f"f{index}", draw(st.integers(1, 70)), "", draw(st.booleans()))
        low = -(1 << field.bits - 1) if field.signed else 0
        values[field.name] = draw(st.integers(low, low + (1 << field.bits) - 1))
        fields.append(field)
    return Layout("Random", "", tuple(fields)), values


@given(layouts_with_values())
def test_unpack_inverts_pack(case):
    layout, values = case
    word = layout.pack(values)
    assert 0 <= word < 1 << layout.bits
    assert layout.unpack(word) == values


def test_first_field_is_at_bit_zero():
    assert [(offset, field.name) for offset, field in EXAMPLE.placed()] == [(0, "low"), (3, "_gap"), (5, "number"), (9, "top")]
    assert EXAMPLE.pack({"low": 5, "number": -1, "top": 1}) == 0b1_1111_00_101
    assert EXAMPLE.bits == 10


def test_reserved_fields_are_not_unpacked():
    assert EXAMPLE.unpack(0x3FF) == {"low": 7, "number": -1, "top": 1}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"low": 8}, "Example.low must be from 0 to 7, not 8"),
        ({"low": -1}, "Example.low must be from 0 to 7, not -1"),
        ({"number": 8}, "Example.number must be from -8 to 7, not 8"),
        ({"number": -9}, "Example.number must be from -8 to 7, not -9"),
        ({"middle": 1, "bottom": 1}, "Example has no field bottom, middle"),
    ],
)
def test_pack_refuses(values, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        EXAMPLE.pack(values)


def test_sizes_of_shared_words():
    assert MICROWORD.bits == 32
    assert PROGRAM_HEADER.bits == 8 * 16
    assert DESCRIPTOR.bits == 8 * DESCRIPTOR_BYTES
    assert DESCRIPTOR_BYTES <= DESCRIPTOR_STRIDE_BYTES


@pytest.mark.parametrize("layout", [DESCRIPTOR, MICROWORD, PROGRAM_HEADER, *(r.fields for r in REGISTERS if r.fields)])
def test_names_are_unique(layout):
    names = [field.name for field in layout.fields]
    assert len(names) == len(set(names))


def test_descriptor_numbers_of_64_bits_are_aligned():
    assert all(offset % 64 == 0 for offset, field in DESCRIPTOR.placed() if field.bits == 64)
