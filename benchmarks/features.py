"""What attention as people use it costs: masks, grouped heads, decoding, ragged batches, on the emitted Verilog.

Writes benchmarks/results/features.json and docs/measurements/features.md.
Every row is saved as it is measured; a second call goes on where
the first stopped, and does again what belongs to Verilog that has changed. Exit status 1 if a result has other bits than the
model's, or the causal head takes more than 0.56 of the cycles of the unmasked one.

    python benchmarks/features.py [RESULTS]
"""

from __future__ import annotations

import json
import os
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
from arguments import results_file
from numpy.typing import NDArray

import fusemax
from fusemax.cli.options import table
from fusemax.spec import Config, config_named
from fusemax_sim.emission import verilog_digest

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "features.json"
PAGE = ROOT / "docs" / "measurements" / "features.md"
#: The page, with places for the tables.
TEXT = ROOT / "benchmarks" / "pages" / "features.md"

CONFIG = "base"
BASE = config_named(CONFIG)
#: Signed weights make scores in a third of the cycles.
WITH_LINEAR = replace(BASE, name="base_linear", linear=True)
WIDE = config_named("wide")
LATENT = "latent attention on `wide`: 576 columns, values in 512 of them"
CAUSAL_SHARE = 0.56

Row = dict[str, Any]


@dataclass(frozen=True)
class Call:
    """A call of :func:`fusemax.attention`, or of :func:`fusemax.attention_varlen`.

    Members
    -------
    title
        In the table.
    q, k
        Shapes of queries and keys, (batch, heads, length, head dim); values are shaped like keys, but for ``f``.
    arguments
        Keyword arguments, but for mask and bias.
    sequences
        Lengths of packed sequences, queries as keys; the batch is one entry then.
    config
        The machine.
    mask, bias
        Functions that make these; none if there are none. A mask is of (queries, keys).
    f
        Head dim of the values; None for that of the keys.
    in_keys
        The values are the first columns of the keys.
    """

    title: str
    q: tuple[int, int, int, int]
    k: tuple[int, int, int, int]
    arguments: Mapping[str, Any] = field(default_factory=dict)
    sequences: Sequence[int] = ()
    config: Config = BASE
    mask: Callable[[], NDArray[np.bool_]] | None = None
    bias: Callable[[], NDArray[Any]] | None = None
    f: int | None = None
    in_keys: bool = False

    def arrays(self) -> list[NDArray[Any]]:
        """Q, K and V from three seeds."""
        shapes = (self.q, self.k, (*self.k[:3], self.f or self.k[3]))
        q, k, v = (
            np.random.default_rng(seed).standard_normal(shape, dtype=np.float32).astype(ml_dtypes.bfloat16)
            for seed, shape in enumerate(shapes)
        )
        return [q, k, k[..., : v.shape[3]] if self.in_keys else v]

    def run(self, device: fusemax.Device) -> tuple[Any, Counter[str]]:
        """The call's result on a device, and what the counters of its sweeps come to."""
        if not self.sequences:
            sweeps: list[fusemax.Counters] = []
            result = fusemax.attention(*self.arrays(), device=device, counters=sweeps, **self.given())
            return result, sum((Counter(sweep.values) for sweep in sweeps), Counter())
        q, k, v = (array[0].swapaxes(0, 1) for array in self.arrays())
        edges = np.cumsum([0, *self.sequences])
        result = fusemax.attention_varlen(q, k, v, edges, edges, device=device, **self.arguments)
        return result, Counter(device.counters.values)

    def given(self) -> dict[str, Any]:
        """Keyword arguments, mask and bias among them."""
        made = {name: make() for name, make in (("mask", self.mask), ("bias", self.bias)) if make is not None}
        return {**self.arguments, **made}

    def program(self) -> fusemax.Program:
        """That of a call of one sweep."""
        return fusemax.compile(
            head_dim=self.q[3], value_dim=self.f or self.q[3], config=self.config, bias=self.bias is not None
        )

    def pairs(self) -> int:
        """Pairs of a query and a key that it sees, in all heads."""
        if self.sequences:
            heads = self.q[1]
            return sum(
                replace(self, q=(1, heads, length, self.q[3]), k=(1, heads, length, self.k[3]), sequences=()).pairs()
                for length in self.sequences
            )
        (batch, heads, queries, _), keys = self.q, self.k[2]
        lengths = self.arguments.get("key_lengths", [keys] * batch)
        position = np.arange(queries)[:, None] + self.arguments.get("query_offset", 0)
        key = np.arange(keys)
        left, right = self.arguments.get("window", (-1, -1))
        sees = np.ones((queries, keys), bool)
        if self.arguments.get("causal", False):
            sees &= key <= position
        if left >= 0:
            sees &= key >= position - left
        if right >= 0:
            sees &= key <= position + right
        if "prefix" in self.arguments:
            sees |= key < self.arguments["prefix"]
        if self.mask is not None:
            sees &= self.mask()
        return heads * sum(int((sees & (key < length)).sum()) for length in lengths)


