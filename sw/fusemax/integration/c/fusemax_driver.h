/* Driver of a fusemax machine, in C99 without a library: ring of jobs, doorbell, faults.
 *
 * The user gives two functions that read and write a register, and memory that processor and machine share. In this order:
 *
 *   fusemax_open          is the machine there, and how large is it?
 *   fusemax_start         empty it, tell it where the ring is and what it may reach
 *   fusemax_read_program  check a program that `fusemax compile` has written (program.bin)
 *   fusemax_describe      a job's descriptor, from shape and addresses
 *   fusemax_submit        put descriptors into the ring, as many as there is room for
 *   fusemax_ring          the doorbell: the machine begins
 *   fusemax_wait          until a job is complete, or the machine has stopped; fusemax_report tells why
 *
 * One thread at a time may call. Addresses are the machine's. Registers, fields and constants are in the generated fusemax.h.
 */
#ifndef FUSEMAX_DRIVER_H
#define FUSEMAX_DRIVER_H

#include <stddef.h>
#include <stdint.h>

#include "fusemax.h"

#ifdef __cplusplus
extern "C" {
#endif

enum fusemax_status {
    FUSEMAX_OK = 0,
    FUSEMAX_BUSY,     /* not complete yet */
    FUSEMAX_FULL,     /* the ring has no room: wait for a job */
    FUSEMAX_FAULT,    /* the machine has stopped: fusemax_report, then fusemax_start */
    FUSEMAX_DRAINING, /* the memory does not answer the bursts that it has accepted */
    FUSEMAX_ABSENT,   /* IDENTITY is another one: no fusemax at this address, or no clock */
    FUSEMAX_VERSION,  /* VERSION is not that of this driver's fusemax.h */
    FUSEMAX_PROGRAM,  /* not a program, cut short, or for head dims that the machine does not have */
    FUSEMAX_RANGE,    /* a number is not in its range, or an address or stride is no multiple of the bus word */
    FUSEMAX_SPLIT     /* the mask leaves out keys of the job: cut it, and give each part the keys that it sees */
};

/* How registers are reached: 32 bits at a byte offset. `write` must not overtake earlier writes to memory: it begins with
 * a barrier where the processor needs one, and writes back a cache that the machine does not see. */
struct fusemax_bus {
    uint32_t (*read)(void *context, uint32_t offset);
    void (*write)(void *context, uint32_t offset, uint32_t value);
    void *context;
};

/* What fusemax_open has read from the machine, and how far its ring is. */
struct fusemax {
    struct fusemax_bus bus;
    uint32_t rows, columns, bus_bytes, contexts, max_e, max_f, query_tiles, pe_latency;
    uint8_t *ring;
    uint32_t ring_size; /* descriptors; 0 before fusemax_start */
    uint32_t queued, rung, complete; /* jobs put, announced and complete since fusemax_start, modulo 2^32 */
};

struct fusemax_window {
    uint64_t first, last; /* bytes; rounded to bus words */
};

struct fusemax_settings {
    void *ring;               /* the ring as the processor sees it: FUSEMAX_DESCRIPTOR_STRIDE_BYTES for each descriptor */
    uint64_t ring_address;    /* as the machine sees it; a multiple of FUSEMAX_DESCRIPTOR_STRIDE_BYTES */
    uint32_t ring_size_log2;  /* 1 to 16 */
    struct fusemax_window read, write; /* what the machine may reach; the ring and programs are read */
    uint32_t watchdog_cycles; /* cycles without progress after which the machine stops; 0 for never */
    uint32_t interrupts;      /* FUSEMAX_INTERRUPT_..._MASK that raise the pin; 0 for polling */
};

struct fusemax_program {
    uint32_t ii, e, f, tag;
};

/* Rows of an array: bytes from a row to the next, from a query head to the next that shares its key head (q and o), from a
 * key head and from a batch entry to the next. Where there is one of them only, the stride is not used. */
struct fusemax_array {
    uint64_t address;
    uint32_t row_stride, share_stride, head_stride, batch_stride;
};

#define FUSEMAX_UNBOUNDED INT32_C(0x40000000)

/* Attention of batch entries and heads. Zero what is not used, then set the mask. */
struct fusemax_job {
    const struct fusemax_program *program;
    uint64_t program_address;              /* of the first microword, behind the program's header */
    uint32_t batch, heads, share;          /* `share` query heads for each of `heads` key heads */
    uint32_t queries, keys;                /* of a head */
    double scale;                          /* factor of the scores, as in softmax(scale * q k); not 0 */
    struct fusemax_array q, k, v, o;
    int float32_out;                       /* output of float32, not bfloat16 */
    int interrupt;                         /* raise the interrupt when it is complete */
    int32_t mask_lo, mask_hi;              /* query p sees keys mask_lo + p to mask_hi + p - 1; or FUSEMAX_UNBOUNDED, minus and plus */
};

struct fusemax_fault {
    uint32_t cause; /* FUSEMAX_CAUSE_... */
    uint64_t address;
    uint32_t job;
};

struct fusemax_job_end {
    uint64_t cycles;         /* counter `cycles` when the job was complete */
    int nonfinite, overflow; /* an infinity or NaN was loaded; a score left its range; see fusemax.h */
};

/* OK, ABSENT or VERSION. */
enum fusemax_status fusemax_open(struct fusemax *machine, const struct fusemax_bus *bus);

/* Empties the machine, waits for its bursts (reads STATUS up to `polls` times), and sets ring, windows and watchdog.
 * OK, DRAINING or RANGE. */
enum fusemax_status fusemax_start(struct fusemax *machine, const struct fusemax_settings *settings, uint32_t polls);

/* OK or PROGRAM. The image must lie in the machine's memory so that its microwords, FUSEMAX_PROGRAM_HEADER_BYTES behind its
 * start, begin at a multiple of the bus word, and of FUSEMAX_PROGRAM_HEADER_BYTES. */
enum fusemax_status fusemax_read_program(
    const struct fusemax *machine, const void *image, size_t bytes, struct fusemax_program *program);

/* Strides of an array without gaps, but for rows of whole bus words, and its size in bytes; of k and v `share` is 1.
 * `element_bytes` is 2, or 4 for an output of float32. 0 if a stride has more than 32 bits. */
uint64_t fusemax_pack(
    const struct fusemax *machine, struct fusemax_array *array, uint64_t address, uint32_t heads, uint32_t share, uint32_t rows,
    uint32_t elements, uint32_t element_bytes, uint32_t batch);

/* Query rows (positions times `share`) of which all keys are read only once. A masked job must not have more. */
uint32_t fusemax_resident_rows(const struct fusemax *machine, uint32_t e, uint32_t f);

/* FUSEMAX_DESCRIPTOR_BYTES of a descriptor. OK, RANGE or SPLIT. */
enum fusemax_status fusemax_describe(const struct fusemax *machine, const struct fusemax_job *job, uint8_t *descriptor);

/* Puts a descriptor behind the last one; `number`, if not NULL, is the job's from 0 on since fusemax_start. OK or FULL. */
enum fusemax_status fusemax_submit(struct fusemax *machine, const uint8_t *descriptor, uint32_t *number);

/* Announces what was submitted. */
void fusemax_ring(struct fusemax *machine);

/* Takes interrupts back and looks how far the machine is: BUSY, OK if nothing is left, or FAULT. For an interrupt handler. */
enum fusemax_status fusemax_poll(struct fusemax *machine);

/* Polls up to `polls` times until the job is complete. OK, BUSY or FAULT. */
enum fusemax_status fusemax_wait(struct fusemax *machine, uint32_t number, uint32_t polls);

/* How a complete job ended; of the last FUSEMAX_JOB_TABLE_ENTRIES jobs. OK, or RANGE if it is not one of them. */
enum fusemax_status fusemax_job_end(const struct fusemax *machine, uint32_t number, struct fusemax_job_end *end);

/* Why the machine has stopped: OK if it has not, else FAULT. */
enum fusemax_status fusemax_report(const struct fusemax *machine, struct fusemax_fault *fault);

/* Stops the machine, with cause ABORT. */
void fusemax_abort(struct fusemax *machine);

/* A counter, by its FUSEMAX_COUNTER_..., also while it counts. */
uint64_t fusemax_counter(const struct fusemax *machine, uint32_t offset);

/* What the codes mean, in a few words. */
const char *fusemax_status_text(enum fusemax_status status);
const char *fusemax_cause_text(uint32_t cause);

#ifdef __cplusplus
}
#endif

#endif
