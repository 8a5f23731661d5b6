"""Placing repeated parts: a submodule for Amaranth's simulator, an instance of a shared module when emitting.

Amaranth writes one Verilog module per instance. Parts that stand many times in the machine are therefore
emitted once, by :mod:`fusemax_hw.emit`, and placed as instances of that module.
"""

from typing import Any, Protocol, runtime_checkable

from amaranth.hdl import Module, ResetInserter, Signal
from amaranth.lib import wiring

__all__ = ["SharedModules", "place"]


@runtime_checkable
class SharedModules(Protocol):
    """A platform that emits each distinct part once."""

    def instance(self, component: wiring.Component, reset: Signal | None) -> tuple[Any, Any]:
        """An ``Instance`` of the part's module, and an interface object wired to it.

        ``reset`` resets the part and all that is in it, as the reset of the clock domain does.
        """
        ...


def place(m: Module, name: str, component: Any, platform: Any, *, reset: Signal | None = None) -> Any:
    """Make ``component`` a submodule called ``name``; returns what its ports are reached through.

    ``component`` has an attribute ``module_name`` that is equal for equal hardware. A part that has a ``reset`` of its own is
    placed with it here: Amaranth's ``ResetInserter`` does not reach into instances.
    """
    if isinstance(platform, SharedModules):
        instance, interface = platform.instance(component, reset)
        m.submodules[name] = instance
        return interface
    m.submodules[name] = component if reset is None else ResetInserter(reset)(component)
    return component
