// Bench around bridge_top: carries bytes between the host (a socket) and the pins, with noise on the line both ways.
//
// A request is the longest time to run in cycles, a number of bytes, and those bytes, which go to the bridge behind what is
// still on the way. The reply comes when a frame's closing zero has left the bridge, or time is over: see Reply, then bytes.
#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <memory>
#include <vector>

#include "Vtop.h"
#include "serial_line.h"
#include "verilated.h"

struct Request {
    uint64_t cycles;
    uint32_t bytes;
    uint32_t quiet;  // 1: no noise from now on.
};

struct Reply {
    uint64_t cycle;
    uint32_t bytes, flips, drops, extras;
    uint32_t memory_reads, memory_writes, register_reads, register_writes, resets, violations;
};

static bool transfer_in(void *data, size_t size) {
    for (char *place = static_cast<char *>(data); size;) {
        const ssize_t part = read(0, place, size);
        if (part <= 0) return false;
        place += part;
        size -= size_t(part);
    }
    return true;
}

static void transfer_out(const void *data, size_t size) {
    for (const char *place = static_cast<const char *>(data); size;) {
        const ssize_t part = write(1, place, size);
        if (part <= 0) std::exit(1);
        place += part;
        size -= size_t(part);
    }
}

int main(int count, char **arguments) {
    auto context = std::make_unique<VerilatedContext>();
    context->commandArgs(count, arguments);
    SerialLine line(*context);
    auto top = std::make_unique<Vtop>(context.get());
    uint64_t cycle = 0;

    LineClock clock(*context, *top);

    Request request;
    std::vector<uint8_t> text;
    while (transfer_in(&request, sizeof request)) {
        text.resize(request.bytes);
        if (!transfer_in(text.data(), text.size())) break;
        if (request.quiet) line.noise.flip = line.noise.drop = line.noise.extra = 0;
        for (const uint8_t byte : text) line.send(byte);
        bool frame_ended = false;
        for (uint64_t end = cycle + request.cycles; cycle < end && !frame_ended; ++cycle) {
            top->rx = line.rx();
            clock.step();
            frame_ended = line.tx(top->tx);
        }
        Reply reply{cycle, uint32_t(line.from_device.size()), line.noise.flips, line.noise.drops, line.noise.extras,
                    top->memory_reads, top->memory_writes, top->register_reads, top->register_writes, top->resets,
                    top->violations};
        transfer_out(&reply, sizeof reply);
        transfer_out(line.from_device.data(), line.from_device.size());
        line.from_device.clear();
    }
    top->final();
    return 0;
}
