"""What hardware and host share: configuration, words, registers. Plain Python; importing it needs nothing else."""

from .config import CONFIGS, Config, config_named
from .descriptor import DESCRIPTOR, DESCRIPTOR_BYTES, DESCRIPTOR_MAGIC, DESCRIPTOR_STRIDE_BYTES
from .fields import Field, Layout
from .isa import MICROWORD, PROGRAM_HEADER, PROGRAM_MAGIC, PROGRAM_VERSION, STAGES, Op
from .registers import (
    COUNTERS,
    IDENTITY,
    INTERFACE_VERSION,
    JOB_ENTRY,
    JOB_TABLE_ENTRIES,
    REGISTERS,
    Cause,
    Register,
    counter_offset,
    job_entry_offset,
    register,
)
from .timing import Timing

__all__ = [
    "CONFIGS",
    "COUNTERS",
    "DESCRIPTOR",
    "DESCRIPTOR_BYTES",
    "DESCRIPTOR_MAGIC",
    "DESCRIPTOR_STRIDE_BYTES",
    "IDENTITY",
    "INTERFACE_VERSION",
    "JOB_ENTRY",
    "JOB_TABLE_ENTRIES",
    "MICROWORD",
    "PROGRAM_HEADER",
    "PROGRAM_MAGIC",
    "PROGRAM_VERSION",
    "REGISTERS",
    "STAGES",
    "Cause",
    "Config",
    "Field",
    "Layout",
    "Op",
    "Register",
    "Timing",
    "config_named",
    "counter_offset",
    "job_entry_offset",
    "register",
]
