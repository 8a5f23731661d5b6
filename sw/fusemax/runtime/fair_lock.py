"""A lock that goes round: whoever asked first gets it next, and nobody waits for himself."""

from __future__ import annotations

import threading
from collections import deque
from threading import get_ident
from types import TracebackType

from ..errors import ReentrantCallError

__all__ = ["Turns"]


class Turns:
    """Mutual exclusion in the order of asking, so that a thread that takes turns often lets the others have theirs.

    A thread that has its turn, or waits for it, may be interrupted by code that asks for one too: a signal handler, the
    garbage collector, or a function of the user's that it calls. That would wait for ever, so it gets an error.
    """

    def __init__(self) -> None:
        # Held for a moment. Its own thread may come in again, when that moment is interrupted.
        self._mutex = threading.RLock()
        self._waiting: deque[tuple[int, threading.Lock]] = deque()
        self._owner: int | None = None

    @property
    def mine(self) -> bool:
        """Whether this thread has its turn."""
        return self._owner == get_ident()

    def enter(self) -> None:
        """Wait for a turn.

        Raises
        ------
        ReentrantCallError
            If this thread has it, or waits for it already.
        """
        me = get_ident()
        self._refuse_nested()
        with self._mutex:
            if self._owner is None:
                self._owner = me
                return
            if self._owner == me or any(thread == me for thread, _ in self._waiting):
                raise ReentrantCallError
            mine = threading.Lock()
            mine.acquire()
            self._waiting.append((me, mine))
        try:
            mine.acquire()
        except BaseException:
            with self._mutex:
                passed = (me, mine) not in self._waiting
                if not passed:
                    self._waiting.remove((me, mine))
            if passed:
                self.leave()
            raise

    def try_enter(self) -> bool:
        """Take a turn if it is free; never waits, so that a signal handler may ask."""
        if self._nested or not self._mutex.acquire(blocking=False):
            return False
        try:
            if self._owner is not None:
                return False
            self._owner = get_ident()
            return True
        finally:
            self._mutex.release()

    def leave(self) -> None:
        """Let the next one have its turn."""
        with self._mutex:
            if self._waiting:
                self._owner, lock = self._waiting.popleft()
                lock.release()
            else:
                self._owner = None

    @property
    def _nested(self) -> bool:
        """Whether this thread was interrupted in the midst of a method here."""
        return self._mutex._is_owned()  # type: ignore[attr-defined]

    def _refuse_nested(self) -> None:
        if self._nested:
            raise ReentrantCallError

    def __enter__(self) -> None:
        self.enter()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.leave()
