import math
from fractions import Fraction

import numpy as np
import pytest

from fusemax.arith.reference import ceil_score, update_reference
from fusemax.spec import CONFIGS, Config

CONFIG = CONFIGS["tiny"]
FINE = Config(rows=3, columns=5, score_bits=34, score_frac_bits=20)


@pytest.mark.parametrize("config", [CONFIG, FINE], ids=["tiny", "fine"])
def test_ceil(config: Config):
    top, unit = 1 << config.score_bits - 1, 1 << config.score_frac_bits
    edges = [-top, -top + 1, -unit - 1, -unit, -unit + 1, -1, 0, 1, unit - 1, unit, unit + 1, top - 1]
    scores = np.concatenate([edges, np.random.default_rng(51).integers(-top, top, 100_000)])
    got = ceil_score(config, scores)
    assert got.tolist() == [math.ceil(Fraction(s, unit)) for s in scores.tolist()]
    limit = 1 << config.reference_bits - 1
    assert -limit <= got.min() and got.max() < limit


def test_update():
    rng = np.random.default_rng(52)
    count = 100_000
    reference = rng.integers(-1000, 1000, count)
    local = (rng.integers(-1000, 1000, count) << 16) + rng.integers(-2, 3, count)
    valid, local_valid = rng.integers(0, 2, (2, count)).astype(bool)
    got = update_reference(CONFIG, reference, valid, local, local_valid)
    rows = zip(reference.tolist(), valid.tolist(), local.tolist(), local_valid.tolist(), strict=True)
    for (old, old_valid, score, score_valid), new, new_valid, distance in zip(
        rows, *(part.tolist() for part in got), strict=True
    ):
        operands = [old] * old_valid + [math.ceil(score / 65536)] * score_valid
        assert new_valid == bool(operands)
        if operands:
            assert new == max(operands)
        assert distance == (min(max(operands) - old, 255) if old_valid else 255)


def test_distance_saturates():
    got = update_reference(CONFIG, np.array([0, 0, 0]), True, np.array([254, 255, 256]) << 16, True)
    assert got.distance.tolist() == [254, 255, 255]
    assert got.reference.tolist() == [254, 255, 256]
