// AXI4 memory: one in-order slave whose bytes lie in a file that the host process maps too (storage.cpp).
//
// Reads and writes are independent. A read burst's first beat can be taken `latency` cycles after its address was, then a
// beat every `beat_interval` cycles; a write's response comes `latency` cycles after its last beat. `stall_*` is a random
// bit per channel and cycle; it withholds what that channel would do next. A beat outside the memory is answered with
// DECERR, one in an error window with SLVERR; its data are all ones, and it writes nothing.
//
// `fail_kind` says how the memory fails after `fail_after` more things of that kind have gone well (memory.py); `fail_request`
// changes when it is set anew.
module axi_memory #(
    parameter int ADDRESS_BITS = 40,
    parameter int BUS_BITS = 64,
    parameter int QUEUE = 256
) (
    input logic clk,
    input logic rst,

    input int unsigned latency,
    input int unsigned beat_interval,
    input int unsigned outstanding,
    input longint unsigned size_bytes,
    input longint unsigned read_error_low,
    input longint unsigned read_error_high,
    input longint unsigned write_error_low,
    input longint unsigned write_error_high,
    input logic fail_request,
    input logic [2:0] fail_kind,
    input logic [1:0] fail_response,
    input int unsigned fail_after,
    input logic stall_ar,
    input logic stall_r,
    input logic stall_aw,
    input logic stall_w,
    input logic stall_b,

    input logic [0:0] arid,
    input logic [ADDRESS_BITS-1:0] araddr,
    input logic [7:0] arlen,
    input logic arvalid,
    output logic arready,
    output logic [0:0] rid,
    output logic [BUS_BITS-1:0] rdata,
    output logic [1:0] rresp,
    output logic rlast,
    output logic rvalid,
    input logic rready,

    input logic [0:0] awid,
    input logic [ADDRESS_BITS-1:0] awaddr,
    input logic [7:0] awlen,
    input logic awvalid,
    output logic awready,
    input logic [BUS_BITS-1:0] wdata,
    input logic [BUS_BITS/8-1:0] wstrb,
    input logic wvalid,
    output logic wready,
    output logic [0:0] bid,
    output logic [1:0] bresp,
    output logic bvalid,
    input logic bready,

    // The next write beat is the last of its burst; meaningful while wready is high.
    output logic beat_is_last
);
  localparam int BUS_BYTES = BUS_BITS / 8;
  localparam int INDEX_BITS = $clog2(QUEUE);
  localparam logic [1:0] OKAY = 2'b00, SLVERR = 2'b10, DECERR = 2'b11;
  // As in memory.py.
  localparam logic [2:0] READ_ERROR = 1, WRITE_ERROR = 2, READ_SILENT = 3, WRITE_SILENT = 4, READ_CLOSED = 5, WRITE_CLOSED = 6;

  import "DPI-C" function void fusemax_storage_read(
    input longint unsigned address,
    input int unsigned bytes,
    output bit [BUS_BITS-1:0] data
  );
  import "DPI-C" function void fusemax_storage_write(
    input longint unsigned address,
    input int unsigned bytes,
    input bit [BUS_BITS-1:0] data,
    input bit [BUS_BITS/8-1:0] strobe
  );

  function automatic logic [1:0] answer(longint unsigned address, longint unsigned low, longint unsigned high);
    if (address >= size_bytes || size_bytes - address < longint'(BUS_BYTES)) return DECERR;
    if (address < high && address + longint'(BUS_BYTES) > low) return SLVERR;
    return OKAY;
  endfunction

  longint unsigned now = 0;
  always @(posedge clk) now <= now + 1;

  // -- reads ---------------------------------------------------------------------------------------------------
  logic [ADDRESS_BITS-1:0] read_address[QUEUE];
  logic [7:0] read_length[QUEUE];
  logic [0:0] read_id[QUEUE];
  longint unsigned read_due[QUEUE];
  logic [INDEX_BITS-1:0] read_head = 0, read_tail = 0;
  int unsigned read_bursts = 0;  // Addresses taken whose last beat has not been presented.
  logic [7:0] read_beat = 0;  // Beat of the burst at the head that is presented next.
  longint unsigned read_earliest = 0;  // First cycle in which the next beat may be taken.

  // Things of the kind that go well before the memory fails; an error is one only once.
  logic read_fail_seen = 0, read_struck = 0;
  int unsigned read_left = 0;

  longint unsigned beat_address;
  logic [1:0] beat_answer;
  bit [BUS_BITS-1:0] beat_data;

  initial begin
    arready = 0;
    rvalid = 0;
    awready = 0;
    wready = 0;
    bvalid = 0;
  end

  // What is assigned with `=` is seen at once by the lines below, and only by this block.
  always @(posedge clk)
    if (rst) begin
      arready <= 0;
      rvalid <= 0;
      read_head = 0;
      read_tail = 0;
      read_bursts = 0;
      read_beat = 0;
    end else begin
      if (fail_request != read_fail_seen) begin
        read_fail_seen = fail_request;
        read_left = fail_after;
        read_struck = 0;
      end
      if (arvalid && arready) begin
        if (fail_kind == READ_CLOSED && read_left != 0) read_left = read_left - 1;
        read_address[read_tail] = araddr;
        read_length[read_tail] = arlen;
        read_id[read_tail] = arid;
        read_due[read_tail] = now + longint'(latency);
        read_tail = read_tail + 1;
        read_bursts = read_bursts + 1;
      end
      if (rvalid && rready) rvalid <= 0;
      if ((!rvalid || rready) && read_bursts != 0 && now + 1 >= read_due[read_head] && now + 1 >= read_earliest && !stall_r
          && !(fail_kind == READ_SILENT && read_left == 0)) begin
        beat_address = 64'(read_address[read_head]) + longint'(read_beat) * longint'(BUS_BYTES);
        beat_answer = answer(beat_address, read_error_low, read_error_high);
        if (fail_kind == READ_ERROR && read_left == 0 && !read_struck) begin
          beat_answer = fail_response;
          read_struck = 1;
        end
        if ((fail_kind == READ_ERROR || fail_kind == READ_SILENT) && read_left != 0) read_left = read_left - 1;
        if (beat_answer == OKAY) fusemax_storage_read(beat_address, BUS_BYTES, beat_data);
        else beat_data = '1;
        rvalid <= 1;
        rid <= read_id[read_head];
        rdata <= beat_data;
        rresp <= beat_answer;
        rlast <= read_beat == read_length[read_head];
        read_earliest = now + 1 + longint'(beat_interval);
        if (read_beat == read_length[read_head]) begin
          read_beat = 0;
          read_head = read_head + 1;
          read_bursts = read_bursts - 1;
        end else read_beat = read_beat + 1;
      end
      arready <= read_bursts < outstanding && !stall_ar && !(fail_kind == READ_CLOSED && read_left == 0);
    end

  // -- writes --------------------------------------------------------------------------------------------------
  logic [ADDRESS_BITS-1:0] write_address[QUEUE];
  logic [7:0] write_length[QUEUE];
  logic [0:0] write_id[QUEUE];
  longint unsigned write_due[QUEUE];
  logic [1:0] write_answer[QUEUE];
  // The queue's entries in order: response owed from `write_head`, data owed from `write_data`, free from `write_tail`.
  logic [INDEX_BITS-1:0] write_head = 0, write_data = 0, write_tail = 0;
  int unsigned write_bursts = 0, write_responses = 0;  // Bursts whose data, whose response is owed.
  logic [7:0] write_beat = 0;
  longint unsigned write_earliest = 0;

  logic write_fail_seen = 0, write_struck = 0;
  int unsigned write_left = 0;

  longint unsigned strobe_address;
  logic [1:0] strobe_answer;

  assign beat_is_last = write_beat == write_length[write_data];

  always @(posedge clk)
    if (rst) begin
      awready <= 0;
      wready <= 0;
      bvalid <= 0;
      write_head = 0;
      write_data = 0;
      write_tail = 0;
      write_bursts = 0;
      write_responses = 0;
      write_beat = 0;
    end else begin
      if (fail_request != write_fail_seen) begin
        write_fail_seen = fail_request;
        write_left = fail_after;
        write_struck = 0;
      end
      if (awvalid && awready) begin
        write_address[write_tail] = awaddr;
        write_length[write_tail] = awlen;
        write_id[write_tail] = awid;
        write_answer[write_tail] = OKAY;
        write_tail = write_tail + 1;
        write_bursts = write_bursts + 1;
      end
      if (wvalid && wready) begin
        strobe_address = 64'(write_address[write_data]) + longint'(write_beat) * longint'(BUS_BYTES);
        strobe_answer = answer(strobe_address, write_error_low, write_error_high);
        if (fail_kind == WRITE_ERROR && write_left == 0 && !write_struck) begin
          strobe_answer = fail_response;
          write_struck = 1;
        end
        if ((fail_kind == WRITE_ERROR || fail_kind == WRITE_CLOSED) && write_left != 0) write_left = write_left - 1;
        if (strobe_answer == OKAY) fusemax_storage_write(strobe_address, BUS_BYTES, wdata, wstrb);
        if (strobe_answer > write_answer[write_data]) write_answer[write_data] = strobe_answer;
        write_earliest = now + longint'(beat_interval);
        if (write_beat == write_length[write_data]) begin
          write_due[write_data] = now + longint'(latency);
          write_beat = 0;
          write_data = write_data + 1;
          write_bursts = write_bursts - 1;
          write_responses = write_responses + 1;
        end else write_beat = write_beat + 1;
      end
      if (bvalid && bready) bvalid <= 0;
      if ((!bvalid || bready) && write_responses != 0 && now + 1 >= write_due[write_head] && !stall_b
          && !(fail_kind == WRITE_SILENT && write_left == 0)) begin
        if (fail_kind == WRITE_SILENT) write_left = write_left - 1;
        bvalid <= 1;
        bid <= write_id[write_head];
        bresp <= write_answer[write_head];
        write_head = write_head + 1;
        write_responses = write_responses - 1;
      end
      awready <= write_bursts + write_responses < outstanding && !stall_aw && !(fail_kind == WRITE_CLOSED && write_left == 0);
      wready <= write_bursts != 0 && now + 1 >= write_earliest && !stall_w && !(fail_kind == WRITE_CLOSED && write_left == 0);
    end
endmodule
