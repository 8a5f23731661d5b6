"""Which keys a query sees: a window about its place, the first keys, and no key behind the sequence's end."""

from __future__ import annotations

from dataclasses import dataclass

from ..spec import MASK_LIMIT

__all__ = ["UNBOUNDED", "EntryMask", "Mask", "Piece", "pieces"]

#: Beyond every key: queries and keys are fewer than this, and so is every offset between them that matters.
UNBOUNDED = MASK_LIMIT


@dataclass(frozen=True)
class EntryMask:
    """Mask of a batch entry: position p sees key j if (lo + p <= j < hi + p or j < prefix) and j < keys.

    Keys are counted from the first one that is seen.

    Members
    -------
    lo, hi
        Window of position 0, ``-UNBOUNDED`` to ``UNBOUNDED``; lo < hi.
    keys
        Keys that there are.
    prefix
        Keys from the first that every query sees.
    first
        Keys of the array in front of the first one.
    """

    lo: int
    hi: int
    keys: int
    prefix: int
    first: int = 0


@dataclass(frozen=True, kw_only=True)
class Mask:
    """What :func:`fusemax.attention` was asked for; a query i stands at key position i + offset.

    Members
    -------
    left, right
        Keys in front of and behind its own place that a query sees; None for all.
    offsets, key_lengths, prefixes, key_starts
        Of each batch entry; one number is for all of them. ``key_lengths`` None: all keys.
    """

    left: int | None = None
    right: int | None = None
    offsets: tuple[int, ...] = (0,)
    key_lengths: tuple[int, ...] | None = None
    prefixes: tuple[int, ...] = (0,)
    key_starts: tuple[int, ...] = (0,)

    def entries(self, batch: int, keys: int) -> list[EntryMask]:
        """Mask of every batch entry."""
        return [self.entry(number, keys) for number in range(batch)]

    def entry(self, number: int, keys: int) -> EntryMask:
        """Mask of a batch entry."""
        first, place = _of(self.key_starts, number), self.place(number)
        lo = -UNBOUNDED if self.left is None else _clip(place - self.left)
        hi = UNBOUNDED if self.right is None else _clip(place + self.right + 1)
        length = max(0, (keys if self.key_lengths is None else _of(self.key_lengths, number)) - first)
        return EntryMask(lo, hi, length, min(max(0, _of(self.prefixes, number) - first), length), first)

    def place(self, number: int) -> int:
        """Where a batch entry's first query stands, counted from the first key that is seen."""
        return _of(self.offsets, number) - _of(self.key_starts, number)


@dataclass(frozen=True)
class Piece:
    """Positions whose keys are one interval each, or the prefix and one interval.

    Members
    -------
    start, stop
        Positions.
    prefix
        Keys of the prefix if it is an interval of its own, else 0.
    lo, hi
        Window of position 0; ``-UNBOUNDED`` and ``UNBOUNDED`` where it does not bound.
    keys
        Keys that there are.
    """

    start: int
    stop: int
    prefix: int
    lo: int
    hi: int
    keys: int

    @property
    def masked(self) -> bool:
        """Some query does not see all ``keys``."""
        return self.lo != -UNBOUNDED or self.hi != UNBOUNDED

    def window(self, start: int, stop: int) -> tuple[int, int]:
        """Keys that some position from ``start`` to ``stop`` sees in its window."""
        return min(max(self.lo + start, 0), self.keys), max(0, min(self.hi + stop - 1, self.keys))


def pieces(mask: EntryMask, positions: int) -> list[Piece]:
    """Cut positions where the kind of their mask changes; those that see no key are in no piece.

    A window moves on by a key per position. So it first ends inside the prefix, then begins inside it, and then lies behind it,
    at last behind all keys; without a prefix it first lies in front of the keys.
    """
    keys, prefix = mask.keys, mask.prefix
    if not keys:
        return []
    if prefix == keys:
        return [Piece(0, positions, 0, -UNBOUNDED, UNBOUNDED, keys)]

    def place(edge: int, least: int) -> int:
        return min(max(edge, least), positions)

    # First positions whose window ends behind the prefix, begins behind it, and begins behind the last key.
    ends_behind = place(prefix - mask.hi + 1, 0)
    begins_behind = place(prefix - mask.lo + 1, ends_behind) if prefix else ends_behind
    beyond = place(keys - mask.lo, begins_behind)
    if prefix:
        found = [
            Piece(0, ends_behind, 0, -UNBOUNDED, UNBOUNDED, prefix),
            Piece(ends_behind, begins_behind, 0, -UNBOUNDED, mask.hi, keys),
            Piece(begins_behind, beyond, prefix, mask.lo, mask.hi, keys),
            Piece(beyond, positions, 0, -UNBOUNDED, UNBOUNDED, prefix),
        ]
    else:
        found = [Piece(ends_behind, beyond, 0, mask.lo, mask.hi, keys)]
    return [_simplified(piece) for piece in found if piece.start < piece.stop]


def _simplified(piece: Piece) -> Piece:
    """Without bounds that leave out no key."""
    lo = -UNBOUNDED if piece.lo + piece.stop - 1 <= 0 else piece.lo
    hi = UNBOUNDED if piece.hi + piece.start >= piece.keys else piece.hi
    return Piece(piece.start, piece.stop, piece.prefix, lo, hi, piece.keys)


def _of(numbers: tuple[int, ...], entry: int) -> int:
    return numbers[entry if len(numbers) > 1 else 0]


def _clip(edge: int) -> int:
    return min(max(edge, -UNBOUNDED), UNBOUNDED)
