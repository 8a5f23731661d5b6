"""Config: validation messages, and that the formats that follow are the ones the documentation derives."""

import json
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusemax.spec import CONFIGS, Config, config_named


def config(**fields) -> Config:
    return Config(**{"rows": 4, "columns": 4, **fields})


@st.composite
def configs(draw) -> Config:
    score_bits = draw(st.integers(26, 34))
    return Config(
        rows=draw(st.integers(2, 256)),
        columns=draw(st.integers(2, 256)),
        max_e=draw(st.integers(1, 1022)),
        max_f=draw(st.integers(1, 510)),
        bus_bits=draw(st.sampled_from((32, 64, 128, 256, 512, 1024))),
        query_tiles=draw(st.integers(1, 64)),
        score_bits=score_bits,
        score_frac_bits=draw(st.integers(10, min(20, score_bits - 10))),
    )


@pytest.mark.parametrize(
    ("fields", "error", "message"),
    [
        ({"name": 3}, TypeError, "name must be a string, not 3"),
        ({"name": "a b"}, ValueError, "name must be letters, digits and underscores, not 'a b'"),
        ({"name": ""}, ValueError, "name must be letters, digits and underscores, not ''"),
        ({"name": "größe"}, ValueError, "name must be letters, digits and underscores, not 'größe'"),
        ({"name": "x" * 101}, ValueError, "name must be of at most 100 characters, not 101"),
        ({"bus_bits": 64.0}, TypeError, "bus_bits must be an integer, not 64.0"),
        ({"bus_bits": True}, TypeError, "bus_bits must be an integer, not True"),
        ({"bus_bits": np.float64(64)}, TypeError, "bus_bits must be an integer, not np.float64(64.0)"),
        ({"rows": np.array([4, 4])}, TypeError, "rows must be an integer, not array([4, 4])"),
        ({"rows": np.bool_(True)}, TypeError, "rows must be an integer, not np.True_"),
        ({"linear": np.int64(1)}, TypeError, "linear must be True or False, not np.int64(1)"),
        ({"rows": 1}, ValueError, "rows must be from 2 to 256, not 1"),
        ({"rows": 257}, ValueError, "rows must be from 2 to 256, not 257"),
        ({"rows": 4.0}, TypeError, "rows must be an integer, not 4.0"),
        ({"rows": True}, TypeError, "rows must be an integer, not True"),
        ({"columns": 1}, ValueError, "columns must be from 2 to 256, not 1"),
        ({"columns": "4"}, TypeError, "columns must be an integer, not '4'"),
        ({"max_e": 0}, ValueError, "max_e must be from 1 to 1023, not 0"),
        ({"max_f": 1024}, ValueError, "max_f must be from 1 to 1023, not 1024"),
        (
            {"max_f": 511, "bus_bits": 32},
            ValueError,
            "max_f must be at most 510 on a bus of 32 bits, whose rows have at most 511 words, not 511",
        ),
        ({"bus_bits": 48}, ValueError, "bus_bits must be one of 32, 64, 128, 256, 512, 1024, not 48"),
        ({"address_bits": 11}, ValueError, "address_bits must be from 12 to 64, not 11"),
        ({"outstanding_reads": 0}, ValueError, "outstanding_reads must be from 1 to 256, not 0"),
        ({"query_tiles": 0}, ValueError, "query_tiles must be from 1 to 64, not 0"),
        ({"contexts": 1}, ValueError, "contexts must be from 2 to 9, not 1"),
        ({"linear": 1}, TypeError, "linear must be True or False, not 1"),
        ({"entropy": None}, TypeError, "entropy must be True or False, not None"),
        (
            {"functions": True, "contexts": 2},
            ValueError,
            "contexts must be 3 or more with functions, whose spare hold register no tile has, not 2",
        ),
        ({"pe_latency": 6}, ValueError, "pe_latency must be from 2 to 5, not 6"),
        ({"score_bits": 35}, ValueError, "score_bits must be from 26 to 34, not 35"),
        ({"score_frac_bits": 9}, ValueError, "score_frac_bits must be from 10 to 20, not 9"),
        (
            {"score_bits": 28, "score_frac_bits": 19},
            ValueError,
            "score_frac_bits must leave 10 of the 28 score_bits to the integer part, not 9",
        ),
    ],
)
def test_validation_says_field_value_and_what_is_right(fields, error, message):
    with pytest.raises(error) as caught:
        config(**fields)
    assert str(caught.value) == message


