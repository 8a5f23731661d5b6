from __future__ import annotations

import pytest

from fusemax_sim import Memory


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("read_latency_cycles", 0, "read_latency_cycles must be from 1 to 65535, not 0"),
        ("beat_interval_cycles", 0, "beat_interval_cycles must be from 1 to 65535, not 0"),
        ("seed", -1, "seed must be from 0 to 4294967295, not -1"),
        ("outstanding_bursts", 257, "outstanding_bursts must be from 1 to 256, not 257"),
        ("stall_probability", 1.0, "stall_probability must be at least 0 and below 1, not 1.0"),
        ("stall_probability", float("nan"), "stall_probability must be at least 0 and below 1, not nan"),
        ("read_errors", (8, 8), "read_errors must be (low, high) with 0 <= low < high, not (8, 8)"),
    ],
)
def test_a_value_out_of_range_is_named(field: str, value: object, message: str) -> None:
    with pytest.raises(ValueError) as raised:
        Memory(**{field: value})  # type: ignore[arg-type]
    assert str(raised.value) == message


@pytest.mark.parametrize(
    ("field", "value"),
    [("read_latency_cycles", 1.5), ("seed", True), ("stall_probability", "0.1"), ("write_errors", 5), ("width_bits", "64")],
)
def test_a_value_of_another_type_is_named(field: str, value: object) -> None:
    with pytest.raises(TypeError, match=rf"^{field} must be .*, not {value!r}$"):
        Memory(**{field: value})  # type: ignore[arg-type]


def test_the_width_is_the_bus_or_an_error() -> None:
    Memory().check_width(128)
    Memory(width_bits=128).check_width(128)
    with pytest.raises(ValueError, match=r"^width_bits must be the device's bus_bits = 128, not 64$"):
        Memory(width_bits=64).check_width(128)


def test_plusargs_state_every_property() -> None:
    memory = Memory(read_latency_cycles=5, stall_probability=0.25, seed=3, beat_interval_cycles=2, read_errors=(64, 128))
    assert set(memory.plusargs()) == {
        "+latency=5",
        "+stall_threshold=16384",
        "+seed=3",
        "+beat_interval=2",
        "+outstanding=256",
        "+read_error_low=64",
        "+read_error_high=128",
    }
