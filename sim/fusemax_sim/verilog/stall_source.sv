// Random bits, each set with probability threshold / 65536: two xorshift generators that start from the seed.
module stall_source #(
    parameter int CHANNELS = 8
) (
    input logic clk,
    input int unsigned threshold,
    input longint unsigned seed,
    output logic [CHANNELS-1:0] stall
);
  logic [63:0] low, high;
  initial begin
    // Odd multipliers spread neighbouring seeds; the constants keep the states from being zero for small seeds.
    low = (seed + 1) * 64'h9E3779B97F4A7C15 ^ 64'hD1B54A32D192ED03;
    high = (seed + 1) * 64'hBF58476D1CE4E5B9 ^ 64'h94D049BB133111EB;
    if (low == 0) low = 1;
    if (high == 0) high = 1;
    stall = 0;
  end

  function automatic logic [63:0] advance(logic [63:0] state);
    state = state ^ (state << 13);
    state = state ^ (state >> 7);
    return state ^ (state << 17);
  endfunction

  always @(posedge clk)
    if (threshold != 0) begin
      low <= advance(low);
      high <= advance(high);
      for (int channel = 0; channel < CHANNELS; channel++)
        stall[channel] <= 32'(channel < 4 ? low[16*(channel%4)+:16] : high[16*(channel%4)+:16]) < threshold;
    end
endmodule
