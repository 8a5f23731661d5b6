"""Who has the machine: one thread at a time, and what others ask of it meanwhile."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from ..errors import DeviceClosedError, ForkedDeviceError
from .fair_lock import Turns

__all__ = ["MachineTurns", "StopWaitingError"]


class StopWaitingError(Exception):
    """A progress function has asked for an abort, or closed the device: the wait that it was called in ends."""


class MachineTurns:
    """Turns of threads at the machine, of the process that opened it, until it is closed.

    An abort may be asked for anywhere, also in a signal handler or a progress function of the very thread that has the machine.
    It leaves a note, and who has the machine, or has it next, acts on it first.

    Parameters
    ----------
    abort
        Stops the machine; called by who has it.

    Members
    -------
    aborts
        Changes with every :meth:`ask_abort`.
    """

    def __init__(self, abort: Callable[[], None]) -> None:
        self.aborts = 0
        self._abort = abort
        self._turns = Turns()
        self._process = os.getpid()
        self._closed = self._abort_asked = self._in_progress = False

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Have the machine, after what was noted was done.

        Raises
        ------
        DeviceClosedError, ForkedDeviceError, ReentrantCallError
            If it was closed, also meanwhile; in a fork of the process; inside another turn of this thread.
        """
        self._check_process()
        try:
            with self._turns:
                self.act()
                yield
        except Exception as error:
            if self._closed and not isinstance(error, DeviceClosedError):
                raise DeviceClosedError("the device must be open, but was closed") from error
            raise
        finally:
            self._act_if_free()

    @property
    def in_progress(self) -> bool:
        """Whether this thread is inside a progress function, where the machine can be asked."""
        return self._in_progress and self._turns.mine

    def act(self) -> None:
        """Act on what was noted meanwhile; for who has the machine."""
        if self._closed:
            raise DeviceClosedError("the device must be open, but was closed")
        if self._abort_asked:
            self._abort_asked = False
            self._abort()

    def ask_abort(self) -> None:
        """Note that the machine is to be stopped. Never waits."""
        self._check_process()
        self.aborts += 1
        self._abort_asked = True
        self._act_if_free()

    def close(self) -> None:
        """Let everyone who has a turn, or asks for one, find the machine closed."""
        self._closed = True

    def stoppable(self, progress: Callable[..., None]) -> Callable[..., None]:
        """Return ``progress``, which then ends the wait by StopWaitingError if there is something to act on."""

        def told(*arguments: object) -> None:
            self._in_progress = True
            try:
                progress(*arguments)
            finally:
                self._in_progress = False
            if self._abort_asked or self._closed:
                raise StopWaitingError

        return told

    def _check_process(self) -> None:
        if os.getpid() != self._process:
            raise ForkedDeviceError(self._process)

    def _act_if_free(self) -> None:
        """Act on a note if nobody has the machine; who has it does this when it gives it back."""
        while self._abort_asked and not self._closed and self._turns.try_enter():
            try:
                self.act()
            finally:
                self._turns.leave()
