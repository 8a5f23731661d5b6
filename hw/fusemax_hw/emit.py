# amaranth: UnusedElaboratable=no
"""Verilog of a machine, each distinct module once, and a manifest of what was written.

The text depends on the configuration and on the versions of the generator and of Amaranth's own Yosys, and on nothing
else: no dates, no paths, no environment. (Of equal parts only the first is elaborated; hence the line at the top.)
"""

import hashlib
import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import resources
from pathlib import Path
from typing import Any

from amaranth.back import rtlil, verilog
from amaranth.hdl import ClockDomain, ClockSignal, Fragment, Instance, ResetSignal, Signal, Value
from amaranth.hdl._ir import PortDirection
from amaranth.lib import wiring
from amaranth.lib.memory import Memory

from fusemax.spec import Config, config_named

from .memory.inventory import MACRO_BITS, MACRO_WORDS, ModuleParts, list_memories, parts_of
from .memory.ram import RAM_FILE, ram

__all__ = ["LINT_FILE", "MANIFEST_FILE", "EmissionPlatform", "emit", "emit_component", "own_yosys"]

MANIFEST_FILE = "manifest.json"
#: What Verilator's lint need not say about generated Verilog, and why.
LINT_FILE = "lint.vlt"

Ports = dict[str, tuple[Value, PortDirection]]


def component_ports(component: wiring.Component) -> Ports:
    """Ports of a component by their names in Verilog: its attribute ``ports`` if it has one, else its signature's members."""
    if hasattr(component, "ports"):
        return component.ports
    return {
        "__".join(map(str, path)): (
            Value.cast(value),
            PortDirection.Input if member.flow is wiring.In else PortDirection.Output,
        )
        for path, member, value in component.signature.flatten(component)
    }


class EmissionPlatform:
    """Platform for which repeated parts become instances of modules that are emitted once.

    :func:`fusemax_hw.shared_modules.instantiate` asks it.

    Members
    -------
    modules : dict of str to str
        Verilog of every shared module, by name, parts before what is made of them; see :meth:`write`.
    placed : dict of str to int
        How often each shared module is placed in the text; those in a module that is itself repeated count once.
    leaves : set of str
        Shared modules in which no other is placed.
    parts : dict of str to ModuleParts
        Memories and shared modules in every module, in the order of ``modules``.
    """

    def __init__(self) -> None:
        self.modules: dict[str, str] = {}
        self.placed: dict[str, int] = {}
        self.leaves: set[str] = set()
        self.parts: dict[str, ModuleParts] = {}
        self._signatures: dict[str, wiring.Signature] = {}
        self._instances = 0
        self._netlists: dict[str, str] = {}

    def get_memory(self, memory: Memory) -> Any:
        """Hook of :class:`amaranth.lib.memory.Memory`."""
        return ram(memory)

    def instance(self, component: wiring.Component) -> tuple[Instance, Any]:
        """See :class:`fusemax_hw.shared_modules.SharedModules`.

        Raises
        ------
        ValueError
            If two parts of one ``module_name`` have different ports.
        """
        name = component.module_name
        if name not in self._netlists:
            self._signatures[name] = component.signature
            self.emit(component, name)
        elif self._signatures[name] != component.signature:
            raise ValueError(f"parts with the module name {name!r} must have the same ports")
        self.placed[name] = self.placed.get(name, 0) + 1
        self._instances += 1

        interface = component.signature.create(path=(name.removeprefix("fusemax_"),))
        ports = {
            f"{'i' if member.flow is wiring.In else 'o'}_{'__'.join(map(str, path))}": value
            for path, member, value in component.signature.flatten(interface)
        }
        return Instance(name, i_clk=ClockSignal(), i_rst=ResetSignal(), **ports), interface

    def emit(self, component: wiring.Component, name: str) -> None:
        """Elaborate the module ``name`` of ``component``, and the shared modules that it needs."""
        before = self._instances
        fragment = Fragment.get(component, self)
        if self._instances == before:
            self.leaves.add(name)
        domain = ClockDomain("sync")
        fragment.add_domains(domain)
        ports: Ports = {
            "clk": (domain.clk, PortDirection.Input),
            "rst": (domain.rst, PortDirection.Input),
            **component_ports(component),
        }
        self.parts[name] = parts_of(fragment)
        text, _ = rtlil.convert_fragment(fragment, ports=ports, name=name, emit_src=False)
        self._netlists[name] = text

    def write(self) -> None:
        """Fill ``modules`` with the Verilog of what was elaborated."""
        self.modules = dict(zip(self._netlists, map(_tidy, _to_verilog(list(self._netlists.values()))), strict=True))


