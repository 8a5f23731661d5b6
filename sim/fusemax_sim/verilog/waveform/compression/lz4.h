// What Verilator's FST writer calls of the LZ4 library, whose own header is in a development package that need not be
// installed; the library itself is (toolchain.py). Its interface: https://github.com/lz4/lz4, lib/lz4.h.
#pragma once

extern "C" {
int LZ4_compressBound(int inputSize);
int LZ4_compress_default(const char *src, char *dst, int srcSize, int dstCapacity);
}
