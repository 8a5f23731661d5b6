"""Greedy decoding with a small transformer whose keys and values are in device memory; tokens as NumPy's.

    python examples/decode.py [model|rtl] [CONFIG]

The transformer has random weights: two layers, four query heads that share two key heads. Its attention runs on the device, the
rest in NumPy; the same in NumPy alone, in float32 with q, k and v rounded to bfloat16, must choose the same tokens.
"""

import sys

import ml_dtypes
import numpy as np

import fusemax

VOCABULARY, WIDTH, LAYERS, HEADS, KEY_HEADS, DIM = 256, 64, 2, 4, 2, 16
PROMPT = [72, 101, 108, 108, 111]
TOKENS = 32


def normalised(x):
    return x / np.sqrt((x * x).mean(-1, keepdims=True) + 1e-6)


def rounded(x):
    return x.astype(ml_dtypes.bfloat16)


class Transformer:
    """Logits for the token behind those that it was told, call after call; ``attend`` does the attention of a layer."""

    def __init__(self, attend):
        self.attend = attend
        random = np.random.default_rng(7)

        def weights(rows, columns):
            return (random.standard_normal((rows, columns)) / np.sqrt(rows)).astype(np.float32)

        self.embedding = random.standard_normal((VOCABULARY, WIDTH)).astype(np.float32)
        self.layers = [
            {
                "q": weights(WIDTH, HEADS * DIM) * 2,
                "k": weights(WIDTH, KEY_HEADS * DIM) * 2,
                "v": weights(WIDTH, KEY_HEADS * DIM),
                "out": weights(HEADS * DIM, WIDTH),
                "up": weights(WIDTH, 4 * WIDTH),
                "down": weights(4 * WIDTH, WIDTH),
            }
            for _ in range(LAYERS)
        ]
        self.head = weights(WIDTH, VOCABULARY)
        self.length = 0

    def __call__(self, tokens):
        places = self.length + np.arange(len(tokens))[:, None]
        angles = places / 1000.0 ** (np.arange(WIDTH // 2) * 2 / WIDTH)
        x = self.embedding[tokens] + np.concatenate([np.sin(angles), np.cos(angles)], axis=1).astype(np.float32)
        for number, layer in enumerate(self.layers):
            y = normalised(x)
            # (heads, tokens, dim)
            q, k, v = ((y @ layer[name]).reshape(len(tokens), -1, DIM).swapaxes(0, 1) for name in "qkv")
            attended = self.attend(number, rounded(q), rounded(k), rounded(v)).astype(np.float32)
            x = x + attended.swapaxes(0, 1).reshape(len(tokens), -1) @ layer["out"]
            x = x + np.maximum(normalised(x) @ layer["up"], 0) @ layer["down"]
        self.length += len(tokens)
        return normalised(x[-1]) @ self.head


class NumpyAttention:
    """Attention over all keys so far, in float32."""

    def __init__(self):
        self.keys = [np.zeros((KEY_HEADS, 0, DIM), np.float32) for _ in range(LAYERS)]
        self.values = [np.zeros((KEY_HEADS, 0, DIM), np.float32) for _ in range(LAYERS)]

    def __call__(self, layer, q, k, v):
        q, k, v = (x.astype(np.float32) for x in (q, k, v))
        self.keys[layer] = keys = np.concatenate([self.keys[layer], k], axis=1)
        self.values[layer] = values = np.concatenate([self.values[layer], v], axis=1)
        keys, values = (np.repeat(x, HEADS // KEY_HEADS, axis=0) for x in (keys, values))
        scores = q @ keys.swapaxes(1, 2) / np.float32(np.sqrt(DIM))
        place = keys.shape[1] - q.shape[1] + np.arange(q.shape[1])[:, None]
        scores = np.where(np.arange(keys.shape[1]) <= place, scores, -np.inf)
        weights = np.exp(scores - scores.max(-1, keepdims=True))
        return weights @ values / weights.sum(-1, keepdims=True)


class DeviceAttention:
    """The same on a device, with a cache for each layer."""

    def __init__(self, device):
        self.device = device
        self.caches = [fusemax.KVCache(device, heads=KEY_HEADS, e=DIM, page_size=16, pages=4) for _ in range(LAYERS)]
        self.cycles = self.slots = 0
        for cache in self.caches:
            cache.allocate("text")

    def __call__(self, layer, q, k, v):
        cache = self.caches[layer]
        cache.append("text", k, v)
        out = cache.attend(q[None], ["text"], causal=True, out_dtype="float32")[0]
        self.cycles += self.device.counters.cycles
        self.slots += self.device.counters.slots_qk + self.device.counters.slots_slnv
        return out


def decode(attend):
    """Tokens that were chosen, and the smallest distance between the two best logits."""
    model = Transformer(attend)
    logits, chosen, margin = model(PROMPT), [], np.inf
    for _ in range(TOKENS):
        second, best = np.argsort(logits)[-2:]
        margin = min(margin, float(logits[best] - logits[second]))
        chosen.append(int(best))
        logits = model([best])
    return chosen, margin


def main():
    kind, config = (sys.argv[1:] + ["model", "small"][len(sys.argv) - 1 :])[:2]
    with fusemax.open(kind, config) as device:
        attend = DeviceAttention(device)
        tokens, margin = decode(attend)
    expected, expected_margin = decode(NumpyAttention())
    print(f"tokens {tokens}")
    print(f"smallest distance between the two best logits: {margin:.4f} (NumPy: {expected_margin:.4f})")
    if attend.cycles:
        print(f"{attend.cycles} cycles, utilisation {attend.slots / attend.cycles:.1%}")
    print("NumPy chose the same tokens" if tokens == expected else f"NumPy chose {expected}")
    return 0 if tokens == expected else 1


if __name__ == "__main__":
    sys.exit(main())
