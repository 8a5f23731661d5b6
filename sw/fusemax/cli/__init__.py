"""Command line: ``fusemax verilog | compile | plan | run | board | bench | paper | passes | explore | info``."""

from __future__ import annotations

import argparse
import contextlib
import logging
import sys
from collections.abc import Iterator, Sequence

from .. import __version__
from ..errors import FusemaxError
from . import bench, board, compile, explore, info, paper, passes, plan, run, verilog

__all__ = ["COMMANDS", "main", "parser"]

#: In the order of ``fusemax --help``.
COMMANDS = (verilog, compile, plan, run, board, bench, paper, passes, explore, info)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code: 0 done, 1 failed or a result is wrong, 2 wrong usage, 130 interrupted."""
    options = parser().parse_args(arguments)
    try:
        with shown_log():
            return options.function(options)
    except (FusemaxError, ValueError) as error:
        message = str(error)
    except OSError as error:
        message = str(error) if error.filename is None else f"{error.strerror}: {str(error.filename)!r}"
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    print(f"error: {message}", file=sys.stderr)
    return 1


def parser() -> argparse.ArgumentParser:
    """Make the parser of the whole command line; it ends the process by SystemExit(2) if the usage is wrong."""
    found = argparse.ArgumentParser(prog="fusemax", description="Generator of attention accelerators.")
    found.add_argument("--version", action="version", version=f"fusemax {__version__}")
    commands = found.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for command in COMMANDS:
        command.add(commands)
    return found


class StderrHandler(logging.Handler):
    """Prints the package's log to what stderr is at the moment: a progress bar stands in for it while it is shown."""

    def emit(self, record: logging.LogRecord) -> None:
        print(self.format(record), file=sys.stderr)


@contextlib.contextmanager
def shown_log() -> Iterator[None]:
    """Print what the package logs from level INFO on, such as what is built and where."""
    log, handler = logging.getLogger("fusemax"), StderrHandler()
    level = log.level
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    try:
        yield
    finally:
        log.removeHandler(handler)
        log.setLevel(level)
