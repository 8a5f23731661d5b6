"""Driver: memory, programs, descriptors, doorbell, completion."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from .compiler import compile as compile_program
from .errors import DeviceFaultError, DeviceMemoryError, DeviceTimeoutError, NonFiniteError, ScoreOverflowError
from .program import Program
from .schedule import residency
from .spec import (
    DESCRIPTOR,
    DESCRIPTOR_BYTES,
    DESCRIPTOR_MAGIC,
    DESCRIPTOR_STRIDE_BYTES,
    MICROWORD,
    Cause,
    Config,
    counter_offset,
    register,
)
from .transport import Transport

__all__ = ["Driver", "cut_jobs", "required_bytes"]

RING_SIZE_LOG2 = 4
RING_BYTES = DESCRIPTOR_STRIDE_BYTES << RING_SIZE_LOG2
#: Largest number of heads, and of batch entries, in a job.
MOST = (1 << 16) - 1
#: Strides are numbers of 32 bits.
STRIDE_LIMIT = 1 << 32

Bits = NDArray[np.uint16]


@dataclass(frozen=True)
class Buffer:
    """Rows in device memory, of batch entries, heads and rows: address of the first one and strides in bytes."""

    address: int
    row_stride: int
    head_stride: int
    batch_stride: int


@dataclass(frozen=True)
class Job:
    """Part of a call that one descriptor covers: batch entries and heads, from the first up to the one behind the last."""

    batch: tuple[int, int]
    heads: tuple[int, int]


class Deadline:
    """Time limit of a call, from now on; ``timeout`` in seconds, None for no limit."""

    def __init__(self, timeout: float | None) -> None:
        self.timeout = timeout
        self._end = None if timeout is None else time.monotonic() + timeout

    @property
    def remaining(self) -> float | None:
        """Seconds that are left, at least 0."""
        return None if self._end is None else max(0.0, self._end - time.monotonic())


def cut_jobs(batch: int, heads: int, head_stride: int, batch_stride: int) -> Iterator[Job]:
    """Cut a call into as few jobs as the descriptor's fields allow; usually one.

    The strides are the largest ones of the call's four arrays.
    """
    if heads > 1 and head_stride >= STRIDE_LIMIT:
        most_heads = 1
    else:
        most_heads = MOST
    most_batch = 1 if batch > 1 and batch_stride >= STRIDE_LIMIT else MOST
    for batch_start in range(0, batch, most_batch):
        for head_start in range(0, heads, most_heads):
            yield Job((batch_start, min(batch, batch_start + most_batch)), (head_start, min(heads, head_start + most_heads)))


def align(value: int, unit: int) -> int:
    """``value`` rounded up to a multiple of ``unit``."""
    return -(-value // unit) * unit


def required_bytes(config: Config, shape: tuple[int, int, int, int, int, int], output_bytes: int) -> int:
    """Device memory that a call of this shape (batch, heads, queries, keys, E, F) needs on a device that is just open."""
    batch, heads, queries, keys, e, f = shape
    row_beats = queries * (config.beats(e) + config.beats(f, output_bytes)) + keys * (config.beats(e) + config.beats(f))
    programs = config.program_words * MICROWORD.bits // 8
    return RING_BYTES + programs + batch * heads * row_beats * config.bus_bytes + 4096


class Driver:
    """Runs attention on an open device.

    Device memory holds the descriptor ring, then every program used so far, then the arrays of the call under way.
    """

    def __init__(self, transport: Transport, config: Config) -> None:
        self._transport = transport
        self._config = config
        self._alignment = max(config.bus_bytes, 16)
        self._programs: dict[int, int] = {}
        self._free = RING_BYTES
        self._tail = 0
        self._start_machine()

    def attention(
        self,
        q: Bits,
        k: Bits,
        v: Bits,
        scale: np.float32,
        *,
        float32_out: bool,
        timeout: float | None,
        progress: Callable[[int, int], None] | None,
    ) -> NDArray[np.float32] | NDArray[np.generic]:
        """Attention of bfloat16 bits (batch, heads, length, head dim); ``scale`` includes log2(e).

        Raises
        ------
        DeviceMemoryError, DeviceTimeoutError, DeviceFaultError, NonFiniteError, ScoreOverflowError
            See :func:`fusemax.attention`.
        """
        deadline = Deadline(timeout)
        self._settle(deadline)
        batch, heads, queries, e = q.shape
        keys, f = k.shape[2], v.shape[3]
        program = compile_program(head_dim=e, value_dim=f, config=self._config)
        program_address = self._load_program(program)
        arena = self._free
        q_buffer, arena = self._place("queries", q.shape, 2, arena)
        k_buffer, arena = self._place("keys", k.shape, 2, arena)
        v_buffer, arena = self._place("values", v.shape, 2, arena)
        output_bytes = 4 if float32_out else 2
        o_buffer, arena = self._place("output", (batch, heads, queries, f), output_bytes, arena)
        for buffer, array in ((q_buffer, q), (k_buffer, k), (v_buffer, v)):
            self._rows(buffer, array.shape, 2)[...] = array

        tiles = residency(self._config, e, f, queries, keys)
        common = {
            "magic": DESCRIPTOR_MAGIC,
            "float32_out": int(float32_out),
            "interrupt": 1,
            "program_tag": program.tag,
            "program_address": program_address,
            "ii": program.ii,
            "query_slots": min(tiles.query_slots, MOST),
            "e": e,
            "f": f,
            "scale": int(scale.view(np.uint32)),
            "key_tiles": tiles.key_tiles,
            "last_keys": tiles.last_keys,
            "last_queries": tiles.last_queries,
            "groups": tiles.groups,
            "large_groups": tiles.large_groups,
            "group_tiles": tiles.group_tiles,
            "output_slots": min(self._config.output_beats // self._config.beats(f, output_bytes), MOST),
            "group_iterations": tiles.group_iterations,
        }
        buffers = {"q": q_buffer, "k": k_buffer, "v": v_buffer, "o": o_buffer}
        largest_head = max(buffer.head_stride for buffer in buffers.values())
        largest_batch = max(buffer.batch_stride for buffer in buffers.values())
        descriptors = [common | self._describe(job, buffers) for job in cut_jobs(batch, heads, largest_head, largest_batch)]
        self._run(descriptors, deadline, self._progress(progress, tiles.tiles * batch * heads))
        dtype = np.dtype(np.float32) if float32_out else np.dtype(ml_dtypes.bfloat16)
        return self._rows(o_buffer, (batch, heads, queries, f), output_bytes).view(dtype).copy()

    # -- memory ----------------------------------------------------------------------------------------------

    def _place(self, name: str, shape: tuple[int, ...], element_bytes: int, address: int) -> tuple[Buffer, int]:
        """Room for rows of bus words, and the address behind it."""
        batch, heads, rows, elements = shape
        row_stride = self._config.beats(elements, element_bytes) * self._config.bus_bytes
        head_stride = rows * row_stride
        batch_stride = heads * head_stride
        end = align(address + batch * batch_stride, self._alignment)
        self._check_room(name, batch * batch_stride, end)
        return Buffer(address, row_stride, head_stride, batch_stride), end

    def _check_room(self, name: str, size: int, end: int) -> None:
        if end > self._transport.memory.size:
            raise DeviceMemoryError(
                f"the {name} need {size} bytes and end at {end}, but the device memory has {self._transport.memory.size} bytes"
            )

    def _rows(self, buffer: Buffer, shape: tuple[int, ...], element_bytes: int) -> NDArray[np.unsignedinteger]:
        """Rows of ``shape`` in device memory, padding left out, as unsigned integers."""
        batch, heads, rows, elements = shape
        memory = self._transport.memory[buffer.address : buffer.address + batch * buffer.batch_stride]
        words = memory.view(np.dtype(f"<u{element_bytes}"))
        return words.reshape(batch, heads, rows, buffer.row_stride // element_bytes)[..., :elements]

    def _load_program(self, program: Program) -> int:
        """Address of the program's first microword; it is written to memory when it is used for the first time."""
        if program.tag not in self._programs:
            image = program.to_bytes()
            header_bytes = len(image) - len(program.words_bytes)
            words = align(self._free + header_bytes, self._alignment)
            end = align(words + len(program.words_bytes), self._alignment)
            self._check_room("microwords", len(image), end)
            self._transport.memory[words - header_bytes : words - header_bytes + len(image)] = np.frombuffer(image, np.uint8)
            self._programs[program.tag] = words
            self._free = end
        return self._programs[program.tag]

    def _describe(self, job: Job, buffers: dict[str, Buffer]) -> dict[str, int]:
        """Fields of a descriptor that differ from job to job. A stride that leads nowhere is zero."""
        batch, heads = job.batch[1] - job.batch[0], job.heads[1] - job.heads[0]
        fields = {"heads": heads, "batch": batch}
        for name, buffer in buffers.items():
            fields[f"{name}_address"] = buffer.address + job.batch[0] * buffer.batch_stride + job.heads[0] * buffer.head_stride
            fields[f"{name}_row_stride"] = buffer.row_stride
            fields[f"{name}_head_stride"] = buffer.head_stride if heads > 1 else 0
            fields[f"{name}_batch_stride"] = buffer.batch_stride if batch > 1 else 0
        return fields

    # -- machine ---------------------------------------------------------------------------------------------

    def _read(self, name: str) -> int:
        return self._transport.read_register(register(name).offset)

    def _write(self, name: str, value: int) -> None:
        self._transport.write_register(register(name).offset, value)

    def _status(self) -> dict[str, int]:
        fields = register("STATUS").fields
        assert fields is not None
        return fields.unpack(self._read("STATUS"))

    def _start_machine(self) -> None:
        """Empty the machine and tell it where the ring is."""
        self._write("CONTROL", 1)
        self._write("INTERRUPT", 3)
        self._write("FLAGS_CLEAR", 1)
        self._write("RING_BASE_LOW", 0)
        self._write("RING_BASE_HIGH", 0)
        self._write("RING_SIZE_LOG2", RING_SIZE_LOG2)
        self._write("INTERRUPT_ENABLE", 3)
        self._tail = 0

    def _settle(self, deadline: Deadline) -> None:
        """Wait for what an earlier call has left behind, which may still write to memory.

        A call that ran out of time or was interrupted leaves its jobs to the machine: a reset in the midst of them could
        cut a transfer short. After an error there is nothing to wait for.
        """
        if self._status()["error"]:
            self._start_machine()
        self._tail = self._read("RING_TAIL")
        if self._read("RING_HEAD") != self._tail:
            with suppress(DeviceFaultError):
                self._wait(deadline, None)
        self._write("INTERRUPT", 3)
        self._write("FLAGS_CLEAR", 1)

    def _run(self, descriptors: list[dict[str, int]], deadline: Deadline, progress: Callable[..., None] | None) -> None:
        """Queue the jobs, as many at a time as the ring holds, and wait for each lot."""
        self._write("COUNTERS_CLEAR", 1)
        lot = (1 << RING_SIZE_LOG2) - 1
        for start in range(0, len(descriptors), lot):
            for fields in descriptors[start : start + lot]:
                address = self._tail % (1 << RING_SIZE_LOG2) * DESCRIPTOR_STRIDE_BYTES
                image = DESCRIPTOR.pack(fields).to_bytes(DESCRIPTOR_BYTES, "little")
                self._transport.memory[address : address + DESCRIPTOR_BYTES] = np.frombuffer(image, np.uint8)
                self._tail = (self._tail + 1) & 0xFFFF
            self._write("RING_TAIL", self._tail)
            self._wait(deadline, progress)
        status = self._status()
        if status["nonfinite"]:
            raise NonFiniteError("queries, keys and values must be finite, but the machine has read an infinity or a NaN")
        if status["overflow"]:
            limit = self._config.score_bits - 1 - self._config.score_frac_bits
            raise ScoreOverflowError(f"scores times log2(e) must stay within ±2^{limit}, but have not; choose a smaller scale")

    def _wait(self, deadline: Deadline, progress: Callable[..., None] | None) -> None:
        """Wait until all jobs are complete; after an error, start the machine anew."""
        while True:
            try:
                self._transport.wait_interrupt(deadline.remaining, progress)
            except TimeoutError as error:
                raise DeviceTimeoutError(f"the device must be done within {deadline.timeout} s, but is not") from error
            self._write("INTERRUPT", 3)
            if self._status()["error"]:
                address = self._read("ERROR_ADDRESS_LOW") | self._read("ERROR_ADDRESS_HIGH") << 32
                cause = Cause(self._read("ERROR_CAUSE"))
                self._start_machine()
                raise DeviceFaultError(cause, address)
            if self._read("RING_HEAD") == self._tail:
                return

    def _progress(self, progress: Callable[[int, int], None] | None, tiles: int) -> Callable[..., None] | None:
        """The user's function, told the tiles issued so far and all."""
        if progress is None:
            return None
        offset = counter_offset("tiles")

        def tell(*_: object) -> None:
            low = self._transport.read_register(offset)
            progress(low | self._transport.read_register(offset + 4) << 32, tiles)

        return tell