def ragged(batch: int, longest: int) -> list[int]:
    """Lengths of a batch, from an eighth of the longest on."""
    return [int(length) for length in np.random.default_rng(9).integers(longest // 8, longest + 1, batch)]


def packed(title: str, heads: int, **arguments: Any) -> Call:
    """16 packed sequences of 17 to 300 tokens."""
    lengths = [int(length) for length in np.random.default_rng(9).integers(17, 301, 16)]
    shape = (1, heads, sum(lengths), 64)
    return Call(title, shape, shape, arguments, lengths)


def half_of_the_pairs() -> NDArray[np.bool_]:
    return np.random.default_rng(5).random((1024, 1024)) < 0.5


def documents(length: int = 1024, count: int = 8) -> NDArray[np.bool_]:
    number = np.arange(length) * count // length
    return number[:, None] == number


def candidate_tree(context: int = 448, candidates: int = 64) -> NDArray[np.bool_]:
    """Mask of a tree of candidate tokens behind a context: each sees the context, its ancestors and itself."""
    random = np.random.default_rng(6)
    seen = np.zeros((candidates, context + candidates), np.bool_)
    seen[:, :context] = True
    for token in range(candidates):
        if token:
            seen[token] = seen[random.integers(max(0, token - 8), token)]
        seen[token, context + token] = True
    return seen


def t5_bias(heads: int = 1, length: int = 512, buckets: int = 32, most: int = 128) -> NDArray[Any]:
    """T5's relative position bias of an encoder: a number per head and bucket of distances.

    Half of the buckets are for keys behind the query. In each half, half are for one distance each, the others for ranges that
    grow up to ``most`` (Raffel et al., 2020, section 2.1).
    """
    distance = np.arange(length)[None] - np.arange(length)[:, None]
    exact = buckets // 4
    far = exact + np.log(np.maximum(np.abs(distance), 1) / exact) / np.log(most / exact) * (buckets // 2 - exact)
    bucket = np.where(np.abs(distance) < exact, np.abs(distance), np.minimum(far.astype(int), buckets // 2 - 1))
    table = np.random.default_rng(7).standard_normal((heads, buckets)).astype(ml_dtypes.bfloat16)
    return table[:, bucket + np.where(distance > 0, buckets // 2, 0)]


def calls() -> list[Call]:
    long = (1, 1, 1024, 64)
    grouped = (2, 8, 256, 64)
    return [
        Call("1024 × 1024", long, long),
        Call("causal", long, long, {"causal": True}),
        Call("causal, window of 256 keys", long, long, {"causal": True, "window": (255, 0)}),
        Call("the same and a prefix of 64", long, long, {"causal": True, "window": (255, 0), "prefix": 64}),
        Call("window of 128 on either side", long, long, {"window": (128, 128)}),
        Call("8 query heads to a key head, 256 × 256", grouped, (2, 1, 256, 64)),
        Call("the same, causal", grouped, (2, 1, 256, 64), {"causal": True}),
        Call("ragged batch of 8, 2 heads, up to 256 keys", (8, 2, 256, 64), (8, 2, 256, 64), {"key_lengths": ragged(8, 256)}),
        Call("temperatures per query", (1, 4, 256, 64), (1, 4, 256, 64), {"temperature": np.linspace(0.5, 2, 256)}),
        Call("log-sum-exp out", (1, 4, 256, 64), (1, 4, 256, 64), {"return_lse": True}),
        Call(
            "decoding: 32 sequences, 8 query heads to a key head, up to 512 keys",
            (32, 8, 1, 64),
            (32, 1, 512, 64),
            {"key_lengths": ragged(32, 512)},
        ),
        Call("chunk of 64 queries at position 448", (4, 2, 64, 64), (4, 2, 512, 64), {"causal": True, "query_offset": 448}),
        packed("16 packed sequences of 17 to 300 tokens", 1),
        packed("packed sequences, causal", 1, causal=True),
        Call("scores capped at 50, 1024 × 1024", long, long, {"softcap": 50.0}),
        Call("the same on a machine with `linear`", long, long, {"softcap": 50.0}, config=WITH_LINEAR),
        Call("half of the pairs masked at random", long, long, mask=half_of_the_pairs),
        Call("8 documents of 128 tokens, as a mask", long, long, mask=documents),
        Call("tree of 64 candidates behind 448 keys", (1, 8, 64, 64), (1, 8, 512, 64), mask=candidate_tree),
        Call("bias of T5, 512 × 512", (1, 1, 512, 64), (1, 1, 512, 64), bias=t5_bias),
        Call("head of E = F = 256 on `wide`", (1, 1, 256, 256), (1, 1, 256, 256), config=WIDE),
        Call(LATENT, (1, 16, 1, 576), (1, 1, 1024, 576), config=WIDE, f=512, in_keys=True),
        Call("the same, values of their own", (1, 16, 1, 576), (1, 1, 1024, 576), config=WIDE, f=512),
    ]


def measure(call: Call) -> Row:
    """The call on the Verilog and on the model."""
    results = {}
    row: Row = {}
    for kind in ("model", "rtl"):
        with fusemax.open(kind, call.config) as device:
            results[kind], counters = call.run(device)
        row[f"{kind}_cycles"] = counters["cycles"]
    row |= {name: counters[name] for name in ("tiles", "tiles_skipped", "slots_qk", "slots_slnv", "bytes_read")}
    pairs = [part if isinstance(part, tuple) else (part,) for part in results.values()]
    row["bits_as_model"] = all(one.tobytes() == other.tobytes() for one, other in zip(*pairs, strict=True))
    pes = call.config.rows * call.config.columns
    row["utilisation"] = call.pairs() * (call.q[3] + (call.f or call.q[3])) / (pes * row["rtl_cycles"])
    return row


def measured(path: Path) -> list[tuple[Call, Row]]:
    """All calls with their rows, from the file or made now."""
    digests = {call.config: verilog_digest(call.config) for call in calls()}
    rows: dict[str, Row] = json.loads(path.read_text()) if path.is_file() else {}
    for call in calls():
        if rows.get(call.title, {}).get("machine") != digests[call.config]:
            rows[call.title] = {"machine": digests[call.config], **measure(call)}
            print(f"{call.title}: {rows[call.title]['rtl_cycles']} cycles", file=sys.stderr, flush=True)
            path.parent.mkdir(parents=True, exist_ok=True)
            partial = path.with_name(path.name + ".partial")
            partial.write_text("{\n" + ",\n".join(f"{json.dumps(k)}: {json.dumps(v)}" for k, v in rows.items()) + "\n}\n")
            os.replace(partial, path)
    return [(call, rows[call.title]) for call in calls()]


def check(results: list[tuple[Call, Row]]) -> list[str]:
    wrong = [f"{call.title}: the result must be the model's, bit for bit" for call, row in results if not row["bits_as_model"]]
    for call, row in results:
        if row["rtl_cycles"] != row["model_cycles"]:
            wrong.append(f"{call.title}: the model must take {row['rtl_cycles']} cycles, not {row['model_cycles']}")
    by_title = {call.title: row for call, row in results}
    share = by_title["causal"]["rtl_cycles"] / by_title["1024 × 1024"]["rtl_cycles"]
    if share > CAUSAL_SHARE:
        wrong.append(f"a causal head must take at most {CAUSAL_SHARE} of the cycles, not {share:.3f}")
    return wrong


HEADER = ["", "queries", "keys", "tiles", "left out", "cycles", "slots per tile", "utilisation"]


def lines(results: list[tuple[Call, Row]]) -> list[list[str]]:
    out = []
    for call, row in results:
        # A call of several sweeps has tiles of more than one kind.
        several = "softcap" in call.arguments
        slots = "" if several else call.program().ii
        shapes = ["×".join(map(str, shape[:3])) for shape in (call.q, call.k)]
        figures = [str(row["tiles"]), str(row["tiles_skipped"]), str(row["rtl_cycles"]), str(slots)]
        out.append([call.title, *shapes, *figures, f"{row['utilisation']:.4f}"])
    return out


def main() -> int:
    results = measured(results_file(__doc__, RESULTS))
    print(table(HEADER, lines(results)))
    rule = ["---", *["---:"] * (len(HEADER) - 1)]
    text = "\n".join("| " + " | ".join(line) + " |" for line in (HEADER, rule, *lines(results)))
    by_title = {call.title: row for call, row in results}
    share = by_title["causal"]["rtl_cycles"] / by_title["1024 × 1024"]["rtl_cycles"]
    PAGE.write_text(TEXT.read_text(encoding="utf-8").format(table=text, share=f"{share:.3f}"), encoding="utf-8")
    wrong = check(results)
    for line in wrong:
        print(line, file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
