"""Keys and values of growing sequences in device memory, in pages, and attention over them."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from typing import Any, Literal, Unpack, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..planning.page_tables import Reading
from ..runtime import ragged
from ..runtime.argument_checks import to_bits
from ..runtime.call import PlacedKeys
from ..runtime.operands import as_array
from ..runtime.options import CacheOptions, RequestOptions, check_names
from ..runtime.page_store import Pages, Stores
from ..runtime.paged_sequences import PagedSequences
from ..runtime.request import Request
from ..runtime.softmax_state import State

__all__ = ["KVCache"]


class KVCache(PagedSequences):
    """Keys and values of many sequences, of one layer.

    Device memory for ``pages`` pages is reserved when the cache is made. A page holds ``page_size`` keys with their values, of
    all heads. A sequence grows by pages that are anywhere; a page table says where, so nothing ever moves. Pages that lie one
    behind the other are worked on in one job, so a sequence gets the page behind its last one if that is free.

    Any thread may use it. A call of :meth:`attend` sees the sequences as they are when it begins, whatever others do to them
    meanwhile; pages that it reads are free again when it has ended. A cache that is dropped without ``close`` gives a
    ResourceWarning, as files do.

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
    alibi
        Room for the 4 columns of E beside each key that ``alibi_slopes`` need. If there is none, the first call of
        :meth:`attend` with slopes moves all pages to an area that has it, which takes memory for both for a moment.
    values_in_keys
        The values are the first ``f`` columns of the keys, as in attention on a latent vector: they take no memory of their
        own, and keys are read once where ``device.config.values_in_keys``.

    Raises
    ------
    TypeError, ValueError
        If an argument is not as above.
    DeviceMemoryError
        If the device's memory has no room.
    """

    @overload
    def attend(
        self,
        q: ArrayLike,
        sequences: Sequence[Hashable],
        scale: float | ArrayLike | None = None,
        *,
        return_lse: Literal[False] = False,
        return_state: Literal[False] = False,
        **options: Unpack[CacheOptions],
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
        **options: Unpack[CacheOptions],
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
        **options: Unpack[CacheOptions],
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
        **options: Unpack[CacheOptions],
    ) -> tuple[NDArray[Any], NDArray[np.float32], State]: ...

    @overload
    def attend(
        self,
        q: Sequence[ArrayLike],
        sequences: Sequence[Hashable],
        scale: float | ArrayLike | None = None,
        *,
        return_lse: bool = False,
        return_state: bool = False,
        **options: Unpack[CacheOptions],
    ) -> Any: ...

    def attend(
        self,
        q: ArrayLike | Sequence[ArrayLike],
        sequences: Sequence[Hashable],
        scale: float | ArrayLike | None = None,
        *,
        return_lse: bool = False,
        return_state: bool = False,
        **options: Unpack[CacheOptions],
    ) -> Any:
        """Compute attention of queries over the keys of their sequences.

        One query per sequence is decoding; more of them, with ``causal``, are a chunk of a prompt whose keys were appended
        before.

        Parameters
        ----------
        q : array (sequences, query heads, P, E), or a list of arrays (query heads, P, E)
            Queries, of what :func:`fusemax.attention` takes; query heads are a multiple of the cache's heads. In a list P may
            differ: a chunk of one prompt beside tokens that others decode, in one call, whose jobs follow each other without
            a pause.
        sequences
            The sequence of each batch entry.
        query_offset
            As in :func:`fusemax.attention`; if not given, the last query stands at the sequence's last key.
        temperature, state
            As in :func:`fusemax.attention`; with a list of arrays one for all, or a list of one per sequence.
        others
            As in :func:`fusemax.attention`.

        Returns
        -------
        As :func:`fusemax.attention`; with a list of arrays a list of results for each array that it returns.

        Raises
        ------
        KeyError
            If there is no such sequence.
        TypeError, ValueError
            As :func:`fusemax.attention`, which names the device's errors too.
        """
        check_names("attend", options, CacheOptions)
        if isinstance(sequences, str) or not isinstance(sequences, Iterable):
            raise TypeError(f"sequences must be a list of names, not {sequences!r}")
        sequences = list(sequences)
        given: RequestOptions = {
            **{name: value for name, value in options.items() if name != "query_offset" or value is not None},
            "scale": scale,
            "return_lse": return_lse,
            "return_state": return_state,
        }  # type: ignore[typeddict-item]
        if isinstance(q, np.ndarray) or not isinstance(q, Sequence):
            q = as_array("q", q)
            with self.reading(sequences, widened=given.get("alibi_slopes") is not None) as (stores, readings):
                call = self._placed(q, stores, readings, given)
                rows = self.device.driver.attend([call[1]])
            return call[0].finish(self.device.config, rows[0])
        if len(q) != len(sequences) or not q:
            raise ValueError(f"q must be an array for each of {len(sequences)} sequences, not a list of {len(q)}")
        arrays = [as_array(f"q[{number}]", each) for number, each in enumerate(q)]
        groups = ragged.groups_of(arrays)
        with self.reading(sequences, widened=given.get("alibi_slopes") is not None) as (stores, readings):
            calls = []
            for group in groups:
                queries = ragged.stacked(arrays, group)
                chosen = ragged.options_of(given, group, len(q), (*queries.shape[1:3], self.f))
                calls.append(self._placed(queries, stores, [readings[entry] for entry in group], chosen))
            rows = self.device.driver.attend([placed for _, placed in calls])
        results = [request.finish(self.device.config, each) for (request, _), each in zip(calls, rows, strict=True)]
        return ragged.gather(groups, results)

    def _placed(
        self, q: NDArray[Any], stores: Stores, readings: Sequence[Reading], options: RequestOptions
    ) -> tuple[Request, PlacedKeys]:
        """A checked call of sequences that have as many queries, and what the driver is asked for."""
        if q.ndim != 4 or q.shape[0] != len(readings) or q.shape[1] % self.heads or q.shape[3] != self.e:
            raise ValueError(
                f"q must be ({len(readings)} sequences, a multiple of {self.heads} heads, queries, {self.e}), not {q.shape}"
            )
        lengths = [reading.length for reading in readings]
        given: RequestOptions = {
            "query_offset": [length - q.shape[2] for length in lengths],
            **options,
            "key_lengths": lengths,
        }  # type: ignore[typeddict-item]
        longest = max(1, *lengths)
        request = Request(given, q.shape[:2], q.shape[2], longest, self.e, self.f)
        call = request.call(self.device.config)
        runs = [self._tables.runs(reading) for reading in readings]
        k, v = Pages(stores.k, runs), Pages(stores.v, runs)
        bits = to_bits("q", q)
        if request.factors.flat.any():
            # A scale of 0: all scores are equal, whatever the queries are.
            bits = np.where(request.factors.flat.reshape(-1, 1, 1), np.uint16(0), bits)
        if request.alibi is not None:
            bits = request.alibi.extend_queries(bits)
        return request, PlacedKeys(bits, k, v, self.heads, longest, self.f, call)