def _to_verilog(texts: list[str]) -> list[str]:
    """RTLIL of several designs as Verilog; Yosys is started once.

    Processes become netlists, so that ``opt_clean`` works on every module: Amaranth writes a wire for every field of every
    bundle, and cells for operators of no bits, which Verilog does not have.
    """
    attributes = " ".join(f"-remove {name}" for name in ("generator", "top", "src", "amaranth.hierarchy", "amaranth.decoding"))
    script = []
    for text in texts:
        script += [
            f"read_rtlil <<rtlil\n{text}\nrtlil",
            "proc -norom",
            "memory_collect",
            "opt_clean -purge",
            f"attrmap {attributes}",
            f"attrmap -modattr {attributes}",
            "write_verilog -norename",
            "delete",
        ]
    yosys = verilog.find_yosys(lambda version: version >= (0, 40))
    written = yosys.run(["-q", "-"], "\n".join(script))
    return re.split(r"^/\* Generated by .*? \*/\n", written, flags=re.MULTILINE)[1:]


#: A name that begins with a dollar sign: Amaranth's or Yosys' for what has none in the source.
NAMELESS = re.compile(r"\\\$(\S+) ")


def _tidy(text: str) -> str:
    """Yosys' text with hierarchical module names that need no escapes, and with nets that have no name called ``net_...``.

    Some simulators take an escaped name that begins with a dollar sign for a system function. Yosys' numbers go on from module
    to module; here every module has its own.

    Raises
    ------
    ValueError
        If a signal has such a name already.
    """
    text = re.sub(r"\\(fusemax[\w.$]*) ", lambda match: re.sub(r"[.$]", "_", match[1]) + " ", text)
    if found := re.search(r"\bnet_\w+", text):
        raise ValueError(f"no signal's name may begin with net_, which is for nets without one, as {found[0]} does")
    numbers: dict[str, int] = {}

    def name(match: re.Match[str]) -> str:
        made = re.fullmatch(r"(procmux)\$(\d+)(\w*)", match[1])
        plain = f"{made[1]}_{numbers.setdefault(made[2], len(numbers))}{made[3]}" if made else match[1].replace("$", "_")
        return f"net_{plain} "

    return _without_functions(NAMELESS.sub(name, text)).strip() + "\n"


#: A multiplexer of many inputs as Yosys writes it: a function with the name of its cell.
SELECT_FUNCTION = re.compile(
    r"^  function (?:\[(\d+):0\] )?(net_\w+) ;\n.*?^    input \[(\d+):0\] s;\n.*?^  endfunction\n", re.MULTILINE | re.DOTALL
)


def _without_functions(text: str) -> str:
    """Text whose multiplexers of many inputs are expressions instead of functions.

    Verilator writes a function out wherever it is called, with variables of that place's own. The code of two instances is
    then no longer the same, and every PE of an array is compiled by itself.
    """
    sizes = {match[2]: (int(match[1] or 0) + 1, int(match[3]) + 1) for match in SELECT_FUNCTION.finditer(text)}
    if not sizes:
        return text

    def expression(match: re.Match[str]) -> str:
        target, name, arguments = match.groups()
        width, count = sizes[name]
        default, inputs, select = _split(arguments)
        lines = [f"wire [{width * count - 1}:0] {name}_B = {inputs};", f"wire [{count - 1}:0] {name}_S = {select};"]
        lines.append(f"assign {target} =")
        lines += [f"  {name}_S[{i}] ? {name}_B[{width * i + width - 1}:{width * i}] :" for i in range(count)]
        lines.append(f"  {default};")
        return "".join(f"  {line}\n" for line in lines)

    calls = re.compile(rf"^  assign (.*?) = ({'|'.join(sizes)}) \((.*)\);\n", re.MULTILINE)
    return calls.sub(expression, SELECT_FUNCTION.sub("", text))


