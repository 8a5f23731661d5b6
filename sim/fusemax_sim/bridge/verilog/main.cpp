// Bench around bridge_top: carries bytes between the host (a socket) and the pins, with noise on the line both ways.
//
// A request is the longest time to run in cycles, a number of bytes, and those bytes, which go to the bridge behind what is
// still on the way. The reply comes when a frame's closing zero has left the bridge, or time is over: see Reply, then bytes.
#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "Vtop.h"
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

/// Numbers that depend on the seed only (xorshift64*).
struct Random {
    uint64_t state;
    explicit Random(uint64_t seed) : state(seed * 0x9E3779B97F4A7C15ull | 1) { next(); next(); }
    uint64_t next() {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        return state * 0x2545F4914F6CDD1Dull >> 16;
    }
    bool chance(double probability) { return probability > 0 && double(next() & 0xFFFFFFFF) < probability * 4294967296.0; }
};

struct Noise {
    double flip = 0, drop = 0, extra = 0;  // Per byte.
    Random random{1};
    uint32_t flips = 0, drops = 0, extras = 0;

    /// Levels of a byte's ten bits, one of them perhaps flipped.
    uint16_t bits(uint8_t byte) {
        uint16_t levels = uint16_t(1u << 9 | byte << 1);
        if (random.chance(flip)) {
            levels ^= 1u << random.next() % 10;
            ++flips;
        }
        return levels;
    }
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
    auto option = [&](const char *name) {
        const std::string text = context->commandArgsPlusMatch(name);
        const size_t equals = text.find('=');
        return equals == std::string::npos ? 0.0 : std::atof(text.c_str() + equals + 1);
    };
    const unsigned divisor = unsigned(option("divisor"));
    Noise noise;
    noise.flip = option("noise_flip");
    noise.drop = option("noise_drop");
    noise.extra = option("noise_extra");
    noise.random = Random(uint64_t(option("noise_seed")) + 1);

    auto top = std::make_unique<Vtop>(context.get());
    uint64_t cycle = 0;
    std::deque<uint8_t> to_bridge;
    std::vector<uint8_t> from_bridge;
    // Line to the bridge: levels of the byte under way, cycles until the next bit.
    uint16_t levels = 0;
    unsigned bits_left = 0, bit_cycles = 0;
    // Line from the bridge: bits are looked at in their middle; one of a byte may be flipped on the way.
    unsigned bits_seen = 0, sample_cycles = 0;
    uint16_t seen = 0, flipped = 0;
    bool before = true;

    top->rst = 1;
    top->rx = 1;
    auto step = [&] {
        top->clk = 0;
        top->eval();
        top->clk = 1;
        top->eval();
        context->timeInc(1);
    };
    for (int index = 0; index < 8; ++index) step();
    top->rst = 0;

    Request request;
    std::vector<uint8_t> text;
    while (transfer_in(&request, sizeof request)) {
        text.resize(request.bytes);
        if (!transfer_in(text.data(), text.size())) break;
        if (request.quiet) noise.flip = noise.drop = noise.extra = 0;
        for (const uint8_t byte : text) {
            if (noise.random.chance(noise.extra)) {
                to_bridge.push_back(uint8_t(noise.random.next()));
                ++noise.extras;
            }
            if (noise.random.chance(noise.drop)) ++noise.drops;
            else to_bridge.push_back(byte);
        }
        bool frame_ended = false;
        for (uint64_t end = cycle + request.cycles; cycle < end && !frame_ended; ++cycle) {
            if (bit_cycles) --bit_cycles;
            if (!bit_cycles && !bits_left && !to_bridge.empty()) {
                levels = noise.bits(to_bridge.front());
                to_bridge.pop_front();
                bits_left = 10;
            }
            if (!bit_cycles && bits_left) {
                top->rx = levels & 1;
                levels >>= 1;
                --bits_left;
                bit_cycles = divisor;
            } else if (!bit_cycles) {
                top->rx = 1;
            }
            step();
            const bool level = top->tx;
            if (!bits_seen) {
                if (before && !level) {
                    bits_seen = 10;
                    sample_cycles = divisor / 2;
                    flipped = uint16_t(noise.bits(0) ^ 1u << 9);
                    seen = 0;
                }
            } else if (!--sample_cycles) {
                seen = uint16_t(seen >> 1 | unsigned(level) << 9);
                sample_cycles = divisor;
                if (!--bits_seen) {
                    const uint8_t byte = uint8_t((seen ^ flipped) >> 1);
                    if (noise.random.chance(noise.extra)) {
                        from_bridge.push_back(uint8_t(noise.random.next()));
                        ++noise.extras;
                    }
                    if (noise.random.chance(noise.drop)) {
                        ++noise.drops;
                    } else {
                        from_bridge.push_back(byte);
                        frame_ended = byte == 0;
                    }
                }
            }
            before = level;
        }
        Reply reply{cycle, uint32_t(from_bridge.size()), noise.flips, noise.drops, noise.extras, top->memory_reads,
                    top->memory_writes, top->register_reads, top->register_writes, top->resets, top->violations};
        transfer_out(&reply, sizeof reply);
        transfer_out(from_bridge.data(), from_bridge.size());
        from_bridge.clear();
    }
    top->final();
    return 0;
}
