"""Sequences of keys and values in pages of device memory."""

from __future__ import annotations

import warnings
from collections.abc import Hashable, Iterator, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import ArrayLike

from ..errors import DeviceError
from ..planning.page_tables import PageTables, Reading
from .alibi import MOST_COLUMNS, key_columns
from .argument_checks import check_count, check_head_dims, is_integer, to_bits
from .device import Device
from .fair_lock import Turns
from .operands import as_array
from .page_store import Stores

__all__ = ["PagedSequences"]


class PagedSequences:
    """What :class:`fusemax.KVCache` is but for attention: sequences that grow, are forked, cut and freed, by any threads."""

    _stores: Stores | None = None

    def __init__(
        self,
        device: Device,
        *,
        heads: int,
        e: int,
        f: int | None = None,
        page_size: int = 64,
        pages: int,
        alibi: bool = False,
        values_in_keys: bool = False,
    ) -> None:
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
        for name, value in (("alibi", alibi), ("values_in_keys", values_in_keys)):
            if not isinstance(value, bool):
                raise TypeError(f"{name} must be True or False, not {value!r}")
        if values_in_keys and f > e:
            raise ValueError(f"f must be at most e, {e}, with values_in_keys, not {f}")
        self.values_in_keys = values_in_keys
        #: Held for a moment, never while the machine works.
        self._lock = Turns()
        self._stores = self._reserve(e + MOST_COLUMNS * alibi)
        #: Areas of stores that calls may still read.
        self._old: list[int] = []
        self._tables = PageTables(pages, page_size)

    def _reserve(self, key_elements: int) -> Stores:
        """Reserve pages whose keys have so many elements, ALiBi's columns included."""
        elements = (key_elements, self.f)
        return Stores(self.device, self.pages * self.page_size, self.heads, elements, values_in_keys=self.values_in_keys)

    # -- sequences -------------------------------------------------------------------------------------------

    def allocate(self, sequence: Hashable) -> None:
        """A new sequence of no keys; any name that can be a key of a dict.

        Raises
        ------
        ValueError
            If there is one of that name.
        """
        with self._lock:
            self._check_open()
            self._tables.allocate(sequence)

    def append(self, sequence: Hashable, k: ArrayLike, v: ArrayLike | None = None) -> None:
        """Keys and values behind those that are there.

        Parameters
        ----------
        k, v : arrays (heads, n, E) and (heads, n, F)
            Keys and values, of what :func:`fusemax.attention` takes; no values if they are in the keys.

        Raises
        ------
        KeyError
            If there is no such sequence.
        TypeError, ValueError, NonFiniteError
            If the arrays are not as above, or not finite; see :func:`fusemax.attention`.
        DeviceMemoryError
            If there are not enough free pages; the sequence is as before then.
        """
        self.length(sequence)
        if (v is None) != self.values_in_keys:
            must = "not be given, since the values are in the keys" if self.values_in_keys else "be given"
            raise TypeError(f"v must {must}")
        given = {"k": k} if v is None else {"k": k, "v": v}
        arrays = {name: as_array(name, array) for name, array in given.items()}
        for name, array in arrays.items():
            elements = self.e if name == "k" else self.f
            if array.ndim != 3 or array.shape[0] != self.heads or array.shape[2] != elements:
                raise ValueError(f"{name} must be ({self.heads}, keys, {elements}), not {array.shape}")
        count = arrays["k"].shape[1]
        for array in arrays.values():
            if array.shape[1] != count:
                raise ValueError(f"the length of v must be that of k, {count}, not {array.shape[1]}")
        bits = {name: to_bits(name, array).swapaxes(0, 1) for name, array in arrays.items()}
        with self._lock:
            stores = self._check_open()
            length = self._tables.length(sequence)
            copied = self._tables.reserve(sequence, length + count)
            if copied is not None:
                stores.copy_page(*copied, self.page_size)
            places = self._tables.places(sequence, length, length + count)
            stores.k.rows[places, :, : self.e] = bits["k"]
            if stores.k.elements > self.e:
                stores.k.rows[places, :, self.e :] = key_columns(np.arange(length, length + count))[:, None]
            if "v" in bits:
                stores.v.rows[places] = bits["v"]
            self._tables.grow(sequence, count)

    def fork(self, sequence: Hashable, new: Hashable) -> None:
        """A new sequence with the keys of another one. They share pages; the one that writes to a shared page gets a copy.

        Raises
        ------
        KeyError
            If there is no such sequence.
        ValueError
            If there is one of the new name.
        """
        with self._lock:
            self._check_open()
            self._tables.length(sequence)
            self._tables.fork(sequence, new)

    def truncate(self, sequence: Hashable, length: int) -> None:
        """Forget all but the first ``length`` keys of a sequence, as after tokens that were guessed wrong.

        Raises
        ------
        KeyError
            If there is no such sequence.
        TypeError, ValueError
            If ``length`` is not a number from 0 to the sequence's length.
        """
        with self._lock:
            self._check_open()
            most = self._tables.length(sequence)
            if not is_integer(length):
                raise TypeError(f"length must be an integer, not {length!r}")
            if not 0 <= length <= most:
                raise ValueError(f"length must be from 0 to {most}, the keys of {sequence!r}, not {length}")
            self._tables.truncate(sequence, int(length))

    def free(self, sequence: Hashable) -> None:
        """Forget a sequence; pages that it shares with no other are free then.

        Raises
        ------
        KeyError
            If there is no such sequence.
        """
        with self._lock:
            self._check_open()
            self._tables.length(sequence)
            self._tables.free(sequence)

    def length(self, sequence: Hashable) -> int:
        """Keys of a sequence.

        Raises
        ------
        KeyError
            If there is no such sequence.
        """
        with self._lock:
            self._check_open()
            return self._tables.length(sequence)

    def table(self, sequence: Hashable) -> list[int]:
        """Page table of a sequence: numbers of its pages in order."""
        with self._lock:
            self._check_open()
            self._tables.length(sequence)
            return self._tables.table(sequence)

    @property
    def sequences(self) -> list[Hashable]:
        """Names of the sequences, oldest first."""
        with self._lock:
            return self._tables.sequences

    @property
    def free_pages(self) -> int:
        """Pages that no sequence has and no call reads."""
        with self._lock:
            return self._tables.free_pages

    # -- for calls -------------------------------------------------------------------------------------------

    @contextmanager
    def reading(self, sequences: Sequence[Hashable], *, widened: bool) -> Iterator[tuple[Stores, list[Reading]]]:
        """Let a call read the sequences as they are now, in these stores; ``widened``: keys have columns for ALiBi."""
        with self._lock:
            stores = self._check_open()
            for sequence in sequences:
                self._tables.length(sequence)
            if widened and stores.k.elements == self.e:
                self._widen(stores)
            stores = self._check_open()
            readings = [self._tables.read(sequence) for sequence in sequences]
        try:
            yield stores, readings
        finally:
            with self._lock:
                for reading in readings:
                    self._tables.end_read(reading)
                self._release_old()

    def _widen(self, stores: Stores) -> None:
        """Move all pages to an area where every key has its columns for ALiBi."""
        wide = self._reserve(self.e + MOST_COLUMNS)
        wide.k.rows[..., : self.e] = stores.k.rows
        if not self.values_in_keys:
            wide.v.rows[...] = stores.v.rows
        for sequence in self._tables.sequences:
            length = self._tables.length(sequence)
            places = self._tables.places(sequence, 0, length)
            wide.k.rows[places, :, self.e :] = key_columns(np.arange(length))[:, None]
        self._stores = wide
        self._old.append(stores.address)
        self._release_old()

    def _release_old(self) -> None:
        """Give back areas that no call reads."""
        while self._old and not self._tables.is_read and not self.device.closed:
            self.device.driver.memory.release(self._old.pop())

    # -- end -------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Give the memory back, when calls that read it have ended; sequences are gone. Again is harmless."""
        with self._lock:
            if self._stores is not None:
                self._old.append(self._stores.address)
                self._stores = None
                self._release_old()

    def _check_open(self) -> Stores:
        if self._stores is None:
            raise ValueError("the cache must be open, but was closed")
        _ = self.device.driver
        return self._stores

    def __enter__(self) -> Self:
        with self._lock:
            self._check_open()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def __repr__(self) -> str:
        with self._lock:
            shape = f"{self.heads} heads, e {self.e}, f {self.f}"
            if self._stores is None:
                return f"<closed KVCache, {shape}>"
            names = self._tables.sequences
            used = self.pages - self._tables.free_pages
            keys = sum(self._tables.length(name) for name in names)
        return (
            f"<KVCache on {self.device!r}, {shape}: {len(names)} sequences of {keys} keys, "
            f"{used} of {self.pages} pages of {self.page_size} keys used>"
        )

    def __del__(self) -> None:
        # The collector may come in the midst of anything, so nothing is locked or waited for here.
        if self._stores is None or self.device.closed:
            return
        try:
            self.device.driver.forgotten.drop_area(self._stores.address)
        except DeviceError:
            return
        warnings.warn(f"unclosed cache of {self.pages} pages on {self.device!r}", ResourceWarning, source=self, stacklevel=2)