def _split(text: str) -> list[str]:
    """Parts between the commas that no braces are around."""
    parts, depth = [""], 0
    for letter in text:
        depth += {"{": 1, "}": -1}.get(letter, 0)
        if letter == "," and not depth:
            parts.append("")
        else:
            parts[-1] += letter
    return [part.strip() for part in parts]


@contextmanager
def own_yosys() -> Iterator[None]:
    """Amaranth's own Yosys, whatever the environment says: another one writes another text."""
    key = "AMARANTH_USE_YOSYS"
    before = os.environ.get(key)
    os.environ[key] = "builtin"
    try:
        yield
    finally:
        if before is None:
            del os.environ[key]
        else:
            os.environ[key] = before


def emit_component(component: wiring.Component, name: str) -> EmissionPlatform:
    """The modules of any part of a machine; ``name`` is the module's of ``component`` itself.

    Raises
    ------
    ValueError
        If two modules have the same name.
    """
    platform = EmissionPlatform()
    with own_yosys():
        platform.emit(component, name)
        platform.write()
    names = re.findall(r"^module (\S+?)\(", "".join(platform.modules.values()), re.MULTILINE)
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"every module must have a name of its own, but there are several {', '.join(twice)}")
    return platform


def emit(config: str | Config, directory: str | os.PathLike[str]) -> dict[str, Any]:
    """Write the Verilog of a machine to ``directory``.

    A file per shared module, the memory that is to be replaced on silicon (``fusemax_ram.v``), what Verilator's lint
    may pass over (``lint.vlt``) and ``manifest.json``. Files of an earlier emission that its manifest names are removed.

    Parameters
    ----------
    config
        A configuration or the name of one.
    directory
        Created if it is not there.

    Returns
    -------
    The manifest: ``config`` (fields), ``top`` (module), ``ports`` (name, bits, direction), ``files`` (SHA-256 by name),
    ``sha256`` (of all of them), ``repeated_modules`` (modules of which the array has many: simulators should not inline them),
    ``memories`` (see :func:`fusemax_hw.memory.inventory.list_memories`), ``macro_rule`` (least ``bits`` and ``words`` of a
    memory for which a macro is worth it).

    Raises
    ------
    ValueError
        If ``config`` is not a known name.
    """
    from .top import Top

    config = config_named(config)
    top = Top(config)
    return write_modules(top, top.module_name, config, Path(directory))


def write_modules(top: wiring.Component, name: str, config: Config, directory: Path) -> dict[str, Any]:
    """As :func:`emit`, for any component as the top."""
    platform = emit_component(top, name)
    heading = f"// {config.name}: {config.rows} x {config.columns}. Written by fusemax; change the generator instead.\n\n"
    files = {f"{module}.v": heading + text for module, text in platform.modules.items()}
    package = resources.files(__package__)
    files[RAM_FILE] = (package / "memory" / RAM_FILE).read_text(encoding="utf-8")
    files[LINT_FILE] = (package / LINT_FILE).read_text(encoding="utf-8")
    digests = {file: hashlib.sha256(text.encode()).hexdigest() for file, text in sorted(files.items())}
    ports = {"clk": (Signal(), PortDirection.Input), "rst": (Signal(), PortDirection.Input), **component_ports(top)}
    manifest = {
        "config": config.to_dict(),
        "top": name,
        "ports": [
            {"name": port, "bits": len(value), "direction": str(direction.value)} for port, (value, direction) in ports.items()
        ],
        "repeated_modules": sorted(module for module in platform.leaves if platform.placed.get(module, 0) > 1),
        "memories": list_memories(platform.parts, name),
        "macro_rule": {"bits": MACRO_BITS, "words": MACRO_WORDS},
        "files": digests,
        "sha256": hashlib.sha256(json.dumps(digests, sort_keys=True).encode()).hexdigest(),
    }
    directory.mkdir(parents=True, exist_ok=True)
    _remove_earlier(directory)
    for file, text in files.items():
        (directory / file).write_text(text, encoding="utf-8", newline="\n")
    (directory / MANIFEST_FILE).write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8", newline="\n")
    return manifest


def _remove_earlier(directory: Path) -> None:
    """Remove what the manifest in ``directory`` names."""
    manifest = directory / MANIFEST_FILE
    if not manifest.is_file():
        return
    for file in json.loads(manifest.read_text(encoding="utf-8")).get("files", {}):
        if Path(file).name == file:
            (directory / file).unlink(missing_ok=True)
