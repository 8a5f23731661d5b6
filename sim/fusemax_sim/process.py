"""One simulator process: started with cocotb's environment in its own session, watched, and ended for certain."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import IO

import cocotb_tools.config
import find_libpython

from .bench_commands import Command, Reply, Request, receive
from .build import TOP
from .errors import BuildError, SimulatorDied
from .toolchain import cocotb_root

__all__ = ["SimulatorProcess"]

#: The simulator has this long to start, and to end when it is asked to.
START_SECONDS = 60
STOP_SECONDS = 10


def cocotb_environment() -> dict[str, str]:
    """Environment in which cocotb's library finds this interpreter and the bench."""
    library = os.environ.get("LIBPYTHON_LOC") or find_libpython.find_libpython()
    if library is None:
        raise BuildError("the simulator needs Python's shared library (libpython): apt-get install libpython3-dev")
    # Settings of a cocotb run around this one are not for us.
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("COCOTB_", "GPI_", "PYGPI_"))}
    libraries = [str(cocotb_root() / "libs"), *filter(None, [os.environ.get("LD_LIBRARY_PATH")])]
    return environment | {
        "LD_LIBRARY_PATH": os.pathsep.join(libraries),
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
        "PYGPI_PYTHON_BIN": sys.executable,
        "GPI_USERS": f"{library};{cocotb_tools.config.pygpi_entry_point()}",
        "TOPLEVEL_LANG": "verilog",
        "COCOTB_TOPLEVEL": TOP,
        "COCOTB_TEST_MODULES": "fusemax_sim.cocotb_bench",
        "COCOTB_TRUST_INERTIAL_WRITES": "1",
        "COCOTB_RESULTS_FILE": os.devnull,
        "COCOTB_ANSI_OUTPUT": "0",
        # No rewriting of assertions: it would load pytest's plugins.
        "COCOTB_REWRITE_ASSERTION_FILES": "",
        # The seed is unused: naming one keeps two runs' logs alike.
        "COCOTB_RANDOM_SEED": "0",
    }


class SimulatorProcess:
    """A running simulator and the socket to its bench.

    Its log is an unnamed file, so that nothing is left behind however either process ends. The process ends when
    the socket is closed, when :meth:`stop` or :meth:`kill` is called, and when this object or the interpreter goes.

    Parameters
    ----------
    executable
        Result of :func:`fusemax_sim.build`.
    arguments
        Plusargs and options.
    memory_file
        Descriptor of the file that is the memory.
    """

    def __init__(self, executable: Path, arguments: Sequence[str], memory_file: int) -> None:
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 (closed with the process)
        self.socket, theirs = socket.socketpair()
        with theirs:
            environment = cocotb_environment() | {
                "FUSEMAX_SOCKET_FD": str(theirs.fileno()),
                "FUSEMAX_MEMORY_FD": str(memory_file),
            }
            try:
                self._process = subprocess.Popen(
                    [str(executable), *arguments],
                    env=environment,
                    stdin=subprocess.DEVNULL,
                    stdout=self._log,
                    stderr=subprocess.STDOUT,
                    pass_fds=(theirs.fileno(), memory_file),
                    # Its own session and process group: Ctrl-C reaches only the host, which then ends the simulator.
                    start_new_session=True,
                )
            except BaseException:
                self.socket.close()
                self._log.close()
                raise
        self._finalizer = weakref.finalize(self, _end, os.getpid(), self._process, self.socket, self._log)

    @property
    def pid(self) -> int:
        """Number of the process, and of its group."""
        return self._process.pid

    def send(self, request: Request) -> None:
        """Hand a request to the bench. Raises SimulatorDied."""
        try:
            self.socket.sendall(request.to_bytes())
        except OSError:
            raise self.died() from None

    def receive(self, timeout_s: float | None) -> Reply | None:
        """The reply to the request sent before, or None if it does not come in time. Raises SimulatorDied."""
        try:
            self.socket.settimeout(timeout_s)
            text = receive(self.socket, Reply.FORMAT.size)
        except TimeoutError:
            return None
        except OSError:  # Closed meanwhile by another thread.
            raise self.died() from None
        if not text:
            raise self.died()
        return Reply.from_bytes(text)

    def died(self) -> SimulatorDied:
        """The exception that reports the process's end; cleans up after it."""
        if not self._finalizer.alive:
            return SimulatorDied("the simulator was closed")
        # The socket closes a moment before the process is gone.
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(STOP_SECONDS)
        status = self._process.poll()
        tail = self.log_tail()
        self.kill()
        if status is None:
            how = "closed its socket"
        elif status < 0:
            how = f"was ended by {signal.Signals(-status).name}"
        else:
            how = f"ended with status {status}"
        return SimulatorDied(f"the simulator {how}; its log ends:\n{tail}")

    def log_tail(self, lines: int = 30) -> str:
        """Last lines that the simulator wrote."""
        size = os.fstat(self._log.fileno()).st_size
        text = os.pread(self._log.fileno(), 16384, max(0, size - 16384)).decode(errors="replace")
        return "\n".join(text.splitlines()[-lines:]) or "(nothing)"

    def stop(self) -> None:
        """Let the simulation end by itself, so that its waveform is complete; then make sure that it has."""
        try:
            if self._finalizer.alive:
                with contextlib.suppress(OSError, subprocess.TimeoutExpired):
                    self.socket.sendall(Request(Command.STOP).to_bytes())
                    self._process.wait(STOP_SECONDS)
        finally:
            self.kill()

    def kill(self) -> None:
        """End the process and everything it started, now. Does nothing the second time."""
        self._finalizer()


def _end(owner: int, process: subprocess.Popen[bytes], stream: socket.socket, log: IO[bytes]) -> None:
    if os.getpid() != owner:  # A fork of the host has a copy of the object; the simulator is not its own.
        return
    # Shutting down wakes a thread that waits for a reply; closing alone would not.
    with contextlib.suppress(OSError):
        stream.shutdown(socket.SHUT_RDWR)
    if process.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    stream.close()
    log.close()
