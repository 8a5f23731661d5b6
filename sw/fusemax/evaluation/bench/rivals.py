"""Figures of other designs, each with where it comes from."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["RIVALS", "Rival"]


@dataclass(frozen=True)
class Rival:
    """Utilisation of a design, from ``low`` to ``high``.

    Members
    -------
    name
        Design.
    low, high
        Multiply-accumulates of attention's two matrix products over those that the design could have done.
    kind
        How the figure was had.
    source
        Publication, and how the figure follows from it.
    """

    name: str
    low: float
    high: float
    kind: str
    source: str


RIVALS = (
    Rival(
        "FuseMax",
        0.831,
        0.928,
        "analytical model",
        "Nayak et al., MICRO 2024, arXiv 2406.10491: closed form of its artifact, (E + F) / cycles of a tile, 1K to 1M keys, "
        "E = F = 64, 256 x 256",
    ),
    Rival(
        "GPU, FlashAttention-2",
        0.50,
        0.63,
        "measured, whole kernel",
        "Dao, arXiv 2307.08691: forward pass at head dim 64 on A100 over its 312 TFLOP/s of dense bf16, read from the figures",
    ),
    Rival(
        "FSA",
        0.394,
        0.394,
        "RTL, whole kernel's inner loop",
        "Lin et al., SystolicAttention, arXiv 2507.11331: 2N useful of 5N + 10 cycles per N x N tile, N = 128",
    ),
)
