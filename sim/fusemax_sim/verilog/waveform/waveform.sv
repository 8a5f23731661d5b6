// Says what the waveform shows. +waveform=FILE opens it; +waveform_depth=N bounds the levels of the hierarchy,
// +waveform_first=N and +waveform_last=N the cycles.
module waveform (
    input logic clk,
    input logic rst,
    input logic [63:0] cycle
);
  import "DPI-C" function void fusemax_waveform_open(input string path, input int depth);
  import "DPI-C" function void fusemax_waveform_record(input bit on);

  string path;
  longint unsigned first = 0, last = '1;
  int depth = 1;
  bit open = 0;

  initial begin
    void'($value$plusargs("waveform_first=%d", first));
    void'($value$plusargs("waveform_last=%d", last));
    void'($value$plusargs("waveform_depth=%d", depth));
    if ($value$plusargs("waveform=%s", path)) begin
      fusemax_waveform_open(path, depth);
      fusemax_waveform_record(first == 0);
      open = 1;
    end
  end

  // This edge begins the next cycle; the cycles of reset count as part of cycle 0.
  logic [63:0] next;
  assign next = rst ? 0 : cycle + 1;
  always @(posedge clk) if (open) fusemax_waveform_record(next >= first && next <= last);
endmodule
