/* attention.c on a simulated machine: registers through the simulator's socket, memory through the file that it maps.
 *
 *     simulated_bus SOCKET_FD MEMORY_FD MEMORY_BYTES PROGRAM CALL HEADS QUERIES KEYS E F
 *
 * CALL is a file of q, k and v; the output goes to the standard output. Exit code: the status, or 99 if the bench fails.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "attention.h"

/* fusemax_sim.bench_commands */
enum { READ = 2, WRITE = 3, REQUEST_BYTES = 24, REPLY_BYTES = 104, VIOLATION_PLACE = 24 };

static void check(int good, const char *what) {
    if (good) return;
    fprintf(stderr, "%s failed\n", what);
    exit(99);
}

static uint32_t exchange(int socket, uint8_t command, uint32_t offset, uint32_t value) {
    uint8_t request[REQUEST_BYTES] = {0}, reply[REPLY_BYTES];
    size_t done = 0;
    uint32_t result;
    request[0] = command;
    memcpy(request + 4, &offset, 4);
    memcpy(request + 8, &value, 4);
    check(write(socket, request, sizeof request) == (ssize_t)sizeof request, "write to the simulator");
    while (done < sizeof reply) {
        const ssize_t part = read(socket, reply + done, sizeof reply - done);
        check(part > 0, "read from the simulator");
        done += (size_t)part;
    }
    check(reply[VIOLATION_PLACE] == 0, "AXI");
    memcpy(&result, reply, 4);
    return result;
}

static uint32_t read_register(void *context, uint32_t offset) { return exchange(*(int *)context, READ, offset, 0); }

static void write_register(void *context, uint32_t offset, uint32_t value) {
    exchange(*(int *)context, WRITE, offset, value);
}

static void *load(const char *path, size_t *bytes) {
    FILE *file = fopen(path, "rb");
    void *data;
    check(file != NULL && fseek(file, 0, SEEK_END) == 0, path);
    *bytes = (size_t)ftell(file);
    rewind(file);
    data = malloc(*bytes);
    check(data != NULL && fread(data, 1, *bytes, file) == *bytes, path);
    fclose(file);
    return data;
}

int main(int count, char **arguments) {
    int socket = count == 11 ? atoi(arguments[1]) : -1;
    const struct fusemax_bus bus = {read_register, write_register, &socket};
    struct attention_call call;
    struct fusemax_fault fault;
    enum fusemax_status status;
    size_t memory_bytes, program_bytes, operand_bytes, e, f, outputs;
    uint8_t *memory;
    void *program;
    const uint16_t *operands;

    check(socket >= 0, "reading the arguments");
    memory_bytes = (size_t)atol(arguments[3]);
    memory = (uint8_t *)mmap(NULL, memory_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, atoi(arguments[2]), 0);
    check(memory != MAP_FAILED, "mmap");
    program = load(arguments[4], &program_bytes);
    operands = (const uint16_t *)load(arguments[5], &operand_bytes);
    call.heads = (uint32_t)atoi(arguments[6]);
    call.queries = (uint32_t)atoi(arguments[7]);
    call.keys = (uint32_t)atoi(arguments[8]);
    e = (size_t)atoi(arguments[9]);
    f = (size_t)atoi(arguments[10]);
    call.scale = 0.25;
    call.q = operands;
    call.k = call.q + call.heads * call.queries * e;
    call.v = call.k + call.heads * call.keys * e;
    outputs = call.heads * call.queries * f;
    check((const uint8_t *)(call.v + call.heads * call.keys * f) == (const uint8_t *)operands + operand_bytes, "reading the arrays");
    call.o = (float *)malloc(outputs * sizeof(float));
    check(call.o != NULL, "malloc");

    status = attention(&bus, memory, 0, memory_bytes, program, program_bytes, &call, &fault);
    if (status != FUSEMAX_OK) {
        fprintf(stderr, "%s; cause: %s\n", fusemax_status_text(status), fusemax_cause_text(fault.cause));
        return (int)status;
    }
    check(fwrite(call.o, sizeof(float), outputs, stdout) == outputs, "writing the output");
    return 0;
}
