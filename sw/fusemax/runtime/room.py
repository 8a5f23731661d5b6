"""Memory of a device that is opened for one call."""

from __future__ import annotations

from ..planning.memory_map import Shape, align, required_bytes
from ..spec import PAGE_BYTES, Config
from .device import MEMORY_BYTES
from .request import Request

__all__ = ["room_of"]


def room_of(request: Request, config: Config, key_heads: int) -> int:
    """Return the bytes that hold the arrays of a call with so many key heads, and no fewer than a device usually has."""
    if not (request.batch and key_heads and request.queries and request.keys):
        return MEMORY_BYTES
    shape = Shape(
        batch=request.batch,
        heads=key_heads,
        share=request.heads // key_heads,
        queries=request.queries,
        keys=request.keys,
        e=request.e + request.extra_columns,
        f=request.output_columns,
        out_dtype="float32",
        row_scale=True,
        state_out=True,
    )
    return max(MEMORY_BYTES, align(required_bytes(config, shape), PAGE_BYTES))