def test_named_configurations():
    shapes = {name: (c.rows, c.columns) for name, c in CONFIGS.items()}
    assert shapes == {"tiny": (4, 4), "small": (8, 8), "base": (16, 16), "wide": (16, 16), "paper": (256, 256)}
    for name, c in CONFIGS.items():
        assert c.name == name
        assert config_named(name) is c
        assert config_named(c) is c
        assert min(c.max_e, c.max_f) >= (128 if name in ("base", "wide", "paper") else 64)


def test_unknown_names():
    with pytest.raises(ValueError, match=r"^config must be one of tiny, small, base, wide, paper or a Config, not 'big'$"):
        config_named("big")
    with pytest.raises(TypeError, match=r"^config must be a Config or a name, not 4$"):
        config_named(4)  # pyright: ignore[reportArgumentType]


def test_equality_and_round_trip():
    c = config(rows=3, columns=5)
    assert Config(**c.to_dict()) == c
    assert c != config(rows=5, columns=3)
    assert hash(Config(**c.to_dict())) == hash(c)


@given(configs(), st.integers(1, 254), st.integers(1, 254))
def test_exponent_words_place_a_product_on_the_score_grid(c, query_exponent, key_exponent):
    """q~ = ±operand·2^(Eq-127-16) times k = sig·2^(Ek-134), in units of 2^-SF (microarchitecture, section 1)."""
    shift = c.query_exponent_bias - query_exponent + 255 - key_exponent
    placed = Fraction((1 << 16) * 128 << c.product_align) / Fraction(2) ** shift
    value = Fraction(2) ** (query_exponent - 127) * Fraction(2) ** (key_exponent - 127)
    assert placed == value * 2**c.score_frac_bits


@given(configs())
def test_a_column_of_largest_products_fits_the_sum(c):
    """No mantissa exceeds 2^17 - 1 and no significand 255; a shift of the partial sum rounds down."""
    largest = c.rows * ((1 << 17) - 1) * 255 << c.product_align
    assert largest < 2 ** (c.sum_bits - 1)


@given(configs())
def test_a_score_and_a_placed_product_fit_the_sum(c):
    assert 2 ** (c.score_bits - 1) + 2**c.score_bits < 2 ** (c.sum_bits - 1)


@pytest.mark.parametrize(("rows", "bits"), [(2, 35), (4, 35), (5, 36), (16, 37), (17, 38), (256, 41)])
def test_sums_are_as_wide_as_the_rows_need(rows, bits):
    assert config(rows=rows).sum_bits == bits


@given(configs(), st.data())
def test_resident_query_tiles_fit_every_memory(c, data):
    e = data.draw(st.integers(1, c.max_e))
    f = data.draw(st.integers(1, c.max_f))
    tiles = c.resident_query_tiles(e, f)
    assert tiles >= c.query_tiles
    assert tiles * -(-e // c.beat_elements) <= c.query_bank_beats
    assert tiles * (f + 1) <= c.state_words
    assert tiles <= c.reference_words


@given(configs())
def test_memories_hold_the_largest_rows(c):
    assert c.key_beats * c.bus_bits >= 16 * c.max_e > (c.key_beats - 1) * c.bus_bits
    assert c.value_beats * c.bus_bits >= 16 * c.max_f > (c.value_beats - 1) * c.bus_bits
    assert c.output_beats * c.bus_bits >= 2 * 32 * c.max_f
    assert c.program_words >= c.max_e + c.max_f + 2


def test_functions_bring_linear_weights_and_the_linear_weight_is_a_slice_of_the_score():
    assert config(functions=True).linear and not config(entropy=True).linear
    assert [config(score_frac_bits=bits).linear_shift for bits in (10, 12, 13, 16, 20)] == [0, 0, 1, 4, 8]


def test_numbers_of_numpy_become_pythons() -> None:
    """So that files and digests of the configuration are the same."""
    plain = config(name="x" * 100, bus_bits=64, contexts=0, linear=True)
    found = config(name="x" * 100, bus_bits=np.int64(64), rows=np.uint8(4), contexts=np.int32(0), linear=np.bool_(True))
    assert found == plain and json.dumps(found.to_dict()) == json.dumps(plain.to_dict())
    assert all(type(value) in (int, bool, str) for value in found.to_dict().values())
