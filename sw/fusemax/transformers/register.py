"""Registering with the transformers library."""

# pyright: reportMissingImports=false, reportAttributeAccessIssue=false

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from transformers.masking_utils import AttentionMaskInterface, eager_mask
from transformers.modeling_utils import AttentionInterface

from ..runtime.device import Device
from .attention import attention_forward
from .bloom import put_bloom_on

__all__ = ["register"]


def register(device: Device | None = None, name: str = "fusemax") -> None:
    """Make ``attn_implementation="fusemax"`` run a model's attention on a device.

    Attention and masks are registered together: without a mask function of the same name the library hands out no masks, so
    that padding and windows would be lost in silence. Masks are those of ``eager``, numbers that are added to the scores, so
    that a model whose code does not ask the library for its attention still computes what it should, but on the host. Of those
    BLOOM is known here, and runs on the device. Models must be made after this call.

    Parameters
    ----------
    device
        Where to run; it must stay open. If not given, a model device is opened for every call.
    name
        What to call the implementation: one name per device, if there are several.

    Raises
    ------
    TypeError
        If an argument is not as above.
    """
    if device is not None and not isinstance(device, Device):
        raise TypeError(f"device must be a Device or None, not {device!r}")
    if not isinstance(name, str):
        raise TypeError(f"name must be a string, not {name!r}")
    # Who registers a device keeps it.
    forward = partial(attention_forward, device=0 if device is None else device.number, keep=device)
    AttentionInterface.register(name, forward)
    AttentionMaskInterface.register(name, _mask)
    put_bloom_on(name, forward)


def _mask(*args: Any, **kwargs: Any) -> torch.Tensor | None:
    """The mask of ``eager``, also where it says nothing: without one, a function must guess whether the model is causal."""
    return eager_mask(*args, **kwargs | {"allow_is_bidirectional_skip": False})
