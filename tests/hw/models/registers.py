"""Model of the register map: what software sees, cycle by cycle."""

from fusemax.spec import (
    COUNTERS,
    IDENTITY,
    INTERFACE_VERSION,
    JOB_ENTRY,
    REGISTERS,
    Cause,
    Config,
    counter_offset,
    job_entry_offset,
)

__all__ = [
    "ADDRESS",
    "ADDRESSES",
    "CONFIG",
    "COUNTER_NAMES",
    "ERRORS",
    "HALVES",
    "JOB_WORDS",
    "NAMES",
    "WINDOWS",
    "WORD",
    "RegisterModel",
    "limits_word",
    "shape_word",
]

CONFIG = Config(rows=8, columns=16, max_e=200, max_f=17, contexts=5, pe_latency=3, query_tiles=2)
NAMES = {entry.offset: entry.name for entry in REGISTERS}
COUNTER_NAMES = {counter_offset(name) + 4 * half: (name, half) for name, _ in COUNTERS for half in (0, 1)}
JOB_WORDS = {job_entry_offset(index) + 4 * half: (index, half) for index in range(16) for half in (0, 1)}
#: Inputs that tell an error, with an address of the same name; of several in a cycle the first one counts.
ERRORS = {
    "write_error": Cause.WRITE,
    "read_error": Cause.READ,
    "write_refused": Cause.WINDOW,
    "read_refused": Cause.WINDOW,
}
ADDRESSES = ("fault_address", "waiting_address", *(f"{error}_address" for error in ERRORS))
WINDOWS = ("READ_WINDOW_FIRST", "READ_WINDOW_LAST", "WRITE_WINDOW_FIRST", "WRITE_WINDOW_LAST")
WORD = (1 << 32) - 1
ADDRESS = (1 << CONFIG.address_bits) - 1
HALVES = (("LOW", 0), ("HIGH", 32))
SLOTS = ("slots_qk", "slots_exp", "slots_sum", "slots_slnv", "slots_max")


def shape_word():
    return CONFIG.rows | CONFIG.columns << 10 | CONFIG.bus_bytes << 20 | CONFIG.contexts << 28


def limits_word():
    return CONFIG.max_e | CONFIG.max_f << 10 | CONFIG.query_tiles << 20 | CONFIG.pe_latency << 27


