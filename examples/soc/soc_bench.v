// Clock and reset for soc.v; writes the memory to a file when the list has ended.
module soc_bench #(
    parameter ADDRESS_BITS = 40,
    parameter BUS_BITS = 64,
    parameter MEMORY_WORDS = 2048,
    parameter MOST_CYCLES = 100000
);
  localparam LIST_ENTRIES = 64;
  reg clk = 0, rst = 1;
  wire done, failed;
  wire [$clog2(LIST_ENTRIES)-1:0] step;
  integer cycles = 0;

  always #5 clk = !clk;

  soc #(
      .ADDRESS_BITS(ADDRESS_BITS),
      .BUS_BITS(BUS_BITS),
      .MEMORY_WORDS(MEMORY_WORDS),
      .LIST_ENTRIES(LIST_ENTRIES)
  ) soc (
      .clk(clk),
      .rst(rst),
      .done(done),
      .failed(failed),
      .step(step)
  );

  always @(posedge clk) begin
    cycles <= cycles + 1;
    rst <= cycles < 4;
    if (!rst && (done || failed || cycles > MOST_CYCLES)) begin
      if (done) $display("done after %0d cycles", cycles);
      else if (failed) $display("step %0d failed after %0d cycles", step, cycles);
      else $display("step %0d has not ended after %0d cycles", step, cycles);
      $writememh("memory_after.hex", soc.memory.words);
      $finish;
    end
  end
endmodule
