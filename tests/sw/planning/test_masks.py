"""Masks: pieces of positions, against the definition key by key."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from fusemax.planning.masks import UNBOUNDED, EntryMask, Mask, pieces


def seen(mask: EntryMask, position: int) -> set[int]:
    return {key for key in range(mask.keys) if mask.lo + position <= key < mask.hi + position or key < mask.prefix}


def seen_in_piece(piece, position: int) -> set[int]:
    prefix = set(range(piece.prefix))
    return prefix | {key for key in range(piece.keys) if piece.lo + position <= key < piece.hi + position}


@st.composite
def masks(draw: st.DrawFn) -> EntryMask:
    keys = draw(st.integers(0, 20))
    lo = draw(st.one_of(st.just(-UNBOUNDED), st.integers(-30, 30)))
    width = draw(st.integers(1, 12))
    hi = draw(st.one_of(st.just(UNBOUNDED), st.just(width + (lo if lo != -UNBOUNDED else draw(st.integers(-30, 30))))))
    return EntryMask(lo, hi, keys, draw(st.integers(0, keys)))


@settings(max_examples=500, deadline=None)
@given(masks(), st.integers(1, 25))
def test_pieces_are_what_the_mask_says(mask: EntryMask, positions: int) -> None:
    found = pieces(mask, positions)
    covered = [position for piece in found for position in range(piece.start, piece.stop)]
    # In order, each at most once, and left out only if nothing is seen.
    assert covered == sorted(set(covered))
    assert all(not seen(mask, position) for position in set(range(positions)) - set(covered))
    for piece in found:
        for position in range(piece.start, piece.stop):
            expected = seen(mask, position)
            assert expected
            assert seen_in_piece(piece, position) == expected
        if piece.prefix:
            # The window is behind the prefix for all of them, and every one of them has keys in it.
            assert all(piece.prefix < piece.lo + position < piece.keys for position in range(piece.start, piece.stop))
        window = piece.window(piece.start, piece.stop)
        inside = {
            key
            for position in range(piece.start, piece.stop)
            for key in range(piece.keys)
            if piece.lo + position <= key < piece.hi + position
        }
        # No key between the first and the last is one that nobody sees.
        assert inside == set(range(*window))
        assert piece.masked == any(
            not piece.lo + position <= key < piece.hi + position
            for position in range(piece.start, piece.stop)
            for key in range(piece.keys)
        )


def test_entries_of_a_batch() -> None:
    mask = Mask(left=3, right=0, offsets=(5, -2), key_lengths=(7, 0), prefixes=(9,))
    assert mask.entries(2, 10) == [EntryMask(2, 6, 7, 7), EntryMask(-5, -1, 0, 0)]
    assert Mask().entries(1, 10) == [EntryMask(-UNBOUNDED, UNBOUNDED, 10, 0)]
    assert Mask(left=1, right=1, offsets=(1 << 50,)).entries(1, 10) == [EntryMask(UNBOUNDED, UNBOUNDED, 10, 0)]
    assert pieces(Mask(left=1, right=1, offsets=(1 << 50,)).entries(1, 10)[0], 4) == []
    assert pieces(Mask(left=1, right=1, offsets=(-(1 << 50),)).entries(1, 10)[0], 4) == []


def test_keys_are_counted_from_the_first_one_that_is_seen() -> None:
    mask = Mask(left=3, right=0, offsets=(5,), key_lengths=(7, 3), prefixes=(6, 3), key_starts=(4, 4))
    assert mask.entries(2, 10) == [EntryMask(-2, 2, 3, 2, 4), EntryMask(-2, 2, 0, 0, 4)]
    assert mask.place(1) == 1
    assert Mask(key_starts=(10,)).entry(0, 10) == EntryMask(-UNBOUNDED, UNBOUNDED, 0, 0, 10)


def test_causal_rows_of_a_prefix_need_no_chain() -> None:
    (mask,) = Mask(right=0, prefixes=(6,)).entries(1, 20)
    first, second = pieces(mask, 20)
    assert (first.start, first.stop, first.keys, first.masked) == (0, 6, 6, False)
    assert (second.start, second.stop, second.prefix, second.lo, second.hi) == (6, 20, 0, -UNBOUNDED, 1)