class RegisterModel:
    """What software sees: ``state`` between cycles, ``inputs`` of the cycle."""

    def __init__(self):
        self.base = self.size = self.enable = self.error_address = self.error_job = self.watchdog = 0
        self.windows = {name: ADDRESS if name.endswith("LAST") else 0 for name in WINDOWS}
        self.resetting = self.halted = self.clear = self.emptied = False
        self.jobs = [0] * 16
        self.job_writes, self.seen = [], 0
        self.rung = []
        #: Of the watchdog: what was quiet and the limit, cycle by cycle; what is left.
        self.history, self.left, self.expired = [(False, 0)], 0, False
        self.cycle = 0
        self.empty()
        self.inputs = {}

    def empty(self):
        self.tail = self.cause = self.pending = self.nonfinite = self.overflow = 0
        self.counters = dict.fromkeys((name for name, _ in COUNTERS), 0)

    @property
    def busy(self):
        return int(self.tail != self.inputs["head"] and not self.halted)

    def read(self, offset):
        if offset in COUNTER_NAMES:
            name, half = COUNTER_NAMES[offset]
            return self.counters[name] >> 32 * half & WORD
        if offset in JOB_WORDS:
            index, half = JOB_WORDS[offset]
            return self.jobs[index] >> 32 * half & WORD
        name = NAMES.get(offset, "")
        for window, value in self.windows.items():
            if name.startswith(window):
                return value >> 32 if name.endswith("HIGH") else value & WORD
        draining = self.resetting or (self.cause != 0 and not self.emptied)
        status = (self.busy, self.cause != 0, self.nonfinite, self.overflow, draining)
        return {
            "IDENTITY": IDENTITY,
            "VERSION": INTERFACE_VERSION,
            "SHAPE": shape_word(),
            "LIMITS": limits_word(),
            "OPTIONS": CONFIG.linear | CONFIG.functions << 1 | CONFIG.entropy << 2,
            "STATUS": sum(bool(bit) << index for index, bit in enumerate(status)),
            "INTERRUPT": self.pending,
            "INTERRUPT_ENABLE": self.enable,
            "RING_BASE_LOW": self.base & WORD,
            "RING_BASE_HIGH": self.base >> 32,
            "RING_SIZE_LOG2": self.size,
            "RING_TAIL": self.tail,
            "RING_HEAD": 0 if self.resetting else self.inputs["head"],
            "ERROR_CAUSE": self.cause,
            "ERROR_ADDRESS_LOW": self.error_address & WORD,
            "ERROR_ADDRESS_HIGH": self.error_address >> 32,
            "ERROR_JOB": self.error_job,
            "WATCHDOG": self.watchdog,
        }.get(name, 0)

    def errors(self, name, data):
        """(cause, address, job) of what is wrong in this cycle, the one that counts first."""
        inputs, head = self.inputs, self.inputs["head"]
        if inputs["fault"]:
            yield inputs["fault_cause"], inputs["fault_address"], inputs["fault_job"]
        for error, cause in ERRORS.items():
            if inputs[error]:
                yield cause, inputs[f"{error}_address"], head
        # The doorbell of three cycles ago, with the tail and the head of the cycle behind it.
        if self.rung and self.rung[0][0] == self.cycle - 3 and self.rung[0][1] > 1 << self.rung[0][2]:
            yield Cause.RING, self.tail, head
        if self.expired:
            yield Cause.TIMEOUT, inputs["waiting_address"], head
        if name == "CONTROL" and data & 2:
            yield Cause.ABORT, 0, head

    def step(self, write):
        """End of a cycle in which ``write`` (offset, data), if any, took effect."""
        inputs, name, data = self.inputs, *((NAMES.get(write[0]), write[1]) if write else (None, 0))
        halted = self.halted
        errors = [] if halted else list(self.errors(name, data))
        self._watch(name, data)
        self._jobs(halted)
        for counter in self.counters:
            self.counters[counter] += {
                "cycles": self.busy,
                "jobs": inputs["job_done"],
                "bytes_read": inputs["bytes_read"],
                "bytes_written": inputs["bytes_written"],
                "tiles_skipped": inputs["tile_skipped"],
                "idle": inputs["events"].get("idle", 0) & self.busy,
            }.get(counter, inputs["events"].get(counter, 0))
        if name == "COUNTERS_CLEAR" and data & 1:
            self.counters = dict.fromkeys(self.counters, 0)
        if name == "INTERRUPT":
            self.pending &= ~data
        self.pending |= (inputs["job_done"] & inputs["job_interrupt"]) | bool(errors) << 1
        for flag in ("nonfinite", "overflow"):
            cleared = name == "FLAGS_CLEAR" and data & 1
            setattr(self, flag, inputs[flag] | (getattr(self, flag) and not cleared))
        if errors:
            self.cause, self.error_address, self.error_job = errors[0]
        # One cycle behind a doorbell: how far the tail is ahead.
        if self.rung and self.rung[0][0] == self.cycle - 1:
            self.rung[0] = (self.cycle - 1, (self.tail - inputs["head"]) % (1 << 16), self.size)
        if name == "INTERRUPT_ENABLE":
            self.enable = data & 3
        elif name == "RING_BASE_LOW":
            self.base = (self.base >> 32 << 32 | data) & ADDRESS
        elif name == "RING_BASE_HIGH":
            self.base = (self.base & WORD | data << 32) & ADDRESS
        elif name == "RING_SIZE_LOG2":
            self.size = data & 31
        elif name == "RING_TAIL" and not halted:
            self.tail = data & 0xFFFF
            self.rung = [(self.cycle, 0, 0)]
        elif name == "WATCHDOG":
            self.watchdog = data
        for window in self.windows:
            if name == f"{window}_LOW":
                self.windows[window] = (self.windows[window] >> 32 << 32 | data) & ADDRESS
            elif name == f"{window}_HIGH":
                self.windows[window] = (self.windows[window] & WORD | data << 32) & ADDRESS
        resets = name == "CONTROL" and data & 1
        if self.resetting:
            self.empty()
            self.seen = 0
        clears = self.resetting and self.emptied and self.halted and not self.clear
        self.halted = bool(errors or resets or (self.halted and not self.clear))
        self.resetting = bool(resets or (self.resetting and not self.clear))
        self.clear, self.emptied = clears, inputs["emptied"]
        self.cycle += 1

    def _jobs(self, halted):
        """The table is written in the cycle behind a job's end; of that cycle's flags the next entry tells."""
        inputs = self.inputs
        if self.job_writes:
            (index,) = self.job_writes
            flags = {"nonfinite": self.seen & 1, "overflow": self.seen >> 1}
            cycles = self.counters["cycles"]
            self.jobs[index] = JOB_ENTRY.pack(flags | {"cycles": cycles & WORD, "cycles_high": cycles >> 32})
            self.seen = 0
        self.job_writes = [(inputs["job_index"] - 1) % 16] if inputs["job_done"] and not halted else []
        self.seen |= inputs["nonfinite"] | inputs["overflow"] << 1

    def _watch(self, name, data):
        """The watchdog sees the cycle before, with the limit of that cycle; a limit that has changed begins anew."""
        inputs = self.inputs
        quiet = self.busy and not inputs["progress"] and not any(inputs["events"].get(slot, 0) for slot in SLOTS)
        (_, limit_before), (was_quiet, limit) = self.history[-2:] if len(self.history) > 1 else 2 * self.history
        self.history.append((bool(quiet), self.watchdog))
        changed = limit_before != limit
        self.expired = bool(was_quiet and limit and not changed and self.left == 1)
        if not was_quiet or changed:
            self.left = limit
        elif self.left:
            self.left -= 1
