"""List of a machine's memories: where each is, its size, how many there are, whether a macro is worth it."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from amaranth.hdl import Fragment, Instance, MemoryInstance, Shape

from .ram import RAM_MODULE

__all__ = ["MACRO_BITS", "MACRO_WORDS", "ModuleParts", "list_memories", "parts_of"]

#: A memory of fewer bits or fewer words is better made of flip-flops: a macro's decoders and sense amplifiers would take more
#: than the cells. This is a rule of thumb, not a measurement; the memory compiler of a process has the last word.
MACRO_BITS, MACRO_WORDS = 2048, 16


@dataclass
class ModuleParts:
    """What an emitted module is made of.

    Members
    -------
    memories : list of dict
        ``instance`` (path below the module), ``kind``, ``width``, ``depth``, ``write_ports``, ``read_ports``.
    modules : Counter of str
        Shared modules placed in it, by name.
    """

    memories: list[dict[str, Any]] = field(default_factory=list)
    modules: Counter[str] = field(default_factory=Counter)


def parts_of(module: Fragment) -> ModuleParts:
    """Collect the memories and the shared modules of an elaborated module."""
    parts = ModuleParts()
    for path, fragment in _walk(module, ()):
        place = {"instance": ".".join(path)}
        if isinstance(fragment, MemoryInstance):
            # Amaranth keeps these to itself, but nothing else knows the memory's path and its size.
            memory = fragment._data
            size = {"width": Shape.cast(memory.shape).width, "depth": memory.depth}
            parts.memories.append(
                place | {"kind": "constants", **size, "write_ports": 0, "read_ports": len(fragment._read_ports)}
            )
        elif isinstance(fragment, Instance) and fragment.type == RAM_MODULE:
            size = {name.lower(): fragment.parameters[name] for name in ("WIDTH", "DEPTH")}
            parts.memories.append(place | {"kind": RAM_MODULE} | size | {"write_ports": 1, "read_ports": 1})
        elif isinstance(fragment, Instance):
            parts.modules[fragment.type] += 1
    return parts


def list_memories(modules: Mapping[str, ModuleParts], top: str) -> list[dict[str, Any]]:
    """List every memory of the machine ``top``, once per module that has it.

    Parameters
    ----------
    modules
        Parts of every module, modules before those that they are placed in.
    top
        Name of the machine's module.

    Returns
    -------
    Dictionaries as in the manifest: ``module``, ``instance`` (path below the module), ``kind`` (``fusemax_ram``; or
    ``constants``, which is logic), ``width``, ``depth``, ``bits``, ``write_ports``, ``read_ports``, ``count`` (in the whole
    machine), ``read_during_write`` (``undefined``, or None for what is not written), ``macro`` (whether one is worth it).
    """
    counts: Counter[str] = Counter({top: 1})
    memories = []
    for name, parts in reversed(modules.items()):
        for module, placed in parts.modules.items():
            counts[module] += placed * counts[name]
        for memory in parts.memories:
            bits = memory["width"] * memory["depth"]
            written = memory["write_ports"] > 0
            memories.append(
                {"module": name}
                | memory
                | {
                    "bits": bits,
                    "count": counts[name],
                    "read_during_write": "undefined" if written else None,
                    "macro": written and bits >= MACRO_BITS and memory["depth"] >= MACRO_WORDS,
                }
            )
    return memories


def _walk(fragment: Fragment, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Fragment]]:
    for index, (inner, name, _) in enumerate(fragment.subfragments):
        here = (*path, name or f"U${index}")
        yield here, inner
        yield from _walk(inner, here)
