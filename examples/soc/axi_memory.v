// AXI4 memory for the example: one read burst and one write burst at a time, in order, from address 0.
//
// It takes what the machine offers: INCR bursts of whole words with one identifier. An address behind its end is answered
// with DECERR.
module axi_memory #(
    parameter ADDRESS_BITS = 40,
    parameter BUS_BITS = 64,
    parameter WORDS = 2048,
    parameter IMAGE = "memory.hex"
) (
    input wire clk,
    input wire rst,

    input wire [ADDRESS_BITS-1:0] araddr,
    input wire [7:0] arlen,
    input wire arvalid,
    output wire arready,
    output reg [BUS_BITS-1:0] rdata,
    output reg [1:0] rresp,
    output reg rlast,
    output reg rvalid,
    input wire rready,

    input wire [ADDRESS_BITS-1:0] awaddr,
    input wire [7:0] awlen,
    input wire awvalid,
    output wire awready,
    input wire [BUS_BITS-1:0] wdata,
    input wire [BUS_BITS/8-1:0] wstrb,
    input wire wlast,
    input wire wvalid,
    output wire wready,
    output reg [1:0] bresp,
    output wire bvalid,
    input wire bready
);
  localparam OFFSET_BITS = $clog2(BUS_BITS / 8);
  localparam INDEX_BITS = $clog2(WORDS);
  localparam PLACE_BITS = ADDRESS_BITS - OFFSET_BITS;
  localparam [1:0] OKAY = 2'b00, DECERR = 2'b11;

  reg [BUS_BITS-1:0] words[0:WORDS-1];
  initial $readmemh(IMAGE, words);

  // -- reads: the burst's next word, and how many are behind it ---------------------------------------------------
  reg reading;
  reg [PLACE_BITS-1:0] read_place;
  reg [7:0] reads_left;
  wire read_moves = !rvalid || rready;
  assign arready = !reading;

  always @(posedge clk)
    if (rst) begin
      reading <= 0;
      rvalid <= 0;
    end else begin
      if (arvalid && arready) begin
        reading <= 1;
        read_place <= araddr[ADDRESS_BITS-1:OFFSET_BITS];
        reads_left <= arlen;
      end
      if (read_moves) begin
        rvalid <= reading;
        rdata <= words[read_place[INDEX_BITS-1:0]];
        rresp <= |read_place[PLACE_BITS-1:INDEX_BITS] ? DECERR : OKAY;
        rlast <= reads_left == 0;
        if (reading) begin
          read_place <= read_place + 1;
          reads_left <= reads_left - 1;
          reading <= reads_left != 0;
        end
      end
    end

  // -- writes: address, then words, then response -----------------------------------------------------------------
  localparam [1:0] ADDRESS = 0, DATA = 1, RESPONSE = 2;
  reg [1:0] write_state;
  reg [PLACE_BITS-1:0] write_place;
  wire write_inside = !(|write_place[PLACE_BITS-1:INDEX_BITS]);
  integer lane;
  assign awready = write_state == ADDRESS;
  assign wready = write_state == DATA;
  assign bvalid = write_state == RESPONSE;

  always @(posedge clk)
    if (rst) write_state <= ADDRESS;
    else
      case (write_state)
        ADDRESS:
        if (awvalid) begin
          write_state <= DATA;
          write_place <= awaddr[ADDRESS_BITS-1:OFFSET_BITS];
          bresp <= OKAY;
        end
        DATA:
        if (wvalid) begin
          write_place <= write_place + 1;
          if (!write_inside) bresp <= DECERR;
          if (wlast) write_state <= RESPONSE;
        end
        default: if (bready) write_state <= ADDRESS;
      endcase

  always @(posedge clk)
    if (wvalid && wready && write_inside)
      for (lane = 0; lane < BUS_BITS / 8; lane = lane + 1)
        if (wstrb[lane]) words[write_place[INDEX_BITS-1:0]][8*lane+:8] <= wdata[8*lane+:8];

  // The offset in a word is zero, and the length is told by wlast as well.
  wire unused = &{1'b0, araddr[OFFSET_BITS-1:0], awaddr[OFFSET_BITS-1:0], awlen};
endmodule
