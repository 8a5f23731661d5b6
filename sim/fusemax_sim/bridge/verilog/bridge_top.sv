// The bridge with a memory and a few registers, the pins of its line and what the bench looks at.
//
// Registers, by offset: below 0x400 words that keep what is written; from 0x400 writes are added to the word; from 0x800
// every read adds one to the word afterwards; 0xC00 holds the interrupt pin in bit 0; 0xC04 answers SLVERR. An access that is
// repeated or lost shows.
module bridge_top #(
    parameter int ADDRESS_BITS = 40,
    parameter int BUS_BITS = 64
) (
    input logic clk,
    input logic rst,
    input logic rx,
    output logic tx,
    output logic [31:0] memory_reads,
    output logic [31:0] memory_writes,
    output logic [31:0] register_reads,
    output logic [31:0] register_writes,
    output logic [31:0] resets,
    output logic [31:0] violations
);
  int unsigned latency = 60, beat_interval = 1, outstanding = 256, stall_threshold = 0;
  longint unsigned seed = 0, size_bytes = 0;
  longint unsigned read_error_low = 0, read_error_high = 0, write_error_low = 0, write_error_high = 0;

  import "DPI-C" function longint unsigned fusemax_storage_open();

  initial begin
    void'($value$plusargs("latency=%d", latency));
    void'($value$plusargs("beat_interval=%d", beat_interval));
    void'($value$plusargs("outstanding=%d", outstanding));
    void'($value$plusargs("stall_threshold=%d", stall_threshold));
    void'($value$plusargs("seed=%d", seed));
    void'($value$plusargs("read_error_low=%d", read_error_low));
    void'($value$plusargs("read_error_high=%d", read_error_high));
    void'($value$plusargs("write_error_low=%d", write_error_low));
    void'($value$plusargs("write_error_high=%d", write_error_high));
    size_bytes = fusemax_storage_open();
  end

  logic [7:0] stall;
  stall_source stall_source (
      .clk,
      .threshold(stall_threshold),
      .seed,
      .stall
  );

  logic [ADDRESS_BITS+7:0] ar, aw;
  logic [BUS_BITS+2:0] r;
  logic [BUS_BITS+BUS_BITS/8:0] w;
  logic [1:0] b, register_b;
  logic ar_valid, ar_ready, aw_valid, aw_ready, w_valid, w_ready, r_valid, r_ready, b_valid, b_ready;
  logic [11:0] register_ar, register_aw;
  logic [35:0] register_w;
  logic [33:0] register_r;
  logic register_ar_valid, register_ar_ready, register_aw_valid, register_aw_ready, register_w_valid, register_w_ready;
  logic register_r_valid, register_r_ready, register_b_valid, register_b_ready;
  logic irq, reset, system_reset;
  assign system_reset = rst || reset;

  fusemax_bridge bridge (
      .clk,
      .rst,
      .rx,
      .tx,
      .irq,
      .reset,
      .memory__ar__payload(ar),
      .memory__ar__valid(ar_valid),
      .memory__ar__ready(ar_ready),
      .memory__r__payload(r),
      .memory__r__valid(r_valid),
      .memory__r__ready(r_ready),
      .memory__aw__payload(aw),
      .memory__aw__valid(aw_valid),
      .memory__aw__ready(aw_ready),
      .memory__w__payload(w),
      .memory__w__valid(w_valid),
      .memory__w__ready(w_ready),
      .memory__b__payload(b),
      .memory__b__valid(b_valid),
      .memory__b__ready(b_ready),
      .registers__ar__payload(register_ar),
      .registers__ar__valid(register_ar_valid),
      .registers__ar__ready(register_ar_ready),
      .registers__r__payload(register_r),
      .registers__r__valid(register_r_valid),
      .registers__r__ready(register_r_ready),
      .registers__aw__payload(register_aw),
      .registers__aw__valid(register_aw_valid),
      .registers__aw__ready(register_aw_ready),
      .registers__w__payload(register_w),
      .registers__w__valid(register_w_valid),
      .registers__w__ready(register_w_ready),
      .registers__b__payload(register_b),
      .registers__b__valid(register_b_valid),
      .registers__b__ready(register_b_ready)
  );

  logic beat_is_last;
  logic [0:0] no_id;
  axi_memory #(
      .ADDRESS_BITS(ADDRESS_BITS),
      .BUS_BITS(BUS_BITS)
  ) memory (
      .clk,
      .rst(system_reset),
      .latency,
      .beat_interval,
      .outstanding,
      .size_bytes,
      .read_error_low,
      .read_error_high,
      .write_error_low,
      .write_error_high,
      .stall_ar(stall[0]),
      .stall_r(stall[1]),
      .stall_aw(stall[2]),
      .stall_w(stall[3]),
      .stall_b(stall[4]),
      .arid(1'b0),
      .araddr(ar[ADDRESS_BITS-1:0]),
      .arlen(ar[ADDRESS_BITS+:8]),
      .arvalid(ar_valid),
      .arready(ar_ready),
      .rid(no_id),
      .rdata(r[BUS_BITS-1:0]),
      .rresp(r[BUS_BITS+:2]),
      .rlast(r[BUS_BITS+2]),
      .rvalid(r_valid),
      .rready(r_ready),
      .awid(1'b0),
      .awaddr(aw[ADDRESS_BITS-1:0]),
      .awlen(aw[ADDRESS_BITS+:8]),
      .awvalid(aw_valid),
      .awready(aw_ready),
      .wdata(w[BUS_BITS-1:0]),
      .wstrb(w[BUS_BITS+:BUS_BITS/8]),
      .wvalid(w_valid),
      .wready(w_ready),
      .bid(),
      .bresp(b),
      .bvalid(b_valid),
      .bready(b_ready),
      .beat_is_last
  );

  // -- registers -----------------------------------------------------------------------------------------------
  logic [31:0] words[1024];
  initial for (int index = 0; index < 1024; index++) words[index] = 0;
  assign irq = words[12'hC00 >> 2][0];
  assign register_aw_ready = register_aw_valid && register_w_valid && !register_b_valid && !stall[5];
  assign register_w_ready = register_aw_ready;
  assign register_ar_ready = register_ar_valid && !register_r_valid && !stall[6];

  always @(posedge clk)
    if (system_reset) begin
      register_b_valid <= 0;
      register_r_valid <= 0;
      for (int index = 0; index < 1024; index++) words[index] <= 0;
    end else begin
      if (register_b_valid && register_b_ready) register_b_valid <= 0;
      if (register_r_valid && register_r_ready) register_r_valid <= 0;
      if (register_aw_ready) begin
        register_b_valid <= 1;
        register_b <= register_aw == 12'hC04 ? 2'b10 : 2'b00;
        words[register_aw[11:2]] <= register_w[31:0] + (register_aw[11:10] == 1 ? words[register_aw[11:2]] : 0);
      end
      if (register_ar_ready) begin
        register_r_valid <= 1;
        register_r <= {register_ar == 12'hC04 ? 2'b10 : 2'b00, words[register_ar[11:2]]};
        if (register_ar[11:10] == 2) words[register_ar[11:2]] <= words[register_ar[11:2]] + 1;
      end
    end

  // -- what the bench looks at ---------------------------------------------------------------------------------
  logic ar_held = 0, aw_held = 0, w_held = 0, reset_before = 0;
  logic register_ar_held = 0, register_aw_held = 0, register_w_held = 0;
  logic [ADDRESS_BITS+7:0] ar_before, aw_before;
  logic [BUS_BITS+BUS_BITS/8:0] w_before;
  logic [11:0] register_ar_before, register_aw_before;
  logic [35:0] register_w_before;
  initial {memory_reads, memory_writes, register_reads, register_writes, resets, violations} = 0;

  always @(posedge clk) begin
    reset_before <= reset;
    if (!rst && reset && !reset_before) resets <= resets + 1;
    if (!rst && ar_valid && ar_ready) memory_reads <= memory_reads + 1;
    if (!rst && w_valid && w_ready) memory_writes <= memory_writes + 1;
    if (!rst && register_ar_valid && register_ar_ready) register_reads <= register_reads + 1;
    if (!rst && register_aw_valid && register_aw_ready) register_writes <= register_writes + 1;
    // What was offered and not taken is still offered.
    ar_held <= !system_reset && ar_valid && !ar_ready;
    aw_held <= !system_reset && aw_valid && !aw_ready;
    w_held <= !system_reset && w_valid && !w_ready;
    register_ar_held <= !system_reset && register_ar_valid && !register_ar_ready;
    register_aw_held <= !system_reset && register_aw_valid && !register_aw_ready;
    register_w_held <= !system_reset && register_w_valid && !register_w_ready;
    {ar_before, aw_before, w_before} <= {ar, aw, w};
    {register_ar_before, register_aw_before, register_w_before} <= {register_ar, register_aw, register_w};
    if ((ar_held && !(ar_valid && ar == ar_before)) || (aw_held && !(aw_valid && aw == aw_before))
        || (w_held && !(w_valid && w == w_before))
        || (register_ar_held && !(register_ar_valid && register_ar == register_ar_before))
        || (register_aw_held && !(register_aw_valid && register_aw == register_aw_before))
        || (register_w_held && !(register_w_valid && register_w == register_w_before)))
      violations <= violations + 1;
    // Words only, one at a time, within the memory.
    if (!system_reset
        && ((ar_valid && (ar[ADDRESS_BITS+:8] != 0 || ar[$clog2(BUS_BITS/8)-1:0] != 0 || 64'(ar[ADDRESS_BITS-1:0]) >= size_bytes))
            || (aw_valid && (aw[ADDRESS_BITS+:8] != 0 || aw[$clog2(BUS_BITS/8)-1:0] != 0
                             || 64'(aw[ADDRESS_BITS-1:0]) >= size_bytes))
            || (w_valid && w_ready && (!beat_is_last || !w[BUS_BITS+BUS_BITS/8]))))
      violations <= violations + 1;
  end
endmodule
