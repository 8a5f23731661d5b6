"""Measure sinks and entropy of MiniLM's heads on the model device: ``python examples/heads.py [PICTURE]``.

Prints, by layer and head, the mean weight of the first token (When Attention Sink Emerges) and the entropy of the weights
(Entropy-Guided Attention), the bins of the heads, and what ACT makes of the sinks; with a file name, draws the first two.
"""

import argparse
from collections.abc import Sequence

import numpy as np

import fusemax
from fusemax.evaluation import minilm
from fusemax.plan.array import DEFAULT


def measure():
    """Sinks of every key, entropies, causal ones too, and outputs with and without calibration."""
    data = minilm.load()
    with fusemax.open("model", DEFAULT, memory_bytes=1 << 26) as device:
        sinks = fusemax.sink_rate(data.q, data.k, device=device)
        both = fusemax.attention_entropy(data.q, data.k, data.v, device=device)
        causal = fusemax.attention_entropy(data.q, data.k, data.v, causal=True, device=device)
        calibrated = fusemax.calibrated_attention(data.q, data.k, data.v, device=device)
    return data, sinks, both.entropy.mean(axis=-1), causal, calibrated


def draw(path: str, alpha: np.ndarray, entropy: np.ndarray, layers: Sequence[int]) -> None:
    from matplotlib.figure import Figure

    from fusemax.plotting import save_picture

    figure = Figure(figsize=(8, 3.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    heads = np.arange(alpha.shape[1])
    for number, layer in enumerate(layers):
        left.bar(heads + 0.4 * number - 0.2, alpha[number, :, 0], 0.4, label=f"layer {layer}")
        right.bar(heads + 0.4 * number - 0.2, entropy[number], 0.4, label=f"layer {layer}")
    left.axhline(0.3, color="#222222", linewidth=0.8)
    left.set(xlabel="head", ylabel="mean weight of the first token", xticks=heads)
    for quarter in range(1, 5):
        right.axhline(quarter * entropy.max() / 4, color="#bbbbbb", linewidth=0.8, zorder=0)
    right.set(xlabel="head", ylabel="entropy of the weights, nats", xticks=heads)
    left.legend(fontsize=8)
    save_picture(figure, path)


def main() -> None:
    parser = argparse.ArgumentParser(description="Sinks, entropy and calibrated attention of a model's heads.")
    parser.add_argument("picture", nargs="?", help="file to draw both to; nothing is drawn if it is not given")
    picture = parser.parse_args().picture
    data, sinks, entropy, causal, calibrated = measure()
    print(f"{len(data.tokens)} tokens; mean weight of the first token (causal) and entropy (not causal, nats), by head")
    for number, layer in enumerate(data.layers):
        print(f"layer {layer}: first token", *(f"{alpha:.2f}" for alpha in sinks.alpha[number, :, 0]))
        print(f"layer {layer}: entropy    ", *(f"{value:.2f}" for value in entropy[number]))
    print(f"Sink_1 with ε = 0.3: {sinks.rate[0]:.0f} % of heads; largest at another token: {sinks.rate[1:].max():.0f} %")
    print("heads by quarter of the largest entropy:", *(f"{share:.2f}" for share in fusemax.entropy_bins(entropy)))
    change = np.linalg.norm(calibrated - causal.out, axis=(-2, -1)) / np.linalg.norm(causal.out, axis=(-2, -1))
    print("ACT, threshold 0.1: sinks that are turned down change", int((change > 1e-3).sum()), "of", change.size, "heads")
    if picture:
        draw(picture, sinks.alpha, entropy, data.layers)


if __name__ == "__main__":
    main()
