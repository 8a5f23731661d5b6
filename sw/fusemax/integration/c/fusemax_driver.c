/* See fusemax_driver.h. */
#include "fusemax_driver.h"

#include <string.h>

#define MOST_16 UINT32_C(0xFFFF)
#define MOST_SHARE 256u
#define LOG2_E 1.4426950408889634

/* Bits of a register or of a word of a structure. */
#define FIELD(word, name) (((word) & FUSEMAX_##name##_MASK) >> FUSEMAX_##name##_SHIFT)

static uint32_t read_register(const struct fusemax *machine, uint32_t offset) {
    return machine->bus.read(machine->bus.context, offset);
}

static void write_register(const struct fusemax *machine, uint32_t offset, uint32_t value) {
    machine->bus.write(machine->bus.context, offset, value);
}

static void write_address(const struct fusemax *machine, uint32_t low_offset, uint64_t address) {
    write_register(machine, low_offset, (uint32_t)(address & UINT32_C(0xFFFFFFFF)));
    write_register(machine, low_offset + 4u, (uint32_t)(address >> 32));
}

static uint32_t divide_up(uint32_t value, uint32_t unit) { return value / unit + (value % unit != 0); }

static uint32_t smaller(uint32_t a, uint32_t b) { return a < b ? a : b; }

/* -- machine ---------------------------------------------------------------------------------------------------- */

enum fusemax_status fusemax_open(struct fusemax *machine, const struct fusemax_bus *bus) {
    uint32_t shape, limits;
    memset(machine, 0, sizeof *machine);
    machine->bus = *bus;
    if (read_register(machine, FUSEMAX_REG_IDENTITY) != FUSEMAX_IDENTITY) return FUSEMAX_ABSENT;
    if (read_register(machine, FUSEMAX_REG_VERSION) != FUSEMAX_INTERFACE_VERSION) return FUSEMAX_VERSION;
    shape = read_register(machine, FUSEMAX_REG_SHAPE);
    limits = read_register(machine, FUSEMAX_REG_LIMITS);
    machine->rows = FIELD(shape, SHAPE_ROWS);
    machine->columns = FIELD(shape, SHAPE_COLUMNS);
    machine->bus_bytes = FIELD(shape, SHAPE_BUS_BYTES);
    machine->contexts = FIELD(shape, SHAPE_CONTEXTS);
    machine->max_e = FIELD(limits, LIMITS_MAX_E);
    machine->max_f = FIELD(limits, LIMITS_MAX_F);
    machine->query_tiles = FIELD(limits, LIMITS_QUERY_TILES);
    machine->pe_latency = FIELD(limits, LIMITS_PE_LATENCY);
    return FUSEMAX_OK;
}

enum fusemax_status fusemax_start(struct fusemax *machine, const struct fusemax_settings *settings, uint32_t polls) {
    if (settings->ring == NULL || settings->ring_address % FUSEMAX_DESCRIPTOR_STRIDE_BYTES != 0) return FUSEMAX_RANGE;
    if (settings->ring_size_log2 < 1u || settings->ring_size_log2 > 16u) return FUSEMAX_RANGE;
    machine->ring_size = 0;
    machine->queued = machine->rung = machine->complete = 0;
    write_register(machine, FUSEMAX_REG_CONTROL, FUSEMAX_CONTROL_RESET_MASK);
    do {
        if (polls-- == 0) return FUSEMAX_DRAINING;
    } while (read_register(machine, FUSEMAX_REG_STATUS) & FUSEMAX_STATUS_DRAINING_MASK);
    write_register(machine, FUSEMAX_REG_INTERRUPT, FUSEMAX_INTERRUPT_DONE_MASK | FUSEMAX_INTERRUPT_ERROR_MASK);
    write_address(machine, FUSEMAX_REG_RING_BASE_LOW, settings->ring_address);
    write_register(machine, FUSEMAX_REG_RING_SIZE_LOG2, settings->ring_size_log2);
    write_address(machine, FUSEMAX_REG_READ_WINDOW_FIRST_LOW, settings->read.first);
    write_address(machine, FUSEMAX_REG_READ_WINDOW_LAST_LOW, settings->read.last);
    write_address(machine, FUSEMAX_REG_WRITE_WINDOW_FIRST_LOW, settings->write.first);
    write_address(machine, FUSEMAX_REG_WRITE_WINDOW_LAST_LOW, settings->write.last);
    write_register(machine, FUSEMAX_REG_WATCHDOG, settings->watchdog_cycles);
    write_register(machine, FUSEMAX_REG_INTERRUPT_ENABLE, settings->interrupts);
    machine->ring = (uint8_t *)settings->ring;
    machine->ring_size = UINT32_C(1) << settings->ring_size_log2;
    return FUSEMAX_OK;
}

