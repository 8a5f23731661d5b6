// AXI4-Lite master that works through a list: it stands for the processor of a system.
//
// An entry is 48 bits: command, register offset, value. `done` is high when the list has ended, `failed` when a register did
// not read as expected; `step` is the entry's number then.
module register_master #(
    parameter ENTRIES = 64,
    parameter LIST = "list.hex"
) (
    input wire clk,
    input wire rst,
    input wire irq,
    output reg done,
    output reg failed,
    output reg [$clog2(ENTRIES)-1:0] step,

    output wire [11:0] awaddr,
    output reg awvalid,
    input wire awready,
    output wire [31:0] wdata,
    output reg wvalid,
    input wire wready,
    input wire bvalid,
    output wire bready,
    output wire [11:0] araddr,
    output reg arvalid,
    input wire arready,
    input wire [31:0] rdata,
    input wire rvalid,
    output wire rready
);
  // END stops; WRITE writes; EXPECT reads and compares; WAIT goes on when the interrupt is high.
  localparam [3:0] END = 0, WRITE = 1, EXPECT = 2, WAIT = 3;

  reg [47:0] list[0:ENTRIES-1];
  initial $readmemh(LIST, list);
  wire [3:0] command = list[step][47:44];
  wire [11:0] offset = list[step][43:32];
  wire [31:0] value = list[step][31:0];

  reg busy;  // The access of this step was begun.
  assign awaddr = offset;
  assign araddr = offset;
  assign wdata = value;
  assign bready = 1;
  assign rready = 1;

  always @(posedge clk)
    if (rst) begin
      done <= 0;
      failed <= 0;
      step <= 0;
      busy <= 0;
      awvalid <= 0;
      wvalid <= 0;
      arvalid <= 0;
    end else begin
      if (awready) awvalid <= 0;
      if (wready) wvalid <= 0;
      if (arready) arvalid <= 0;
      if (!done && !failed && !busy)
        case (command)
          WRITE: begin
            awvalid <= 1;
            wvalid <= 1;
            busy <= 1;
          end
          EXPECT: begin
            arvalid <= 1;
            busy <= 1;
          end
          WAIT: if (irq) step <= step + 1;
          default: done <= 1;
        endcase
      if (busy && (bvalid || rvalid)) begin
        busy <= 0;
        if (rvalid && rdata != value) failed <= 1;
        else step <= step + 1;
      end
    end

  wire unused = &{1'b0, END};
endmodule
