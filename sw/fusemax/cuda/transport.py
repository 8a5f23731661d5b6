"""The device ``cuda``: registers, ring and memory of the model device, its heads computed on a GPU."""

# pyright: reportMissingImports=false, reportAttributeAccessIssue=false

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray

from ..model.bitexact import Head, Segment
from ..model.model_transport import ModelTransport, softmax_head
from ..spec import Config, Descriptor
from .heads import KeySegment, compute_heads
from .place import default_place

__all__ = ["CudaTransport", "GpuHead"]

Bits = NDArray[np.uint16]


class GpuHead:
    """A head of a job as :class:`fusemax.model.bitexact.Head` has it, computed on a GPU in the job's output format.

    Members
    -------
    reference
        RM, (P,); 0 if the query has seen no key.
    overflow, nonfinite
        The two sticky flags of STATUS.
    """

    def __init__(
        self,
        config: Config,
        job: Descriptor,
        q: Bits,
        segments: Sequence[Segment],
        scale: NDArray[np.float32] | np.float32,
    ) -> None:
        float32 = bool(job.float32_out)
        place = default_place()
        factors = np.broadcast_to(np.asarray(scale, np.float32), len(q))
        keys = [
            KeySegment(
                _bits(segment.k, place),
                _bits(segment.v, place),
                *(_edge(edge, segment, place) for edge in (segment.lo, segment.hi)),
            )
            for segment in segments
        ]
        heads = compute_heads(
            config,
            _bits(q, place),
            torch.from_numpy(np.array(factors).view(np.int32)).to(place)[None],
            keys,
            float32=float32,
            raw=bool(job.raw_out),
            states=True,
        )
        assert heads.states is not None
        states = heads.states[0].cpu().numpy()
        self._out = heads.out[0].cpu().numpy().view(np.uint32 if float32 else np.uint16)
        self._denominators = np.ascontiguousarray(states[:, 1]).view(np.uint32)
        self.reference: NDArray[np.int64] = states[:, 0].astype(np.int64)
        self.overflow, self.nonfinite = heads.sticky()

    def output(self, float32: bool, raw: bool = False) -> NDArray[np.uint32 | np.uint16]:
        """Bits of the output rows, (P, F), in the format that the head was computed for."""
        assert float32 == (self._out.dtype == np.uint32)
        return self._out

    def denominator_bits(self) -> NDArray[np.uint32]:
        """float32 bits of RD, (P,)."""
        return self._denominators


def gpu_head(
    config: Config, job: Descriptor, q: Bits, segments: Sequence[Segment], scale: NDArray[np.float32] | np.float32
) -> GpuHead | Head:
    """Compute softmax attention of a key head's queries: on the GPU, or in NumPy if there are mask bits or biases."""
    if any(segment.bits is not None or segment.bias is not None for segment in segments):
        return softmax_head(config, job, q, segments, scale)
    return GpuHead(config, job, q, segments, scale)


class CudaTransport(ModelTransport):
    """Transport of the device ``cuda``: the model device with softmax attention on a GPU.

    Other programs, mask bits and biases run in NumPy.

    Raises
    ------
    DeviceError
        If PyTorch sees no GPU.
    """

    _softmax_head: ClassVar[Callable[..., Any]] = staticmethod(gpu_head)

    def __init__(self, config: Config, memory_bytes: int) -> None:
        default_place()
        super().__init__(config, memory_bytes)


def _bits(array: Bits, place: torch.device) -> torch.Tensor:
    """bfloat16 bits on the GPU, one head."""
    return torch.from_numpy(np.array(array).view(np.int16)).to(place)[None]


def _edge(edge: NDArray[np.int64] | None, segment: Segment, place: torch.device) -> torch.Tensor | None:
    if edge is None:
        return None
    return torch.from_numpy(np.clip(edge, 0, len(segment.k)).astype(np.int32)).to(place)[None]
