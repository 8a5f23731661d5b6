"""Weight functions: intervals, needs, and every weight against float64, at all fractions of the score."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import fusemax
from fusemax.arith.linear import linear_scale_log2
from fusemax.arith.score_product import Score
from fusemax.cascade import CASCADES, ReachError, parse
from fusemax.cascade.catalog import DIRECTORY
from fusemax.compiler.functions import WEIGHT_FUNCTIONS
from fusemax.compiler.micro import Constant, Micro, Operation
from fusemax.compiler.program import Program
from fusemax.errors import MissingOptionError
from fusemax.model.micro_operations import Weights, add, exponential, linear, set_constant
from fusemax.spec import CONFIGS, Config

BASE = replace(CONFIGS["base"], name="functions", functions=True)
TEXT = (DIRECTORY / "sigmoid_attention.yaml").read_text(encoding="utf-8")


def program(weight: str, config: Config = BASE, e: int = 64, **options: float) -> Program:
    """A cascade of the user's own, with another function of the score."""
    return fusemax.compile(parse(TEXT.replace("sigmoid(QK[m, p])", weight), "mine"), head_dim=e, config=config, **options)


@pytest.mark.parametrize(
    ("weight", "extra"),
    [
        ("2 * QK[m, p]", 2),
        ("relu(QK[m, p])", 2),
        ("exp(QK[m, p])", 2),
        ("exp(min(QK[m, p], 0))", 3),
        ("elu1(QK[m, p])", 8),
        ("sigmoid(QK[m, p])", 11),
        ("sigmoid(QK[m, p] - 6.93)", 13),
    ],
)
@pytest.mark.parametrize("e", [16, 32, 64, 120])
def test_interval_on_base(weight: str, extra: int, e: int) -> None:
    assert program(weight, e=e).ii == 2 * e + extra


@pytest.mark.parametrize(("contexts", "interval"), [(3, 149), (4, 139)])
def test_few_hold_registers_cost_slots(contexts: int, interval: int) -> None:
    config = replace(CONFIGS["small"], name="functions", contexts=contexts, functions=True)
    assert program("sigmoid(QK[m, p])", config).ii == interval


@pytest.mark.parametrize(
    ("weight", "needs"),
    [
        ("2 * QK[m, p]", ("linear",)),
        ("exp(QK[m, p])", ("linear",)),
        ("elu1(QK[m, p])", ("linear", "functions")),
        ("sigmoid(QK[m, p])", ("linear", "functions")),
    ],
)
def test_a_machine_without_the_option_is_refused(weight: str, needs: tuple[str, ...]) -> None:
    assert program(weight).needs == needs
    with pytest.raises(MissingOptionError, match=f"needs the option {needs[-1]}, which 'base' does not have") as caught:
        program(weight, CONFIGS["base"])
    assert caught.value.option == needs[-1]
    # The one that is named is enough.
    assert program(weight, replace(CONFIGS["base"], **{needs[-1]: True})).needs == needs
    if "functions" in needs:
        with pytest.raises(MissingOptionError, match="needs the option functions"):
            program(weight, replace(CONFIGS["base"], linear=True))


def test_softmax_needs_nothing() -> None:
    softmax = fusemax.compile(head_dim=64, config="base")
    assert (softmax.needs, softmax.fixed_reference, softmax.spare_hold) == ((), False, False)


# -- which function it is ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("weight", "same"),
    [
        ("1 / (1 + exp(-QK[m, p]))", "sigmoid(QK[m, p])"),
        ("exp(QK[m, p]) / (1 + exp(QK[m, p]))", "sigmoid(QK[m, p])"),
        ("(1 + tanh(QK[m, p] / 2)) / 2", "sigmoid(QK[m, p])"),
        ("max(QK[m, p], 0)", "relu(QK[m, p])"),
        ("where(QK[m, p] > 0, QK[m, p] + 1, exp(QK[m, p]))", "elu1(QK[m, p])"),
        ("sigmoid(QK[m, p] / 2)", "sigmoid(0.5 * QK[m, p])"),
        ("1 / (1 + exp(-(QK[m, p] / 2 + 3)))", "sigmoid(QK[m, p] / 2 + 3)"),
        ("1 / (1 + exp(-3 - 2 * QK[m, p]))", "sigmoid(2 * QK[m, p] + 3)"),
    ],
)
def test_it_does_not_matter_how_a_function_is_written(weight: str, same: str) -> None:
    one, other = program(weight), program(same)
    assert one.microwords == other.microwords
    assert one.feeding == other.feeding


def test_numbers_of_the_users_own() -> None:
    feeding = program("sigmoid(3 * QK[m, p] - 6)").feeding
    assert feeding.score_factor == pytest.approx(3 * np.log2(np.e))
    assert feeding.score_bias == pytest.approx(-2)
    constants = parse(
        TEXT.replace("sigmoid(QK[m, p])", "sigmoid(QK[m, p] + B)").replace(
            "  expressions", "  constants: {B: -12}\n  expressions"
        )
    )
    assert fusemax.compile(constants, head_dim=64, config=BASE).feeding.score_bias == -12
    assert program("exp(QK[m, p] - 3)").feeding.result_factor == pytest.approx(
        program("exp(QK[m, p])").feeding.result_factor * np.exp(-3)
    )


def test_a_function_of_the_users_own_under_functions() -> None:
    text = TEXT.replace("sigmoid(QK[m, p])", "gate(QK[m, p])").replace(
        "  expressions", "  functions:\n    - gate(x) = 1 / (1 + exp(-x))\n  expressions"
    )
    assert fusemax.compile(parse(text), head_dim=64, config=BASE).microwords == program("sigmoid(QK[m, p])").microwords


