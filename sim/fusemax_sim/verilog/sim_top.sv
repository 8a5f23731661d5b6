// Simulated board: clock, reset, the device, its memory, protocol checks and a command port for the bench.
//
// The bench sets the command's fields and makes `request` differ from `done`. When the command is done, `done` follows and
// the results stand beside it. Simulation advances only while a command runs, so cycle counts do not depend on the host's pace.
module sim_top #(
    parameter int ADDRESS_BITS = 40,
    parameter int BUS_BITS = 64
);
  localparam int TEXT_BYTES = 80;
  localparam int CHANNELS = 8;

  // Commands, as in bench_commands.py.
  localparam logic [1:0] RUN = 0, WAIT = 1, READ = 2, WRITE = 3;

  // What the bench writes. RUN and WAIT end when `cycle` is `stop_cycle`, WAIT also when the interrupt is high.
  logic request  /*verilator public_flat_rw*/ = 0;
  logic [1:0] command  /*verilator public_flat_rw*/ = 0;
  logic [11:0] address  /*verilator public_flat_rw*/ = 0;
  logic [31:0] data  /*verilator public_flat_rw*/ = 0;
  logic [63:0] stop_cycle  /*verilator public_flat_rw*/ = 0;

  // How the memory fails; `fail_request` changes when it is set anew.
  logic fail_request  /*verilator public_flat_rw*/ = 0;
  logic [2:0] fail_kind  /*verilator public_flat_rw*/ = 0;
  logic [1:0] fail_response  /*verilator public_flat_rw*/ = 0;
  logic [31:0] fail_after  /*verilator public_flat_rw*/ = 0;

  // What the bench reads.
  logic done  /*verilator public_flat_rd*/ = 0;
  logic interrupt  /*verilator public_flat_rd*/ = 0;
  logic [1:0] response  /*verilator public_flat_rd*/ = 0;
  logic [31:0] result  /*verilator public_flat_rd*/ = 0;
  logic [63:0] cycle  /*verilator public_flat_rd*/ = 0;
  logic [63:0] job_cycles  /*verilator public_flat_rd*/ = 0;
  logic [8*TEXT_BYTES-1:0] violation  /*verilator public_flat_rd*/;

  // -- parameters of the run -----------------------------------------------------------------------------------
  int unsigned latency = 60, beat_interval = 1, outstanding = 256, stall_threshold = 0, doorbell = 0;
  longint unsigned seed = 0, size_bytes = 0;
  longint unsigned read_error_low = 0, read_error_high = 0, write_error_low = 0, write_error_high = 0;

  import "DPI-C" function longint unsigned fusemax_storage_open();

  initial begin
    void'($value$plusargs("latency=%d", latency));
    void'($value$plusargs("beat_interval=%d", beat_interval));
    void'($value$plusargs("outstanding=%d", outstanding));
    void'($value$plusargs("stall_threshold=%d", stall_threshold));
    void'($value$plusargs("seed=%d", seed));
    void'($value$plusargs("doorbell=%d", doorbell));
    void'($value$plusargs("read_error_low=%d", read_error_low));
    void'($value$plusargs("read_error_high=%d", read_error_high));
    void'($value$plusargs("write_error_low=%d", write_error_low));
    void'($value$plusargs("write_error_high=%d", write_error_high));
    size_bytes = fusemax_storage_open();
  end

  // -- clock and reset -----------------------------------------------------------------------------------------
  logic clk = 0;
  logic [3:0] reset_cycles = 8;
  logic rst;
  always #1 clk = !clk;
  assign rst = reset_cycles != 0;
  always @(posedge clk)
    if (rst) reset_cycles <= reset_cycles - 1;
    else cycle <= cycle + 1;

  logic [CHANNELS-1:0] stall;
  stall_source #(
      .CHANNELS(CHANNELS)
  ) stall_source (
      .clk,
      .threshold(stall_threshold),
      .seed,
      .stall
  );

  // -- device --------------------------------------------------------------------------------------------------
  logic irq;
  logic [11:0] s_axil_awaddr, s_axil_araddr;
  logic s_axil_awvalid, s_axil_awready, s_axil_wvalid, s_axil_wready, s_axil_bvalid, s_axil_bready;
  logic s_axil_arvalid, s_axil_arready, s_axil_rvalid, s_axil_rready;
  logic [31:0] s_axil_wdata, s_axil_rdata;
  logic [1:0] s_axil_bresp, s_axil_rresp;

  logic [0:0] m_axi_awid, m_axi_bid, m_axi_arid, m_axi_rid;
  logic [ADDRESS_BITS-1:0] m_axi_awaddr, m_axi_araddr;
  logic [7:0] m_axi_awlen, m_axi_arlen;
  logic [2:0] m_axi_awsize, m_axi_arsize;
  logic [1:0] m_axi_awburst, m_axi_arburst, m_axi_bresp, m_axi_rresp;
  logic m_axi_awvalid, m_axi_awready, m_axi_wvalid, m_axi_wready, m_axi_wlast, m_axi_bvalid, m_axi_bready;
  logic m_axi_arvalid, m_axi_arready, m_axi_rvalid, m_axi_rready, m_axi_rlast;
  logic [BUS_BITS-1:0] m_axi_wdata, m_axi_rdata;
  logic [BUS_BITS/8-1:0] m_axi_wstrb;
  logic beat_is_last;

  fusemax device (
      .clk,
      .rst,
      .irq,
      .s_axil_awaddr,
      .s_axil_awprot(3'b000),
      .s_axil_awvalid,
      .s_axil_awready,
      .s_axil_wdata,
      .s_axil_wstrb(4'b1111),
      .s_axil_wvalid,
      .s_axil_wready,
      .s_axil_bresp,
      .s_axil_bvalid,
      .s_axil_bready,
      .s_axil_araddr,
      .s_axil_arprot(3'b000),
      .s_axil_arvalid,
      .s_axil_arready,
      .s_axil_rdata,
      .s_axil_rresp,
      .s_axil_rvalid,
      .s_axil_rready,
      .m_axi_awid,
      .m_axi_awaddr,
      .m_axi_awlen,
      .m_axi_awsize,
      .m_axi_awburst,
      .m_axi_awlock(),
      .m_axi_awcache(),
      .m_axi_awprot(),
      .m_axi_awvalid,
      .m_axi_awready,
      .m_axi_wdata,
      .m_axi_wstrb,
      .m_axi_wlast,
      .m_axi_wvalid,
      .m_axi_wready,
      .m_axi_bid,
      .m_axi_bresp,
      .m_axi_bvalid,
      .m_axi_bready,
      .m_axi_arid,
      .m_axi_araddr,
      .m_axi_arlen,
      .m_axi_arsize,
      .m_axi_arburst,
      .m_axi_arlock(),
      .m_axi_arcache(),
      .m_axi_arprot(),
      .m_axi_arvalid,
      .m_axi_arready,
      .m_axi_rid,
      .m_axi_rdata,
      .m_axi_rresp,
      .m_axi_rlast,
      .m_axi_rvalid,
      .m_axi_rready
  );

  // -- memory --------------------------------------------------------------------------------------------------
  axi_memory #(
      .ADDRESS_BITS(ADDRESS_BITS),
      .BUS_BITS(BUS_BITS)
  ) memory (
      .clk,
      .rst,
      .latency,
      .beat_interval,
      .outstanding,
      .size_bytes,
      .read_error_low,
      .read_error_high,
      .write_error_low,
      .write_error_high,
      .fail_request,
      .fail_kind,
      .fail_response,
      .fail_after,
      .stall_ar(stall[0]),
      .stall_r(stall[1]),
      .stall_aw(stall[2]),
      .stall_w(stall[3]),
      .stall_b(stall[4]),
      .arid(m_axi_arid),
      .araddr(m_axi_araddr),
      .arlen(m_axi_arlen),
      .arvalid(m_axi_arvalid),
      .arready(m_axi_arready),
      .rid(m_axi_rid),
      .rdata(m_axi_rdata),
      .rresp(m_axi_rresp),
      .rlast(m_axi_rlast),
      .rvalid(m_axi_rvalid),
      .rready(m_axi_rready),
      .awid(m_axi_awid),
      .awaddr(m_axi_awaddr),
      .awlen(m_axi_awlen),
      .awvalid(m_axi_awvalid),
      .awready(m_axi_awready),
      .wdata(m_axi_wdata),
      .wstrb(m_axi_wstrb),
      .wvalid(m_axi_wvalid),
      .wready(m_axi_wready),
      .bid(m_axi_bid),
      .bresp(m_axi_bresp),
      .bvalid(m_axi_bvalid),
      .bready(m_axi_bready),
      .beat_is_last
  );

  // -- register accesses ---------------------------------------------------------------------------------------
  logic register_start, register_finished, write_accepted;
  logic [31:0] register_result;
  logic [1:0] register_response;
  assign register_start = request != done && (command == READ || command == WRITE);

  register_port registers (
      .clk,
      .rst,
      .start(register_start),
      .write(command == WRITE),
      .address,
      .data,
      .finished(register_finished),
      .result(register_result),
      .response(register_response),
      .stall_address(stall[5]),
      .stall_data(stall[6]),
      .stall_response(stall[7]),
      .awaddr(s_axil_awaddr),
      .awvalid(s_axil_awvalid),
      .awready(s_axil_awready),
      .wdata(s_axil_wdata),
      .wvalid(s_axil_wvalid),
      .wready(s_axil_wready),
      .bresp(s_axil_bresp),
      .bvalid(s_axil_bvalid),
      .bready(s_axil_bready),
      .araddr(s_axil_araddr),
      .arvalid(s_axil_arvalid),
      .arready(s_axil_arready),
      .rdata(s_axil_rdata),
      .rresp(s_axil_rresp),
      .rvalid(s_axil_rvalid),
      .rready(s_axil_rready),
      .write_accepted
  );

  axi_checks #(
      .ADDRESS_BITS(ADDRESS_BITS),
      .BUS_BITS(BUS_BITS),
      .TEXT_BYTES(TEXT_BYTES)
  ) checks (
      .clk,
      .rst,
      .arid(m_axi_arid),
      .araddr(m_axi_araddr),
      .arlen(m_axi_arlen),
      .arsize(m_axi_arsize),
      .arburst(m_axi_arburst),
      .arvalid(m_axi_arvalid),
      .arready(m_axi_arready),
      .awid(m_axi_awid),
      .awaddr(m_axi_awaddr),
      .awlen(m_axi_awlen),
      .awsize(m_axi_awsize),
      .awburst(m_axi_awburst),
      .awvalid(m_axi_awvalid),
      .awready(m_axi_awready),
      .wdata(m_axi_wdata),
      .wstrb(m_axi_wstrb),
      .wlast(m_axi_wlast),
      .wvalid(m_axi_wvalid),
      .wready(m_axi_wready),
      .beat_is_last,
      .register_busy(register_start && !register_finished),
      .s_awvalid(s_axil_awvalid),
      .s_awready(s_axil_awready),
      .s_wvalid(s_axil_wvalid),
      .s_wready(s_axil_wready),
      .s_bresp(s_axil_bresp),
      .s_bvalid(s_axil_bvalid),
      .s_bready(s_axil_bready),
      .s_arvalid(s_axil_arvalid),
      .s_arready(s_axil_arready),
      .s_rdata(s_axil_rdata),
      .s_rresp(s_axil_rresp),
      .s_rvalid(s_axil_rvalid),
      .s_rready(s_axil_rready),
      .violation
  );

  // -- commands ------------------------------------------------------------------------------------------------
  always @(posedge clk)
    if (!rst && request != done) begin
      if (violation != 0
          || (command == RUN && cycle >= stop_cycle)
          || (command == WAIT && (irq || cycle >= stop_cycle))
          || (register_start && register_finished)) begin
        done <= request;
        interrupt <= irq;
        result <= register_result;
        response <= register_response;
      end
    end

  // -- cycles from doorbell to interrupt -------------------------------------------------------------------------
  logic counting = 0, irq_before = 0;
  always @(posedge clk)
    if (!rst) begin
      irq_before <= irq;
      if (write_accepted && 32'(address) == doorbell && !counting) begin
        counting <= 1;
        job_cycles <= 1;
      end else if (counting) begin
        // The interrupt is high in this cycle: the doorbell was job_cycles ago.
        if (irq && !irq_before) counting <= 0;
        else job_cycles <= job_cycles + 1;
      end
    end

`ifdef WAVEFORM
  waveform waveform (
      .clk,
      .rst,
      .cycle
  );
`endif
`ifdef TILE_VIEW
  tile_view tiles (.clk);
`endif
endmodule
