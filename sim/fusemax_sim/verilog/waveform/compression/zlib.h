// What Verilator's FST writer calls of zlib, whose own header is in a development package that need not be installed; the
// library itself is (toolchain.py). Its interface: https://zlib.net/manual.html.
#pragma once

using Bytef = unsigned char;
using uLong = unsigned long;
using uLongf = unsigned long;
constexpr int Z_OK = 0;

extern "C" {
uLong compressBound(uLong sourceLen);
int compress2(Bytef *dest, uLongf *destLen, const Bytef *source, uLong sourceLen, int level);
}
