"""What hardware and host share: configuration, words, registers. Plain Python; importing it needs nothing else."""

from .config import CONFIGS, Config, config_named
from .descriptor import (
    DESCRIPTOR,
    DESCRIPTOR_BYTES,
    DESCRIPTOR_MAGIC,
    DESCRIPTOR_STRIDE_BYTES,
    MAX_SHARE,
    PAGE_BYTES,
    Descriptor,
)
from .fields import Field, Layout
from .integers import ceil_div, clog2
from .isa import MICROWORD, PROGRAM_HEADER, PROGRAM_MAGIC, PROGRAM_VERSION, STAGES, Op
from .registers import (
    COUNTERS,
    EXACT_CAUSES,
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
    "EXACT_CAUSES",
    "IDENTITY",
    "INTERFACE_VERSION",
    "JOB_ENTRY",
    "JOB_TABLE_ENTRIES",
    "MAX_SHARE",
    "MICROWORD",
    "PAGE_BYTES",
    "PROGRAM_HEADER",
    "PROGRAM_MAGIC",
    "PROGRAM_VERSION",
    "REGISTERS",
    "STAGES",
    "Cause",
    "Config",
    "Descriptor",
    "Field",
    "Layout",
    "Op",
    "Register",
    "Timing",
    "ceil_div",
    "clog2",
    "config_named",
    "counter_offset",
    "job_entry_offset",
    "register",
]
