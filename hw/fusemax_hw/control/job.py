"""A job's descriptor in hardware, and the parts of it that each walker keeps."""

from amaranth.hdl import Module, Mux, Signal, ValueLike, signed, unsigned
from amaranth.lib import data

from fusemax.spec import DESCRIPTOR, Config

__all__ = ["ISSUE_FIELDS", "ROW_FIELDS", "array_flags", "descriptor_layout", "job_layout", "nest", "tensor_fields"]

_FIELDS = {field.name: signed(field.bits) if field.signed else unsigned(field.bits) for field in DESCRIPTOR.fields}
#: What the dispatcher adds: the machine was drained before, rings start at 0; index behind the job in the descriptor ring.
_ADDED = {"restart": unsigned(1), "ring_index": unsigned(16)}
_LOOPS = ("heads", "batch", "groups", "large_groups", "group_tiles")

#: What the issue walker keeps of a job, besides ``restart``.
ISSUE_FIELDS = (
    *(*_LOOPS, "key_tiles", "last_keys", "last_queries", "e", "f", "query_slots"),
    *("float32_out", "state_out", "raw_out", "output_slots", "continues", "continued"),
    *("mask_lo", "mask_hi", "share", "tile_positions", "tile_phase", "tile_span"),
    *("bit_mask", "mask_phase", "bias", "bias_wide", "values_in_keys"),
)
#: What whoever walks through the rows of a tensor's tiles needs of a job.
ROW_FIELDS = {
    "q": (
        *("q_row_stride", "q_share_stride", "share", "e", "query_slots", "group_iterations", "key_tiles"),
        *("scale", "row_scale", "continued"),
    ),
    "k": ("k_row_stride", "e", "values_in_keys"),
    "v": ("v_row_stride", "f"),
    "m": ("m_row_stride", "m_share_stride", "share", "group_iterations", "key_tiles"),
    "b": ("b_row_stride", "b_share_stride", "share", "group_iterations", "key_tiles", "bias_scale", "bias_wide"),
    "o": ("o_row_stride", "o_share_stride", "share", "f", "float32_out", "state_out", "interrupt", "ring_index"),
}


def tensor_fields(tensor: str) -> tuple[str, ...]:
    """What the walkers of ``q``, ``k``, ``v``, ``m``, ``b`` or ``o`` keep of a job, besides ``restart``."""
    tiles = ("last_keys", "key_tiles") if tensor in ("k", "v") else ("last_queries",)
    tiles += ("mask_blocks",) * (tensor == "m")
    addresses = tuple(f"{tensor}_{name}" for name in ("address", "head_stride", "batch_stride"))
    return (*_LOOPS, *tiles, *addresses, *ROW_FIELDS[tensor])


def array_flags(config: Config) -> tuple[str, ...]:
    """Descriptor fields that the sequencer is set to, of those that the machine has."""
    options = {"fixed_reference": config.linear, "spare_hold": config.functions, "values_in_keys": config.values_in_keys}
    return tuple(name for name, there in options.items() if there)


def descriptor_layout() -> data.StructLayout:
    """The descriptor as it lies in memory."""
    return data.StructLayout(_FIELDS)


def job_layout(names: tuple[str, ...]) -> data.StructLayout:
    """The named descriptor fields, perhaps ``ring_index``, and ``restart``."""
    fields = _FIELDS | _ADDED
    return data.StructLayout({name: fields[name] for name in (*names, "restart")})


def nest(m: Module, step: ValueLike, loops: list[tuple[Signal, ValueLike]]) -> list[ValueLike]:
    """Nested loops, innermost first: on ``step`` the innermost counter moves on, and carries outward. Counters begin at 1.

    ``loops`` are (counter, whether it is at its last value). Returns for each loop whether it and every loop inside it are
    at their last values, that is, whether ``step`` ends a run of it.
    """
    ends = []
    end = None
    for counter, last in loops:
        with m.If(step if end is None else step & end):
            m.d.sync += counter.eq(Mux(last, 1, counter + 1))
        end = last if end is None else end & last
        ends.append(end)
    return ends
