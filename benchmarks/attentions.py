"""What the attention systems of the literature cost and how exact they are, on base, E = F = 64, float32 out.

Writes benchmarks/results/attentions.json and docs/measurements/attentions.md. Errors are against float64 of the papers'
formulas, cycles are those of the cycle model at 1024 and 4096 tokens, over softmax attention of the same shape and mask.
With --rtl a head of every system runs on the emitted Verilog too, at 1024 tokens. Rows are saved as they are measured; a second
call goes on where the first stopped, and does again what belongs to Verilog that has changed. Exit status 1 if an error or a
ratio is above its bound, or the Verilog has other bits or other cycles than the model.

    python benchmarks/attentions.py [RESULTS] [--rtl]
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
from arguments import parser_of
from numpy.typing import NDArray
from rows import Row, Rows, markdown

import fusemax
from fusemax.cli.options import table
from fusemax.evaluation import attentions as exact
from fusemax.evaluation.exact import relative_error
from fusemax.model.cycles import ring_cycles
from fusemax.plan.array import DEFAULT
from fusemax.plan.parts import bfloat16
from fusemax.planning.descriptors import describe
from fusemax.planning.masks import Mask
from fusemax.planning.memory_map import RING_BYTES, Shape, place_arrays, place_program
from fusemax_sim.emission import verilog_digest

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "attentions.json"
PAGE = ROOT / "docs" / "measurements" / "attentions.md"
#: The page, with places for the tables.
TEXT = ROOT / "benchmarks" / "pages" / "attentions.md"

#: ``base`` with all optional operations; softmax attention has the same bits and cycles there.
CONFIG = DEFAULT
E = 64
#: Tokens and heads: of what is compared with float64, of the longer cycle count, and of what runs on the Verilog.
SHORT, LONG, RTL = (1024, 4), (4096, 1), (1024, 1)
#: Clusters, tokens of each, tokens, heads of the Routing Transformer on PG-19.
ROUTING = (16, 512, 8192, 2)
MEMORY_BYTES = 1 << 28

Operands = list[NDArray[Any]]


@dataclass(frozen=True)
class System:
    """A system with what it must show.

    Members
    -------
    operands
        Makes q, k and v, (1, heads, tokens, 64).
    run
        Of q, k, v, with the device and the list of counters.
    expected
        Of q, k, v of one head.
    causal
        What it is compared with is causal softmax attention.
    most_error, most_ratio
        Bounds, the latter for 1024 tokens.
    measure
        ``relative`` (Euclidean norms), ``largest`` absolute difference, ``ratio`` (largest relative difference).
    """

    operands: Callable[[int, int], Operands]
    run: Callable[..., NDArray[Any]]
    expected: Callable[..., NDArray[Any]]
    causal: bool
    most_error: float
    most_ratio: float
    measure: str = "relative"

    def error(self, out: NDArray[Any], operands: Operands) -> float:
        """Of all heads together."""
        expected = np.stack([self.expected(*(x[0, head] for x in operands)) for head in range(operands[0].shape[1])])
        found = out.reshape(expected.shape).astype(np.float64)
        if self.measure == "largest":
            return float(np.abs(found - expected).max())
        return float(np.abs(found / expected - 1).max()) if self.measure == "ratio" else relative_error(found, expected)


def normal(tokens: int, heads: int, peak: float = 1.0) -> Operands:
    """Normally distributed; queries with a standard deviation of ``peak``."""
    shape = (1, heads, tokens, E)
    arrays = [np.random.default_rng(seed).standard_normal(shape) for seed in range(3)]
    arrays[0] *= peak
    return [x.astype(ml_dtypes.bfloat16) for x in arrays]


def peaked(tokens: int, heads: int) -> Operands:
    """Scores as far apart as those of trained heads: a standard deviation of 4."""
    return normal(tokens, heads, 4.0)


def spread(tokens: int, heads: int) -> Operands:
    """Scores with a standard deviation of 1.4."""
    return normal(tokens, heads, 1.4)


def with_sinks(tokens: int, heads: int) -> Operands:
    """Queries with a direction in common, which the first key has too, and one at an eighth and a third of the tokens."""
    q, k, v = normal(tokens, heads)
    direction = np.random.default_rng(3).standard_normal((heads, 1, E))
    direction /= np.linalg.norm(direction, axis=-1, keepdims=True)
    places = np.zeros((tokens, 1))
    places[[0, tokens // 8, tokens // 3]] = 10
    moved = [q.astype(np.float64) + 8 * direction, k.astype(np.float64) + places * direction]
    return [*(x.astype(ml_dtypes.bfloat16) for x in moved), v]


@cache
def centroids(heads: int, clusters: int) -> NDArray[np.float64]:
    return np.random.default_rng(4).standard_normal((heads, clusters, E))


def layer_norm(x: NDArray[Any]) -> NDArray[np.float64]:
    x = x.astype(np.float64)
    return bfloat16((x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-6))


def route(q: NDArray[Any], k: NDArray[Any], v: NDArray[Any], **to: Any) -> NDArray[Any]:
    """Eight clusters of an eighth of the tokens."""
    return fusemax.routing_attention(q, k, v, np.repeat(centroids(1, 8), q.shape[1], axis=0), **to)


def routed(q: NDArray[Any], k: NDArray[Any], v: NDArray[Any]) -> NDArray[Any]:
    (members,) = fusemax.routing_members(q[None], centroids(1, 8), len(q) // 8)
    return exact.routing_attention(layer_norm(q), layer_norm(k), v, members)


KEY = np.random.default_rng(5).standard_normal((2, E)).astype(ml_dtypes.bfloat16)


def biased(**given: Any) -> Callable[..., NDArray[Any]]:
    def run(*operands: NDArray[Any], device: fusemax.Device, counters: list[Any]) -> NDArray[Any]:
        out = fusemax.biased_attention(*operands, causal=True, out_dtype="float32", device=device, **given)
        counters.append(device.counters)
        return out

    return run


def with_key(key: NDArray[Any], value: NDArray[Any]) -> Callable[..., NDArray[Any]]:
    def expected(q: NDArray[Any], k: NDArray[Any], v: NDArray[Any]) -> NDArray[Any]:
        sees = np.concatenate([np.ones((len(q), 1), bool), exact.triangle(len(q))], axis=1)
        values = np.concatenate([value[None], v]).astype(np.float64)
        return exact.softmax_weights(q, np.concatenate([key[None], k]), sees=sees) @ values

    return expected


def softmax(**options: Any) -> Callable[..., NDArray[Any]]:
    def run(*operands: NDArray[Any], device: fusemax.Device, counters: list[Any]) -> NDArray[Any]:
        out = fusemax.attention(*operands, device=device, out_dtype="float32", **options)
        counters.append(device.counters)
        return out

    return run


def causal(q: NDArray[Any], k: NDArray[Any], v: NDArray[Any]) -> NDArray[Any]:
    return exact.softmax_weights(q, k, sees=exact.triangle(len(q))) @ v.astype(np.float64)


def function(call: Callable[..., Any], member: str = "", **options: Any) -> Callable[..., NDArray[Any]]:
    """The call with options, and of its result the member."""

    def run(*operands: NDArray[Any], **to: Any) -> NDArray[Any]:
        out = call(*operands, **options, **to)
        return getattr(out, member) if member else out

    return run


def scores(q: NDArray[Any], k: NDArray[Any]) -> NDArray[np.float64]:
    return q.astype(np.float64) @ k.astype(np.float64).T / E**0.5


def sigmoid(bias: float) -> Callable[..., NDArray[Any]]:
    return lambda q, k, v: exact.weighted_attention(1 / (1 + np.exp(-scores(q, k) - bias)), v)


def elu1(x: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.maximum(x, 0) + np.exp(np.minimum(x, 0))


def elu(q: NDArray[Any], k: NDArray[Any], v: NDArray[Any]) -> NDArray[Any]:
    return exact.weighted_attention(elu1(scores(q, k)), v)


def identity(normaliser: str | None) -> Callable[..., NDArray[Any]]:
    return lambda q, k, v: exact.weighted_attention(scores(q, k), v, normaliser=normaliser, sees=exact.triangle(len(q)))


def elu_kernel(q: NDArray[Any], k: NDArray[Any], v: NDArray[Any]) -> NDArray[Any]:
    weights = elu1(q.astype(np.float64)) @ elu1(k.astype(np.float64)).T
    return exact.weighted_attention(weights, v, normaliser="sum", sees=exact.triangle(len(q)))


def below_zero(tokens: int, heads: int) -> Operands:
    """Scores with a mean of -4: elu + 1 of them is a hundredth."""
    q, k, v = (x.astype(np.float64) for x in normal(tokens, heads))
    return [x.astype(ml_dtypes.bfloat16) for x in (q / 2 + 2 / E**0.25, k - 2 / E**0.25, v)]


flow, sigmoids, linear = fusemax.flow_attention, fusemax.sigmoid_attention, fusemax.linear_attention
calibrate, route_means = fusemax.calibrated_attention, exact.column_means
FULL, CAUSAL = False, True
LOG_N = float(-np.log(SHORT[0]))

SYSTEMS: dict[str, System] = {
    "softmax, causal": System(peaked, softmax(causal=True), causal, CAUSAL, 2e-5, 1.0),
    "flow attention": System(normal, function(flow), exact.flow_attention, FULL, 2e-5, 0.23),
    "flow attention, one part": System(normal, function(flow, parts=1), exact.flow_attention, FULL, 5e-4, 0.13),
    "flow attention, causal, in chunks": System(
        normal, function(flow, causal=True), exact.flow_attention_causal, CAUSAL, 2e-5, 0.85
    ),
    "calibrated, factored": System(
        with_sinks, function(calibrate, form="factored"), lambda *x: exact.calibrated_attention(*x)[0], CAUSAL, 2e-5, 1.65
    ),
    "calibrated, masked": System(
        with_sinks, function(calibrate, form="masked"), lambda *x: exact.calibrated_attention(*x)[0], CAUSAL, 1e-5, 2.2
    ),
    "sigmoid": System(normal, function(sigmoids), sigmoid(0), FULL, 7e-5, 1.07),
    "sigmoid, bias -log n": System(normal, function(sigmoids, bias=LOG_N), sigmoid(LOG_N), FULL, 7e-5, 1.09),
    "sigmoid, bias -12": System(normal, function(sigmoids, bias=-12), sigmoid(-12), FULL, 7e-5, 1.09),
    "elu + 1 of scores, one sweep": System(spread, function(fusemax.elu_attention, form="one"), elu, FULL, 4e-5, 1.07),
    "elu + 1 of scores, two sweeps": System(below_zero, function(fusemax.elu_attention), elu, FULL, 9e-5, 2.05),
    "identity kernel": System(normal, function(linear, kernel="identity", normaliser=None), identity(None), CAUSAL, 7e-5, 1.0),
    "identity kernel over max(abs Σ, 1)": System(
        normal, function(linear, kernel="identity", normaliser="max1"), identity("max1"), CAUSAL, 7e-5, 1.0
    ),
    "elu + 1 kernel, causal, one part": System(normal, function(linear, parts=1), elu_kernel, CAUSAL, 4e-4, 1.0),
    "entropy beside attention": System(
        peaked,
        function(fusemax.attention_entropy, "entropy"),
        lambda q, k, v: exact.entropy(q, k),
        FULL,
        2e-4,
        1.035,
        "largest",
    ),
    "Sink_1": System(
        with_sinks,
        lambda *x, **to: fusemax.sink_rate(*x, key=0, **to).alpha[..., 0],
        lambda q, k, v: route_means(q, k)[0],
        CAUSAL,
        2e-6,
        1.01,
        "ratio",
    ),
    "Sink_k, all keys": System(
        peaked,
        lambda q, k, v, **to: fusemax.sink_rate(q, k, **to).alpha,
        lambda q, k, v: route_means(q, k),
        CAUSAL,
        2e-4,
        1.1,
        "ratio",
    ),
    "K-bias": System(peaked, biased(k_bias=KEY[0]), with_key(KEY[0], 0 * KEY[0]), CAUSAL, 2e-5, 1.0),
    "KV-bias, sink token": System(peaked, biased(k_bias=KEY[0], v_bias=KEY[1]), with_key(KEY[0], KEY[1]), CAUSAL, 2e-5, 1.0),
    "routing, 8 clusters of an eighth": System(normal, route, routed, CAUSAL, 2e-5, 0.16),
}
#: A ratio of 1 may be that of a few bus words more.
SLACK = 1.002


def base_cycles(device: fusemax.Device, tokens: int, heads: int, *, is_causal: bool) -> int:
    """Softmax attention of the shape and mask, float32 out."""
    fusemax.attention(*normal(tokens, heads), device=device, out_dtype="float32", causal=is_causal)
    return device.counters.cycles


def sweep_cycles(tokens: int, heads: int) -> int:
    """Causal softmax of any size by the cycle model alone."""
    machine = CONFIG
    program = fusemax.compile(head_dim=E, config=machine)
    shape = Shape(batch=1, heads=heads, share=1, queries=tokens, keys=tokens, e=E, f=E, out_dtype="float32")
    address, free = place_program(machine, program, RING_BYTES)
    jobs = describe(machine, shape, program, address, place_arrays(machine, shape, free), mask=Mask(right=0))
    return ring_cycles(machine, {program.tag: program}, jobs).cycles


def measure(system: System, bases: dict[tuple[int, bool], int]) -> Row:
    """Errors and cycles of the model."""
    row: Row = {}
    with fusemax.open("model", CONFIG, memory_bytes=MEMORY_BYTES) as device:
        for tokens, heads in (SHORT, LONG):
            operands = system.operands(tokens, heads)
            counters: list[fusemax.Counters] = []
            out = system.run(*operands, device=device, counters=counters)
            cycles = [c.cycles for c in counters]
            base = bases.get((tokens, system.causal)) or base_cycles(device, tokens, heads, is_causal=system.causal)
            bases[tokens, system.causal] = base
            row[f"sweeps_{tokens}"], row[f"ratio_{tokens}"] = cycles, sum(cycles) / base
            if tokens == SHORT[0]:
                row["error"] = system.error(out, operands)
                row["busy"] = sum(c.cycles * c.utilisation for c in counters) / sum(cycles)
    return row


def on(kind: str, system: System) -> tuple[bytes, list[int]]:
    """Bits and cycles of a head on a device."""
    counters: list[fusemax.Counters] = []
    with fusemax.open(kind, CONFIG, memory_bytes=1 << 24) as device:
        out = system.run(*system.operands(*RTL), device=device, counters=counters)
    return out.tobytes(), [c.cycles for c in counters]


def wrong(rows: dict[str, Row]) -> list[str]:
    """What is not as it must be."""
    found = []
    for name, system in SYSTEMS.items():
        row = rows[name]
        if row["error"] > system.most_error:
            found.append(f"{name}: the error must be at most {system.most_error:g}, not {row['error']:.3g}")
        if row[f"ratio_{SHORT[0]}"] > system.most_ratio * (SLACK if system.most_ratio == 1 else 1):
            found.append(f"{name}: the ratio of cycles must be at most {system.most_ratio}, not {row[f'ratio_{SHORT[0]}']:.4f}")
        if not row.get("bits_as_model", True):
            found.append(f"{name}: the Verilog must have the model's bits")
        if row.get("rtl_cycles") != row.get("model_cycles"):
            found.append(f"{name}: the Verilog must take {row['model_cycles']} cycles, not {row['rtl_cycles']}")
    share = routing_share()
    if share > 0.07:
        found.append(f"routing must take at most 0.07 of the cycles of causal attention, not {share:.4f}")
    return found


@cache
def routing_share() -> float:
    """Cycles of a Routing Transformer's clusters over those of full causal attention."""
    clusters, window, tokens, heads = ROUTING
    return sweep_cycles(window, heads * clusters) / sweep_cycles(tokens, heads)


