"""Keys and values of growing sequences in device memory, in pages."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from itertools import pairwise
from types import TracebackType
from typing import Any, Literal, Self, Unpack, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..planning.page_tables import PageTables
from ..runtime.argument_checks import check_count, check_head_dims, to_bits
from ..runtime.device import Device
from ..runtime.operands import as_array
from ..runtime.options import CallOptions, RequestOptions, check_names
from ..runtime.request import Request
from ..runtime.softmax_state import State

__all__ = ["KVCache"]

Range = tuple[int, int]


class KVCache:
    """Keys and values of many sequences, of one layer.

    Device memory for ``pages`` pages is reserved when the cache is made. A page holds ``page_size`` keys with their values, of
    all heads. A sequence grows by pages that are anywhere; a page table says where, so nothing ever moves. Pages that lie one
    behind the other are worked on in one job, so a sequence gets the page behind its last one if that is free.

    Parameters
    ----------
    device
        An open device.
    heads
        Key heads.
    e, f
        Head dim of queries and keys, and of values; ``f`` is ``e`` if not given.
    page_size
        Keys of a page. Results do not depend on the pages if it is a multiple of ``device.config.rows``, and are otherwise
        as exact.
    pages
        Pages of all sequences together.

    Raises
    ------
    TypeError, ValueError
        If an argument is not as above.
    DeviceMemoryError
        If the device's memory has no room.
    """

    def __init__(self, device: Device, *, heads: int, e: int, f: int | None = None, page_size: int = 64, pages: int) -> None:
        f = e if f is None else f
        if not isinstance(device, Device):
            raise TypeError(f"device must be a Device, not {device!r}")
        for name, value in (("heads", heads), ("e", e), ("f", f), ("page_size", page_size), ("pages", pages)):
            check_count(name, value)
        heads, e, f, page_size, pages = (int(value) for value in (heads, e, f, page_size, pages))
        check_head_dims(device.config, e, f)
        self.device = device
        self.heads, self.e, self.f = heads, e, f
        self.page_size, self.pages = page_size, pages
        self._tables = PageTables(pages, page_size)
        self._address: int | None = None
        rows = [device.config.beats(elements) * device.config.bus_bytes for elements in (e, f)]
        keys = pages * page_size * heads
        self._address = device.driver.reserve("pages of the cache", keys * sum(rows))
        addresses = self._address, self._address + keys * rows[0]
        self._stores = [
            _Store(device, address, row, heads, elements)
            for address, row, elements in zip(addresses, rows, (e, f), strict=True)
        ]

    # -- sequences -------------------------------------------------------------------------------------------

    def allocate(self, sequence: Hashable) -> None:
        """A new sequence of no keys; any name that can be a key of a dict.

        Raises
        ------
        ValueError
            If there is one of that name.
        """
        self._check_open()
        self._tables.allocate(sequence)

    def append(self, sequence: Hashable, k: ArrayLike, v: ArrayLike) -> None:
        """Keys and values behind those that are there.

        Parameters
        ----------
        k, v : arrays (heads, n, E) and (heads, n, F)
            Keys and values, of what :func:`fusemax.attention` takes.

        Raises
        ------
        KeyError
            If there is no such sequence.
        TypeError, ValueError, NonFiniteError
            If the arrays are not as above, or not finite; see :func:`fusemax.attention`.
        DeviceMemoryError
            If there are not enough free pages; the sequence is as before then.
        """
        length = self.length(sequence)
        k, v = as_array("k", k), as_array("v", v)
        for name, array, elements in (("k", k, self.e), ("v", v, self.f)):
            if array.ndim != 3 or array.shape[0] != self.heads or array.shape[2] != elements:
                raise ValueError(f"{name} must be ({self.heads}, keys, {elements}), not {array.shape}")
        if k.shape[1] != v.shape[1]:
            raise ValueError(f"the length of v must be that of k, {k.shape[1]}, not {v.shape[1]}")
        bits = [to_bits(name, array) for name, array in (("k", k), ("v", v))]
        self._tables.reserve(sequence, length + k.shape[1])
        places = self._tables.places(sequence, length, length + k.shape[1])
        for store, array in zip(self._stores, bits, strict=True):
            store.rows[places] = array.swapaxes(0, 1)
        self._tables.grow(sequence, k.shape[1])

    def free(self, sequence: Hashable) -> None:
        """Forget a sequence; its pages are free then.

        Raises
        ------
        KeyError
            If there is no such sequence.
        """
        self.length(sequence)
        self._tables.free(sequence)

    def length(self, sequence: Hashable) -> int:
        """Keys of a sequence.

        Raises
        ------
        KeyError
            If there is no such sequence.
        """
        self._check_open()
        return self._tables.length(sequence)

    def table(self, sequence: Hashable) -> list[int]:
        """Page table of a sequence: numbers of its pages in order."""
        self.length(sequence)
        return self._tables.table(sequence)

    @property
    def sequences(self) -> list[Hashable]:
        """Names of the sequences, oldest first."""
        return self._tables.sequences

    @property
    def free_pages(self) -> int:
        """Pages that no sequence has."""
        return self._tables.free_pages

    # -- attention -------------------------------------------------------------------------------------------

    @overload
    def attend(
        self,
        q: ArrayLike,
        sequences: Sequence[Hashable],
        scale: float | ArrayLike | None = None,
        *,
        return_lse: Literal[False] = False,
        return_state: Literal[False] = False,
        **options: Unpack[CallOptions],
    ) -> NDArray[Any]: ...

    @overload
    def attend(
        self,
        q: ArrayLike,
        sequences: Sequence[Hashable],
        scale: float | ArrayLike | None = None,
        *,
        return_lse: Literal[True],
        return_state: Literal[False] = False,
        **options: Unpack[CallOptions],
    ) -> tuple[NDArray[Any], NDArray[np.float32]]: ...

    @overload
    def attend(
        self,
        q: ArrayLike,
        sequences: Sequence[Hashable],
        scale: float | ArrayLike | None = None,
        *,
        return_lse: Literal[False] = False,
        return_state: Literal[True],
        **options: Unpack[CallOptions],
    ) -> tuple[NDArray[Any], State]: ...

    @overload
    def attend(
        self,
        q: ArrayLike,
        sequences: Sequence[Hashable],
        scale: float | ArrayLike | None = None,
        *,
        return_lse: Literal[True],
        return_state: Literal[True],
        **options: Unpack[CallOptions],
    ) -> tuple[NDArray[Any], NDArray[np.float32], State]: ...

    def attend(
        self,
        q: ArrayLike,
        sequences: Sequence[Hashable],
        scale: float | ArrayLike | None = None,
        *,
        return_lse: bool = False,
        return_state: bool = False,
        **options: Unpack[CallOptions],
    ) -> Any:
        """Compute attention of queries over the keys of their sequences.

        One query per sequence is decoding; more of them, with ``causal``, are a chunk of a prompt whose keys were appended
        before.

        Parameters
        ----------
        q : array (sequences, query heads, P, E)
            Queries, of what :func:`fusemax.attention` takes; query heads are a multiple of the cache's heads.
        sequences
            The sequence of each batch entry.
        query_offset
            As in :func:`fusemax.attention`; if not given, the last query stands at the sequence's last key.
        others
            As in :func:`fusemax.attention`.

        Returns
        -------
        As :func:`fusemax.attention`.

        Raises
        ------
        KeyError
            If there is no such sequence.
        TypeError, ValueError
            As :func:`fusemax.attention`, which names the device's errors too.
        """
        check_names("attend", options, CallOptions)
        q = as_array("q", q)
        if isinstance(sequences, str) or not isinstance(sequences, Iterable):
            raise TypeError(f"sequences must be a list of names, not {sequences!r}")
        sequences = list(sequences)
        lengths = [self.length(sequence) for sequence in sequences]
        if q.ndim != 4 or q.shape[0] != len(sequences) or q.shape[1] % self.heads or q.shape[3] != self.e:
            raise ValueError(
                f"q must be ({len(sequences)} sequences, a multiple of {self.heads} heads, queries, {self.e}), not {q.shape}"
            )
        given: RequestOptions = {
            "query_offset": [length - q.shape[2] for length in lengths],
            **{name: value for name, value in options.items() if name != "query_offset" or value is not None},
            "key_lengths": lengths,
            "scale": scale,
            "return_lse": return_lse,
            "return_state": return_state,
        }  # type: ignore[typeddict-item]
        longest = max(1, *lengths)
        request = Request(given, q.shape[:2], q.shape[2], longest, self.e, self.f)
        call = request.call(self.device.config)
        runs = [self._tables.runs(sequence) for sequence in sequences]
        k, v = (_Pages(store, runs) for store in self._stores)
        rows = self.device.driver.attend(to_bits("q", q), k, v, self.heads, longest, self.f, call)
        return request.finish(self.device.config, rows)

    # -- end -------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Give the memory back; sequences are gone. Again is harmless."""
        if self._address is not None:
            if not self.device.closed:
                self.device.driver.memory.release(self._address)
            self._address = None

    def _check_open(self) -> None:
        if self._address is None:
            raise ValueError("the cache must be open, but was closed")
        _ = self.device.driver

    def __enter__(self) -> Self:
        self._check_open()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


