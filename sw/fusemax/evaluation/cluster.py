"""Many independent tasks on the processes of a Dask cluster (extra ``explore``)."""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from distributed import Client

__all__ = ["Task", "check_where", "connected", "cores", "work_through"]

#: Seconds until a scheduler must have answered.
CONNECT_SECONDS = 10
#: Threads of this process that only wait need not be watched: that takes 4 % of a core.
QUIET = {
    "distributed.worker.profile.enabled": False,
    "distributed.admin.tick.interval": "500ms",
    "distributed.admin.system-monitor.interval": "10s",
    "distributed.admin.system-monitor.gil.enabled": False,
}


@dataclass(frozen=True)
class Task:
    """A call. The function travels to the process that calls it, so it must depend on nothing but its arguments and what is
    installed there.

    Members
    -------
    name
        Of the task among the others.
    function, arguments
        What is called.
    """

    name: str
    function: Callable[..., Any]
    arguments: tuple[Any, ...] = ()


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0))


def check_where(scheduler: str | None, workers: int | None) -> None:
    """Check the arguments that say where tasks run.

    Raises
    ------
    ValueError
        If ``workers`` is less than 1 or is given with ``scheduler``.
    """
    if workers is not None and scheduler is not None:
        raise ValueError("workers must be given for a local cluster only, not with a scheduler")
    if workers is not None and workers < 1:
        raise ValueError(f"workers must be at least 1, not {workers!r}")


def _check_address(scheduler: str) -> None:
    """Check the address of a scheduler before a thread is started to find out."""
    from distributed.comm.addressing import parse_address, parse_host_port

    scheme, where = parse_address(scheduler)
    if scheme == "inproc":
        return
    try:
        parse_host_port(where)
    except ValueError:
        raise ValueError(f"the scheduler must be an address as in tcp://host:8786, not {scheduler!r}") from None


@contextmanager
def connected(scheduler: str | None, workers: int, *, processes: bool = True) -> Iterator[Client]:
    """Connect to a cluster, or start one on this machine for as long as this lasts.

    Parameters
    ----------
    scheduler
        Address of a running scheduler, or None.
    workers
        Tasks that the local cluster calls at a time.
    processes
        Each in a process of its own; else in threads of this one, for tasks that only wait for other processes.

    Raises
    ------
    ValueError
        If ``scheduler`` is no address.
    OSError
        If the scheduler does not answer.
    """
    from dask import config
    from distributed import Client, LocalCluster

    if scheduler is not None:
        _check_address(scheduler)
    with ExitStack() as stack:
        where: Any = scheduler
        if scheduler is None:
            # Dask would leave files in a folder that all its clusters share.
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="fusemax-cluster-"))
            with config.set({"temporary-directory": folder} | ({} if processes else QUIET)):
                where = stack.enter_context(
                    LocalCluster(
                        n_workers=workers if processes else 1,
                        threads_per_worker=1 if processes else workers,
                        processes=processes,
                        # Any free port: another cluster may run beside this one.
                        dashboard_address="127.0.0.1:0",
                        worker_dashboard_address="127.0.0.1:0",
                        # What a task in a thread of this process raises is logged there, and raised where it is waited for.
                        silence_logs=logging.ERROR if processes else logging.CRITICAL,
                    )
                )
        yield stack.enter_context(Client(where, timeout=CONNECT_SECONDS, set_as_default=False))


def work_through(
    tasks: Iterable[Task],
    done: Callable[[Task, Any], None],
    *,
    scheduler: str | None = None,
    workers: int | None = None,
) -> None:
    """Call all tasks, several at a time.

    A task whose process is lost is called again in another one, so every task should give the same result whenever it is
    called.

    Parameters
    ----------
    done
        Called in this process, once for every task, with its result, as soon as there is one. What it saves is safe: if this
        process ends before all tasks are done, the next call needs to be given the others only.
    scheduler
        Address of a running ``dask scheduler``, as in ``tcp://host:8786``; its workers need the same version of this package.
        A local cluster is started if not given.
    workers
        Processes of the local cluster, one task at a time each; as many as cores if not given.

    Raises
    ------
    ValueError
        If ``workers`` is less than 1 or is given with ``scheduler``, ``scheduler`` is no address, or two tasks have the same
        name.
    OSError
        If the scheduler does not answer.
    Exception
        What a task or ``done`` raises; the tasks that are not done are dropped then.
    """
    by_name: dict[str, Task] = {}
    for task in tasks:
        if by_name.setdefault(task.name, task) is not task:
            raise ValueError(f"the name of a task must be its own, not {task.name!r} again")
    check_where(scheduler, workers)
    if not by_name:
        return

    from distributed import as_completed

    with connected(scheduler, min(workers or cores(), len(by_name))) as client:
        # Keys are the cluster's, which may know others of these names.
        pending = {client.submit(task.function, *task.arguments, pure=False): task for task in by_name.values()}
        for future, result in as_completed(list(pending), loop=client.loop, with_results=True):
            done(pending.pop(future), result)
