"""Attention accelerators that run cascades of Einsums: compiler, devices, attention."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .attention import attention
from .cascade import ATTENTION_1PASS, CASCADES, Cascade
from .compiler import compile
from .device import Counters, Device
from .device import open_device as open
from .errors import FusemaxError
from .kv_cache import KVCache
from .program import Program
from .spec import CONFIGS, Config
from .state import State, merge
from .transport import Transport

if TYPE_CHECKING:
    from fusemax_sim.memory import Memory

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
    "Program",
    "State",
    "Transport",
    "attention",
    "compile",
    "merge",
    "open",
]


def __getattr__(name: str) -> Any:
    if name == "Memory":
        from .device import simulated_memory

        return simulated_memory()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
