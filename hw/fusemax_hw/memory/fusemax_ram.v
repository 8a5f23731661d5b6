// Memory with one write and one read port on one clock; replace it by a macro of your process.
//
// A write is done at the clock edge at which write_enable is 1. read_data takes the addressed word at the clock edge
// at which read_enable is 1, and holds it otherwise. What a word reads as that is written at the same edge does not
// matter (no_rw_check: no bypass is built for it), nor do contents and read_data after power-up.

module fusemax_ram #(
    parameter WIDTH = 8,
    parameter DEPTH = 16,
    parameter ADDRESS_BITS = 4
) (
    input clk,
    input write_enable,
    input [ADDRESS_BITS-1:0] write_address,
    input [WIDTH-1:0] write_data,
    input read_enable,
    input [ADDRESS_BITS-1:0] read_address,
    output reg [WIDTH-1:0] read_data
);

  (* no_rw_check *)
  reg [WIDTH-1:0] words[0:DEPTH-1];

  always @(posedge clk) begin
    if (write_enable) words[write_address] <= write_data;
    if (read_enable) read_data <= words[read_address];
  end

endmodule
