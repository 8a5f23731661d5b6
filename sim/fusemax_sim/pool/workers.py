"""The workers of a pool: a Dask cluster of threads of this process, which wait for simulators, or one that is there already."""

from __future__ import annotations

import os
import threading
import time
import uuid
import weakref
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from functools import partial
from typing import Any

from fusemax.errors import MissingExtraError
from fusemax.evaluation.cluster import CONNECT_SECONDS, check_where, connected
from fusemax.spec import Config

from ..build import build
from ..emission import emission_digest
from ..errors import SimulationError, WorkerLost
from ..memory import Memory
from .piece import Piece, PieceResult
from .simulators import Machine, begin_simulator, end_simulators, run_piece, stop_pieces

__all__ = ["Order", "Workers"]

#: Workers of a scheduler come and go: they are counted anew after so long.
COUNT_SECONDS = 1.0
#: Time for a scheduler's workers to end their simulators.
CLOSE_SECONDS = 10.0


class Order:
    """A piece that a worker has been given.

    Members
    -------
    future
        Dask's.
    result, error
        What has become of it; both are None until it is done.
    """

    def __init__(self) -> None:
        self.future: Any = None
        self.result: PieceResult | None = None
        self.error: BaseException | None = None

    @property
    def done(self) -> bool:
        return self.result is not None or self.error is not None


class Workers:
    """Workers, each with simulators of one machine. Raises as :class:`~.pool_transport.PoolTransport`.

    Members
    -------
    news
        Set when an order is done.
    """

    def __init__(
        self, config: Config, memory: Memory | None, memory_bytes: int, workers: int | None, scheduler: str | None
    ) -> None:
        check_where(scheduler, workers)
        self.news = threading.Event()
        self._local = scheduler is None
        # Once, for all workers on this machine.
        executable = build(config) if self._local else None
        digest = None if self._local else emission_digest(config)
        self._machine = Machine(uuid.uuid4().hex, config, memory, memory_bytes, executable, digest)
        with ExitStack() as stack:
            try:
                # Typed by Dask for asynchronous use, too.
                self._client: Any = stack.enter_context(connected(scheduler, workers or 1, processes=False))
            except ModuleNotFoundError as error:
                raise MissingExtraError(f"a pool needs Dask: pip install 'fusemax[sim,explore]' ({error})") from error
            stack.callback(_end_simulators, self._client, self._machine.pool)
            if scheduler is not None:
                self._wait_for_one(scheduler)
            self._count()
            self._begin_simulators()
            self._finalizer = weakref.finalize(self, _close, os.getpid(), stack.pop_all())

    def _wait_for_one(self, scheduler: str) -> None:
        try:
            self._client.wait_for_workers(1, timeout=CONNECT_SECONDS)
        except TimeoutError as error:
            raise OSError(f"the scheduler at {scheduler} must have a worker, but has none") from error

    def _begin_simulators(self) -> None:
        """One on every worker, or all that there will be on this machine, so that this tells what would not work."""
        places: list[dict[str, Any]] = [{}] * self._threads
        if not self._local:
            places = [{"workers": [address], "allow_other_workers": False} for address in self._client.nthreads()]
        for future in [self._client.submit(begin_simulator, self._machine, pure=False, **place) for place in places]:
            future.result()

    def _count(self) -> None:
        self._threads, self._counted = max(1, sum(self._client.nthreads().values())), time.monotonic()

    @property
    def threads(self) -> int:
        """Pieces that can run at a time."""
        if not self._local and time.monotonic() > self._counted + COUNT_SECONDS:
            self._count()
        return self._threads

    def order(self, piece: Piece) -> Order:
        """Give a piece to a worker; does not wait for it."""
        order = Order()
        order.future = self._client.submit(run_piece, self._machine, piece, pure=False)
        self._client.loop.add_callback(_gather, self._client, order, self.news)
        return order

    def stop(self, orders: Sequence[Order], turn: int) -> None:
        """Stop what is under way, and forget the rest; does not wait. The turn is theirs, and all before it have ended."""
        for order in orders:
            order.future.release()
        call = partial(self._client.run, stop_pieces, self._machine.pool, turn, on_error="ignore")
        self._client.loop.add_callback(call)

    def close(self) -> None:
        """End all simulators, and the cluster if it is ours; whoever waits for news gets them. Again is harmless."""
        self.news.set()
        self._finalizer()


async def _gather(client: Any, order: Order, news: threading.Event) -> None:
    try:
        order.result = await client.gather(order.future, asynchronous=True)
    except BaseException as error:
        order.error = _told(error)
    news.set()


def _told(error: BaseException) -> BaseException:
    """What a user is told of an error of a piece."""
    from distributed import KilledWorker

    if isinstance(error, KilledWorker):
        times = error.allowed_failures + 1
        return WorkerLost(f"a part of the call was lost with its worker, {times} time{'s' * (times > 1)}: {error}")
    if isinstance(error, SimulationError):
        return error
    lost = WorkerLost(f"a part of the call was lost: {type(error).__name__}: {error}")
    lost.__cause__ = error
    return lost


def _end_simulators(client: Any, pool: str) -> None:
    """On all workers, and in this process: its workers may be threads."""
    end_simulators(pool)
    with suppress(Exception):
        client.sync(client._run, end_simulators, pool, on_error="ignore", callback_timeout=CLOSE_SECONDS)


def _close(owner: int, stack: ExitStack) -> None:
    """Disconnect, and end the cluster if it is ours. In a thread of the cluster's own one cannot wait for that."""
    if os.getpid() != owner:
        return
    if threading.current_thread() is threading.main_thread():
        stack.close()
    else:
        threading.Thread(target=stack.close, name="fusemax-pool-close").start()