@pytest.mark.parametrize(
    ("weight", "reason"),
    [
        ("tanh(QK[m, p])", "is no function of the score that the table of weight functions has (exp, identity, relu, "),
        ("QK[m, p] ** 2", "is no function of the score"),
        ("sigmoid(QK[m, p]) + 1", "is no function of the score"),
        ("sigmoid(QK[m, p] - m)", "it has no operation for m, the place of an element; masks are arguments"),
    ],
)
def test_another_function_is_refused(weight: str, reason: str) -> None:
    with pytest.raises(ReachError) as caught:
        program(weight)
    assert reason in str(caught.value)
    assert caught.value.at is not None
    assert caught.value.at.line == TEXT[: TEXT.index("W[m, p] = ")].count("\n") + 1


def test_signed_weights_are_not_divided_by() -> None:
    text = (DIRECTORY / "sigmoid_attention_normalized.yaml").read_text(encoding="utf-8")
    with pytest.raises(ReachError, match="divides by a sum of weights that may be negative or zero"):
        fusemax.compile(parse(text.replace("sigmoid(QK[m, p])", "3 * QK[m, p]")), head_dim=64, config=BASE)


def test_bounds_of_scores() -> None:
    wide, narrow = program("2 * QK[m, p]"), program("2 * QK[m, p]", score_bound=3.5)
    assert (wide.feeding.score_bound, narrow.feeding.score_bound) == (31.5 / 2, 3.5 / 2)
    assert narrow.feeding.score_factor == 8 * wide.feeding.score_factor
    for bound in (0, -1, 20.5):
        with pytest.raises(ValueError, match=r"score_bound of elu1 must be greater than 0 and at most 20, not"):
            program("elu1(QK[m, p])", score_bound=bound)


# -- how exact it is -----------------------------------------------------------------------------------------------


def weights_of(name: str, config: Config, bound: float, scores: np.ndarray) -> tuple[np.ndarray, float]:
    """Weights that the micro operations of a function give, and the factor of results; scores are the machine's integers."""
    lowering = WEIGHT_FUNCTIONS[name].lower(config, bound)
    score = Score(scores[:, None], np.zeros((len(scores), 1), np.bool_))
    holds: dict = {}
    for micro in lowering.micros:
        score = step(config, micro, score, holds)
    weights = next(iter(value for register, value in holds.items() if register is Micro(Operation.SUM).source))
    assert not score.overflow.any()
    return np.ldexp(weights.mantissa[:, 0].astype(float), -16 - weights.exponent[:, 0]), lowering.result_factor


def step(config: Config, micro: Micro, score: Score, holds: dict) -> Score:
    match micro.operation:
        case Operation.MAX:
            holds[micro.target] = score.value
        case Operation.EXP:
            holds[micro.target] = exponential(config, holds[micro.source], micro.reference or 0, micro.first)
        case Operation.LIN:
            holds[micro.target], wrong = linear(config, holds[micro.source], micro.first)
            assert not wrong.any()
        case Operation.SET:
            holds[micro.target] = set_constant(config, holds[micro.source], micro.constant)
        case Operation.ADD:
            held = holds.get(micro.source) if micro.constant.sig else None
            assert held is None or isinstance(held, Weights)
            return add(config, score, held, micro.constant, micro.first)
    return score


def errors(name: str, low: float, high: float, config: Config = BASE) -> tuple[np.ndarray, np.ndarray]:
    """Errors of weights at every score from ``low`` to ``high``, and the weights as they should be."""
    function = WEIGHT_FUNCTIONS[name]
    factor = function.lower(config, function.bound or 0.0).score_factor
    unit = 2.0**-config.score_frac_bits
    ends = sorted(int(end * factor / unit) for end in (low, high))
    scores = np.arange(*ends)
    weights, result = weights_of(name, config, function.bound or 0.0, scores)
    right = function.compute(scores * unit / factor)
    return weights * result - right, right


@pytest.mark.parametrize(
    ("name", "low", "high"),
    [("exp", -9, 16), ("exp_min", -12, 12), ("sigmoid", -15, 15), ("identity", -31, 31), ("relu", -31, 31), ("elu1", -20, 20)],
)
def test_error_of_every_weight(name: str, low: float, high: float) -> None:
    """The table's constants belong to the table of exp2: another one needs other constants."""
    function = WEIGHT_FUNCTIONS[name]
    error, right = errors(name, low, high)
    worst = np.abs(error / right).max() if function.relative_error else np.abs(error).max()
    allowed = function.relative_error or function.absolute_error
    assert allowed is not None
    assert 0.5 * allowed < worst <= allowed, "the documented error is that of the function"


def test_rounding_of_sigmoid_does_not_lean_to_one_side() -> None:
    error, right = errors("sigmoid", -15, 15)
    relative = error / right
    assert relative.std() < 5.5e-5
    assert abs(relative.mean()) < 2.6e-5


def test_constants() -> None:
    for number in (0.1142578125, -1.875, 0.76171875, -0.125, 3.90625, 1.4427, -16.0, 255.0, 1e-3):
        constant = Constant.of(number)
        assert 128 <= abs(constant.sig) <= 255
        assert constant.value == pytest.approx(number, rel=2**-8)
    assert Constant.of(0.0) == Constant(0, 0)
    assert str(-Constant(195, -8)) == "-195*2^-8"
    assert Constant.of(255.9 / 256) == Constant(128, -7)


def test_library_runs_as_written() -> None:
    for name in ("sigmoid_attention", "sigmoid_attention_normalized"):
        compiled = fusemax.compile(CASCADES[name], head_dim=64, config=BASE)
        assert compiled.ii == 139
        assert compiled.feeding.raw == (name == "sigmoid_attention")
    assert linear_scale_log2(BASE) == -4
