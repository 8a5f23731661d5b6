"""Attention accelerators that run cascades of Einsums: compiler, devices, attention."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .api.attention import attention
from .api.kv_cache import KVCache
from .api.opening import open_device as open
from .cascade import CASCADES, Cascade
from .compiler.compilation import compile
from .compiler.program import Program
from .errors import FusemaxError
from .runtime.device import Counters, Device
from .runtime.softmax_state import State, merge
from .runtime.transport import Transport
from .spec import CONFIGS, Config

if TYPE_CHECKING:
    from fusemax_sim.memory import Memory

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
    "Program",
    "State",
    "Transport",
    "__version__",
    "attention",
    "compile",
    "merge",
    "open",
]


def __getattr__(name: str) -> Any:
    # Reading a cascade takes longer than most of this package takes to import; it is read when it is asked for.
    if name == "ATTENTION_1PASS":
        return CASCADES["attention_1pass"]
    if name == "Memory":
        from .api.opening import simulated_memory

        return simulated_memory()
    if name == "__version__":
        # Found when it is asked for: reading metadata takes a quarter of the time of the whole import.
        from importlib.metadata import PackageNotFoundError, version

        try:
            return version("fusemax")
        except PackageNotFoundError:  # A clone that is only on the path.
            return "0+unknown"
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
