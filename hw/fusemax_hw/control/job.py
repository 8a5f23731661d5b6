"""A job's descriptor in hardware, and the parts of it that each walker keeps."""

from amaranth.hdl import Module, Mux, Signal, ValueLike, signed, unsigned
from amaranth.lib import data

from fusemax.spec import DESCRIPTOR

__all__ = ["ISSUE_FIELDS", "STORE_FIELDS", "descriptor_layout", "group_tiles", "job_layout", "load_fields", "nest"]

_FIELDS = {field.name: signed(field.bits) if field.signed else unsigned(field.bits) for field in DESCRIPTOR.fields}
_LOOPS = ("heads", "batch", "groups", "large_groups", "group_tiles")

#: What the issue walker keeps of a job, besides ``restart``.
ISSUE_FIELDS = (*_LOOPS, "key_tiles", "last_keys", "last_queries", "e", "f", "query_slots", "float32_out", "output_slots")
#: What the store walker keeps of a job.
STORE_FIELDS = (
    *_LOOPS,
    "last_queries",
    "f",
    "float32_out",
    "interrupt",
    "o_address",
    "o_row_stride",
    "o_head_stride",
    "o_batch_stride",
)


def load_fields(tensor: str) -> tuple[str, ...]:
    """What the load walker of ``q``, ``k`` or ``v`` keeps of a job, besides ``restart``."""
    address = tuple(f"{tensor}_{name}" for name in ("address", "row_stride", "head_stride", "batch_stride"))
    if tensor == "q":
        return (*_LOOPS, *address, "e", "last_queries", "query_slots", "group_iterations", "key_tiles", "scale")
    return (*_LOOPS, *address, "f" if tensor == "v" else "e", "last_keys", "key_tiles")


def descriptor_layout() -> data.StructLayout:
    """The descriptor as it lies in memory."""
    return data.StructLayout(_FIELDS)


def job_layout(names: tuple[str, ...]) -> data.StructLayout:
    """The named descriptor fields, and ``restart``: the machine was drained before, rings start at 0."""
    return data.StructLayout({**{name: _FIELDS[name] for name in names}, "restart": unsigned(1)})


def group_tiles(job: data.View, group: ValueLike) -> ValueLike:
    """Query tiles of a group: large groups come first."""
    return Mux(group < job.large_groups, job.group_tiles, job.group_tiles - 1)


def nest(m: Module, step: ValueLike, loops: list[tuple[Signal, ValueLike]]) -> list[ValueLike]:
    """Nested loops, innermost first: on ``step`` the innermost counter moves on, and carries outward.

    ``loops`` are (counter, whether it is at its last value). Returns for each loop whether it and every loop inside it are
    at their last values, that is, whether ``step`` ends a run of it.
    """
    ends = []
    end = None
    for counter, last in loops:
        with m.If(step if end is None else step & end):
            m.d.sync += counter.eq(Mux(last, 0, counter + 1))
        end = last if end is None else end & last
        ends.append(end)
    return ends