class _Store:
    """Keys or values of all pages in device memory: rows of all heads of a key follow each other.

    Members
    -------
    rows
        bfloat16 bits, (keys, heads, elements).
    """

    def __init__(self, device: Device, address: int, row_bytes: int, heads: int, elements: int) -> None:
        self._device = device
        self.address, self.row_bytes, self.heads, self.elements = address, row_bytes, heads, elements

    @property
    def rows(self) -> NDArray[np.uint16]:
        memory = self._device.driver.memory.data[self.address :].view("<u2")
        row = self.row_bytes // 2
        keys = len(memory) // (row * self.heads)
        return memory[: keys * row * self.heads].reshape(keys, self.heads, row)[..., : self.elements]


class _Pages:
    """Keys or values of a call's batch entries (:class:`fusemax.planning.descriptors.Keys`)."""

    batch_stride = None

    def __init__(self, store: _Store, runs: list[list[tuple[int, int]]]) -> None:
        self._store, self._runs = store, runs
        self.head_stride = store.row_bytes
        self.row_stride = store.row_bytes * store.heads

    def place(self, entry: int, head: int, share: int, row: int) -> int:
        """Address of a row."""
        first, place = next(run for run in reversed(self._runs[entry]) if run[0] <= row)
        return self._store.address + (place + row - first) * self.row_stride + head * self.head_stride

    def runs(self, entry: int, keys: int) -> list[Range]:
        """Keys of a batch entry that lie one behind the other."""
        starts = [first for first, _ in self._runs[entry] if first < keys]
        return list(pairwise([*starts, keys]))
