"""Opening a device."""

from __future__ import annotations

from collections.abc import Callable
from os import PathLike
from typing import TYPE_CHECKING, Any

from .errors import MissingExtraError
from .model.model_transport import ModelTransport
from .planning.memory_map import LEAST_MEMORY_BYTES
from .runtime.device import MEMORY_BYTES, Device
from .runtime.transport import Transport
from .spec import Config, config_named

if TYPE_CHECKING:
    from fusemax_sim.memory import Memory

__all__ = ["open_device", "simulated_memory"]


def open_device(
    kind: str = "model",
    config: str | Config = "small",
    *,
    memory: Memory | None = None,
    trace: str | PathLike[str] | None = None,
    trace_depth: int | None = None,
    trace_cycles: tuple[int, int] | None = None,
    memory_bytes: int | None = None,
    port: str | None = None,
    baud: int | None = None,
    latency_s: float | None = None,
    transfer_progress: Callable[[int, int], None] | None = None,
    workers: int | None = None,
    scheduler: str | None = None,
) -> Device:
    """Open a device.

    Parameters
    ----------
    kind
        ``model`` for the bit-exact model in this process, ``cuda`` for the same bits from a GPU
        (``pip install 'fusemax[cuda]'``), ``rtl`` for the emitted Verilog in a simulator
        (``pip install 'fusemax[sim]'``), ``board`` for an FPGA board at a serial port (``pip install 'fusemax[board]'``).
    config
        A configuration or the name of a shipped one; of a board, the one that its bitstream was made for.
    memory
        A :class:`fusemax.Memory`: width, latency and stalls of the simulated memory; ``rtl`` only.
    trace
        File to write the waveform to, ``*.fst`` (compact) or ``*.vcd`` (text), complete when the device is closed; its folder
        must exist. Views for GTKWave (``.gtkw``) and Surfer (``.sucl``) are written beside it. ``rtl`` only.
    trace_depth
        Levels of the hierarchy in the waveform: 1 the testbench with buses and interrupt, 2 the device's ports, 5 the blocks
        that control the array, which is what you get if it is not given; from 6 on the array's inside. ``rtl`` only.
    trace_cycles
        First and last cycle in the waveform, counted from the end of reset; all if not given. ``rtl`` only.
    memory_bytes
        Size of the device memory; 64 MiB if not given, or all that a board has.
    port
        Serial port; ``board`` only, which needs it.
    baud, latency_s
        Bits per second of the line, 3 000 000 if not given, and the longest time that bytes spend on the way beside that on the
        line, 0.05 s; ``board`` only. Time-outs follow from both.
    transfer_progress
        Called during transfers to and from the board's memory with the bytes done and all; ``board`` only.
    workers
        So many simulators on this machine that are one device: heads and batch entries of every job are shared among them.
        Bits are as from one (``pip install 'fusemax[sim,explore]'``); ``rtl`` only, without ``trace``.
    scheduler
        Address of a running ``dask scheduler``, as in ``tcp://host:8786``: as ``workers``, on all of its workers, which need
        the same version of this package; ``rtl`` only, without ``trace``.

    Raises
    ------
    TypeError, ValueError
        If an argument is not as above.
    MissingExtraError
        If the simulator, Dask, PyTorch and Triton, or pyserial are not installed.
    DeviceError
        If PyTorch sees no GPU.
    OSError
        If the trace cannot be written; nothing has been built or simulated then. If the scheduler does not answer, or has no
        workers.
    PortError, BoardTimeoutError, BitstreamError
        If the board's port is absent, nothing answers there, or another machine does (:mod:`fusemax.board`).
    """
    machine = config_named(config)
    if kind not in ("model", "cuda", "rtl", "board"):
        raise ValueError(f"kind must be 'model', 'cuda', 'rtl' or 'board', not {kind!r}")
    if memory_bytes is not None:
        if not isinstance(memory_bytes, int) or isinstance(memory_bytes, bool):
            raise TypeError(f"memory_bytes must be an integer, not {memory_bytes!r}")
        if not LEAST_MEMORY_BYTES <= memory_bytes <= 1 << machine.address_bits or memory_bytes % machine.bus_bytes:
            rule = f"a multiple of {machine.bus_bytes} from {LEAST_MEMORY_BYTES} to 2^{machine.address_bits}"
            raise ValueError(f"memory_bytes must be {rule}, not {memory_bytes}")
    traced = {"trace": trace, "trace_depth": trace_depth, "trace_cycles": trace_cycles}
    pool = {"workers": workers, "scheduler": scheduler}
    simulated = {"memory": memory, **traced, **pool}
    serial = {"port": port, "baud": baud, "latency_s": latency_s, "transfer_progress": transfer_progress}
    refused, what = {
        "model": (simulated | serial, "the model, which has no signals"),
        "cuda": (simulated | serial, "the model on a GPU, which has no signals"),
        "rtl": (serial, "the simulation, which has no serial line"),
        "board": (simulated, "a board, which is not simulated"),
    }[kind]
    for name, value in refused.items():
        if value is not None:
            raise ValueError(f"{name} must be None for {what}, not {value!r}")
    if kind == "board":
        from .board.connection import open_board

        if port is None:
            raise TypeError("port must be the name of a serial port, not None")
        given = {name: value for name, value in serial.items() if value is not None}
        return open_board(machine, memory_bytes=memory_bytes, **given)
    memory_bytes = MEMORY_BYTES if memory_bytes is None else memory_bytes
    if kind == "rtl":
        if workers is None and scheduler is None:
            return Device(_rtl_transport(machine, memory, memory_bytes, **traced), machine)
        for name, value in traced.items():
            if value is not None:
                raise ValueError(f"{name} must be None for a pool, since a waveform is of one simulator, not {value!r}")
        return Device(_pool_transport(machine, memory, memory_bytes, **pool), machine)
    if kind == "cuda":
        from .cuda import CudaTransport

        return Device(CudaTransport(machine, memory_bytes), machine)
    return Device(ModelTransport(machine, memory_bytes), machine)


