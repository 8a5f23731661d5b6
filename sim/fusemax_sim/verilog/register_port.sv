// AXI4-Lite master for one register access at a time. `start` is held until `finished`, which is high for a cycle.
//
// `stall` bits withhold, cycle by cycle, what the channel would start next, so address and data of a write also come apart.
module register_port (
    input logic clk,
    input logic rst,

    input logic start,
    input logic write,
    input logic [11:0] address,
    input logic [31:0] data,
    output logic finished,
    output logic [31:0] result,
    output logic [1:0] response,

    input logic stall_address,
    input logic stall_data,
    input logic stall_response,

    output logic [11:0] awaddr,
    output logic awvalid,
    input logic awready,
    output logic [31:0] wdata,
    output logic wvalid,
    input logic wready,
    input logic [1:0] bresp,
    input logic bvalid,
    output logic bready,
    output logic [11:0] araddr,
    output logic arvalid,
    input logic arready,
    input logic [31:0] rdata,
    input logic [1:0] rresp,
    input logic rvalid,
    output logic rready,

    // A write to `address` is accepted in this cycle: both its halves are.
    output logic write_accepted
);
  logic address_sent = 0, data_sent = 0;  // Accepted, or offered just now.
  logic address_done, data_done;  // Accepted before this cycle or in it.

  initial begin
    awvalid = 0;
    wvalid = 0;
    bready = 0;
    arvalid = 0;
    rready = 0;
    finished = 0;
    result = 0;
    response = 0;
  end

  assign address_done = address_sent && (!awvalid || awready);
  assign data_done = data_sent && (!wvalid || wready);
  assign write_accepted = address_done && data_done && (awvalid || wvalid);

  always @(posedge clk)
    if (rst) begin
      awvalid <= 0;
      wvalid <= 0;
      bready <= 0;
      arvalid <= 0;
      rready <= 0;
      finished <= 0;
      address_sent <= 0;
      data_sent <= 0;
    end else begin
      finished <= 0;
      if (awvalid && awready) awvalid <= 0;
      if (wvalid && wready) wvalid <= 0;
      if (arvalid && arready) arvalid <= 0;
      bready <= start && write && !stall_response;
      rready <= start && !write && !stall_response;
      if (start && !finished) begin
        if (!address_sent && !stall_address) begin
          address_sent <= 1;
          awvalid <= write;
          arvalid <= !write;
          awaddr <= address;
          araddr <= address;
        end
        if (write && !data_sent && !stall_data) begin
          data_sent <= 1;
          wvalid <= 1;
          wdata <= data;
        end
        if ((bvalid && bready) || (rvalid && rready)) begin
          finished <= 1;
          result <= rdata;
          response <= write ? bresp : rresp;
          address_sent <= 0;
          data_sent <= 0;
          bready <= 0;
          rready <= 0;
        end
      end
    end
endmodule
