"""Addresses of the rows of Q or of the output: heads that share keys, position by position."""

from typing import Any

from amaranth.hdl import Module, Signal

from .countdown import Countdown

__all__ = ["shared_rows"]


def shared_rows(m: Module, job: Any, next_tile: Any, tensor: str, step: Any, jump: Any) -> Signal:
    """Address of the current row.

    Parameters
    ----------
    m : Module
        Where the registers go.
    job : job_layout
        Strides and ``share`` of the tile under way.
    next_tile : tensor_tile_layout
        The tile that is taken with ``jump``: its first row is at its address.
    tensor : str
        ``q`` or ``o``.
    step : Signal(1)
        On to the next row.
    jump : Signal(1)
        A tile is taken that does not follow the one before.
    """
    address, position = Signal.like(next_tile.address), Signal.like(next_tile.address, name="position_address")
    share = Countdown(m, 8, "share")
    next_position = Signal.like(address)
    m.d.comb += next_position.eq(position + job[f"{tensor}_row_stride"])
    with m.If(step):
        share.step(job.share - 1)
        with m.If(share.last):
            m.d.sync += [address.eq(next_position), position.eq(next_position)]
        with m.Else():
            m.d.sync += address.eq(address + job[f"{tensor}_share_stride"])
    with m.If(jump):
        m.d.sync += [address.eq(next_tile.address), position.eq(next_tile.address)]
        share.start(next_tile.job.share - 1)
    return address
