"""Other names for paths that make cannot take: it ends a name at a space, and gives some characters a meaning."""

from __future__ import annotations

import re
import shutil
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Self

from .errors import BuildError

__all__ = ["PlainPaths"]

#: A path that make, the shell and the linker's options take as it is.
PLAIN = re.compile(r"[\w./+@=-]+", re.ASCII)
#: Where links can be if the directory for temporary files has such a name itself.
OTHERS = ("/tmp", "/var/tmp", "/dev/shm")


class PlainPaths:
    """Gives paths with a space or the like another name, a symbolic link, for as long as this context lasts."""

    def __init__(self) -> None:
        self._links: Path | None = None
        self._count = 0

    def __call__(self, path: Path) -> Path:
        """Return the path itself if it is plain, else one through a link.

        Raises
        ------
        BuildError
            If there is no directory for links.
        """
        path = path.absolute()
        if PLAIN.fullmatch(str(path)):
            return path
        self._count += 1
        name = re.sub(r"[^\w.]", "_", path.name, flags=re.ASCII)
        directory = self._directory() / str(self._count)
        directory.mkdir()
        (directory / name).symlink_to(path)
        return directory / name

    def workplace(self, path: Path) -> Path:
        """Make a directory of that path to build in, or a temporary one if it is not plain: make refuses to run there.

        Raises
        ------
        BuildError
            If there is no directory for it.
        """
        if not PLAIN.fullmatch(str(path.absolute())):
            path = self._directory() / "work"
        path.mkdir()
        return path

    def _directory(self) -> Path:
        if self._links is None:
            for parent in (tempfile.gettempdir(), *OTHERS):
                if PLAIN.fullmatch(parent):
                    try:
                        self._links = Path(tempfile.mkdtemp(prefix="fusemax-", dir=parent))
                        break
                    except OSError:
                        continue
            else:
                raise BuildError(f"one of {', '.join(OTHERS)} must be writable to build in a path with spaces")
        return self._links

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._links is not None:
            shutil.rmtree(self._links, ignore_errors=True)
