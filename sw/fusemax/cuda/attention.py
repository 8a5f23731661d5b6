"""Attention of tensors on a GPU, with the machine's own bits."""

# pyright: reportMissingImports=false, reportAttributeAccessIssue=false

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import torch
from numpy.typing import NDArray

from ..errors import ScoreOverflowError
from ..planning.output_rows import Rows
from ..runtime.call import Call
from ..runtime.device import Device
from ..runtime.options import RequestOptions
from ..runtime.request import Request
from ..runtime.room import room_of
from ..spec import Config, config_named
from .heads import Heads, KeySegment, compute_heads
from .place import check_place
from .transport import CudaTransport
from .visible_keys import visible_intervals

__all__ = ["attention"]

#: Options of a call whose arrays stay on the GPU.
DIRECT = frozenset("out_dtype causal query_offset window key_lengths prefix temperature alibi_slopes state sink".split())
#: Options of a call that goes through the memory of a device.
INDIRECT = frozenset(("key_start", "mask", "bias", "timeout", "progress"))


def attention(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    scale: Any = None,
    config: str | Config = "small",
    *,
    return_lse: bool = False,
    return_state: bool = False,
    **options: Any,
) -> Any:
    """Compute softmax(scale · q kᵀ) v of tensors on a GPU, bit for bit as a machine does.

    The bits are those of :func:`fusemax.attention` on a device of the same configuration. There are no gradients.

    Parameters
    ----------
    q, k, v
        bfloat16, float16 or float32 tensors (..., P, E), (..., M, E) and (..., M, F) on one GPU, with the same batch axes.
    scale, return_lse, return_state
        As :func:`fusemax.attention`'s; numbers may be tensors too.
    options
        ``out_dtype``, ``causal``, ``query_offset``, ``window``, ``key_lengths``, ``prefix``, ``temperature``,
        ``alibi_slopes``, ``state`` and ``sink`` as :func:`fusemax.attention`'s. ``key_start``, ``mask``, ``bias``,
        ``timeout`` and ``progress`` too, which like a scale of 0 send the call through a device's memory on the host.
    config
        The machine: a configuration or the name of a shipped one.

    Returns
    -------
    tensor (..., P, F)
        bfloat16 or float32, on the GPU. With ``return_lse`` and ``return_state`` a tuple: the tensor; log-sum-exp, float32
        (..., P), on the GPU; :class:`fusemax.State`, whose arrays are NumPy's.

    Raises
    ------
    TypeError, ValueError, NonFiniteError, ScoreOverflowError
        As :func:`fusemax.attention`; ValueError also if a tensor is not on a GPU, or is to have a gradient.
    """
    for name in options:
        if name not in DIRECT | INDIRECT:
            remedy = "fusemax.attention may have it, on a device of fusemax.open('cuda')"
            raise TypeError(f"fusemax.cuda.attention() got an unexpected keyword argument {name!r}: {remedy}")
    machine = config_named(config)
    for name, tensor in (("q", q), ("k", k), ("v", v)):
        _check_tensor(name, tensor)
    given: RequestOptions = {
        **{name: _on_host(value) for name, value in options.items()},
        "scale": _on_host(scale),
        "return_lse": return_lse,
        "return_state": return_state,
    }  # type: ignore[typeddict-item]
    request = Request.of(_stand_in(q), _stand_in(k), _stand_in(v), given)
    no_element = not all(tensor.numel() for tensor in (q, k, v))
    if not DIRECT.issuperset(options) or no_element or request.factors.flat.any():
        return _through_memory(request, machine, q, k, v)
    call = request.call(machine)
    heads = _compute(machine, request, call, q, k, v)
    overflow, nonfinite = heads.sticky()
    if nonfinite:
        # Of keys that no query sees, or an error that says where it is.
        return _through_memory(request, machine, q, k, v)
    if overflow:
        limit = machine.score_bits - 1 - machine.score_frac_bits
        raise ScoreOverflowError(f"scores times log2(e) must stay within ±2^{limit}, but have not; choose a smaller scale")
    out = heads.out.view(torch.float32 if call.float32_out else torch.bfloat16).reshape(*q.shape[:-1], v.shape[-1])
    if heads.states is None:
        return out
    states = heads.states.cpu().numpy().reshape(request.batch, request.heads, request.queries, 2)
    shape = (*states.shape[:-1], v.shape[-1])
    kind = np.uint32 if call.float32_out else np.uint16
    finishes = request.finishes_output
    rows = heads.out.cpu().numpy().view(kind).reshape(shape) if finishes else np.empty(shape, kind)
    reference, denominator = (np.ascontiguousarray(states[..., part]) for part in (0, 1))
    results = list(_tuple(request.finish(machine, Rows(rows, reference, denominator.view(np.float32)))))
    return _results([results[0] if finishes else out, *results[1:]], q.device)


