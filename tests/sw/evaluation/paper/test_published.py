"""The paper's figures come out of the model to the printed digits."""

import pytest

from fusemax.evaluation.paper import PUBLISHED, ratios
from fusemax.evaluation.paper.published import Published
from fusemax.evaluation.paper.results import Scope


@pytest.mark.parametrize("figure", PUBLISHED, ids=[figure.what.strip() for figure in PUBLISHED])
def test_reproduced(figure):
    assert f"{figure.computed:.{figure.digits}f}" == figure.value
    assert figure.reproduced


def test_to_more_digits():
    """Means of the artifact's own 24 rows; the latencies to all digits known, the energies without register files."""
    computed = {figure.what: figure.computed for figure in PUBLISHED}
    assert computed["attention, speed-up over FLAT"] == pytest.approx(6.7226, abs=5e-5)
    assert computed["attention, speed-up over unfused"] == pytest.approx(10.0520, abs=5e-5)
    assert computed["end to end, speed-up over FLAT"] == pytest.approx(5.3017, abs=5e-5)
    assert computed["end to end, speed-up over unfused"] == pytest.approx(7.6021, abs=5e-5)
    assert computed["attention, energy over FLAT"] == pytest.approx(0.78746, rel=1e-3)
    assert computed["attention, energy over unfused"] == pytest.approx(0.76738, rel=1e-3)
    assert computed["end to end, energy over FLAT"] == pytest.approx(0.83349, rel=1e-3)
    assert computed["end to end, energy over unfused"] == pytest.approx(0.82099, rel=1e-3)


def test_the_smallest_is_xlm_at_1k():
    assert ratios("speed-up", "binding", "flat").index(min(ratios("speed-up", "binding", "flat"))) == 3 * 6


def test_a_wrong_figure_is_found():
    figure = Published("", "binding", "flat", "speed-up", Scope.ATTENTION, max, "8.58")
    assert not figure.reproduced
