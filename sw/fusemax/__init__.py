"""Attention accelerators that run cascades of Einsums: compiler, devices, attention."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .api.attention import attention
from .api.kv_cache import KVCache
from .cascade import CASCADES, Cascade
from .compiler.compilation import compile
from .compiler.program import Program
from .errors import FusemaxError
from .opening import open_device as open
from .planning.packed_mask import PackedMask
from .runtime.device import Counters, Device
from .runtime.softmax_state import State, merge
from .runtime.transport import Transport
from .spec import CONFIGS, Config

if TYPE_CHECKING:
    from fusemax_sim.memory import Memory

    from .api.attention_varlen import attention_varlen
    from .api.error_bound import error_bound
    from .attentions.biased import biased_attention
    from .attentions.calibrated import calibrated_attention
    from .attentions.elu import elu_attention
    from .attentions.entropy import attention_entropy, entropy_bins, entropy_penalty
    from .attentions.flow import flow_attention
    from .attentions.linear import linear_attention
    from .attentions.routing import routing_attention, routing_members
    from .attentions.sigmoid import sigmoid_attention
    from .attentions.sink_rate import sink_rate
    from .plan.run import run

    ATTENTION_1PASS: Cascade
    __version__: str

__all__ = [
    "ATTENTION_1PASS",
    "CASCADES",
    "CONFIGS",
    "Cascade",
    "Config",
    "Counters",
    "Device",
    "FusemaxError",
    "KVCache",
    "Memory",
    "PackedMask",
    "Program",
    "State",
    "Transport",
    "__version__",
    "attention",
    "attention_entropy",
    "attention_varlen",
    "biased_attention",
    "calibrated_attention",
    "compile",
    "elu_attention",
    "entropy_bins",
    "entropy_penalty",
    "error_bound",
    "flow_attention",
    "linear_attention",
    "merge",
    "open",
    "routing_attention",
    "routing_members",
    "run",
    "sigmoid_attention",
    "sink_rate",
]

#: Modules of functions that few calls need; each is imported when it is asked for.
LAZY = {
    "attention_entropy": "attentions.entropy",
    "attention_varlen": "api.attention_varlen",
    "biased_attention": "attentions.biased",
    "calibrated_attention": "attentions.calibrated",
    "elu_attention": "attentions.elu",
    "entropy_bins": "attentions.entropy",
    "entropy_penalty": "attentions.entropy",
    "error_bound": "api.error_bound",
    "flow_attention": "attentions.flow",
    "linear_attention": "attentions.linear",
    "routing_attention": "attentions.routing",
    "routing_members": "attentions.routing",
    "run": "plan.run",
    "sigmoid_attention": "attentions.sigmoid",
    "sink_rate": "attentions.sink_rate",
}


def __getattr__(name: str) -> Any:
    if name in LAZY:
        return getattr(import_module(f".{LAZY[name]}", __name__), name)
    # Needs PyTorch and Triton.
    if name == "cuda":
        return import_module(".cuda", __name__)
    # Reading a cascade takes longer than most of this package takes to import; it is read when it is asked for.
    if name == "ATTENTION_1PASS":
        return CASCADES["attention_1pass"]
    if name == "Memory":
        from .opening import simulated_memory

        return simulated_memory()
    if name == "__version__":
        # Found when it is asked for: reading metadata takes a quarter of the time of the whole import.
        from importlib.metadata import PackageNotFoundError, version

        try:
            return version("fusemax")
        except PackageNotFoundError:  # A clone that is only on the path.
            return "0+unknown"
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
