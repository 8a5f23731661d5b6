/* Attention of some heads from C: what a firmware does, with the driver that `fusemax verilog` writes beside the Verilog.
 *
 * The processor sees the machine's registers through `bus`, and memory that it shares with the machine at `memory`, which
 * the machine sees at `address`. On a bare processor the two functions of the bus are as short as
 *
 *     static uint32_t read_register(void *base, uint32_t offset) { return *(volatile uint32_t *)((char *)base + offset); }
 *     static void write_register(void *base, uint32_t offset, uint32_t value) {
 *         __sync_synchronize();
 *         *(volatile uint32_t *)((char *)base + offset) = value;
 *     }
 */
#include "attention.h"

#include <string.h>

#define RING_SIZE_LOG2 4
#define RING_BYTES (FUSEMAX_DESCRIPTOR_STRIDE_BYTES << RING_SIZE_LOG2)
#define POLLS 1000000u
#define WATCHDOG_CYCLES 1000000u

/* The first multiple of `unit`, a power of two, from `value` on. */
static uint64_t align(uint64_t value, uint64_t unit) { return (value + unit - 1u) & ~(unit - 1u); }

enum fusemax_status attention(
    const struct fusemax_bus *bus, uint8_t *memory, uint64_t address, uint64_t memory_bytes, const void *program_image,
    size_t program_bytes, const struct attention_call *call, struct fusemax_fault *fault) {
    struct fusemax machine;
    struct fusemax_settings settings;
    struct fusemax_program program;
    struct fusemax_job job;
    uint8_t descriptor[FUSEMAX_DESCRIPTOR_BYTES];
    uint64_t free_address, sizes[4], microwords;
    uint32_t unit, number, row;
    enum fusemax_status status;

    memset(fault, 0, sizeof *fault);
    memset(&settings, 0, sizeof settings);
    settings.ring = memory;
    settings.ring_address = address;
    settings.ring_size_log2 = RING_SIZE_LOG2;
    settings.read.first = address;
    settings.write.first = address + RING_BYTES;
    settings.read.last = settings.write.last = address + memory_bytes - 1u;
    settings.watchdog_cycles = WATCHDOG_CYCLES;

    status = fusemax_open(&machine, bus);
    if (status == FUSEMAX_OK) status = fusemax_start(&machine, &settings, POLLS);
    if (status == FUSEMAX_OK) status = fusemax_read_program(&machine, program_image, program_bytes, &program);
    if (status != FUSEMAX_OK) return status;

    /* Behind the ring the program, whose microwords begin at a bus word, then the arrays. */
    unit = machine.bus_bytes > FUSEMAX_PROGRAM_HEADER_BYTES ? machine.bus_bytes : FUSEMAX_PROGRAM_HEADER_BYTES;
    microwords = align(address + RING_BYTES + FUSEMAX_PROGRAM_HEADER_BYTES, unit);
    free_address = align(microwords + program_bytes, unit);

    memset(&job, 0, sizeof job);
    job.program = &program;
    job.program_address = microwords;
    job.batch = 1;
    job.heads = call->heads;
    job.share = 1;
    job.queries = call->queries;
    job.keys = call->keys;
    job.scale = call->scale;
    job.float32_out = 1;
    job.interrupt = 1;
    job.mask_lo = -FUSEMAX_UNBOUNDED;
    job.mask_hi = FUSEMAX_UNBOUNDED;
    sizes[0] = fusemax_pack(&machine, &job.q, free_address, job.heads, 1, job.queries, program.e, 2, 1);
    sizes[1] = fusemax_pack(&machine, &job.k, job.q.address + sizes[0], job.heads, 1, job.keys, program.e, 2, 1);
    sizes[2] = fusemax_pack(&machine, &job.v, job.k.address + sizes[1], job.heads, 1, job.keys, program.f, 2, 1);
    sizes[3] = fusemax_pack(&machine, &job.o, job.v.address + sizes[2], job.heads, 1, job.queries, program.f, 4, 1);
    if (job.o.address + sizes[3] > address + memory_bytes) return FUSEMAX_RANGE;
    status = fusemax_describe(&machine, &job, descriptor);
    if (status != FUSEMAX_OK) return status;

    memcpy(memory + (microwords - address) - FUSEMAX_PROGRAM_HEADER_BYTES, program_image, program_bytes);
    for (row = 0; row < job.heads * job.queries; ++row)
        memcpy(memory + (job.q.address - address) + (size_t)row * job.q.row_stride, call->q + (size_t)row * program.e, 2u * program.e);
    for (row = 0; row < job.heads * job.keys; ++row) {
        memcpy(memory + (job.k.address - address) + (size_t)row * job.k.row_stride, call->k + (size_t)row * program.e, 2u * program.e);
        memcpy(memory + (job.v.address - address) + (size_t)row * job.v.row_stride, call->v + (size_t)row * program.f, 2u * program.f);
    }

    status = fusemax_submit(&machine, descriptor, &number);
    if (status != FUSEMAX_OK) return status;
    fusemax_ring(&machine);
    status = fusemax_wait(&machine, number, POLLS);
    if (status == FUSEMAX_FAULT) fusemax_report(&machine, fault);
    if (status != FUSEMAX_OK) return status;
    for (row = 0; row < job.heads * job.queries; ++row)
        memcpy(call->o + (size_t)row * program.f, memory + (job.o.address - address) + (size_t)row * job.o.row_stride, 4u * program.f);
    return FUSEMAX_OK;
}
