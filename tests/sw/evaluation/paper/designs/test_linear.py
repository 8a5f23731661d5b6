"""Linear layers: shapes, and how often the weights are read."""

import pytest

from fusemax.evaluation.paper import FLAT_MACHINE, FUSEMAX_MACHINE, MODELS, Machine, evaluate, linear_layers
from fusemax.evaluation.paper.designs.linear import weight_reads


def machine(words: int) -> Machine:
    return Machine(rows=4, columns=4, lanes=4, frequency_hz=1, bytes_per_second=1, buffer_bytes=2 * words)


def test_weights_that_fit_are_read_once():
    """60 words of weights beside a tile of 40 words of inputs."""
    assert weight_reads(24, 10, 6, machine(100)) == 1
    assert weight_reads(24, 10, 6, machine(99)) == 24


@pytest.mark.parametrize(("tiles_that_fit", "group"), [(2, 1), (3, 2), (4, 2), (5, 4), (8, 4), (9, 8)])
def test_groups_are_powers_of_two(tiles_that_fit, group):
    """Weights that do not fit, a buffer of so many tiles: one for weights, the rest for inputs."""
    assert weight_reads(48, 10, 1000, machine(40 * tiles_that_fit)) == 48 // group


@pytest.mark.parametrize("model", MODELS.values(), ids=lambda model: model.name)
def test_layers(model):
    layers = linear_layers(model, 1024, FUSEMAX_MACHINE)
    assert [layer.name for layer in layers] == ["Q", "K", "V", "Z", "FFN1", "FFN2"]
    cost = evaluate(layers, FUSEMAX_MACHINE)
    multiply_adds = 64 * 1024 * (4 * model.width**2 + 2 * model.width * model.feed_forward)
    assert sum(cost.useful_cycles.values()) == pytest.approx(multiply_adds / 256**2)
    # Memory binds the narrowest model alone.
    assert (cost.cycles > 1.001 * multiply_adds / 256**2) == (model.name == "T5")
    other = evaluate(linear_layers(model, 1024, FLAT_MACHINE), FLAT_MACHINE)
    # Only XLM's weights do not fit FuseMax's buffer.
    assert (cost.traffic_bytes > other.traffic_bytes) == (model.name == "XLM")