void fusemax_abort(struct fusemax *machine) { write_register(machine, FUSEMAX_REG_CONTROL, FUSEMAX_CONTROL_ABORT_MASK); }

/* -- structures in memory, little-endian whatever the processor is -------------------------------------------------- */

static uint32_t load_word(const uint8_t *bytes) {
    return (uint32_t)bytes[0] | (uint32_t)bytes[1] << 8 | (uint32_t)bytes[2] << 16 | (uint32_t)bytes[3] << 24;
}

static void put_bits(uint8_t *bytes, uint32_t offset, uint32_t mask, int shift, uint32_t value) {
    const uint32_t word = load_word(bytes + offset) | (value << shift & mask);
    bytes[offset] = (uint8_t)(word & 0xFFu);
    bytes[offset + 1u] = (uint8_t)(word >> 8 & 0xFFu);
    bytes[offset + 2u] = (uint8_t)(word >> 16 & 0xFFu);
    bytes[offset + 3u] = (uint8_t)(word >> 24);
}

static void put_wide(uint8_t *bytes, uint32_t offset, uint64_t value) {
    put_bits(bytes, offset, UINT32_C(0xFFFFFFFF), 0, (uint32_t)(value & UINT32_C(0xFFFFFFFF)));
    put_bits(bytes, offset + 4u, UINT32_C(0xFFFFFFFF), 0, (uint32_t)(value >> 32));
}

