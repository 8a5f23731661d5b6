"""Register map of the AXI4-Lite port: 32-bit registers, byte offsets."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from .fields import Field, Layout

__all__ = [
    "COUNTERS",
    "EXACT_CAUSES",
    "IDENTITY",
    "INTERFACE_VERSION",
    "JOB_ENTRY",
    "JOB_TABLE_ENTRIES",
    "REGISTERS",
    "Cause",
    "Register",
    "counter_offset",
    "job_entry_offset",
    "register",
]

IDENTITY = 0x46584D41  # "FXMA"
#: Version of registers, descriptor and program together.
INTERFACE_VERSION = 3


class Cause(enum.IntEnum):
    """Why the machine stopped (register ERROR_CAUSE)."""

    #: It did not.
    NONE = 0
    #: A read was answered with SLVERR or DECERR.
    READ = 1
    #: A write was answered with SLVERR or DECERR.
    WRITE = 2
    #: A descriptor's magic or one of its fields is wrong, or it does not continue the job before it as it should.
    DESCRIPTOR = 3
    #: A program's header is not that of the program that the descriptor names.
    PROGRAM = 4
    #: A burst would have left READ_WINDOW or WRITE_WINDOW; it was not begun.
    WINDOW = 5
    #: Jobs were queued, but for WATCHDOG cycles no word came, no write was answered and nothing was issued.
    TIMEOUT = 6
    #: CONTROL.abort was written.
    ABORT = 7
    #: The doorbell announced more jobs than the ring holds.
    RING = 8


#: Causes that are reported for the very job that has the fault, when all jobs before it are complete.
EXACT_CAUSES = (Cause.DESCRIPTOR, Cause.PROGRAM)


@dataclass(frozen=True)
class Register:
    """One 32-bit register.

    Members
    -------
    access
        ``ro`` read only, ``rw`` read and write, ``w1c`` write one to clear.
    fields
        Bit fields, or none if the register is one number.
    """

    name: str
    offset: int
    access: str
    doc: str
    fields: Layout | None = None


def _window(kind: str, offset: int, verb: str) -> tuple[Register, ...]:
    """Registers of the addresses that may be read, or written."""
    first = f"First byte that may be {verb}, rounded down to a bus word; 0 after a hard reset"
    last = f"Last byte that may be {verb}, rounded up to a bus word's end; all ones after a hard reset"
    return tuple(
        Register(f"{kind}_WINDOW_{bound}", offset + 4 * index, "rw", f"{doc}.")
        for index, (bound, doc) in enumerate(
            (
                ("FIRST_LOW", f"{first}: bits 31 to 0"),
                ("FIRST_HIGH", f"{first}: bits 63 to 32"),
                ("LAST_LOW", f"{last}: bits 31 to 0"),
                ("LAST_HIGH", f"{last}: bits 63 to 32"),
            )
        )
    )


REGISTERS: tuple[Register, ...] = (
    Register("IDENTITY", 0x00, "ro", "IDENTITY: 'FXMA'."),
    Register("VERSION", 0x04, "ro", "INTERFACE_VERSION."),
    Register(
        "SHAPE",
        0x08,
        "ro",
        "Array and bus of this machine.",
        Layout(
            "Shape",
            "",
            (
                Field("rows", 10, "PE rows."),
                Field("columns", 10, "PE columns."),
                Field("bus_bytes", 8, "Bytes of a bus word."),
                Field("contexts", 4, "Score registers of a PE."),
            ),
        ),
    ),
    Register(
        "LIMITS",
        0x0C,
        "ro",
        "Largest head dims and resident query tiles.",
        Layout(
            "Limits",
            "",
            (
                Field("max_e", 10, "Largest E."),
                Field("max_f", 10, "Largest F."),
                Field("query_tiles", 7, "Query tiles resident at the largest head dims."),
                Field("pe_latency", 3, "Register stages of a PE."),
            ),
        ),
    ),
    Register(
        "CONTROL",
        0x10,
        "rw",
        "What the machine is told to do, at any time; reads 0.",
        Layout(
            "Control",
            "",
            (
                Field("reset", 1, "Empty the machine, set RING_HEAD and RING_TAIL to 0, clear errors, flags and counters."),
                Field("abort", 1, "Stop, with ERROR_CAUSE ABORT."),
            ),
        ),
    ),
    Register(
        "STATUS",
        0x14,
        "ro",
        "What the machine is doing.",
        Layout(
            "Status",
            "",
            (
                Field("busy", 1, "Jobs are queued or under way."),
                Field("error", 1, "Stopped; ERROR_CAUSE tells why. Only a reset leaves this state."),
                Field("nonfinite", 1, "An infinity or NaN was loaded since the flags were cleared."),
                Field("overflow", 1, "A score or a scaled query left its range since the flags were cleared."),
                Field("draining", 1, "Stopped or reset, and bursts that the memory has accepted are not complete yet."),
            ),
        ),
    ),
    Register(
        "INTERRUPT",
        0x18,
        "w1c",
        "Pending interrupts; the irq pin is high while one is pending and enabled.",
        Layout(
            "Interrupt",
            "",
            (Field("done", 1, "A job that asked for it has completed."), Field("error", 1, "The machine stopped.")),
        ),
    ),
    Register("INTERRUPT_ENABLE", 0x1C, "rw", "Mask of INTERRUPT."),
    Register("RING_BASE_LOW", 0x20, "rw", "Address of the descriptor ring, bits 31 to 0; a multiple of 256."),
    Register("RING_BASE_HIGH", 0x24, "rw", "Address of the descriptor ring, bits 63 to 32."),
    Register("RING_SIZE_LOG2", 0x28, "rw", "log2 of the ring's number of descriptors, 1 to 16."),
    Register(
        "RING_TAIL",
        0x2C,
        "rw",
        "Doorbell: index behind the last descriptor that is ready, modulo 2^16. A write has no effect while STATUS.error or "
        "STATUS.draining is 1.",
    ),
    Register("RING_HEAD", 0x30, "ro", "Index of the oldest job that is not complete, modulo 2^16."),
    Register("ERROR_CAUSE", 0x34, "ro", "Cause of the first error."),
    Register("ERROR_ADDRESS_LOW", 0x38, "ro", "Address of the first error, bits 31 to 0."),
    Register("ERROR_ADDRESS_HIGH", 0x3C, "ro", "Address of the first error, bits 63 to 32."),
    Register("FLAGS_CLEAR", 0x40, "w1c", "Writing 1 clears STATUS.nonfinite and STATUS.overflow."),
    Register("COUNTERS_CLEAR", 0x44, "w1c", "Writing 1 sets all counters to zero."),
    Register(
        "ERROR_JOB",
        0x48,
        "ro",
        "Index of the job at fault: exact for a descriptor, a program or a write, otherwise the oldest that was not complete.",
    ),
    Register("WATCHDOG", 0x4C, "rw", "Cycles without progress after which busy is an error, TIMEOUT; 0 for never."),
    *_window("READ", 0x50, "read"),
    *_window("WRITE", 0x60, "written"),
    Register(
        "OPTIONS",
        0x70,
        "ro",
        "Operations that this machine has besides those of softmax attention.",
        Layout(
            "Options",
            "",
            (
                Field("linear", 1, "LIN, fixed_reference."),
                Field("functions", 1, "SET, ADD, EXP of -|S|, spare_hold."),
                Field("entropy", 1, "ENT."),
            ),
        ),
    ),
)

#: The table has an entry for each of this many jobs that completed last: job n is in entry n modulo this.
JOB_TABLE_ENTRIES = 16
JOB_TABLE_OFFSET = 0x200

#: Where each field of an entry of completed jobs lies.
JOB_ENTRY = Layout(
    "JobEntry",
    "A job that is complete, in the entry of its index; of jobs that continue each other only the last one has an entry.",
    (
        Field("cycles", 32, "Counter cycles when it was complete, bits 31 to 0."),
        Field("cycles_high", 16, "Bits 47 to 32."),
        Field("nonfinite", 1, "An infinity or NaN was loaded since the job before was complete, perhaps for a job behind it."),
        Field("overflow", 1, "A score or a scaled query left its range since then, likewise."),
        Field("_reserved", 14, "Zero."),
    ),
)

#: 64-bit counters: name and meaning; counter n is at 0x100 + 8 n, low word first.
COUNTERS: tuple[tuple[str, str], ...] = (
    ("cycles", "Clock cycles from the doorbell on an idle machine until it is idle again."),
    ("jobs", "Jobs completed; those that continue each other count as one."),
    ("tiles", "Tiles issued: one key tile against one query tile."),
    ("tiles_skipped", "Tiles left out: no query of theirs sees a key of theirs."),
    ("slots_qk", "Slots that issued QK."),
    ("slots_exp", "Slots that issued EXP."),
    ("slots_sum", "Slots that issued SUM."),
    ("slots_slnv", "Slots that issued SLNV."),
    ("slots_max", "Slots that issued MAX, beside a QK or alone."),
    ("slots_empty", "Slots of running iterations in which no main operation was issued."),
    ("stall_q", "Cycles that waited for a query tile, mask bits or a bias."),
    ("stall_k", "Cycles that waited for a key tile."),
    ("stall_v", "Cycles that waited for a value tile."),
    ("stall_output", "Cycles that waited for room in the output buffers."),
    ("idle", "Busy cycles in which no iteration was running."),
    ("bytes_read", "Bytes read, bus words in full."),
    ("bytes_written", "Bytes written, as strobed."),
    ("slots_function", "Slots that issued LIN, SET, ADD, ENT or BIAS."),
)


def counter_offset(name: str) -> int:
    """Byte offset of a counter's low word.

    Raises
    ------
    KeyError
        If there is no such counter.
    """
    for index, (counter, _) in enumerate(COUNTERS):
        if counter == name:
            return 0x100 + 8 * index
    raise KeyError(name)


def job_entry_offset(index: int) -> int:
    """Byte offset of the low word of a job's entry; the high word follows."""
    return JOB_TABLE_OFFSET + 8 * (index % JOB_TABLE_ENTRIES)


def register(name: str) -> Register:
    """The register of that name.

    Raises
    ------
    KeyError
        If there is none.
    """
    for entry in REGISTERS:
        if entry.name == name:
            return entry
    raise KeyError(name)
