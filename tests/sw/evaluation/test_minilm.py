"""Example data: shapes, provenance, and that it is what a trained encoder makes, not noise."""

import hashlib
import re
from importlib import resources

import ml_dtypes
import numpy as np

from fusemax.evaluation import minilm


def test_shapes_and_types():
    data = minilm.load()
    for x in (data.q, data.k, data.v):
        assert x.shape == (2, 12, len(data.tokens), 32)
        assert x.dtype == ml_dtypes.bfloat16
        assert np.isfinite(x.astype(np.float32)).all()
    assert data.layers == (0, 3)
    assert data.heads == tuple(range(12))


def test_tokens_spell_the_paragraph():
    data = minilm.load()
    assert len(data.tokens) >= 128
    assert (data.tokens[0], data.tokens[-1]) == ("[CLS]", "[SEP]")
    pieces = "".join(token.removeprefix("##") for token in data.tokens[1:-1])
    assert pieces == re.sub(r"\s", "", data.text.lower())


def test_operands_differ_and_repeated_tokens_agree_where_they_must():
    data = minilm.load()
    assert not np.array_equal(data.q, data.k)
    assert not np.array_equal(data.k, data.v)
    assert not np.array_equal(data.q[0], data.q[1])
    # The same word at other positions has similar values in layer 0, other words do not.
    values = data.v[0].swapaxes(0, 1).reshape(len(data.tokens), -1).astype(np.float64)
    values /= np.linalg.norm(values, axis=1, keepdims=True)
    similarity = values @ values.T
    same = np.array(data.tokens)[:, None] == np.array(data.tokens)
    apart = ~np.eye(len(data.tokens), dtype=bool)
    assert similarity[same & apart].mean() > 0.8
    assert similarity[~same].mean() < 0.4


def test_readme_has_the_file_s_hash():
    data = resources.files("fusemax") / "data"
    digest = hashlib.sha256((data / "minilm.npz").read_bytes()).hexdigest()
    assert digest in (data / "README.md").read_text(encoding="utf-8")
    assert len((data / "minilm.npz").read_bytes()) <= 1_000_000