def simulated_memory() -> type[Memory]:
    """The class :class:`fusemax.Memory`.

    Raises
    ------
    MissingExtraError
        If the simulator is not installed.
    """
    try:
        from fusemax_sim.memory import Memory
    except ImportError as error:
        raise MissingExtraError(f"the simulated memory needs the simulator: pip install 'fusemax[sim]' ({error})") from error
    return Memory


def _check_memory(memory: object) -> None:
    if memory is not None and not isinstance(memory, simulated_memory()):
        raise TypeError(f"memory must be a fusemax.Memory or None, not {memory!r}")


def _rtl_transport(config: Config, memory: Memory | None, memory_bytes: int, **traced: Any) -> Transport:
    _check_memory(memory)
    try:
        from fusemax_sim.rtl_transport import RtlTransport
    except ImportError as error:
        raise MissingExtraError(f"the rtl device needs the simulator: pip install 'fusemax[sim]' ({error})") from error
    return RtlTransport(config, memory=memory, memory_bytes=memory_bytes, **traced)


def _pool_transport(
    config: Config, memory: Memory | None, memory_bytes: int, workers: int | None, scheduler: str | None
) -> Transport:
    _check_memory(memory)
    if workers is not None and (not isinstance(workers, int) or isinstance(workers, bool)):
        raise TypeError(f"workers must be an integer, not {workers!r}")
    if scheduler is not None and not isinstance(scheduler, str):
        raise TypeError(f"scheduler must be the address of a Dask scheduler, not {scheduler!r}")
    try:
        from fusemax_sim.pool import PoolTransport
    except ImportError as error:
        raise MissingExtraError(f"a pool needs the simulator: pip install 'fusemax[sim,explore]' ({error})") from error
    return PoolTransport(config, memory, memory_bytes, workers=workers, scheduler=scheduler)
