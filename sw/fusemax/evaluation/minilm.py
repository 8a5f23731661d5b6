"""Real queries, keys and values: two layers of all-MiniLM-L6-v2 on a paragraph of English.

The data is in the package; ``data/README.md`` there says where it comes from.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import resources
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

__all__ = ["MiniLM", "load"]


@dataclass(frozen=True)
class MiniLM:
    """Operands of attention, layer by layer. The softmax scale is 1/sqrt(32), as :func:`fusemax.attention` has it by default.

    Members
    -------
    q, k, v
        (layers, heads, tokens, 32), ``ml_dtypes.bfloat16``.
    layers, heads
        Numbers of the layers and heads in the model.
    tokens
        Word pieces that the encoder saw, ``[CLS]`` and ``[SEP]`` included.
    text
        The paragraph.
    """

    q: NDArray[Any]
    k: NDArray[Any]
    v: NDArray[Any]
    layers: tuple[int, ...]
    heads: tuple[int, ...]
    tokens: tuple[str, ...]
    text: str


def load() -> MiniLM:
    """Read the example data from the package."""
    path = resources.files("fusemax") / "data" / "minilm.npz"
    with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
        q, k, v = (arrays[name].view(ml_dtypes.bfloat16) for name in ("q", "k", "v"))
        return MiniLM(
            q=q,
            k=k,
            v=v,
            layers=tuple(arrays["layers"].tolist()),
            heads=tuple(arrays["heads"].tolist()),
            tokens=tuple(arrays["tokens"].tolist()),
            text=str(arrays["text"]),
        )
