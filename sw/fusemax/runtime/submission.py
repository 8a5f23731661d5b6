"""Calls that were submitted to a device, and are waited for later."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any

from ..errors import DeviceError, fresh
from .argument_checks import check_seconds
from .driver import Driver
from .fair_lock import Turns
from .forgotten import Pending
from .job_ring import Deadline

if TYPE_CHECKING:
    from ..spec import Config
    from .request import Request

__all__ = ["Submission"]


class Submission:
    """A call that :meth:`fusemax.Device.submit` has queued. Any thread may wait for it, while others run.

    Its arrays stay in device memory until its result has been taken, or it is forgotten by all.
    """

    def __init__(self, driver: Driver, config: Config, request: Request, pending: Pending) -> None:
        self._driver, self._config, self._request, self._pending = driver, config, request, pending
        self._result: Any = None
        self._error: DeviceError | None = None
        self._taken = False
        self._lock = Turns()
        self._forget = weakref.finalize(self, driver.forgotten.drop, pending)
        # At the end of the interpreter there is nothing to clean up.
        self._forget.atexit = False

    def done(self) -> bool:
        """Whether the result, or an error, is there; does not wait."""
        if not self._pending.queued.complete:
            self._driver.queue.poll()
        return self._pending.queued.complete

    def result(self, timeout: float | None = None) -> Any:
        """What :func:`fusemax.attention` returns; waits for it. The same again when called again.

        Parameters
        ----------
        timeout
            Seconds after which the wait ends; no limit if not given.

        Raises
        ------
        DeviceTimeoutError
            If the result is not there in time. The call goes on, and can be waited for again.
        DeviceFaultError, DeviceDrainError, NonFiniteError, ScoreOverflowError
            If the call has failed; the others have not.
        DeviceClosedError
            If the device was closed before the result was taken.
        """
        if timeout is not None:
            check_seconds("timeout", timeout)
        if not self._taken:
            self._driver.queue.wait_end(self._pending.queued, Deadline(timeout))
            with self._lock:
                self._take()
        if self._error is not None:
            raise fresh(self._error)
        return self._result

    def _take(self) -> None:
        """Copy the result, once, and give the memory back."""
        if self._taken:
            return
        try:
            self._result = self._request.finish(self._config, self._driver.rows(self._pending))
        except DeviceError as error:
            self._error = error.with_traceback(None)
        self._taken = True
        if self._forget.detach():
            self._driver.release(self._pending)

    @property
    def cycles(self) -> int:
        """The machine's counter ``cycles`` when the call was complete: calls that ended earlier have smaller ones."""
        return self._pending.queued.cycles
