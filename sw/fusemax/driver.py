"""Driver: memory, programs, descriptors, doorbell, completion."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from .compiler import compile as compile_program
from .errors import DeviceFaultError, DeviceMemoryError, DeviceTimeoutError, NonFiniteError, ScoreOverflowError
from .jobs import OUTPUT_BYTES, RING_BYTES, RING_SIZE_LOG2, Buffer, Shape, describe, place_arrays, place_program, required_bytes
from .program import Program
from .schedule import residency
from .spec import DESCRIPTOR, DESCRIPTOR_BYTES, DESCRIPTOR_STRIDE_BYTES, Cause, Config, counter_offset, register
from .transport import Transport

__all__ = ["Driver", "required_bytes"]

NAMES = {"q": "queries", "k": "keys", "v": "values", "o": "output"}

Bits = NDArray[np.uint16]


class Deadline:
    """Time limit of a call, from now on; ``timeout`` in seconds, None for no limit."""

    def __init__(self, timeout: float | None) -> None:
        self.timeout = timeout
        self._end = None if timeout is None else time.monotonic() + timeout

    @property
    def remaining(self) -> float | None:
        """Seconds that are left, at least 0."""
        return None if self._end is None else max(0.0, self._end - time.monotonic())


class Driver:
    """Runs attention on an open device.

    What lies where in device memory, and what a descriptor says, :mod:`fusemax.jobs` knows.
    """

    def __init__(self, transport: Transport, config: Config) -> None:
        self._transport = transport
        self._config = config
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
        program: Program | None = None,
    ) -> NDArray[np.float32] | NDArray[np.generic]:
        """Attention of bfloat16 bits (batch, heads, length, head dim); ``scale`` includes log2(e).

        ``program`` is the compiler's for attention in one pass if not given; it must be one that the machine can run.

        Raises
        ------
        DeviceMemoryError, DeviceTimeoutError, DeviceFaultError, NonFiniteError, ScoreOverflowError
            See :func:`fusemax.attention`.
        """
        deadline = Deadline(timeout)
        self._settle(deadline)
        batch, heads, queries, e = q.shape
        keys, f = k.shape[2], v.shape[3]
        shape = Shape(
            batch=batch, heads=heads, queries=queries, keys=keys, e=e, f=f, out_dtype="float32" if float32_out else "bfloat16"
        )
        program = program or compile_program(head_dim=e, value_dim=f, config=self._config)
        program_address = self._load_program(program)
        buffers = place_arrays(self._config, shape, self._free)
        for name, buffer in buffers.items():
            self._check_room(NAMES[name], buffer.size, buffer.address + buffer.size)
        for name, array in (("q", q), ("k", k), ("v", v)):
            self._rows(buffers[name], array.shape, 2)[...] = array

        descriptors = describe(self._config, shape, program, program_address, buffers, scale)
        tiles = residency(self._config, e, f, queries, keys).tiles
        self._run(descriptors, deadline, self._progress(progress, tiles * batch * heads))
        dtype = np.dtype(np.float32) if float32_out else np.dtype(ml_dtypes.bfloat16)
        rows = self._rows(buffers["o"], (batch, heads, queries, f), OUTPUT_BYTES[shape.out_dtype])
        return rows.view(dtype).copy()

    # -- memory ----------------------------------------------------------------------------------------------

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
            words, end = place_program(self._config, program, self._free)
            self._check_room("microwords", len(image), end)
            header = words + len(program.words_bytes) - len(image)
            self._transport.memory[header : header + len(image)] = np.frombuffer(image, np.uint8)
            self._programs[program.tag] = words
            self._free = end
        return self._programs[program.tag]

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
