"""A pool of simulators that is one device: heads of a job go to simulators on all workers of a Dask cluster."""

from __future__ import annotations

from .pool_transport import PoolTransport

__all__ = ["PoolTransport"]
