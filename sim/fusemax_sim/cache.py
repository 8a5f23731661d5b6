"""Cache of what is built: each result in a directory of its own, whose name has the digest of what it came from."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from .errors import BuildError

__all__ = ["cache_directory", "cached", "writable_cache"]

log = logging.getLogger("fusemax")


def cache_directory() -> Path:
    """Where Verilog and simulators are kept: $FUSEMAX_CACHE, or fusemax in the user's cache directory."""
    if chosen := os.environ.get("FUSEMAX_CACHE"):
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "fusemax"


def writable_cache() -> Path:
    """Make the cache's directory if need be.

    Raises
    ------
    BuildError
        If nothing can be written there; the message names the directory and FUSEMAX_CACHE.
    """
    root = cache_directory()
    try:
        root.mkdir(parents=True, exist_ok=True)
        # Permissions alone do not tell: a file system may be full, or for reading only.
        with tempfile.TemporaryFile(dir=root):
            pass
    except OSError as error:
        raise _unusable(root, error) from error
    return root


def _unusable(root: Path, error: OSError) -> BuildError:
    return BuildError(
        f"what is built must be kept in {str(root)!r}, which cannot be written ({error.strerror or error}); "
        "set FUSEMAX_CACHE to another directory"
    )


def cached(name: str, make: Callable[[Path], None], what: str) -> Path:
    """Find a directory of the cache, or fill it.

    It appears in one step when it is complete; of several processes one makes it and the others wait. The logger ``fusemax``
    is told when the making begins and ends, at level INFO.

    Parameters
    ----------
    name
        The directory's name.
    make
        Called with an empty directory, which it fills.
    what
        What is made, for the log.

    Returns
    -------
    Path of the directory.

    Raises
    ------
    BuildError
        If it is not there and the cache cannot be written.
    """
    target = cache_directory() / name
    if target.is_dir():
        return target
    root = writable_cache()
    with locked(root / f"{name}.lock"):
        if not target.is_dir():
            log.info("building %s in %s", what, target)
            start = time.monotonic()
            partial = Path(tempfile.mkdtemp(prefix=f"{name}.", suffix=".partial", dir=root))
            try:
                make(partial)
                partial.chmod(0o755)
                partial.rename(target)
            finally:
                shutil.rmtree(partial, ignore_errors=True)
            log.info("built %s in %.0f s", what, time.monotonic() - start)
    return target


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold an exclusive lock of the file, which stays: removing it would let two holders in."""
    try:
        file = path.open("w")
    except OSError as error:
        raise _unusable(path.parent, error) from error
    with file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
