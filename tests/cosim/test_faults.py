"""Memory that answers with errors: the call fails with cause and address, and the device takes the next one."""

from __future__ import annotations

import numpy as np
import pytest

import fusemax
from fusemax.errors import DeviceFaultError
from fusemax.spec import MICROWORD, Cause
from fusemax_sim.problems import CONFIGS

pytestmark = pytest.mark.cosim

MODEL = {"queries": 21, "keys": 30, "e": 18, "f": 11, "leading": (3,)}
REGIONS = ("q", "k", "v", "o", "program")


@pytest.fixture
def places(open_pair, arrays):
    """First and last byte of a region of a call, perhaps behind a smaller one: the driver places both alike on every device.

    Of the queries the first byte behind what the smaller call covers when it follows.
    """

    def find(config: str, out_dtype: str, region: str, behind: bool) -> tuple[int, int]:
        with fusemax.open("model", CONFIGS[config]) as model:
            if behind:
                fusemax.attention(*arrays(3, 4, 2), device=model)
            fusemax.attention(*arrays(**MODEL), device=model, out_dtype=out_dtype)
            job = job_at(model, int(behind))
        found = {"program": (job["program_address"], job["program_address"] + job["ii"] * MICROWORD.bits // 8 - 1)}
        elements = {"q": (21, 36), "k": (30, 36), "v": (30, 22), "o": (21, 22 if out_dtype == "bfloat16" else 44)}
        for name, (rows, row_bytes) in elements.items():
            first = job[f"{name}_address"]
            last = first + 2 * job[f"{name}_head_stride"] + (rows - 1) * job[f"{name}_row_stride"] + row_bytes - 1
            found[name] = (first + 512 * (name == "q"), last)
        return found[region]

    return find


def job_at(device: fusemax.Device, index: int) -> dict[str, int]:
    from fusemax.spec import DESCRIPTOR, DESCRIPTOR_BYTES, DESCRIPTOR_STRIDE_BYTES

    image = device.transport.memory[index * DESCRIPTOR_STRIDE_BYTES :][:DESCRIPTOR_BYTES]
    return DESCRIPTOR.unpack(int.from_bytes(image.tobytes(), "little"))


@pytest.mark.parametrize("stall_probability", [0.0, 0.4])
@pytest.mark.parametrize(("config", "out_dtype"), [("tiny", "bfloat16"), ("small", "float32")])
@pytest.mark.parametrize("where", ["first", "last"])
@pytest.mark.parametrize("region", REGIONS)
def test_an_error_response(
    open_pair, arrays, places, region: str, where: str, config: str, out_dtype: str, stall_probability: float
) -> None:
    # A smaller call before would put its arrays where this one's program comes.
    behind = region != "program"
    address = places(config, out_dtype, region, behind)[where == "last"]
    kind = "write_errors" if region == "o" else "read_errors"
    pair = open_pair(config, stall_probability=stall_probability, **{kind: (address, address + 1)})
    small = arrays(3, 4, 2)
    if behind:
        pair(*small)
    for _ in range(2):
        with pytest.raises(DeviceFaultError) as caught:
            fusemax.attention(*arrays(**MODEL), device=pair.rtl, out_dtype=out_dtype, timeout=60)
        assert caught.value.cause == (Cause.WRITE if region == "o" else Cause.READ)
        # Errors are answers to bus words, or to bursts of at most 4 KB if they are writes.
        bus_bytes = pair.rtl.config.bus_bytes
        assert 0 <= address - caught.value.address < (4096 if region == "o" else bus_bytes)
        assert pair.status() == 0
        # The next call writes its result where the arrays of the failed one begin.
        pair(*small)
        pair(*small, out_dtype="float32")


def test_a_descriptor_that_cannot_be_read(open_pair, arrays) -> None:
    pair = open_pair(read_errors=(256 + 8, 256 + 9))
    small, large = arrays(3, 4, 2), arrays(9, 9, 9)
    for _ in range(2):
        pair(*small)
        with pytest.raises(DeviceFaultError, match="a read was answered with an error, address 0x108"):
            fusemax.attention(*large, device=pair.rtl, timeout=60)
        assert pair.status() == 0
    # The reset leads back to the beginning of the ring.
    pair(*large)


def test_a_descriptor_that_is_wrong(open_pair, arrays) -> None:
    pair = open_pair()
    operands = arrays(9, 9, 9)
    for device in (pair.rtl, pair.model):
        transport = device.transport
        original = transport.write_register

        def write_register(offset: int, value: int, transport=transport, original=original) -> None:
            if offset == fusemax.spec.register("RING_TAIL").offset:
                transport.memory[0] ^= 1
            original(offset, value)

        transport.write_register = write_register
        with pytest.raises(DeviceFaultError, match=r"a job descriptor is wrong, address 0x0$"):
            fusemax.attention(*operands, device=device, timeout=60)
        transport.write_register = original
    pair(*operands)


def test_a_fault_in_the_midst_of_traffic(open_pair, arrays) -> None:
    """Faults at many addresses, with many bursts under way: the reset waits for them, and the next call is right."""
    small = arrays(7, 9, 8)
    random = np.random.default_rng(8)
    for seed in range(12):
        address = int(random.integers(0x1800, 0x8000))
        memory = {"stall_probability": float(random.choice([0, 0.2, 0.7])), "read_latency_cycles": int(random.integers(1, 200))}
        kind = str(random.choice(["read_errors", "write_errors"]))
        pair = open_pair("tiny", seed=seed, **memory, **{kind: (address, 0x40000)})
        with pytest.raises(DeviceFaultError):
            fusemax.attention(*arrays(50, 60, 30, 40, leading=(4,)), device=pair.rtl, timeout=60)
        pair(*small)
