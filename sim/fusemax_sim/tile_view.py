"""Decoded view of the array's corner for a waveform: which operation it works on, of which tile, and what it waits for.

The machine has no tile numbers, and its instruction words are packed. This writes a SystemVerilog module that stands beside
the device in a traced simulation, listens to the streams of tiles and of microwords, and shows both by name and number. Bit
positions come from the layouts that the hardware itself is made from.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from fusemax.spec import Config, Op

from .cache import cached
from .emission import emission_digest

__all__ = ["CORNER_STATES", "TILE_FIELDS", "tile_view"]

#: What the corner does in a cycle, in the order of the enumeration's numbers.
CORNER_STATES = ("IDLE", "WORKS", "EMPTY", "WAITS_FOR_Q", "WAITS_FOR_K", "WAITS_FOR_V", "WAITS_FOR_OUTPUT")
#: The event of :func:`fusemax_hw.control.sequencer.sequencer_events` behind each, by precedence; none is WORKS.
EVENTS = {
    "WAITS_FOR_Q": "stall_q",
    "WAITS_FOR_K": "stall_k",
    "WAITS_FOR_V": "stall_v",
    "WAITS_FOR_OUTPUT": "stall_output",
    "IDLE": "idle",
    "EMPTY": "slots_empty",
}
FILE = "tile_view.sv"
#: Fields of the operation's tile that are shown (:func:`fusemax_hw.control.issue_walker.tile_layout`).
TILE_FIELDS = ("keys", "queries", "lo", "hi", "first", "last")

TEXT = """\
// Decoded view of the array's corner; written by fusemax_sim.tile_view. Everything is shown in the cycle in which the
// corner's processing element has it, which is two cycles after the sequencer's decision.
module tile_view (
    input logic clk
);
  typedef enum logic [{op_width}-1:0] {{{operations}}} operation_t;
  typedef enum logic [2:0] {{{states}}} corner_t;

  // Streams of the machine.
  wire busy = sim_top.device.machine.registers.busy;
  wire tile_valid = sim_top.device.machine.core.issue_walker.tiles__valid;
  wire tile_ready = sim_top.device.machine.core.issue_walker.tiles__ready;
  wire [{tile_bits}-1:0] new_tile = sim_top.device.machine.core.issue_walker.tiles__payload;
  wire word_valid = sim_top.device.machine.core.\\program .words__valid;
  wire word_ready = sim_top.device.machine.core.\\program .words__ready;
  wire [{word_bits}-1:0] word = sim_top.device.machine.core.\\program .words__payload;
  wire [{event_bits}-1:0] events = sim_top.device.machine.core.sequencer.events;

  // Tiles under way, the youngest first: as in the sequencer, a tile moves on with every iteration and leaves with its last
  // SLNV. Numbers begin at 0 when the machine becomes busy.
  logic [{stages}-1:0] present = 0, left;
  logic signed [31:0] number[{stages}];
  logic [{tile_bits}-1:0] tile[{stages}];
  logic signed [31:0] entered = -1;
  wire issue = word_valid && word_ready;
  wire [{stage_width}-1:0] stage = word[{stage_offset}+:{stage_width}];
  wire operation_t decided = issue && present[stage] ? operation_t'(word[{op_offset}+:{op_width}]) : NOP;
  wire [{stage_width}-1:0] moved = word[{dst_offset}] ? stage : 1;
  always_comb begin
    left = present;
    if (decided == SLNV && word[{last_offset}]) left[stage] = 0;
  end
  always_ff @(posedge clk) begin
    present <= left;
    if (tile_ready) begin
      present <= {{left[{stages}-2:0], tile_valid}};
      for (int i = 1; i < {stages}; ++i) begin
        number[i] <= number[i-1];
        tile[i] <= tile[i-1];
      end
      if (tile_valid) begin
        entered <= entered + 1;
        number[0] <= entered + 1;
        tile[0] <= new_tile;
      end
    end
    if (!busy) begin
      entered <= -1;
      present <= 0;
    end
  end

  // Two registers, as before the corner.
  operation_t operation_before = NOP;
  logic max_before = 0;
  logic signed [31:0] newest_before = -1, tile_before = -1, max_tile_before = -1;
  logic [{tile_bits}-1:0] fields_before = 0, fields = 0;
  // Number of the tile that has entered last; -1 before the first.
  logic signed [31:0] newest_tile = -1;
  // What the corner does, and of which tile; the number stays while there is no operation.
  operation_t operation = NOP;
  logic signed [31:0] operation_tile = -1;
  // Whether the maximum of a tile's scores goes out, and of which tile; it rides on the words of another.
  logic max = 0;
  logic signed [31:0] max_tile = -1;
  corner_t corner = IDLE;
  always_ff @(posedge clk) begin
    operation_before <= decided;
    newest_before <= entered;
    if (decided != NOP) begin
      tile_before <= number[stage];
      fields_before <= tile[stage];
    end
    max_before <= issue && word[{max_offset}] && present[moved];
    if (issue && word[{max_offset}] && present[moved]) max_tile_before <= number[moved];

    operation <= operation_before;
    newest_tile <= newest_before;
    operation_tile <= tile_before;
    fields <= fields_before;
    max <= max_before;
    max_tile <= max_tile_before;
    corner <= {corner};
  end

  // Fields of the operation's tile.
{fields}
endmodule
"""


def tile_view(config: Config) -> Path:
    """Write the view of a configuration to the cache, if it is not there.

    Returns
    -------
    Path of the SystemVerilog file.
    """
    digest = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()[:16]
    name = f"tile-view-{config.name}-{emission_digest(config)}-{digest}"

    def write(target: Path) -> None:
        (target / FILE).write_text(text(config), encoding="utf-8")

    return cached(name, write, f"the tile view of {config.name}") / FILE


def text(config: Config) -> str:
    """Text of the module."""
    # Amaranth is imported only when something is emitted.
    from amaranth.hdl import Shape
    from amaranth.lib import data

    from fusemax_hw.control.issue_walker import tile_layout
    from fusemax_hw.control.program_store import microword_layout
    from fusemax_hw.control.sequencer import sequencer_events

    tile, events = tile_layout(config), sequencer_events()
    word = data.StructLayout({"word": microword_layout(), "last": 1})
    offset = {name: word["word"].offset + field.offset for name, field in microword_layout()}
    fields = []
    for name in TILE_FIELDS:
        shape = Shape.cast(tile[name].shape)
        sign = " signed" if shape.signed else ""
        fields.append(f"  wire{sign} [{shape.width}-1:0] {name} = fields[{tile[name].offset}+:{shape.width}];")
    return TEXT.format(
        operations=", ".join(f"{op.name} = {op.value}" for op in Op),
        states=", ".join(CORNER_STATES),
        tile_bits=tile.size,
        word_bits=word.size,
        event_bits=events.size,
        stages=config.contexts,
        stage_offset=offset["stage"],
        stage_width=microword_layout()["stage"].width,
        op_offset=offset["op"],
        op_width=microword_layout()["op"].width,
        last_offset=offset["last"],
        max_offset=offset["max"],
        dst_offset=offset["dst"],
        corner="".join(f"events[{events[event].offset}] ? {state} : " for state, event in EVENTS.items()) + "WORKS",
        fields="\n".join(fields),
    )
