"""The bit-exact model on a GPU: bits against the NumPy model, then multiply-adds a second beside it.

    python benchmarks/cuda.py [-o FILE] [--problems N] [--queries P] [--keys M] [--head-dim E] [--variants]
    python benchmarks/cuda.py --page

The second form needs no GPU: it writes docs/measurements/cuda.md from benchmarks/results/cuda.json.
"""

# pyright: reportMissingImports=false, reportAttributeAccessIssue=false, reportPossiblyUnboundVariable=false

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from arguments import parser_of
from rows import markdown

from fusemax.arith import to_bits
from fusemax.model.bitexact import Head, Segment, attention_head
from fusemax.spec import CONFIGS, Config

try:
    import torch
    import triton

    from fusemax.cuda import attention
    from fusemax.cuda.heads import Blocks, Heads, KeySegment, compute_heads
except ImportError as error:
    MISSING: str | None = str(error)
else:
    MISSING = None

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "cuda.json"
PAGE = ROOT / "docs" / "measurements" / "cuda.md"
#: The page, with places for numbers.
TEXT = ROOT / "benchmarks" / "pages" / "cuda.md"
#: What each kernel does, in the page.
KERNELS = {
    "accumulate_sums": "sums of weights by values, and the lanes' states",
    "compute_scores": "scores, two multiply-adds of float32 per product",
    "compute_weights": "exponentials",
    "prepare_queries": "scaling of the queries",
    "find_local_references": "largest score of every tile",
    "compute_far_scores": "scores of blocks that may overflow, of which there are none here",
    "run_references": "running maximum over the tiles",
    "write_output": "division and rounding",
    "prepare_keys": "keys as float32",
    "prepare_values": "values as float64",
}
#: Machines of the random problems: the shipped ones, and formats at the ends of what a configuration may have.
MACHINES = [
    *CONFIGS.values(),
    Config(name="narrow", rows=5, columns=3, score_bits=26, score_frac_bits=10),
    Config(name="wide", rows=16, columns=2, score_bits=34, score_frac_bits=20),
]


def tensor(array: np.ndarray, kind: type, device: str) -> torch.Tensor:
    """A copy of an array's bits on the GPU."""
    return torch.from_numpy(np.ascontiguousarray(array).view(kind)).to(device)


def variants() -> list[Blocks]:
    """Blocks that are timed beside the default ones."""
    return [
        Blocks(columns=8, warps=2),
        Blocks(queries=128, columns=8),
        Blocks(queries=128),
        Blocks(queries=32, columns=32),
        Blocks(rows=4),
        Blocks(score_queries=128, score_keys=32),
        Blocks(score_queries=256, score_keys=32, score_warps=8),
    ]


