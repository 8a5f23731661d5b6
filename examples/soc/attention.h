/* See attention.c. */
#ifndef ATTENTION_H
#define ATTENTION_H

#include "fusemax_driver.h"

/* Arrays (heads, queries or keys, head dim) without gaps: bfloat16 as its 16 bits, output of float32. */
struct attention_call {
    uint32_t heads, queries, keys;
    double scale;
    const uint16_t *q, *k, *v;
    float *o;
};

/* Runs a call and waits for it; `fault` tells why, if the machine has stopped (FUSEMAX_FAULT). FUSEMAX_RANGE also if the
 * memory is too small. */
enum fusemax_status attention(
    const struct fusemax_bus *bus, uint8_t *memory, uint64_t address, uint64_t memory_bytes, const void *program_image,
    size_t program_bytes, const struct attention_call *call, struct fusemax_fault *fault);

#endif
