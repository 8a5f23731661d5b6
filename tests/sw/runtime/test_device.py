"""Opening and closing devices, and their counters."""

from __future__ import annotations

import sys

import numpy as np
import pytest

import fusemax
from fusemax.errors import DeviceClosedError, DeviceError, MissingExtraError
from fusemax.model import cycles
from fusemax.model.model_transport import ModelTransport
from fusemax.planning.memory_map import Shape
from fusemax.runtime.device import Counters, Device
from fusemax.spec import CONFIGS, COUNTERS, register


class WrongRegister(ModelTransport):
    """A machine with another value in one register."""

    def __init__(self, name: str, value: int) -> None:
        super().__init__(CONFIGS["small"], 1 << 16)
        self.wrong = register(name).offset, value
        self.was_closed = False

    def read_register(self, offset: int) -> int:
        return self.wrong[1] if offset == self.wrong[0] else super().read_register(offset)

    def close(self) -> None:
        self.was_closed = True
        super().close()


def test_open_and_close() -> None:
    with fusemax.open("model", config="tiny") as device:
        assert device.config == CONFIGS["tiny"]
        assert not device.closed
        assert repr(device) == "<open ModelTransport device, config 'tiny'>"
    assert device.closed
    device.close()
    for use in (lambda: device.counters, lambda: device.driver):
        with pytest.raises(DeviceClosedError, match="the device must be open, but was closed"):
            use()


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("IDENTITY", 0, "IDENTITY must be 0x46584d41, not 0x0"),
        ("VERSION", 1, "VERSION must be 0x3, not 0x1"),
        ("SHAPE", 9 | 8 << 10 | 8 << 20 | 3 << 28, "rows must be 8 as in 'small', not 9"),
        ("LIMITS", 64 | 32 << 10, "max_f must be 64 as in 'small', not 32"),
    ],
)
def test_another_machine_is_refused_and_closed(name: str, value: int, message: str) -> None:
    transport = WrongRegister(name, value)
    with pytest.raises(DeviceError, match=message):
        Device(transport, "small")
    assert transport.was_closed


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"kind": "fpga"}, ValueError, "kind must be 'model', 'cuda', 'rtl' or 'board', not 'fpga'"),
        ({"config": "huge"}, ValueError, "config must be one of"),
        ({"memory_bytes": 1.5}, TypeError, "memory_bytes must be an integer, not 1.5"),
        ({"memory_bytes": 100}, ValueError, r"multiple of 8 from 8192 to 2\^40, not 100"),
        ({"memory_bytes": 8196}, ValueError, "memory_bytes must be a multiple of 8"),
        ({"memory_bytes": 1 << 41}, ValueError, "memory_bytes must be a multiple of 8"),
        ({"trace": "wave.vcd"}, ValueError, "trace must be None for the model, which has no signals, not 'wave.vcd'"),
        ({"memory": 3}, ValueError, "memory must be None for the model"),
    ],
)
def test_wrong_arguments(arguments: dict, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        fusemax.open(**arguments)


def test_missing_simulator_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fusemax_sim.memory", None)
    monkeypatch.setitem(sys.modules, "fusemax_sim.rtl_transport", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'fusemax\[sim\]'"):
        fusemax.open("rtl")
    with pytest.raises(MissingExtraError, match=r"pip install 'fusemax\[sim\]'"):
        _ = fusemax.Memory


def test_rtl_takes_a_memory() -> None:
    pytest.importorskip("fusemax_sim")
    assert fusemax.Memory(read_latency_cycles=5).read_latency_cycles == 5
    with pytest.raises(TypeError, match=r"memory must be a fusemax\.Memory or None, not 60"):
        fusemax.open("rtl", memory=60)  # type: ignore[arg-type]


def test_rtl_transport_gets_what_the_caller_says(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    transport = pytest.importorskip("fusemax_sim.rtl_transport")
    seen = {}

    def stand_in(config, **arguments):
        seen.update(arguments, config=config)
        return ModelTransport(config, arguments["memory_bytes"])

    monkeypatch.setattr(transport, "RtlTransport", stand_in)
    memory = fusemax.Memory(seed=3)
    path = tmp_path / "wave.vcd"
    with fusemax.open(
        "rtl", config="tiny", memory=memory, trace=path, trace_depth=2, trace_cycles=(5, 9), memory_bytes=1 << 20
    ):
        pass
    traced = {"trace": tmp_path / "wave.vcd", "trace_depth": 2, "trace_cycles": (5, 9)}
    assert seen == {"config": CONFIGS["tiny"], "memory": memory, "memory_bytes": 1 << 20, **traced}


def test_counters_have_names() -> None:
    counters = Counters()
    assert [getattr(counters, name) for name, _ in COUNTERS] == [0] * len(COUNTERS)
    assert set(counters.values) <= set(dir(counters))
    assert counters.utilisation == 0.0
    with pytest.raises(AttributeError, match="there is no counter 'speed'"):
        _ = counters.speed


def test_counters_of_a_call() -> None:
    q = np.ones((16, 64), np.float32)
    with fusemax.open() as device:
        # The second call finds its program in the machine.
        for loaded in (False, True):
            fusemax.attention(q, q, q.copy(), device=device)
            assert device.counters.jobs == 1
            assert device.counters.tiles == 4
            assert device.counters.slots_qk == device.counters.slots_slnv == 4 * 64
            program = fusemax.compile(head_dim=64)
            assert device.counters.cycles == cycles(program, Shape(queries=16, keys=16, e=64), loaded=loaded).cycles
            assert device.counters.utilisation == 512 / device.counters.cycles


def test_unknown_name_of_the_package() -> None:
    with pytest.raises(AttributeError, match="module 'fusemax' has no attribute 'nothing'"):
        _ = fusemax.nothing
