"""The script that makes the example data: its rounding, and that the file holds its paragraph. It needs no network."""

import importlib.util
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from fusemax.evaluation import minilm

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "make_minilm.py"


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("make_minilm", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_rounding_is_to_nearest_even(script):
    """Against a search among all bfloat16 numbers, on values at, just above and just below every midpoint."""
    bits = np.arange(0x3F00, 0x4100, dtype=np.uint16)
    numbers = bits.view(ml_dtypes.bfloat16).astype(np.float64)
    middles = (numbers[:-1] + numbers[1:]) / 2
    x = np.concatenate([numbers, middles, np.nextafter(middles, 0), np.nextafter(middles, 9)])
    even = np.where(bits[:-1] % 2 == 0, bits[:-1], bits[1:])
    expected = np.concatenate([bits, even, bits[:-1], bits[1:]])
    assert np.array_equal(script.bfloat16_bits(x), expected)
    assert np.array_equal(script.bfloat16_bits(-x), expected | 0x8000)


def test_paragraph_and_layers_are_those_of_the_file(script):
    data = minilm.load()
    assert data.text == script.TEXT
    assert data.layers == script.LAYERS


def test_hash_of_the_weights_is_in_the_readme(script):
    readme = (script.TARGET.parent / "README.md").read_text(encoding="utf-8")
    assert script.WEIGHTS_SHA256 in readme
