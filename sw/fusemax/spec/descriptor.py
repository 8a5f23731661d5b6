"""Job descriptor: what the device reads from the ring for every job."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any

from .fields import Field, Layout

__all__ = [
    "CHAIN_FIELDS",
    "DESCRIPTOR",
    "DESCRIPTOR_BYTES",
    "DESCRIPTOR_MAGIC",
    "DESCRIPTOR_STRIDE_BYTES",
    "MASK_LIMIT",
    "MAX_SHARE",
    "PAGE_BYTES",
    "ROW_STATE_BITS",
    "SETTINGS",
    "Descriptor",
]

#: First half-word of every descriptor: format version 2.
DESCRIPTOR_MAGIC = 0xFA02
#: Bytes from one descriptor of the ring to the next.
DESCRIPTOR_STRIDE_BYTES = 256
#: Bytes of a descriptor that the device reads.
DESCRIPTOR_BYTES = 256
#: Largest number of query heads that share a key head in one job.
MAX_SHARE = 256
#: Bound of ``mask_lo`` and ``mask_hi`` in both directions: no key is as far from a query.
MASK_LIMIT = 1 << 30
#: Bits in front of an output row with ``state_out``; they lie in one bus word.
ROW_STATE_BITS = 64
#: What of a job the machine is set to: another value finds the machine empty, and the program is read anew.
SETTINGS = (
    *("program_tag", "ii", "e", "f", "query_slots", "output_slots", "float32_out", "state_out", "raw_out"),
    *("fixed_reference", "spare_hold", "bit_mask", "bias", "values_in_keys"),
)
#: In what, besides, a job that continues another is as the other.
CHAIN_FIELDS = ("group_tiles", "last_queries", "share")
#: No AXI burst crosses a multiple of this address (AMBA AXI4, A3.4.1).
PAGE_BYTES = 4096


def _bits(bits: int, doc: str, *, default: int = 0, signed: bool = False, init: bool = True) -> Any:
    """Declare a field of ``bits`` bits behind the one before it."""
    return field(default=default, init=init, repr=init, metadata={"bits": bits, "doc": doc, "signed": signed})


@dataclass(frozen=True, kw_only=True)
class Descriptor:
    """One job as the device reads it: attention of every head of every batch entry.

    The members are the fields of :data:`DESCRIPTOR` in their order, with widths in bits; a field that is not given is zero.
    """

    magic: int = _bits(16, "DESCRIPTOR_MAGIC.", default=DESCRIPTOR_MAGIC)
    float32_out: int = _bits(1, "Write float32 instead of bfloat16.")
    interrupt: int = _bits(1, "Raise the interrupt when the job is done.")
    row_scale: int = _bits(
        1, "Every query row begins with a bus word whose low 32 bits are its factor, a float32; scale is not used."
    )
    state_out: int = _bits(1, "Every output row begins with a bus word: reference RM (int32), denominator RD (float32), zeros.")
    raw_out: int = _bits(1, "Numerators RNV as they are go out, not divided by the denominator.")
    continues: int = _bits(1, "The next job's keys continue these: same queries, one head, one group; nothing goes out yet.")
    continued: int = _bits(1, "These keys continue the job before, whose queries are there.")
    fixed_reference: int = _bits(
        1, "EXP's reference is the microword's constant, RM 0, and states are never rescaled; needs the option linear."
    )
    spare_hold: int = _bits(
        1, "The last hold register is the spare one, and tiles take turns with the others; needs the option functions."
    )
    bit_mask: int = _bits(1, "A query sees only keys whose bit is set in its mask row.")
    bias: int = _bits(1, "Scores have a bias, for the program's BIAS; their rows are read.")
    bias_wide: int = _bits(1, "Bias rows have the north operands of 32 bits each instead of bfloat16 numbers.")
    values_in_keys: int = _bits(
        1, "The values are the first f elements of the keys, and are not read again: v_ fields count for nothing; f <= e."
    )
    _flags: int = _bits(3, "Zero.", init=False)
    program_tag: int = _bits(32, "Tag of the program; it is fetched only when another one is loaded.")
    program_address: int = _bits(64, "Address of the program's first microword (behind its header).")
    ii: int = _bits(16, "Initiation interval: microwords of the program.")
    query_slots: int = _bits(16, "Query tiles that the query banks hold at this head dim.")
    e: int = _bits(16, "Head dim of queries and keys (E).")
    f: int = _bits(16, "Head dim of values (F).")
    scale: int = _bits(32, "float32 that multiplies every query: softmax scale times log2(e).")
    heads: int = _bits(16, "Key heads.")
    batch: int = _bits(16, "Batch entries.")
    key_tiles: int = _bits(32, "Key tiles of a head: ceil(M / rows).")
    last_keys: int = _bits(16, "Keys of the last key tile, 1 to rows.")
    last_queries: int = _bits(16, "Queries of the last query tile, 1 to columns.")
    groups: int = _bits(32, "Query groups of a head.")
    large_groups: int = _bits(32, "The first this many groups have group_tiles query tiles, the others one fewer.")
    group_tiles: int = _bits(16, "Query tiles of a large group (P1).")
    output_slots: int = _bits(16, "Output rows that a lane's output buffer holds.")
    group_iterations: int = _bits(32, "key_tiles times group_tiles.")
    q_address: int = _bits(64, "Queries of the first head.")
    k_address: int = _bits(64, "Keys of the first head.")
    v_address: int = _bits(64, "Values of the first head.")
    o_address: int = _bits(64, "Output of the first head.")
    q_row_stride: int = _bits(32, "From one query to the next.")
    k_row_stride: int = _bits(32, "From one key to the next.")
    v_row_stride: int = _bits(32, "From one value to the next.")
    o_row_stride: int = _bits(32, "From one output row to the next.")
    q_head_stride: int = _bits(32, "From one head's queries to the next head's.")
    k_head_stride: int = _bits(32, "From one head's keys to the next head's.")
    v_head_stride: int = _bits(32, "From one head's values to the next head's.")
    o_head_stride: int = _bits(32, "From one head's output to the next head's.")
    q_batch_stride: int = _bits(32, "From one batch entry's queries to the next entry's.")
    k_batch_stride: int = _bits(32, "From one batch entry's keys to the next entry's.")
    v_batch_stride: int = _bits(32, "From one batch entry's values to the next entry's.")
    o_batch_stride: int = _bits(32, "From one batch entry's output to the next entry's.")
    mask_lo: int = _bits(
        32, "First key that position 0 sees, -2^30 to 2^30; position p sees keys from mask_lo + p on.", signed=True
    )
    mask_hi: int = _bits(
        32, "Key behind the last one that position 0 sees, likewise; position p sees keys before mask_hi + p.", signed=True
    )
    share: int = _bits(16, "Query heads that share a key head, 1 to 256; row r is position r // share.")
    tile_positions: int = _bits(16, "columns // share.")
    tile_phase: int = _bits(16, "columns % share.")
    tile_span: int = _bits(16, "Positions from a tile's first row to its last, at most: (columns + share - 2) // share.")
    q_share_stride: int = _bits(32, "From a query to the next query head's of the same position.")
    o_share_stride: int = _bits(32, "From an output row to the next query head's of the same position.")
    m_address: int = _bits(64, "Mask row of the first head's first query, at the bus word of the job's first key.")
    b_address: int = _bits(64, "Bias row of the first head's first query, at the job's first key.")
    m_row_stride: int = _bits(32, "From one query's mask row to the next query's; here and below 0 if they have the same.")
    b_row_stride: int = _bits(32, "From one query's bias row to the next query's.")
    m_share_stride: int = _bits(32, "From a mask row to the next query head's of the same position.")
    b_share_stride: int = _bits(32, "From a bias row to the next query head's of the same position.")
    m_head_stride: int = _bits(32, "From one key head's mask rows to the next key head's.")
    b_head_stride: int = _bits(32, "From one key head's bias rows to the next key head's.")
    m_batch_stride: int = _bits(32, "From one batch entry's mask rows to the next entry's.")
    b_batch_stride: int = _bits(32, "From one batch entry's bias rows to the next entry's.")
    mask_blocks: int = _bits(32, "Bus words of a mask row that the job reads.")
    mask_phase: int = _bits(32, "Key tiles in the first of them that are in front of the job's keys.")
    bias_scale: int = _bits(32, "float32 that multiplies every bfloat16 bias: log2(e), perhaps by a temperature.")
    _reserved: int = _bits(288, "Zero.", init=False)

    @classmethod
    def unpack(cls, word: int) -> Descriptor:
        """Read the fields of a descriptor's ``DESCRIPTOR_BYTES`` bytes, taken as one little-endian integer."""
        return cls(**DESCRIPTOR.unpack(word))

    def pack(self) -> int:
        """Write the fields as one integer, whose little-endian bytes are the descriptor's.

        Raises
        ------
        ValueError
            If a value does not fit its field.
        """
        return DESCRIPTOR.pack(vars(self))


#: Where each field of a :class:`Descriptor` lies.
DESCRIPTOR = Layout(
    "Descriptor",
    "One job: attention of every head of every batch entry. Addresses and strides are in bytes and multiples of the bus word. "
    "A query row is a position of one of the query heads that share keys and values; a position's heads follow each other.",
    tuple(Field(each.name, **each.metadata) for each in fields(Descriptor)),
)