HEADER = ["", "sweeps", "error", "bound", "1024", "4096", "bound", "busy", "Verilog"]


def lines(rows: dict[str, Row]) -> list[list[str]]:
    out = []
    for name, system in SYSTEMS.items():
        row = rows[name]
        unit = {"relative": "", "largest": " nats", "ratio": " of it"}[system.measure]
        same = row.get("bits_as_model") and row.get("rtl_cycles") == row.get("model_cycles")
        verilog = "same bits, same cycles" if same else "differs" if "rtl_cycles" in row else "not run"
        figures = [f"{row['error']:.1e}{unit}", f"{system.most_error:.0e}"]
        figures += [f"{row[f'ratio_{tokens}']:.3f}" for tokens, _ in (SHORT, LONG)]
        out.append([name, str(len(row["sweeps_1024"])), *figures, f"{system.most_ratio:g}", f"{row['busy']:.2f}", verilog])
    return out


def main(arguments: Sequence[str] | None = None) -> int:
    parser = parser_of(__doc__)
    what = f"default: benchmarks/results/{RESULTS.name}"
    parser.add_argument("results", nargs="?", type=Path, default=RESULTS, metavar="RESULTS", help=what)
    parser.add_argument("--rtl", action="store_true", help="run every system on the emitted Verilog too")
    given = parser.parse_args(arguments)
    digest = verilog_digest(CONFIG)
    rows, bases = Rows(given.results), {}
    for name, system in SYSTEMS.items():
        row = rows.rows.get(name, {})
        if row.get("machine") != digest:
            row = {"machine": digest, **measure(system, bases)}
        if given.rtl and "rtl_cycles" not in row:
            found = [on(kind, system) for kind in ("model", "rtl")]
            row["bits_as_model"] = found[0][0] == found[1][0]
            row["model_cycles"], row["rtl_cycles"] = found[0][1], found[1][1]
        rows.put(name, row)
        print(name, row, file=sys.stderr, flush=True)
    print(table(HEADER, lines(rows.rows)))
    text = TEXT.read_text(encoding="utf-8").format(table=markdown(HEADER, lines(rows.rows)), routing=f"{routing_share():.3f}")
    PAGE.write_text(text, encoding="utf-8")
    complaints = wrong(rows.rows)
    for line in complaints:
        print(line, file=sys.stderr)
    return 1 if complaints else 0


if __name__ == "__main__":
    sys.exit(main())
