"""Lets the tests have a cluster of processes (dask_cluster.py)."""

from dask_cluster import cluster

__all__ = ["cluster"]
