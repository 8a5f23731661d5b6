"""FLAT: what it keeps on chip, and what it spills."""

import pytest

from fusemax.evaluation.paper import MODELS, attention_ranks
from fusemax.evaluation.paper.designs.flat import FLAT, flat_dataflow, spilt_share


@pytest.mark.parametrize("dim", [64, 128])
def test_scores_stay_on_chip_up_to_64k(dim):
    for tokens in (1 << 10, 1 << 12, 1 << 14, 1 << 16):
        assert flat_dataflow(dim, tokens).scores_on_chip
    for tokens in (1 << 18, 1 << 20):
        assert not flat_dataflow(dim, tokens).scores_on_chip


def test_spilt_share_by_hand():
    """BERT at 4K: 4096² scores alone are the 2^24 words of the buffer; four tiles of 256 rows come to that, twice."""
    ranks = attention_ranks(heads=1, e=64, f=64, queries=4096, keys=4096, rows=256, columns=256)
    share = spilt_share(ranks, flat_dataflow(64, 4096))
    assert share == pytest.approx(1 - 2**24 / (2**24 + 2 * 4 * 256 * 64))
    assert share == pytest.approx(0.00775, abs=1e-5)


def test_nothing_is_spilt_at_1k():
    ranks = attention_ranks(heads=1, e=64, f=64, queries=1024, keys=1024, rows=256, columns=256)
    assert spilt_share(ranks, flat_dataflow(64, 1024)) == 0


def test_unknown_length():
    with pytest.raises(ValueError, match=r"head dim and tokens must be one of .*, not 64 and 2048"):
        FLAT.attention(MODELS["BERT"], 2048)
