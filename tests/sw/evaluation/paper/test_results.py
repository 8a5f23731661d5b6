"""All models and lengths, against closed forms that are written down here once more, and what the records look like."""

import pytest

from fusemax.evaluation.bench.paper import paper_cycles_per_tile
from fusemax.evaluation.paper import DESIGNS, LENGTHS, MODELS, Scope, mean, ratios, records, result, results_of

CLOCK_HZ = 940e6
BANDWIDTH = 400 * 2**30


def cycles_per_tile(design: str, e: int, f: int, tiles: int, tokens: int, traffic_cycles: list[float]) -> float:
    """Cycles of a tile of 256 keys and 256 queries, memory left out except where it is serial."""
    d = 256
    match design:
        case "ours":
            return e + f + 2
        case "binding":
            return max(e + 1, 1 + f + f / tiles) + 1 + 8 + f
        case "arch":
            return max(e + 1, 1 + f / tiles) + d + 1 + 8 + 2 * f
        case "cascade":
            return max(4 * d + 5 + 2 * f + f / tiles, e + f)
        case "flat":
            return max(4 * d, e + d if tokens <= 65536 else 2 * d)
        case "unfused":
            scores, softmax, values = traffic_cycles
            return max(scores, e) + max(softmax, 4 * d) + max(values, f)
    raise AssertionError(design)


def unfused_bytes(heads: int, e: int, tokens: int) -> list[int]:
    scores, rows = heads * tokens**2, heads * tokens
    reads = 1 if tokens <= 65536 else e // 8
    product = 2 * (scores + rows * e * (1 + reads))
    return [product, 4 * scores, product]


