"""Instantiating repeated parts: a submodule for Amaranth's simulator, an instance of a shared module when emitting.

Amaranth writes one Verilog module per instance. Parts that stand many times in the machine are therefore
emitted once, by :mod:`fusemax_hw.emit`, and stand as instances of that module.
"""

from typing import Any, Protocol, runtime_checkable

from amaranth.hdl import Module
from amaranth.lib import wiring

__all__ = ["SharedModules", "instantiate"]


@runtime_checkable
class SharedModules(Protocol):
    """A platform that emits each distinct part once."""

    def instance(self, component: wiring.Component) -> tuple[Any, Any]:
        """An ``Instance`` of the part's module, and an interface object wired to it."""
        ...


def instantiate(m: Module, name: str, component: Any, platform: Any) -> Any:
    """Make ``component`` a submodule called ``name``; returns what its ports are reached through.

    ``component`` has an attribute ``module_name`` that is equal for equal hardware. It is in the domain "sync", which may be
    renamed around it; Amaranth's ``ResetInserter`` and ``EnableInserter`` do not reach into instances.
    """
    if isinstance(platform, SharedModules):
        instance, interface = platform.instance(component)
        m.submodules[name] = instance
        return interface
    m.submodules[name] = component
    return component
