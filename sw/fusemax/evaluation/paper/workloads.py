"""Models and lengths of the paper's evaluation."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["BATCH", "LENGTHS", "MODELS", "Model"]

#: Sequences that are worked on together.
BATCH = 64
#: Tokens of a sequence: as many queries as keys.
LENGTHS: dict[str, int] = {"1K": 1 << 10, "4K": 1 << 12, "16K": 1 << 14, "64K": 1 << 16, "256K": 1 << 18, "1M": 1 << 20}


@dataclass(frozen=True)
class Model:
    """A transformer's encoder layer: width D of the model, head dim E = F, heads, width of the feed-forward layer."""

    name: str
    width: int
    head_dim: int
    heads: int
    feed_forward: int


MODELS: dict[str, Model] = {
    model.name: model
    for model in (
        Model("BERT", 768, 64, 12, 3072),
        Model("TrXL", 1024, 64, 16, 4096),
        Model("T5", 512, 64, 8, 2048),
        Model("XLM", 2048, 128, 16, 8192),
    )
}