@pytest.mark.parametrize("design", DESIGNS)
def test_latency_is_the_closed_form(design):
    for found in results_of(design):
        model, tokens = MODELS[found.model], LENGTHS[found.length]
        heads, e = 64 * model.heads, model.head_dim
        steps = heads * tokens**2 / 256**2
        serial = unfused_bytes(heads, e, tokens)
        traffic_cycles = [count / BANDWIDTH * CLOCK_HZ / steps for count in serial]
        cycles = cycles_per_tile(design, e, e, tokens // 256, tokens, traffic_cycles)
        expected = cycles * steps / CLOCK_HZ
        if design == "unfused":
            assert found.cost.traffic_bytes == sum(serial)
        else:
            expected = max(expected, found.cost.traffic_bytes / BANDWIDTH)
        assert found.cost.latency_s == pytest.approx(expected, rel=1e-12)


def test_memory_binds_flat_alone():
    for design in ("cascade", "arch", "binding", "ours"):
        assert all(found.cost.memory_s < found.cost.compute_s for found in results_of(design))
    bound = {found.length for found in results_of("flat") if found.cost.memory_s > found.cost.compute_s}
    assert bound == {"256K", "1M"}


def test_the_benchmark_has_the_same_closed_form():
    for found in results_of("binding"):
        model, tokens = MODELS[found.model], LENGTHS[found.length]
        steps = 64 * model.heads * (tokens // 256) ** 2
        assert found.cost.cycles / steps == pytest.approx(
            paper_cycles_per_tile(model.head_dim, model.head_dim, tokens // 256), rel=1e-12
        )


@pytest.mark.parametrize("design", ["cascade", "arch", "binding", "ours"])
def test_traffic_of_fused_designs(design):
    """Q once, K and V once per group of query tiles, AV once; 128 tiles a group at E = 64, 64 at 128, 32 for +Cascade."""
    for found in results_of(design):
        model, tokens = MODELS[found.model], LENGTHS[found.length]
        most = 32 if design == "cascade" else {64: 128, 128: 64}[model.head_dim]
        groups = max(1, tokens // 256 // most)
        row = 64 * model.heads * tokens * model.head_dim
        assert found.cost.traffic_bytes == 2 * row * (2 + 2 * groups)


def test_ours_multiplies_more_of_the_time_and_never_waits_for_the_lanes():
    for found in results_of("ours"):
        dim = MODELS[found.model].head_dim
        assert found.flops_utilisation == pytest.approx(2 * dim / (2 * dim + 2), rel=1e-12)
        assert found.util_2d == pytest.approx(1, rel=1e-12)
        assert found.util_1d == pytest.approx((dim + 2) / (2 * dim + 2), rel=1e-12)
        published = result("binding", found.model, found.length)
        assert found.cost.latency_s < published.cost.latency_s
        assert found.cost.traffic_bytes == published.cost.traffic_bytes


def test_energy_without_the_wraps_of_the_artifact():
    assert f"{mean(ratios('energy without wraps', 'binding', 'flat')):.3f}" == "0.794"
    assert f"{mean(ratios('energy without wraps', 'binding', 'unfused')):.3f}" == "0.771"


@pytest.mark.parametrize(
    ("design", "most"), [("unfused", 2.9), ("flat", 3.0), ("cascade", 7.6), ("arch", 0.52), ("binding", 0.52)]
)
def test_the_wraps_raise_the_energy(design, most):
    """In percent, at most; nothing at the shortest length."""
    raised = [100 * found.energy.wrapped_pj / found.energy.without_wraps_pj for found in results_of(design)]
    assert max(raised) == pytest.approx(most, rel=0.02)
    assert min(raised) == 0


def test_only_cascade_leaves_operations_out():
    for design in DESIGNS:
        unbilled = [found.energy.unbilled_pj for found in results_of(design)]
        assert all(pj > 0 for pj in unbilled) if design == "cascade" else not any(unbilled)


def test_records():
    rows = records()
    assert len(rows) == 6 * 4 * 6 * 2
    keys = {"design", "model", "length", "scope", "latency_s", "traffic_bytes", "energy_pj", "util_2d", "util_1d"}
    for row in rows:
        assert set(row) == keys
        assert 0 <= row["util_1d"] <= 1 + 1e-12
        assert 0 < row["util_2d"] <= 1 + 1e-12
        assert min(row["latency_s"], row["traffic_bytes"], row["energy_pj"]) > 0
    assert {row["design"] for row in rows} == {"unfused", "flat", "cascade", "arch", "binding", "ours"}
    assert {row["model"] for row in rows} == {"BERT", "TrXL", "T5", "XLM"}
    assert {row["length"] for row in rows} == {"1K", "4K", "16K", "64K", "256K", "1M"}
    assert {row["scope"] for row in rows} == {"attention", "end_to_end"}


def test_end_to_end_is_attention_and_linear_layers():
    attention = result("binding", "BERT", "4K")
    whole = result("binding", "BERT", "4K", Scope.END_TO_END)
    multiply_adds = 64 * 4096 * 12 * 768**2
    linear_s = multiply_adds / 256**2 / CLOCK_HZ
    assert whole.cost.latency_s - attention.cost.latency_s == pytest.approx(linear_s, rel=1e-12)
    assert whole.util_2d == pytest.approx(
        (attention.util_2d * attention.cost.latency_s + linear_s) / whole.cost.latency_s, rel=1e-12
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("fast", "BERT", "1K"), "design must be one of unfused, flat, cascade, arch, binding, ours, not 'fast'"),
        (("flat", "GPT", "1K"), "model must be one of BERT, TrXL, T5, XLM, not 'GPT'"),
        (("flat", "BERT", "2K"), "length must be one of 1K, 4K, 16K, 64K, 256K, 1M, not '2K'"),
    ],
)
def test_unknown_names(arguments, message):
    with pytest.raises(ValueError, match=message):
        result(*arguments)


def test_unknown_quantity():
    with pytest.raises(ValueError, match="quantity must be speed-up, energy or energy without wraps, not 'area'"):
        ratios("area", "ours", "flat")
