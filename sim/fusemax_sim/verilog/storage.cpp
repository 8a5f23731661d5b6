// Bytes of the simulated memory: a file that the host process maps as well. FUSEMAX_MEMORY_FD is its descriptor.
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "svdpi.h"

static uint8_t *storage = nullptr;

extern "C" {

/// Maps the file and returns its size; ends the process if there is none.
unsigned long long fusemax_storage_open() {
    const char *descriptor = std::getenv("FUSEMAX_MEMORY_FD");
    if (!descriptor) {
        std::fprintf(stderr, "FUSEMAX_MEMORY_FD must name the memory's file descriptor\n");
        std::exit(1);
    }
    const int file = std::atoi(descriptor);
    struct stat status;
    if (fstat(file, &status) != 0) {
        std::perror("fstat of the memory's file");
        std::exit(1);
    }
    void *mapped = mmap(nullptr, status.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    if (mapped == MAP_FAILED) {
        std::perror("mmap of the memory's file");
        std::exit(1);
    }
    close(file);
    storage = static_cast<uint8_t *>(mapped);
    return status.st_size;
}

// Packed bit vectors are arrays of 32-bit words, the lowest first: on a little-endian machine the bytes in order.
// The caller has checked the address.
void fusemax_storage_read(unsigned long long address, unsigned int bytes, svBitVecVal *data) {
    std::memcpy(data, storage + address, bytes);
}

void fusemax_storage_write(unsigned long long address, unsigned int bytes, const svBitVecVal *data, const svBitVecVal *strobe) {
    const uint8_t *source = reinterpret_cast<const uint8_t *>(data);
    uint8_t *target = storage + address;
    for (unsigned int index = 0; index < bytes; ++index)
        if (strobe[index / 32] >> (index % 32) & 1) target[index] = source[index];
}
}
