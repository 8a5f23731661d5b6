// Serial line between a host and the pins of a simulated device, with noise both ways.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <deque>
#include <string>
#include <vector>

#include "verilated.h"

/// Value of +NAME=VALUE among the simulator's arguments; 0 if it is not there.
inline double plusarg(VerilatedContext &context, const char *name) {
    const std::string text = context.commandArgsPlusMatch(name);
    const size_t equals = text.find('=');
    return equals == std::string::npos ? 0.0 : std::atof(text.c_str() + equals + 1);
}

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

/// Chances per byte, and what has come of them.
struct Noise {
    double flip = 0, drop = 0, extra = 0;
    Random random{1};
    uint32_t flips = 0, drops = 0, extras = 0;

    explicit Noise(VerilatedContext &context)
        : flip(plusarg(context, "noise_flip")), drop(plusarg(context, "noise_drop")), extra(plusarg(context, "noise_extra")),
          random(uint64_t(plusarg(context, "noise_seed")) + 1) {}

    /// Levels of a byte's ten bits, one of them perhaps flipped.
    uint16_t bits(uint8_t byte) {
        uint16_t levels = uint16_t(1u << 9 | byte << 1);
        if (random.chance(flip)) {
            levels ^= 1u << random.next() % 10;
            ++flips;
        }
        return levels;
    }

    /// Put a byte, what comes of it, behind others.
    template <typename Bytes> bool pass(uint8_t byte, Bytes &bytes) {
        if (random.chance(extra)) {
            bytes.push_back(uint8_t(random.next()));
            ++extras;
        }
        if (random.chance(drop)) {
            ++drops;
            return false;
        }
        bytes.push_back(byte);
        return true;
    }
};

/// Both directions of the line, a clock cycle after the other.
class SerialLine {
public:
    Noise noise;
    std::deque<uint8_t> to_device;
    std::vector<uint8_t> from_device;

    SerialLine(VerilatedContext &context) : noise(context), divisor(unsigned(plusarg(context, "divisor"))) {}

    void send(uint8_t byte) { noise.pass(byte, to_device); }

    /// Nothing is on the line or waits to be.
    bool idle() const { return to_device.empty() && !bits_left && !bit_cycles && !bits_seen; }

    /// Level of the pin rx in the next cycle.
    bool rx() {
        if (bit_cycles) --bit_cycles;
        if (!bit_cycles && !bits_left && !to_device.empty()) {
            levels = noise.bits(to_device.front());
            to_device.pop_front();
            bits_left = 10;
        }
        if (!bit_cycles && bits_left) {
            level = levels & 1;
            levels >>= 1;
            --bits_left;
            bit_cycles = divisor;
        } else if (!bit_cycles) {
            level = true;
        }
        return level;
    }

    /// Look at the pin tx, after the cycle; whether a zero byte has ended, which closes a frame.
    bool tx(bool pin) {
        bool ended = false;
        if (!bits_seen) {
            if (before && !pin) {
                bits_seen = 10;
                sample_cycles = divisor / 2;
                flipped = uint16_t(noise.bits(0) ^ 1u << 9);
                seen = 0;
            }
        } else if (!--sample_cycles) {
            seen = uint16_t(seen >> 1 | unsigned(pin) << 9);
            sample_cycles = divisor;
            if (!--bits_seen) {
                const uint8_t byte = uint8_t((seen ^ flipped) >> 1);
                ended = noise.pass(byte, from_device) && byte == 0;
            }
        }
        before = pin;
        return ended;
    }

private:
    unsigned divisor;
    // To the device: levels of the byte under way, cycles until the next bit.
    uint16_t levels = 0;
    unsigned bits_left = 0, bit_cycles = 0;
    bool level = true;
    // From the device: bits are looked at in their middle; one of a byte may be flipped on the way.
    unsigned bits_seen = 0, sample_cycles = 0;
    uint16_t seen = 0, flipped = 0;
    bool before = true;
};

/// Clock of a device that has the line's pins; the device is out of reset when this is made.
template <class Top> class LineClock {
public:
    LineClock(VerilatedContext &context, Top &top) : context(context), top(top) {
        top.rst = 1;
        top.rx = 1;
        for (int index = 0; index < 8; ++index) step();
        top.rst = 0;
    }
    /// The next cycle.
    void step() {
        top.clk = 0;
        top.eval();
        top.clk = 1;
        top.eval();
        context.timeInc(1);
    }

private:
    VerilatedContext &context;
    Top &top;
};
