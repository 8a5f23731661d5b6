// A system of three: the machine, a memory, and a bus master that stands for the processor.
//
//     register_master --- AXI4-Lite ---> fusemax --- AXI4 ---> axi_memory
//            ^------------- irq ------------'
//
// The widths are those of the machine's configuration: fusemax.md, beside its Verilog, has them.
module soc #(
    parameter ADDRESS_BITS = 40,
    parameter BUS_BITS = 64,
    parameter MEMORY_WORDS = 2048,
    parameter LIST_ENTRIES = 64
) (
    input wire clk,
    input wire rst,
    output wire done,
    output wire failed,
    output wire [$clog2(LIST_ENTRIES)-1:0] step
);
  wire irq;

  wire [11:0] s_awaddr, s_araddr;
  wire [31:0] s_wdata, s_rdata;
  wire s_awvalid, s_awready, s_wvalid, s_wready, s_bvalid, s_bready, s_arvalid, s_arready, s_rvalid, s_rready;

  wire [ADDRESS_BITS-1:0] m_araddr, m_awaddr;
  wire [7:0] m_arlen, m_awlen;
  wire [BUS_BITS-1:0] m_rdata, m_wdata;
  wire [BUS_BITS/8-1:0] m_wstrb;
  wire [1:0] m_rresp, m_bresp;
  wire m_arvalid, m_arready, m_rvalid, m_rready, m_rlast;
  wire m_awvalid, m_awready, m_wvalid, m_wready, m_wlast, m_bvalid, m_bready;

  register_master #(
      .ENTRIES(LIST_ENTRIES)
  ) master (
      .clk(clk),
      .rst(rst),
      .irq(irq),
      .done(done),
      .failed(failed),
      .step(step),
      .awaddr(s_awaddr),
      .awvalid(s_awvalid),
      .awready(s_awready),
      .wdata(s_wdata),
      .wvalid(s_wvalid),
      .wready(s_wready),
      .bvalid(s_bvalid),
      .bready(s_bready),
      .araddr(s_araddr),
      .arvalid(s_arvalid),
      .arready(s_arready),
      .rdata(s_rdata),
      .rvalid(s_rvalid),
      .rready(s_rready)
  );

  // Sizes, burst types, identifiers and the like are constants: an interconnect wants them, this memory does not.
  // verilator lint_off PINCONNECTEMPTY
  fusemax machine (
      .clk(clk),
      .rst(rst),
      .irq(irq),
      .s_axil_awaddr(s_awaddr),
      .s_axil_awprot(3'b000),
      .s_axil_awvalid(s_awvalid),
      .s_axil_awready(s_awready),
      .s_axil_wdata(s_wdata),
      .s_axil_wstrb(4'b1111),
      .s_axil_wvalid(s_wvalid),
      .s_axil_wready(s_wready),
      .s_axil_bresp(),
      .s_axil_bvalid(s_bvalid),
      .s_axil_bready(s_bready),
      .s_axil_araddr(s_araddr),
      .s_axil_arprot(3'b000),
      .s_axil_arvalid(s_arvalid),
      .s_axil_arready(s_arready),
      .s_axil_rdata(s_rdata),
      .s_axil_rresp(),
      .s_axil_rvalid(s_rvalid),
      .s_axil_rready(s_rready),
      .m_axi_arid(),
      .m_axi_araddr(m_araddr),
      .m_axi_arlen(m_arlen),
      .m_axi_arsize(),
      .m_axi_arburst(),
      .m_axi_arlock(),
      .m_axi_arcache(),
      .m_axi_arprot(),
      .m_axi_arvalid(m_arvalid),
      .m_axi_arready(m_arready),
      .m_axi_rid(1'b0),
      .m_axi_rdata(m_rdata),
      .m_axi_rresp(m_rresp),
      .m_axi_rlast(m_rlast),
      .m_axi_rvalid(m_rvalid),
      .m_axi_rready(m_rready),
      .m_axi_awid(),
      .m_axi_awaddr(m_awaddr),
      .m_axi_awlen(m_awlen),
      .m_axi_awsize(),
      .m_axi_awburst(),
      .m_axi_awlock(),
      .m_axi_awcache(),
      .m_axi_awprot(),
      .m_axi_awvalid(m_awvalid),
      .m_axi_awready(m_awready),
      .m_axi_wdata(m_wdata),
      .m_axi_wstrb(m_wstrb),
      .m_axi_wlast(m_wlast),
      .m_axi_wvalid(m_wvalid),
      .m_axi_wready(m_wready),
      .m_axi_bid(1'b0),
      .m_axi_bresp(m_bresp),
      .m_axi_bvalid(m_bvalid),
      .m_axi_bready(m_bready)
  );
  // verilator lint_on PINCONNECTEMPTY

  axi_memory #(
      .ADDRESS_BITS(ADDRESS_BITS),
      .BUS_BITS(BUS_BITS),
      .WORDS(MEMORY_WORDS)
  ) memory (
      .clk(clk),
      .rst(rst),
      .araddr(m_araddr),
      .arlen(m_arlen),
      .arvalid(m_arvalid),
      .arready(m_arready),
      .rdata(m_rdata),
      .rresp(m_rresp),
      .rlast(m_rlast),
      .rvalid(m_rvalid),
      .rready(m_rready),
      .awaddr(m_awaddr),
      .awlen(m_awlen),
      .awvalid(m_awvalid),
      .awready(m_awready),
      .wdata(m_wdata),
      .wstrb(m_wstrb),
      .wlast(m_wlast),
      .wvalid(m_wvalid),
      .wready(m_wready),
      .bresp(m_bresp),
      .bvalid(m_bvalid),
      .bready(m_bready)
  );
endmodule
