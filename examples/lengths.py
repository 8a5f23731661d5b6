"""Compare attention systems over length by the cycle model: ``python examples/lengths.py [PICTURE]``.

Flow attention grows as n, softmax as n²: prints cycles per token and the length at which flow attention becomes cheaper, and
the share of a sequence that is in no cluster, one, or more of routing attention. With a file name, draws both.
"""

import argparse

import ml_dtypes
import numpy as np

import fusemax
from fusemax.plan.array import DEFAULT

LENGTHS = (16, 32, 64, 96, 128, 192, 256, 384, 512, 768, 1024)
CLUSTERS, TOKENS = 8, 512


def arrays(length: int) -> list[np.ndarray]:
    return [np.random.default_rng(seed).standard_normal((1, length, 64)).astype(ml_dtypes.bfloat16) for seed in range(3)]


def cycles() -> dict[str, list[float]]:
    """Cycles per token of a head."""
    systems = {
        "softmax": lambda *x, **to: fusemax.attention(*x, device=to["device"], out_dtype="float32"),
        "flow": fusemax.flow_attention,
        "flow, one part": lambda *x, **to: fusemax.flow_attention(*x, parts=1, **to),
        "flow, causal": lambda *x, **to: fusemax.flow_attention(*x, causal=True, **to),
        "softmax, causal": lambda *x, **to: fusemax.attention(*x, device=to["device"], causal=True, out_dtype="float32"),
    }
    found: dict[str, list[float]] = {name: [] for name in systems}
    with fusemax.open("model", DEFAULT, memory_bytes=1 << 26) as device:
        for name, run in systems.items():
            for length in LENGTHS:
                counters: list[fusemax.Counters] = []
                run(*arrays(length), device=device, counters=counters)
                found[name].append(sum(c.cycles for c in counters or [device.counters]) / length)
    return found


def cross_over(found: dict[str, list[float]], name: str, other: str) -> float:
    """Length from which ``name`` takes fewer cycles than ``other``, between the measured ones by a straight line."""
    ahead = np.array(found[other]) - np.array(found[name])
    first = int(np.argmax(ahead > 0))
    share = -ahead[first - 1] / (ahead[first] - ahead[first - 1])
    return LENGTHS[first - 1] + share * (LENGTHS[first] - LENGTHS[first - 1])


def occupancy(spread: float) -> list[float]:
    """Shares of tokens in 0, 1, 2, … clusters; ``spread`` moves each token towards one of the centroids."""
    random = np.random.default_rng(1)
    centroids = random.standard_normal((1, CLUSTERS, 64))
    centroids /= np.linalg.norm(centroids, axis=-1, keepdims=True)
    tokens = random.standard_normal((1, TOKENS, 64)) + spread * centroids[:, random.integers(CLUSTERS, size=TOKENS)]
    members = fusemax.routing_members(tokens.astype(ml_dtypes.bfloat16), centroids, TOKENS // CLUSTERS)
    counts = np.bincount(members.reshape(-1), minlength=TOKENS)
    return (np.bincount(counts, minlength=5)[:5] / TOKENS).tolist()


def draw(path: str, found: dict[str, list[float]], shares: dict[str, list[float]]) -> None:
    from matplotlib.figure import Figure

    from fusemax.plotting import save_picture

    figure = Figure(figsize=(8, 3.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    for name, values in found.items():
        left.loglog(LENGTHS, values, label=name, linestyle="--" if "causal" in name else "-")
    left.set(xlabel="tokens", ylabel="cycles per token and head")
    left.legend(fontsize=7, loc="upper left", ncols=2)
    left.set_ylim(top=1500)
    for number, (name, values) in enumerate(shares.items()):
        right.bar(np.arange(len(values)) + 0.4 * number - 0.2, values, 0.4, label=name)
    right.set(xlabel="clusters that a token is in", ylabel="share of tokens")
    right.legend(fontsize=8)
    save_picture(figure, path)


def main() -> None:
    parser = argparse.ArgumentParser(description="Cycles per token over length, and routing attention's occupancy.")
    parser.add_argument("picture", nargs="?", help="file to draw both to; nothing is drawn if it is not given")
    picture = parser.parse_args().picture
    found = cycles()
    print("cycles per token and head at", *LENGTHS, "tokens")
    for name, values in found.items():
        print(f"{name:16}", *(f"{value:.0f}" for value in values))
    for name, other in (("flow", "softmax"), ("flow, one part", "softmax"), ("flow, causal", "softmax, causal")):
        print(f"{name} takes fewer cycles than {other} from {cross_over(found, name, other):.0f} tokens on")
    shares = {"random tokens": occupancy(0.0), "tokens near centroids": occupancy(12.0)}
    for name, values in shares.items():
        print(f"{name}: in 0, 1, 2, … of {CLUSTERS} clusters:", *(f"{value:.2f}" for value in values))
    if picture:
        draw(picture, found, shares)


if __name__ == "__main__":
    main()
