// Bench around a board's system: joins its serial pins to the master side of a pseudo-terminal, with noise both ways.
//
// +terminal is its descriptor, +seen that of a file that the host process maps too: what has been counted, see Seen. Cycles
// pass as fast as they can while something is on the line or the machine is busy, and QUIET_CYCLES more; then the bench waits
// for bytes. It ends when the pipe +parent is closed at its other end.
#include <poll.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <memory>

#include "Vtop.h"
#include "serial_line.h"
#include "verilated.h"

struct Seen {
    uint64_t cycle, busy_cycles;
    uint32_t flips, drops, extras, errors;
};

/// Cycles without anything to do before the bench sleeps.
constexpr unsigned QUIET_CYCLES = 4096;
/// Cycles between two looks at the terminal.
constexpr unsigned LOOK_CYCLES = 64;

int main(int count, char **arguments) {
    auto context = std::make_unique<VerilatedContext>();
    context->commandArgs(count, arguments);
    SerialLine line(*context);
    const int terminal = int(plusarg(*context, "terminal")), parent = int(plusarg(*context, "parent"));
    void *mapped = mmap(nullptr, sizeof(Seen), PROT_READ | PROT_WRITE, MAP_SHARED, int(plusarg(*context, "seen")), 0);
    if (mapped == MAP_FAILED) {
        std::perror("mmap of the counts");
        return 1;
    }
    Seen &seen = *static_cast<Seen *>(mapped);
    auto top = std::make_unique<Vtop>(context.get());

    LineClock clock(*context, *top);

    unsigned quiet = 0;
    uint8_t text[4096];
    bool error_before = false;
    for (;;) {
        pollfd waited[2] = {{terminal, POLLIN, 0}, {parent, 0, 0}};
        const bool asleep = quiet >= QUIET_CYCLES && line.from_device.empty();
        if (poll(waited, 2, asleep ? -1 : 0) < 0 && errno != EINTR) return 1;
        if (waited[1].revents & (POLLHUP | POLLERR)) break;
        if (waited[0].revents & POLLIN && line.to_device.size() < sizeof text) {
            const ssize_t size = read(terminal, text, sizeof text);
            for (ssize_t index = 0; index < size; ++index) line.send(text[index]);
        }
        for (unsigned index = 0; index < LOOK_CYCLES; ++index) {
            top->rx = line.rx();
            clock.step();
            line.tx(top->tx);
            seen.busy_cycles += top->busy;
            seen.errors += top->error && !error_before;
            error_before = top->error;
            ++seen.cycle;
            quiet = line.idle() && !top->busy ? quiet + 1 : 0;
        }
        if (!line.from_device.empty()) {
            // The terminal takes what it has room for; what is left is on its way.
            const ssize_t size = write(terminal, line.from_device.data(), line.from_device.size());
            if (size > 0) line.from_device.erase(line.from_device.begin(), line.from_device.begin() + size);
        }
        seen.flips = line.noise.flips;
        seen.drops = line.noise.drops;
        seen.extras = line.noise.extras;
    }
    top->final();
    return 0;
}
