"""Job descriptor: what the device reads from the ring for every job."""

from __future__ import annotations

from .fields import Field, Layout

__all__ = ["DESCRIPTOR", "DESCRIPTOR_BYTES", "DESCRIPTOR_MAGIC", "DESCRIPTOR_STRIDE_BYTES"]

#: First half-word of every descriptor: format version 2.
DESCRIPTOR_MAGIC = 0xFA02
#: Bytes from one descriptor of the ring to the next.
DESCRIPTOR_STRIDE_BYTES = 256
#: Bytes of a descriptor that the device reads.
DESCRIPTOR_BYTES = 192

DESCRIPTOR = Layout(
    "Descriptor",
    "One job: attention of every head of every batch entry. Addresses and strides are in bytes and multiples of the bus word. "
    "A query row is a position of one of the query heads that share keys and values; a position's heads follow each other.",
    (
        Field("magic", 16, "DESCRIPTOR_MAGIC."),
        Field("float32_out", 1, "Write float32 instead of bfloat16."),
        Field("interrupt", 1, "Raise the interrupt when the job is done."),
        Field(
            "row_scale",
            1,
            "Every query row begins with a bus word whose low 32 bits are its factor, a float32; scale is not used.",
        ),
        Field(
            "state_out", 1, "Every output row begins with a bus word: reference RM (int32), denominator RD (float32), zeros."
        ),
        Field("raw_out", 1, "Numerators RNV as they are go out, not divided by the denominator; needs float32_out."),
        Field("continues", 1, "The next job's keys continue these: same queries, one head, one group; nothing goes out yet."),
        Field("continued", 1, "These keys continue the job before, whose queries are there."),
        Field("_flags", 9, "Zero."),
        Field("program_tag", 32, "Tag of the program; it is fetched only when another one is loaded."),
        Field("program_address", 64, "Address of the program's first microword (behind its header)."),
        Field("ii", 16, "Initiation interval: microwords of the program."),
        Field("query_slots", 16, "Query tiles that the query banks hold at this head dim."),
        Field("e", 16, "Head dim of queries and keys (E)."),
        Field("f", 16, "Head dim of values (F)."),
        Field("scale", 32, "float32 that multiplies every query: softmax scale times log2(e)."),
        Field("heads", 16, "Key heads."),
        Field("batch", 16, "Batch entries."),
        Field("key_tiles", 32, "Key tiles of a head: ceil(M / rows)."),
        Field("last_keys", 16, "Keys of the last key tile, 1 to rows."),
        Field("last_queries", 16, "Queries of the last query tile, 1 to columns."),
        Field("groups", 32, "Query groups of a head."),
        Field("large_groups", 32, "The first this many groups have group_tiles query tiles, the others one fewer."),
        Field("group_tiles", 16, "Query tiles of a large group (P1)."),
        Field("output_slots", 16, "Output rows that a lane's output buffer holds."),
        Field("group_iterations", 32, "key_tiles times group_tiles."),
        Field("q_address", 64, "Queries of the first head."),
        Field("k_address", 64, "Keys of the first head."),
        Field("v_address", 64, "Values of the first head."),
        Field("o_address", 64, "Output of the first head."),
        Field("q_row_stride", 32, "From one query to the next."),
        Field("k_row_stride", 32, "From one key to the next."),
        Field("v_row_stride", 32, "From one value to the next."),
        Field("o_row_stride", 32, "From one output row to the next."),
        Field("q_head_stride", 32, "From one head's queries to the next head's."),
        Field("k_head_stride", 32, "From one head's keys to the next head's."),
        Field("v_head_stride", 32, "From one head's values to the next head's."),
        Field("o_head_stride", 32, "From one head's output to the next head's."),
        Field("q_batch_stride", 32, "From one batch entry's queries to the next entry's."),
        Field("k_batch_stride", 32, "From one batch entry's keys to the next entry's."),
        Field("v_batch_stride", 32, "From one batch entry's values to the next entry's."),
        Field("o_batch_stride", 32, "From one batch entry's output to the next entry's."),
        Field(
            "mask_lo",
            32,
            "First key that position 0 sees, -2^30 to 2^30; position p sees keys from mask_lo + p on.",
            signed=True,
        ),
        Field(
            "mask_hi",
            32,
            "Key behind the last one that position 0 sees, likewise; position p sees keys before mask_hi + p.",
            signed=True,
        ),
        Field("share", 16, "Query heads that share a key head, 1 to 256; row r is position r // share."),
        Field("tile_positions", 16, "columns // share."),
        Field("tile_phase", 16, "columns % share."),
        Field("tile_span", 16, "Positions from a tile's first row to its last, at most: (columns + share - 2) // share."),
        Field("q_share_stride", 32, "From a query to the next query head's of the same position."),
        Field("o_share_stride", 32, "From an output row to the next query head's of the same position."),
        Field("_reserved", 256, "Zero."),
    ),
)