#define PUT(name, value) \
    put_bits(descriptor, FUSEMAX_DESCRIPTOR_##name##_OFFSET, FUSEMAX_DESCRIPTOR_##name##_MASK, \
             FUSEMAX_DESCRIPTOR_##name##_SHIFT, (uint32_t)(value))
#define PUT_WIDE(name, value) put_wide(descriptor, FUSEMAX_DESCRIPTOR_##name##_OFFSET, value)

enum fusemax_status fusemax_read_program(
    const struct fusemax *machine, const void *image, size_t bytes, struct fusemax_program *program) {
    const uint8_t *header = (const uint8_t *)image;
    if (bytes < FUSEMAX_PROGRAM_HEADER_BYTES) return FUSEMAX_PROGRAM;
    if (load_word(header + FUSEMAX_PROGRAM_MAGIC_OFFSET) != FUSEMAX_PROGRAM_MAGIC_VALUE) return FUSEMAX_PROGRAM;
    if (FIELD(load_word(header + FUSEMAX_PROGRAM_VERSION_OFFSET), PROGRAM_VERSION) != FUSEMAX_PROGRAM_VERSION_VALUE)
        return FUSEMAX_PROGRAM;
    program->ii = FIELD(load_word(header + FUSEMAX_PROGRAM_II_OFFSET), PROGRAM_II);
    program->e = FIELD(load_word(header + FUSEMAX_PROGRAM_E_OFFSET), PROGRAM_E);
    program->f = FIELD(load_word(header + FUSEMAX_PROGRAM_F_OFFSET), PROGRAM_F);
    program->tag = load_word(header + FUSEMAX_PROGRAM_TAG_OFFSET);
    if (program->ii == 0 || bytes < FUSEMAX_PROGRAM_HEADER_BYTES + (size_t)program->ii * 4u) return FUSEMAX_PROGRAM;
    if (program->e == 0 || program->e > machine->max_e || program->f == 0 || program->f > machine->max_f)
        return FUSEMAX_PROGRAM;
    return FUSEMAX_OK;
}

/* -- shapes --------------------------------------------------------------------------------------------------------- */

static uint32_t beats(const struct fusemax *machine, uint32_t elements, uint32_t element_bytes) {
    return divide_up(elements * element_bytes, machine->bus_bytes);
}

/* Query tiles that query banks, states and references have room for. */
static uint32_t query_slots(const struct fusemax *machine, uint32_t e) {
    return machine->query_tiles * beats(machine, machine->max_e, 2) / beats(machine, e, 2);
}

static uint32_t resident_tiles(const struct fusemax *machine, uint32_t e, uint32_t f) {
    const uint32_t states = machine->query_tiles * (machine->max_f + 1u) / (f + 1u);
    return smaller(query_slots(machine, e), smaller(states, 4u * machine->query_tiles));
}

uint32_t fusemax_resident_rows(const struct fusemax *machine, uint32_t e, uint32_t f) {
    return resident_tiles(machine, e, f) * machine->columns;
}

uint64_t fusemax_pack(
    const struct fusemax *machine, struct fusemax_array *array, uint64_t address, uint32_t heads, uint32_t share, uint32_t rows,
    uint32_t elements, uint32_t element_bytes, uint32_t batch) {
    const uint64_t row = (uint64_t)beats(machine, elements, element_bytes) * machine->bus_bytes;
    const uint64_t strides[4] = {row, rows * row, (uint64_t)rows * share * row, (uint64_t)rows * share * row * heads};
    int level;
    for (level = 0; level < 4; ++level)
        if (strides[level] > UINT32_C(0xFFFFFFFF)) return 0;
    array->address = address;
    array->row_stride = (uint32_t)strides[0];
    array->share_stride = (uint32_t)strides[1];
    array->head_stride = (uint32_t)strides[2];
    array->batch_stride = (uint32_t)strides[3];
    return batch * strides[3];
}

/* A key tile of which no query of a group sees a key is never freed. Positions of a tile are counted as the machine does. */
static int needs_all_keys(
    const struct fusemax *machine, const struct fusemax_job *job, int64_t span, uint32_t tiles, uint32_t key_tiles) {
    int64_t end = 0;
    uint32_t tile;
    for (tile = 0; tile < tiles; ++tile) {
        const int64_t first = (int64_t)tile * machine->columns / job->share;
        const int64_t lo = job->mask_lo + first, hi = job->mask_hi + first + span;
        int64_t start = 0, stop = 1;
        if (hi > 0) {
            start = lo > 0 ? lo / machine->rows : 0;
            if (start > (int64_t)key_tiles - 1) start = (int64_t)key_tiles - 1;
            stop = (hi + machine->rows - 1) / machine->rows;
            if (stop > (int64_t)key_tiles) stop = key_tiles;
        }
        if (start > end) return 0;
        if (stop > end) end = stop;
    }
    return end >= (int64_t)key_tiles;
}

/* Addresses and strides that are used must be those of bus words. */
static int is_aligned(const struct fusemax *machine, const struct fusemax_job *job, const struct fusemax_array *array, uint32_t share) {
    const uint32_t word = machine->bus_bytes;
    return array->address % word == 0 && array->row_stride % word == 0 && (share == 1 || array->share_stride % word == 0) &&
           (job->heads == 1 || array->head_stride % word == 0) && (job->batch == 1 || array->batch_stride % word == 0);
}

enum fusemax_status fusemax_describe(const struct fusemax *machine, const struct fusemax_job *job, uint8_t *descriptor) {
    const struct fusemax_program *program = job->program;
    const int masked = job->mask_lo > -FUSEMAX_UNBOUNDED || job->mask_hi < FUSEMAX_UNBOUNDED;
    uint32_t rows, tiles, key_tiles, groups, group_tiles, span, scale_bits;
    float scale;

    if (job->batch - 1u >= MOST_16 || job->heads - 1u >= MOST_16 || job->share - 1u >= MOST_SHARE) return FUSEMAX_RANGE;
    if (job->queries == 0 || job->queries > UINT32_C(0xFFFFFFFF) / job->share || job->keys == 0) return FUSEMAX_RANGE;
    if (program->e - 1u >= machine->max_e || program->f - 1u >= machine->max_f) return FUSEMAX_RANGE;
    if (job->mask_lo < -FUSEMAX_UNBOUNDED || job->mask_hi > FUSEMAX_UNBOUNDED || job->mask_lo >= job->mask_hi) return FUSEMAX_RANGE;
    if (job->program_address % machine->bus_bytes != 0 || !is_aligned(machine, job, &job->q, job->share) ||
        !is_aligned(machine, job, &job->k, 1) || !is_aligned(machine, job, &job->v, 1) ||
        !is_aligned(machine, job, &job->o, job->share))
        return FUSEMAX_RANGE;
    scale = (float)(job->scale * LOG2_E);
    memcpy(&scale_bits, &scale, sizeof scale_bits);
    /* A normal number: neither zero, which is no scale, nor too small, nor too large. */
    if ((scale_bits >> 23 & 0xFFu) == 0 || (scale_bits >> 23 & 0xFFu) == 0xFFu) return FUSEMAX_RANGE;

    /* T tiles in G groups: of ceil(T / G) tiles and of one fewer. */
    rows = job->queries * job->share;
    tiles = divide_up(rows, machine->columns);
    key_tiles = divide_up(job->keys, machine->rows);
    groups = divide_up(tiles, resident_tiles(machine, program->e, program->f));
    group_tiles = divide_up(tiles, groups);
    span = (machine->columns + job->share - 2u) / job->share;
    if ((uint64_t)key_tiles * group_tiles > UINT32_C(0xFFFFFFFF)) return FUSEMAX_RANGE;
    if (masked && (groups > 1 || !needs_all_keys(machine, job, span, tiles, key_tiles))) return FUSEMAX_SPLIT;

    memset(descriptor, 0, FUSEMAX_DESCRIPTOR_BYTES);
    PUT(MAGIC, FUSEMAX_DESCRIPTOR_MAGIC_VALUE);
    PUT(FLOAT32_OUT, job->float32_out != 0);
    PUT(INTERRUPT, job->interrupt != 0);
    PUT(PROGRAM_TAG, program->tag);
    PUT_WIDE(PROGRAM_ADDRESS, job->program_address);
    PUT(II, program->ii);
    PUT(QUERY_SLOTS, smaller(query_slots(machine, program->e), MOST_16));
    PUT(E, program->e);
    PUT(F, program->f);
    PUT(SCALE, scale_bits);
    PUT(HEADS, job->heads);
    PUT(BATCH, job->batch);
    PUT(KEY_TILES, key_tiles);
    PUT(LAST_KEYS, job->keys - (key_tiles - 1u) * machine->rows);
    PUT(LAST_QUERIES, rows - (tiles - 1u) * machine->columns);
    PUT(GROUPS, groups);
    PUT(LARGE_GROUPS, tiles - groups * (group_tiles - 1u));
    PUT(GROUP_TILES, group_tiles);
    PUT(OUTPUT_SLOTS, smaller(2u * beats(machine, machine->max_f, 4) / beats(machine, program->f, job->float32_out ? 4u : 2u), MOST_16));
    PUT(GROUP_ITERATIONS, key_tiles * group_tiles);
    PUT(MASK_LO, job->mask_lo);
    PUT(MASK_HI, job->mask_hi);
    PUT(SHARE, job->share);
    PUT(TILE_POSITIONS, machine->columns / job->share);
    PUT(TILE_PHASE, machine->columns % job->share);
    PUT(TILE_SPAN, span);
    /* A stride that leads nowhere is zero. */
#define PUT_ARRAY(NAME, array) \
    PUT_WIDE(NAME##_ADDRESS, (array).address); \
    PUT(NAME##_ROW_STRIDE, (array).row_stride); \
    PUT(NAME##_HEAD_STRIDE, job->heads > 1 ? (array).head_stride : 0); \
    PUT(NAME##_BATCH_STRIDE, job->batch > 1 ? (array).batch_stride : 0)
    PUT_ARRAY(Q, job->q);
    PUT_ARRAY(K, job->k);
    PUT_ARRAY(V, job->v);
    PUT_ARRAY(O, job->o);
    PUT(Q_SHARE_STRIDE, job->share > 1 ? job->q.share_stride : 0);
    PUT(O_SHARE_STRIDE, job->share > 1 ? job->o.share_stride : 0);
    return FUSEMAX_OK;
}

/* -- jobs ----------------------------------------------------------------------------------------------------------- */

enum fusemax_status fusemax_submit(struct fusemax *machine, const uint8_t *descriptor, uint32_t *number) {
    if (machine->queued - machine->complete >= machine->ring_size) return FUSEMAX_FULL;
    memcpy(machine->ring + (size_t)(machine->queued % machine->ring_size) * FUSEMAX_DESCRIPTOR_STRIDE_BYTES, descriptor,
           FUSEMAX_DESCRIPTOR_BYTES);
    if (number != NULL) *number = machine->queued;
    ++machine->queued;
    return FUSEMAX_OK;
}

void fusemax_ring(struct fusemax *machine) {
    if (machine->rung == machine->queued) return;
    write_register(machine, FUSEMAX_REG_RING_TAIL, machine->queued & MOST_16);
    machine->rung = machine->queued;
}

enum fusemax_status fusemax_poll(struct fusemax *machine) {
    write_register(machine, FUSEMAX_REG_INTERRUPT, FUSEMAX_INTERRUPT_DONE_MASK | FUSEMAX_INTERRUPT_ERROR_MASK);
    /* The ring's index has 16 bits. */
    machine->complete += (read_register(machine, FUSEMAX_REG_RING_HEAD) - machine->complete) & MOST_16;
    if (machine->complete == machine->rung) return FUSEMAX_OK;
    return read_register(machine, FUSEMAX_REG_STATUS) & FUSEMAX_STATUS_ERROR_MASK ? FUSEMAX_FAULT : FUSEMAX_BUSY;
}

enum fusemax_status fusemax_wait(struct fusemax *machine, uint32_t number, uint32_t polls) {
    while (polls-- != 0) {
        const enum fusemax_status status = fusemax_poll(machine);
        if ((int32_t)(machine->complete - number) > 0) return FUSEMAX_OK;
        if (status == FUSEMAX_FAULT) return FUSEMAX_FAULT;
    }
    return FUSEMAX_BUSY;
}

enum fusemax_status fusemax_job_end(const struct fusemax *machine, uint32_t number, struct fusemax_job_end *end) {
    const uint32_t entry = FUSEMAX_JOB_TABLE + 8u * (number % FUSEMAX_JOB_TABLE_ENTRIES);
    uint32_t low, high;
    if (machine->complete - number - 1u >= FUSEMAX_JOB_TABLE_ENTRIES) return FUSEMAX_RANGE;
    low = read_register(machine, entry + FUSEMAX_JOB_CYCLES_OFFSET);
    high = read_register(machine, entry + FUSEMAX_JOB_CYCLES_HIGH_OFFSET);
    end->cycles = (uint64_t)FIELD(high, JOB_CYCLES_HIGH) << 32 | low;
    end->nonfinite = FIELD(high, JOB_NONFINITE) != 0;
    end->overflow = FIELD(high, JOB_OVERFLOW) != 0;
    return FUSEMAX_OK;
}

enum fusemax_status fusemax_report(const struct fusemax *machine, struct fusemax_fault *fault) {
    memset(fault, 0, sizeof *fault);
    if (!(read_register(machine, FUSEMAX_REG_STATUS) & FUSEMAX_STATUS_ERROR_MASK)) return FUSEMAX_OK;
    fault->cause = read_register(machine, FUSEMAX_REG_ERROR_CAUSE);
    fault->address = read_register(machine, FUSEMAX_REG_ERROR_ADDRESS_LOW);
    fault->address |= (uint64_t)read_register(machine, FUSEMAX_REG_ERROR_ADDRESS_HIGH) << 32;
    fault->job = machine->complete + ((read_register(machine, FUSEMAX_REG_ERROR_JOB) - machine->complete) & MOST_16);
    return FUSEMAX_FAULT;
}

uint64_t fusemax_counter(const struct fusemax *machine, uint32_t offset) {
    uint32_t low, high;
    do {
        high = read_register(machine, offset + 4u);
        low = read_register(machine, offset);
    } while (read_register(machine, offset + 4u) != high);
    return (uint64_t)high << 32 | low;
}

/* -- texts ---------------------------------------------------------------------------------------------------------- */

const char *fusemax_status_text(enum fusemax_status status) {
    switch (status) {
        case FUSEMAX_OK: return "ok";
        case FUSEMAX_BUSY: return "not complete yet";
        case FUSEMAX_FULL: return "the ring is full";
        case FUSEMAX_FAULT: return "the machine has stopped";
        case FUSEMAX_DRAINING: return "the memory does not answer";
        case FUSEMAX_ABSENT: return "no fusemax at this address";
        case FUSEMAX_VERSION: return "registers of another version";
        case FUSEMAX_PROGRAM: return "not a program for this machine";
        case FUSEMAX_RANGE: return "a number is out of range or not aligned";
        case FUSEMAX_SPLIT: return "the mask leaves out keys of the job";
    }
    return "unknown status";
}

const char *fusemax_cause_text(uint32_t cause) {
    switch (cause) {
        case FUSEMAX_CAUSE_NONE: return "none";
        case FUSEMAX_CAUSE_READ: return "a read was answered with an error";
        case FUSEMAX_CAUSE_WRITE: return "a write was answered with an error";
        case FUSEMAX_CAUSE_DESCRIPTOR: return "a descriptor is wrong";
        case FUSEMAX_CAUSE_PROGRAM: return "the program is not the one that the descriptor names";
        case FUSEMAX_CAUSE_WINDOW: return "an address is outside its window";
        case FUSEMAX_CAUSE_TIMEOUT: return "no progress: the watchdog";
        case FUSEMAX_CAUSE_ABORT: return "abort";
        case FUSEMAX_CAUSE_RING: return "more jobs announced than the ring holds";
    }
    return "unknown cause";
}
