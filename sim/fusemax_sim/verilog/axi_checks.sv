// Protocol checks of the device's AXI ports. The first violation's text stays in `violation`; zero means none.
module axi_checks #(
    parameter int ADDRESS_BITS = 40,
    parameter int BUS_BITS = 64,
    parameter int TEXT_BYTES = 80,
    parameter int REGISTER_TIMEOUT = 10000
) (
    input logic clk,
    input logic rst,

    input logic [0:0] arid,
    input logic [ADDRESS_BITS-1:0] araddr,
    input logic [7:0] arlen,
    input logic [2:0] arsize,
    input logic [1:0] arburst,
    input logic arvalid,
    input logic arready,

    input logic [0:0] awid,
    input logic [ADDRESS_BITS-1:0] awaddr,
    input logic [7:0] awlen,
    input logic [2:0] awsize,
    input logic [1:0] awburst,
    input logic awvalid,
    input logic awready,

    input logic [BUS_BITS-1:0] wdata,
    input logic [BUS_BITS/8-1:0] wstrb,
    input logic wlast,
    input logic wvalid,
    input logic wready,
    input logic beat_is_last,

    input logic register_busy,
    input logic s_awvalid,
    input logic s_awready,
    input logic s_wvalid,
    input logic s_wready,
    input logic [1:0] s_bresp,
    input logic s_bvalid,
    input logic s_bready,
    input logic s_arvalid,
    input logic s_arready,
    input logic [31:0] s_rdata,
    input logic [1:0] s_rresp,
    input logic s_rvalid,
    input logic s_rready,

    output logic [8*TEXT_BYTES-1:0] violation
);
  localparam int BUS_BYTES = BUS_BITS / 8;
  localparam int LANE_BITS = $clog2(BUS_BYTES);

  // What the device offered in the last cycle and nobody took; it has to offer it still.
  logic ar_held = 0, aw_held = 0, w_held = 0, b_held = 0, r_held = 0;
  logic [ADDRESS_BITS+13:0] ar_last, aw_last, ar_now, aw_now;
  logic [BUS_BITS+BUS_BITS/8:0] w_last, w_now;
  logic [1:0] b_last;
  logic [33:0] r_last;
  int writes_addressed = 0, writes_filled = 0, reads_addressed = 0;
  int unsigned register_cycles = 0;

  assign ar_now = {arid, araddr, arlen, arsize, arburst};
  assign aw_now = {awid, awaddr, awlen, awsize, awburst};
  assign w_now = {wdata, wstrb, wlast};

  initial violation = 0;

  task automatic fail(input logic [8*TEXT_BYTES-1:0] text);
    if (violation == 0) violation = text;
  endtask

  function automatic logic crosses(logic [11:0] address, logic [7:0] length);
    return 32'(address) + (32'(length) + 1) * 32'(BUS_BYTES) > 4096;
  endfunction

  always @(posedge clk)
    if (rst) begin
      ar_held <= 0;
      aw_held <= 0;
      w_held <= 0;
      b_held <= 0;
      r_held <= 0;
    end else begin
      ar_held <= arvalid && !arready;
      if (arvalid) ar_last <= ar_now;
      if (ar_held && !arvalid) fail("m_axi_arvalid fell before m_axi_arready");
      if (ar_held && arvalid && ar_now != ar_last) fail("read address changed before m_axi_arready");
      if (arvalid && !ar_held) begin
        if (arsize != 3'(LANE_BITS)) fail("m_axi_arsize is not the bus width");
        if (arburst != 2'b01) fail("m_axi_arburst is not INCR");
        if (araddr[LANE_BITS-1:0] != 0) fail("m_axi_araddr is not a multiple of the bus word");
        if (crosses(araddr[11:0], arlen)) fail("read burst crosses a 4 KB boundary");
      end

      aw_held <= awvalid && !awready;
      if (awvalid) aw_last <= aw_now;
      if (aw_held && !awvalid) fail("m_axi_awvalid fell before m_axi_awready");
      if (aw_held && awvalid && aw_now != aw_last) fail("write address changed before m_axi_awready");
      if (awvalid && !aw_held) begin
        if (awsize != 3'(LANE_BITS)) fail("m_axi_awsize is not the bus width");
        if (awburst != 2'b01) fail("m_axi_awburst is not INCR");
        if (awaddr[LANE_BITS-1:0] != 0) fail("m_axi_awaddr is not a multiple of the bus word");
        if (crosses(awaddr[11:0], awlen)) fail("write burst crosses a 4 KB boundary");
      end

      w_held <= wvalid && !wready;
      if (wvalid) w_last <= w_now;
      if (w_held && !wvalid) fail("m_axi_wvalid fell before m_axi_wready");
      if (w_held && wvalid && w_now != w_last) fail("write data changed before m_axi_wready");
      if (wvalid && wready && wlast != beat_is_last)
        if (wlast) fail("m_axi_wlast came before the burst's last beat");
        else fail("m_axi_wlast is missing at the burst's last beat");

      b_held <= s_bvalid && !s_bready;
      b_last <= s_bresp;
      if (b_held && !s_bvalid) fail("s_axil_bvalid fell before s_axil_bready");
      if (b_held && s_bvalid && s_bresp != b_last) fail("s_axil_bresp changed before s_axil_bready");
      r_held <= s_rvalid && !s_rready;
      r_last <= {s_rdata, s_rresp};
      if (r_held && !s_rvalid) fail("s_axil_rvalid fell before s_axil_rready");
      if (r_held && s_rvalid && {s_rdata, s_rresp} != r_last) fail("register read data changed before s_axil_rready");
      // A response may come in the cycle after its request was taken, not in the same one.
      if (s_bvalid && (writes_addressed <= 0 || writes_filled <= 0)) fail("s_axil_bvalid without a write");
      if (s_rvalid && reads_addressed <= 0) fail("s_axil_rvalid without a read");
      writes_addressed <= writes_addressed + int'(s_awvalid && s_awready) - int'(s_bvalid && s_bready);
      writes_filled <= writes_filled + int'(s_wvalid && s_wready) - int'(s_bvalid && s_bready);
      reads_addressed <= reads_addressed + int'(s_arvalid && s_arready) - int'(s_rvalid && s_rready);
      register_cycles <= register_busy ? register_cycles + 1 : 0;
      if (register_cycles == REGISTER_TIMEOUT) fail("register access was not answered within 10000 cycles");
    end
endmodule