def _compute(machine: Config, request: Request, call: Call, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> Heads:
    """The heads of a call, on the GPU."""
    batch, query_heads, queries = request.batch, request.heads, request.queries
    if request.extra_columns:
        q, k = _with_columns(request, q, k)
    q_bits, k_bits, v_bits = (_bits(tensor) for tensor in (q, k, v))
    factors = np.broadcast_to(np.asarray(call.scale, np.float32), (batch, query_heads, queries))
    if np.ndim(call.scale):
        scale = _tensor(factors.reshape(-1, queries).view(np.int32), q.device)
    else:
        bits = int(np.float32(factors.flat[0]).view(np.int32))
        scale = torch.full((1, 1), bits, dtype=torch.int32, device=q.device).expand(len(q_bits), queries)
    segments = []
    passes = visible_intervals(call.mask, batch, queries, request.keys)
    for number, interval in enumerate(passes):
        if interval is None:
            segments.append(KeySegment(k_bits, v_bits))
            continue
        lo, hi = (_tensor(edge, q.device).repeat_interleave(query_heads, dim=0) for edge in interval)
        # The last pass looks at all keys: they are to be finite, whether they are seen or not.
        most = request.keys if number == len(passes) - 1 else int(interval[1].max())
        segments.append(KeySegment(k_bits[:, :most], v_bits[:, :most], lo, hi))
    states = call.state_out or call.raw_out
    return compute_heads(machine, q_bits, scale, segments, float32=call.float32_out, raw=call.raw_out, states=states)


def _check_tensor(name: str, tensor: Any) -> None:
    if not isinstance(tensor, torch.Tensor):
        raise TypeError(f"{name} must be a PyTorch tensor, not {type(tensor).__name__}: fusemax.attention takes NumPy arrays")
    if tensor.dtype not in (torch.bfloat16, torch.float16, torch.float32):
        raise TypeError(f"{name} must be bfloat16, float16 or float32, not {tensor.dtype}: {name}.float() converts it")
    if tensor.dim() < 2 or not tensor.shape[-1]:
        raise ValueError(f"{name} must have length and head dim, and of that at least 1, not shape {tuple(tensor.shape)}")
    if tensor.requires_grad and torch.is_grad_enabled():
        raise ValueError(f"{name} must not need a gradient, for there is none: call under torch.no_grad(), or {name}.detach()")
    check_place(name, tensor)


def _stand_in(tensor: torch.Tensor, columns: int | None = None) -> NDArray[Any]:
    """A NumPy array of a tensor's shape whose elements are one zero, for the checks of a request."""
    shape = tuple(tensor.shape) if columns is None else (*tensor.shape[:-1], columns)
    return np.broadcast_to(np.zeros((), ml_dtypes.bfloat16), shape)


def _with_columns(request: Request, q: torch.Tensor, k: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Queries and keys with the columns that the host adds to them, which do not depend on the other columns."""
    q_bits, k_bits, _ = request.operands(_stand_in(q, 1), _stand_in(k, 1), _stand_in(k, 1))
    longer = []
    for tensor, bits in ((q, q_bits), (k, k_bits)):
        columns = _tensor(bits[..., 1:].view(np.int16), tensor.device).view(torch.bfloat16)
        longer.append(torch.cat([tensor.to(torch.bfloat16), columns.reshape(*tensor.shape[:-1], -1)], dim=-1))
    return longer[0], longer[1]


def _bits(tensor: torch.Tensor) -> torch.Tensor:
    """bfloat16 bits, (all heads, length, head dim)."""
    bits = tensor.detach().to(torch.bfloat16).view(torch.int16)
    bits = bits.reshape(-1, *tensor.shape[-2:])
    return bits if bits.stride(-1) == 1 else bits.contiguous()


def _through_memory(request: Request, config: Config, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> Any:
    """The call on a device ``cuda`` that is opened for it, on arrays of the host."""
    arrays = [_array(tensor) for tensor in (q, k, v)]
    room = room_of(request, config, k.shape[-3] if k.dim() > 2 else 1)
    with Device(CudaTransport(config, room), config) as device:
        call = request.call(config)
        rows = device.driver.attention(*request.operands(arrays[0], arrays[1], arrays[2]), call)
        return _results(list(_tuple(request.finish(config, rows))), q.device)


def _array(tensor: torch.Tensor) -> NDArray[Any]:
    tensor = tensor.detach().cpu()
    if tensor.dtype == torch.bfloat16:
        return tensor.contiguous().view(torch.int16).numpy().view(ml_dtypes.bfloat16)
    return tensor.numpy()


def _on_host(value: Any) -> Any:
    return _array(value) if isinstance(value, torch.Tensor) else value


def _tensor(array: NDArray[Any], place: torch.device) -> torch.Tensor:
    if array.dtype == ml_dtypes.bfloat16:
        return _tensor(array.view(np.int16), place).view(torch.bfloat16)
    return torch.from_numpy(np.array(array)).to(place)


def _tuple(result: Any) -> tuple[Any, ...]:
    return result if isinstance(result, tuple) else (result,)


def _results(results: list[Any], place: torch.device) -> Any:
    """Arrays as tensors on the GPU; states as they are."""
    moved = [_tensor(result, place) if isinstance(result, np.ndarray) else result for result in results]
    return tuple(moved) if len(moved) > 1 else moved[0]