class Problem:
    """Heads of random numbers: normal ones, ones of very different sizes, zeros, infinities, scores out of range, masks."""

    def __init__(self, seed: int) -> None:
        self.random = np.random.default_rng(seed)
        random = self.random
        self.config = MACHINES[seed % len(MACHINES)]
        self.float32, self.raw = bool(random.integers(2)), random.random() < 0.2
        heads, share = int(random.integers(1, 4)), int(random.integers(1, 4))
        queries, keys = int(random.integers(1, 300)), int(random.integers(1, 700))
        e, f = (int(random.integers(1, 65)) for _ in range(2))
        self.spread = float(random.choice([0, 0, 0.5, 4, 20]))
        self.q = self.bits(heads * share, queries, e, spread=min(self.spread, 1))
        power = random.choice([-1.0, -1.0, 0.0, 1.0])
        self.scale = (random.standard_normal((heads * share, queries)) * 10**power).astype(np.float32)
        self.segments = []
        for _ in range(int(random.integers(1, 3))):
            k, v = self.bits(heads, keys, e, spread=min(self.spread, 1)), self.bits(heads, keys, f, spread=self.spread)
            lo = hi = None
            if random.random() < 0.6:
                lo, hi = (random.integers(0, keys + 1, self.scale.shape) for _ in range(2))
            self.segments.append((k, v, lo, hi))

    def bits(self, *shape: int, spread: float) -> np.ndarray:
        numbers = self.random.standard_normal(shape) * np.exp(self.random.standard_normal(shape) * spread)
        numbers[self.random.random(shape) < 0.05] = 0
        bits = to_bits(np.clip(numbers, -1e30, 1e30).astype(np.float32))
        if self.random.random() < 0.1:
            bits = np.where(self.random.random(shape) < 0.02, self.random.integers(0, 1 << 16, shape), bits)
        return bits.astype(np.uint16)

    def on_gpu(self, device: str) -> Heads:
        segments = [
            KeySegment(
                tensor(k, np.int16, device),
                tensor(v, np.int16, device),
                *(None if edge is None else tensor(edge.astype(np.int32), np.int32, device) for edge in (lo, hi)),
            )
            for k, v, lo, hi in self.segments
        ]
        q, scale = tensor(self.q, np.int16, device), tensor(self.scale, np.int32, device)
        return compute_heads(self.config, q, scale, segments, float32=self.float32, raw=self.raw, states=True)

    def by_numpy(self, head: int) -> Head:
        share = len(self.q) // len(self.segments[0][0])
        segments = [
            Segment(k[head // share], v[head // share], None if lo is None else lo[head], None if hi is None else hi[head])
            for k, v, lo, hi in self.segments
        ]
        return attention_head(self.config, self.q[head], segments, self.scale[head])

    def differences(self, device: str) -> tuple[int, int, bool]:
        """Numbers compared, those that differ, and whether a score overflowed."""
        found = self.on_gpu(device)
        assert found.states is not None
        compared = wrong = 0
        overflow = nonfinite = False
        for head in range(len(self.q)):
            exact = self.by_numpy(head)
            overflow |= exact.overflow
            nonfinite |= exact.nonfinite
            out = exact.output(self.float32, self.raw)
            states = np.stack([exact.reference.astype(np.int32), exact.denominator_bits().view(np.int32)], axis=-1)
            for ours, theirs in ((found.out[head], out), (found.states[head], states)):
                compared += theirs.size
                wrong += int((ours.cpu().numpy().view(theirs.dtype) != theirs).sum())
        compared += 1
        wrong += found.sticky() != (overflow, nonfinite)
        return compared, wrong, overflow


def timed(function: Any, repeats: int = 30) -> float:
    """Median of the seconds that a function takes on the GPU."""
    for _ in range(3):
        function()
    times = []
    for _ in range(repeats):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        function()
        end.record()
        torch.cuda.synchronize()
        times.append(start.elapsed_time(end) / 1e3)
    return median(times)


def kernel_times(function: Any) -> dict[str, float]:
    """Milliseconds of every kernel of a call, from the profiler."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
        for _ in range(5):
            function()
        torch.cuda.synchronize()
    return {
        event.key[:40]: round(event.device_time_total / 5e3, 4)
        for event in sorted(profile.key_averages(), key=lambda event: -event.device_time_total)
        if event.device_time_total
    }


def page(result: dict[str, Any]) -> str:
    """docs/measurements/cuda.md."""
    found, problems = result["timed"], result["problems"]
    ways = [
        ("one head, by `compute_heads`", found["seconds"], 1),
        ("one head, by `fusemax.cuda.attention`", found["attention_seconds"], 1),
        ("eight heads, by `compute_heads`", found["eight_heads_seconds"], 8),
    ]
    macs = 2 * found["queries"] * found["keys"] * found["head_dim"]
    lines = [
        [
            what,
            f"{seconds * 1e3:.2f}",
            f"{heads * macs / seconds / 1e12:.2f}",
            f"{heads * found['numpy_seconds'] / seconds:.0f}",
        ]
        for what, seconds, heads in ways
    ]
    kernels = [[f"`{name}`", KERNELS[name], f"{found['kernel_milliseconds'][name]:.3f}"] for name in KERNELS]
    return TEXT.read_text(encoding="utf-8").format(
        **{name: result[name] for name in ("date", "device", "torch", "triton", "cuda", "command")},
        ways=markdown(["", "ms", "10¹² multiply-adds a second", "times NumPy"], lines),
        kernels=markdown(["kernel", "what it does", "ms"], kernels, left=2),
        queries=found["queries"],
        head_dim=found["head_dim"],
        numpy=f"{found['numpy_seconds']:.1f}",
        launch=f"{found['launch_seconds'] * 1e3:.2f}",
        number=problems["number"],
        compared=f"{problems['compared'] + found['compared']:,}".replace(",", " "),
        different=problems["different"] + found["different"],
        overflows=problems["with_overflow"],
    )


def main() -> int:
    parser = parser_of(__doc__)
    parser.add_argument("-o", "--output", type=Path, help="JSON file")
    parser.add_argument("--problems", type=int, default=200, help="random problems that are compared bit by bit")
    parser.add_argument("--queries", type=int, default=4096)
    parser.add_argument("--keys", type=int, default=4096)
    parser.add_argument("--head-dim", type=int, default=64)
    parser.add_argument("--variants", action="store_true", help="time other sizes of the kernels' blocks too")
    parser.add_argument("--page", action="store_true", help="only write the page")
    options = parser.parse_args()
    if options.page:
        PAGE.write_text(page(json.loads(RESULTS.read_text(encoding="utf-8"))), encoding="utf-8")
        return 0
    if MISSING is not None:
        parser.exit(1, f"{parser.prog} needs PyTorch and Triton: pip install 'fusemax[cuda]' ({MISSING})\n")
    device = "cuda"
    result: dict[str, Any] = {
        "date": time.strftime("%Y-%m-%d"),
        "device": torch.cuda.get_device_name(),
        "torch": torch.__version__,
        "triton": triton.__version__,
        "cuda": torch.version.cuda,
        "command": " ".join(["python", *sys.argv]),
    }

    start = time.perf_counter()
    totals = np.zeros(3, np.int64)
    failed = []
    for seed in range(options.problems):
        counts = Problem(seed).differences(device)
        totals += counts
        if counts[1]:
            failed.append(seed)
    compared, wrong, overflows = totals.tolist()
    result["problems"] = {
        "number": options.problems, "compared": compared, "different": wrong, "with_overflow": overflows, "failed": failed[:20],
    }  # fmt: skip
    print(
        f"{options.problems} problems: {wrong} of {compared} numbers differ ({time.perf_counter() - start:.0f} s)", flush=True
    )

    config, e = CONFIGS["base"], options.head_dim
    random = np.random.default_rng(1)
    q, k, v = (to_bits(random.standard_normal((n, e), np.float32)) for n in (options.queries, options.keys, options.keys))
    scale = np.full(options.queries, np.float32(np.log2(np.e) / np.sqrt(e)))
    on_gpu = [tensor(array[None], np.int16, device) for array in (q, k, v)]
    factor = tensor(scale[None], np.int32, device)

    def call(blocks: Blocks | None = None) -> Heads:
        return compute_heads(config, on_gpu[0], factor, [KeySegment(*on_gpu[1:])], float32=False, blocks=blocks)

    start = time.perf_counter()
    exact = attention_head(config, q, [Segment(k, v)], scale).output(float32=False)
    numpy_seconds = time.perf_counter() - start
    for _ in range(3):
        call()
    torch.cuda.synchronize()
    start = time.perf_counter()
    for _ in range(20):
        call()
    launch_seconds = (time.perf_counter() - start) / 20
    different = int((call().out[0].cpu().numpy().view(np.uint16) != exact).sum())
    seconds = timed(call)
    macs = 2 * options.queries * options.keys * e
    tensors = [array.view(torch.bfloat16) for array in on_gpu]
    eight = [tensor(to_bits(random.standard_normal((8, n, e), np.float32)), np.int16, device) for n in (len(q), len(k), len(k))]

    def call_eight() -> Heads:
        return compute_heads(config, eight[0], factor.expand(8, -1), [KeySegment(*eight[1:])], float32=False)

    def call_attention() -> torch.Tensor:
        return attention(tensors[0], tensors[1], tensors[2], config="base")

    different += int((call_attention()[0].view(torch.int16).cpu().numpy().view(np.uint16) != exact).sum())
    attention_seconds, eight_seconds = timed(call_attention), timed(call_eight, 10)
    result["timed"] = {
        "queries": options.queries, "keys": options.keys, "head_dim": e, "config": "base", "compared": exact.size,
        "different": different, "seconds": seconds, "macs_per_second": macs / seconds, "numpy_seconds": numpy_seconds,
        "times_numpy": numpy_seconds / seconds, "launch_seconds": launch_seconds,
        "attention_seconds": attention_seconds, "eight_heads_seconds": eight_seconds,
        "eight_heads_macs_per_second": 8 * macs / eight_seconds, "kernel_milliseconds": kernel_times(call),
    }  # fmt: skip
    print(json.dumps(result["timed"], indent=1), flush=True)
    if options.variants:
        result["variants"] = {}
        for blocks in variants():
            try:
                same = bool((call(blocks).out[0].cpu().numpy().view(np.uint16) == exact).all())
                times = kernel_times(lambda blocks=blocks: call(blocks))
                found = {"same": same, "seconds": timed(lambda blocks=blocks: call(blocks), 10)} | {
                    name: times.get(name) for name in ("compute_scores", "accumulate_sums")
                }
            except Exception as error:  # A block that the GPU has no room for.
                found = {"error": str(error)[:200]}
            result["variants"][repr(blocks)] = found
            print(blocks, found, flush=True)
    if options.output:
        options.output.write_text(json.dumps(result, indent=1) + "\n")
    return int(bool(wrong or different))


if __name__ == "__main__":
    sys.exit(main())
