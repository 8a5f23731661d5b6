"""Mask bits and biases of a job, as the model reads them from memory."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..arith import bf16
from ..arith.query_scale import scale_query
from ..planning.bias_rows import operands_of
from ..planning.pair_rows import bias_beats
from ..spec import Config, Descriptor
from .bitexact import SegmentBias
from .job_memory import JobMemory, query_rows

__all__ = ["read_bias", "read_mask"]


def read_mask(
    config: Config, memory: JobMemory, job: Descriptor, entry: int, head: int, rows: int, keys: int
) -> NDArray[np.bool_] | None:
    """Which keys each query row sees by its bits, (P, M); None if the job has no mask of bits."""
    if not job.bit_mask:
        return None
    words = memory.read_rows(query_rows(job, "m", entry, head, rows), job.mask_blocks * config.bus_bytes)
    bits = np.unpackbits(words, axis=-1, bitorder="little").reshape(rows, -1, config.mask_field_bits)
    seen = bits[:, job.mask_phase :, : config.rows].reshape(rows, -1)
    return seen[:, :keys].astype(np.bool_)


def read_bias(
    config: Config, memory: JobMemory, job: Descriptor, entry: int, head: int, rows: int, keys: int
) -> SegmentBias | None:
    """The biases of the query rows, (P, M); None if the job has none."""
    if not job.bias:
        return None
    wide = bool(job.bias_wide)
    tile_bytes = bias_beats(config, wide=wide) * config.bus_bytes
    words = memory.read_rows(query_rows(job, "b", entry, head, rows), job.key_tiles * tile_bytes)
    numbers = words.view("<u4" if wide else "<u2").reshape(rows, job.key_tiles, -1)[..., : config.rows].reshape(rows, -1)
    if wide:
        operands, nonfinite = operands_of(numbers), False
    else:
        operands, nonfinite = scale_query(config, numbers, job.bias_scale), bool(bf16.is_nonfinite(numbers).any())
    overflow = bool(operands.overflow.any())
    return SegmentBias(operands.take((slice(None), slice(keys))), overflow, nonfinite)
