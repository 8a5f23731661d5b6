// Stand-in for the device: the same ports around an engine that copies bus words with bursts. FAULT breaks a rule on purpose.
module fusemax #(
    parameter BUS_BITS = 64,
    parameter ADDRESS_BITS = 40
) (
    input clk,
    input rst,
    output irq,
    input [11:0] s_axil_awaddr,
    input [2:0] s_axil_awprot,
    input s_axil_awvalid,
    output s_axil_awready,
    input [31:0] s_axil_wdata,
    input [3:0] s_axil_wstrb,
    input s_axil_wvalid,
    output s_axil_wready,
    output [1:0] s_axil_bresp,
    output s_axil_bvalid,
    input s_axil_bready,
    input [11:0] s_axil_araddr,
    input [2:0] s_axil_arprot,
    input s_axil_arvalid,
    output s_axil_arready,
    output [31:0] s_axil_rdata,
    output [1:0] s_axil_rresp,
    output s_axil_rvalid,
    input s_axil_rready,
    output [0:0] m_axi_awid,
    output [ADDRESS_BITS-1:0] m_axi_awaddr,
    output [7:0] m_axi_awlen,
    output [2:0] m_axi_awsize,
    output [1:0] m_axi_awburst,
    output m_axi_awlock,
    output [3:0] m_axi_awcache,
    output [2:0] m_axi_awprot,
    output m_axi_awvalid,
    input m_axi_awready,
    output [BUS_BITS-1:0] m_axi_wdata,
    output [BUS_BITS/8-1:0] m_axi_wstrb,
    output m_axi_wlast,
    output m_axi_wvalid,
    input m_axi_wready,
    input [0:0] m_axi_bid,
    input [1:0] m_axi_bresp,
    input m_axi_bvalid,
    output m_axi_bready,
    output [0:0] m_axi_arid,
    output [ADDRESS_BITS-1:0] m_axi_araddr,
    output [7:0] m_axi_arlen,
    output [2:0] m_axi_arsize,
    output [1:0] m_axi_arburst,
    output m_axi_arlock,
    output [3:0] m_axi_arcache,
    output [2:0] m_axi_arprot,
    output m_axi_arvalid,
    input m_axi_arready,
    input [0:0] m_axi_rid,
    input [BUS_BITS-1:0] m_axi_rdata,
    input [1:0] m_axi_rresp,
    input m_axi_rlast,
    input m_axi_rvalid,
    output m_axi_rready
);
  localparam BUS_BYTES = BUS_BITS / 8;
  localparam FIFO = 256;
  localparam READS = 8;

  // Registers of this stand-in; the doorbell is where the device has it.
  localparam IDENTITY = 12'h000, STATUS = 12'h018, SOURCE = 12'h020, TARGET = 12'h024, DOORBELL = 12'h02C, WORDS = 12'h030,
      FAULT = 12'h034, CYCLES = 12'h038, READ_LATENCY = 12'h03C, READ_SPAN = 12'h040, WRITE_LATENCY = 12'h044,
      MOST_READS = 12'h048, STROBE = 12'h04C, DELAY = 12'h050;
  localparam AR_CHANGES = 1, AR_DROPS = 2, AR_CROSSES = 3, AR_SIZE = 4, AR_FIXED = 5, AR_UNALIGNED = 6, W_EARLY = 7, W_MISSING = 8,
      W_CHANGES = 9, W_DROPS = 10, AW_DROPS = 11, B_UNASKED = 12, REGISTER_SILENT = 13, AW_CROSSES = 14, R_CHANGES = 15, AW_CHANGES = 16;

  reg [31:0] source = 0, target = 0, words = 0, fault = 0, strobe = 32'hFFFFFFFF, delay = 0;
  reg done = 0, error = 0;
  assign irq = done;

  // -- registers -----------------------------------------------------------------------------------------------
  reg aw_full = 0, w_full = 0, b_full = 0, r_full = 0, b_error = 0, r_error = 0;
  reg [11:0] aw_address = 0;
  reg [31:0] w_word = 0, r_word = 0;
  wire write = aw_full && w_full && !b_full;
  wire start = write && aw_address == DOORBELL;
  assign s_axil_awready = !aw_full;
  assign s_axil_wready = !w_full;
  assign s_axil_bvalid = b_full || fault == B_UNASKED;
  assign s_axil_bresp = b_error ? 2'b10 : 2'b00;
  assign s_axil_arready = !r_full;
  assign s_axil_rvalid = r_full && fault != REGISTER_SILENT;
  assign s_axil_rdata = r_word;
  assign s_axil_rresp = r_error ? 2'b10 : 2'b00;

  reg [31:0] cycles = 0, read_latency = 0, read_span = 0, write_latency = 0, most_reads = 0;

  always @(posedge clk)
    if (rst) begin
      {aw_full, w_full, b_full, r_full} <= 0;
      fault <= 0;
    end else begin
      if (s_axil_awvalid && s_axil_awready) begin
        aw_full <= 1;
        aw_address <= s_axil_awaddr;
      end
      if (s_axil_wvalid && s_axil_wready) begin
        w_full <= 1;
        w_word <= s_axil_wdata;
      end
      if (b_full && s_axil_bready) b_full <= 0;
      if (write) begin
        {aw_full, w_full, b_full} <= 3'b001;
        b_error <= aw_address >= 12'h800;
        case (aw_address)
          SOURCE: source <= w_word;
          TARGET: target <= w_word;
          WORDS: words <= w_word;
          FAULT: fault <= w_word;
          STROBE: strobe <= w_word;
          DELAY: delay <= w_word;
          default: ;
        endcase
      end
      if (r_full && s_axil_rready) r_full <= 0;
      else if (r_full && fault == R_CHANGES) r_word <= r_word + 1;
      if (s_axil_arvalid && s_axil_arready) begin
        r_full <= 1;
        r_error <= s_axil_araddr >= 12'h800;
        case (s_axil_araddr)
          IDENTITY: r_word <= 32'h46584D41;
          STATUS: r_word <= {30'b0, error, done};
          SOURCE: r_word <= source;
          TARGET: r_word <= target;
          WORDS: r_word <= words;
          CYCLES: r_word <= cycles;
          READ_LATENCY: r_word <= read_latency;
          READ_SPAN: r_word <= read_span;
          WRITE_LATENCY: r_word <= write_latency;
          MOST_READS: r_word <= most_reads;
          default: r_word <= 0;
        endcase
      end
    end

  // -- copying -------------------------------------------------------------------------------------------------
  reg [BUS_BITS-1:0] fifo[0:FIFO-1];
  reg [7:0] fifo_in = 0, fifo_out = 0;
  reg running = 0;
  reg [31:0] countdown = 0;
  reg [31:0] read_address = 0, read_left = 0, write_address = 0, write_left = 0, received = 0, sent = 0;
  reg [31:0] reserved = 0;  // Words asked for and not yet written out.
  reg [31:0] reads = 0, responses = 0;
  reg ar_valid = 0, aw_valid = 0, w_valid = 0;
  reg [ADDRESS_BITS-1:0] ar_address = 0, aw_address_out = 0;
  reg [7:0] ar_length = 0, aw_length = 0, w_left = 0;

  function [31:0] burst(input [31:0] address, input [31:0] left, input crossing);
    reg [31:0] room;
    begin
      room = (4096 - {20'b0, address[11:0]}) / BUS_BYTES;
      burst = left < 16 ? left : 16;
      if (!crossing && room < burst) burst = room;
    end
  endfunction
  wire [31:0] read_burst = burst(read_address, read_left, fault == AR_CROSSES);
  wire [31:0] write_burst = burst(write_address, write_left, fault == AW_CROSSES);

  assign m_axi_arid = 1'b1;
  assign m_axi_araddr = ar_address;
  assign m_axi_arlen = ar_length;
  assign m_axi_arsize = fault == AR_SIZE ? 3'd0 : $clog2(BUS_BYTES);
  assign m_axi_arburst = fault == AR_FIXED ? 2'b00 : 2'b01;
  assign m_axi_arlock = 0;
  assign m_axi_arcache = 4'b0011;
  assign m_axi_arprot = 0;
  assign m_axi_arvalid = ar_valid;
  assign m_axi_rready = 1;
  assign m_axi_awid = 1'b1;
  assign m_axi_awaddr = aw_address_out;
  assign m_axi_awlen = aw_length;
  assign m_axi_awsize = $clog2(BUS_BYTES);
  assign m_axi_awburst = 2'b01;
  assign m_axi_awlock = 0;
  assign m_axi_awcache = 4'b0011;
  assign m_axi_awprot = 0;
  assign m_axi_awvalid = aw_valid;
  reg w_held = 0;
  assign m_axi_wdata = fault == W_CHANGES && w_held ? ~fifo[fifo_out] : fifo[fifo_out];
  wire [127:0] strobes = {4{strobe}};
  assign m_axi_wstrb = strobes[BUS_BYTES-1:0];
  assign m_axi_wlast = fault == W_MISSING ? 1'b0 : w_left == (fault == W_EARLY ? 2 : 1);
  assign m_axi_wvalid = w_valid && !(fault == W_DROPS && w_held);
  assign m_axi_bready = 1;

  reg [31:0] now = 0, first_asked = 0, first_beat = 0, last_sent = 0;
  reg asked = 0, got = 0;
  reg [31:0] room_taken, room_freed, reads_started, reads_ended;

  always @(posedge clk)
    if (rst) begin
      {running, done, error, ar_valid, aw_valid, w_valid} <= 0;
      countdown <= 0;
    end else begin
      now <= now + 1;
      w_held <= m_axi_wvalid && !m_axi_wready;
      if (write && aw_address == STATUS) {error, done} <= {error, done} & ~w_word[1:0];
      if (running || countdown != 0) cycles <= cycles + 1;
      if (start) begin
        countdown <= delay + 1;
        cycles <= 0;
        read_address <= source;
        read_left <= words;
        write_address <= target;
        write_left <= words;
        {received, sent, reserved, reads, responses, most_reads, asked, got} <= 0;
        {fifo_in, fifo_out} <= 0;
      end
      if (countdown != 0) countdown <= countdown - 1;
      if (countdown == 1) running <= 1;

      room_taken = 0;
      room_freed = 0;
      reads_started = 0;
      reads_ended = 0;
      if (ar_valid && m_axi_arready) begin
        ar_valid <= 0;
        if (!asked) first_asked <= now;
        asked <= 1;
      end else if (ar_valid && fault == AR_CHANGES) ar_address <= ar_address ^ BUS_BYTES;
      else if (ar_valid && fault == AR_DROPS) ar_valid <= 0;
      else if (!ar_valid && running && read_left != 0 && reads < READS && reserved + read_burst <= FIFO) begin
        ar_valid <= 1;
        ar_address <= fault == AR_UNALIGNED ? read_address + 2 : read_address;
        ar_length <= read_burst - 1;
        read_address <= read_address + read_burst * BUS_BYTES;
        read_left <= read_left - read_burst;
        room_taken = read_burst;
        reads_started = 1;
      end
      if (m_axi_rvalid) begin
        if (!got) begin
          first_beat <= now;
          read_latency <= now - first_asked;
        end
        got <= 1;
        read_span <= now - (got ? first_beat : now);
        fifo[fifo_in] <= m_axi_rdata;
        fifo_in <= fifo_in + 1;
        received <= received + 1;
        if (m_axi_rresp != 0 || m_axi_rid != 1'b1) error <= 1;
        if (m_axi_rlast) reads_ended = 1;
      end

      if (aw_valid && m_axi_awready) aw_valid <= 0;
      else if (aw_valid && fault == AW_DROPS) aw_valid <= 0;
      else if (aw_valid && fault == AW_CHANGES) aw_length <= aw_length + 1;
      if (w_valid && m_axi_wready) begin
        fifo_out <= fifo_out + 1;
        sent <= sent + 1;
        room_freed = 1;
        w_left <= w_left - 1;
        if (w_left == 1) begin
          w_valid <= 0;
          last_sent <= now;
        end
      end
      if (!aw_valid && !w_valid && running && write_left != 0 && received - sent >= write_burst) begin
        aw_valid <= 1;
        w_valid <= 1;
        aw_address_out <= write_address;
        aw_length <= write_burst - 1;
        w_left <= write_burst;
        write_address <= write_address + write_burst * BUS_BYTES;
        write_left <= write_left - write_burst;
        responses <= responses + 1 - (m_axi_bvalid ? 1 : 0);
      end else if (m_axi_bvalid) responses <= responses - 1;
      if (m_axi_bvalid) begin
        write_latency <= now - last_sent;
        if (m_axi_bresp != 0 || m_axi_bid != 1'b1) error <= 1;
      end
      reserved <= reserved + room_taken - room_freed;
      reads <= reads + reads_started - reads_ended;
      if (reads > most_reads) most_reads <= reads;
      if (running && write_left == 0 && responses == 0 && !aw_valid && !w_valid && sent == words) begin
        running <= 0;
        done <= 1;
      end
    end
endmodule
