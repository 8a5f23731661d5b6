"""Register map: offsets, widths, and that every configuration fits the fields that describe it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusemax.spec import COUNTERS, IDENTITY, REGISTERS, Config, Op, counter_offset, register
from fusemax.spec.isa import MICROWORD, PROGRAM_MAGIC, STAGES


def test_offsets_are_aligned_and_unique():
    offsets = [r.offset for r in REGISTERS]
    offsets += [counter_offset(name) + half for name, _ in COUNTERS for half in (0, 4)]
    assert len(offsets) == len(set(offsets))
    assert all(offset % 4 == 0 and offset < 0x1000 for offset in offsets)
    assert max(r.offset for r in REGISTERS) < 0x100


def test_names_are_unique():
    names = [r.name for r in REGISTERS] + [name for name, _ in COUNTERS]
    assert len(names) == len(set(names))


def test_registers_have_a_known_access_and_at_most_32_bits():
    for r in REGISTERS:
        assert r.access in ("ro", "rw", "w1c")
        assert r.fields is None or r.fields.bits <= 32


def test_lookup():
    assert register("STATUS").offset == 0x14
    assert counter_offset("cycles") == 0x100
    assert counter_offset("jobs") == 0x108
    with pytest.raises(KeyError):
        register("status")
    with pytest.raises(KeyError):
        counter_offset("CYCLES")


def test_magic_numbers_spell_their_names():
    assert IDENTITY.to_bytes(4, "big") == b"FXMA"
    assert PROGRAM_MAGIC.to_bytes(4, "little") == b"FMAX"


@given(
    rows=st.integers(2, 256),
    columns=st.integers(2, 256),
    max_e=st.integers(1, 256),
    max_f=st.integers(1, 256),
    bus_bits=st.sampled_from((32, 64, 128, 256, 512, 1024)),
    query_tiles=st.integers(1, 64),
    contexts=st.integers(2, 9),
    pe_latency=st.integers(2, 5),
)
def test_every_configuration_fits_shape_and_limits(**fields):
    config = Config(**fields)
    for name in ("SHAPE", "LIMITS"):
        layout = register(name).fields
        assert layout is not None
        values = {field.name: getattr(config, field.name) for field in layout.fields}
        assert layout.unpack(layout.pack(values)) == values


def test_microword_holds_every_operation_stage_and_index():
    word = {"op": max(Op), "stage": STAGES - 1, "index": 1022}
    assert MICROWORD.unpack(MICROWORD.pack(word)) == {
        **dict.fromkeys((field.name for field in MICROWORD.fields), 0),
        **word,
    }
