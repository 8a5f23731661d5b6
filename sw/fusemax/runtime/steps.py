"""What of a call's batches runs together, and where in device memory."""

from __future__ import annotations

from collections.abc import Sequence

from ..planning.splitting import Part, split
from ..spec import Config
from .call import Work
from .device_memory import DeviceMemory
from .host_blocks import Block, find_blocks
from .placement import Placement

__all__ = ["Piece", "steps_of"]

#: Number of a batch, part of it, blocks of the host's memory that hold its arrays.
Piece = tuple[int, Part, list[Block]]


def steps_of(
    config: Config, memory: DeviceMemory, placement: Placement, works: Sequence[Work]
) -> tuple[list[list[Piece]], tuple[int, int]]:
    """Choose what of which batch runs together, for which there is room, and where: first and last address of the room."""
    gaps = memory.gaps() or [(memory.free, memory.free)]
    # Rows that have something in front of them are packed.
    blocks = [
        find_blocks(config, {n: array for n, array in work.arrays.items() if not work.shape.header_beats(n)}) for work in works
    ]
    none: list[list[Block]] = [[] for _ in works]
    for chosen in (blocks, none) if any(blocks) else (none,):
        for gap in gaps:
            end = gap[0]
            for work, some in zip(works, chosen, strict=True):
                end = placement.end_of(some, work.arrays, work.shape, end, work.call.pairs.rows)
            if end <= gap[1]:
                parts = (split(work.shape, lambda _: True)[0] for work in works)
                return [list(zip(range(len(works)), parts, chosen, strict=True))], (gap[0], end)
    largest = max(gaps, key=lambda gap: gap[1] - gap[0])
    return [
        [(number, part, [])]
        for number, work in enumerate(works)
        for part in split(
            work.shape,
            lambda part, work=work: placement.end_of([], work.arrays, part, largest[0], work.call.pairs.rows) <= largest[1],
        )
    ], largest
