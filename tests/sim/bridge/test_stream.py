"""Bridge and memory from their Verilog: noise in both directions, errors of the buses, reset, and the share of payload."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from fusemax.bridge import AccessError, Link, LinkTimeoutError, Target
from fusemax.spec.bridge import StateFlag, Status
from fusemax_sim import Memory
from fusemax_sim.bridge import BridgeSimulation, Noise, measure_throughput, soak

pytestmark = pytest.mark.cosim

#: Offsets of bridge_top.sv.
INTERRUPT_PIN, FAILING = 0xC00, 0xC04


@pytest.fixture
def open_target() -> Iterator[Callable[..., tuple[BridgeSimulation, Target]]]:
    """Opens a simulation and the system behind its bridge; all are closed afterwards."""
    simulations: list[BridgeSimulation] = []

    def open_with(**properties: object) -> tuple[BridgeSimulation, Target]:
        simulation = BridgeSimulation(**properties)  # type: ignore[arg-type]
        simulations.append(simulation)
        return simulation, Target(Link(simulation, baud=simulation.baud, clock=simulation.now, latency_s=1e-5))

    yield open_with
    for simulation in simulations:
        simulation.close()


@pytest.mark.parametrize("noise", [Noise(2e-4, 1e-4, 1e-4), Noise(1e-3, 1e-3, 1e-3)])
def test_every_request_is_executed_once_under_noise(noise: Noise) -> None:
    result = soak(300, seed=1, noise=noise)
    assert result.passed, result
    assert result.frames == 300
    assert min(result.flips, result.drops, result.extras) > 0
    assert result.counts.repeated_requests > 0 and result.counts.polls > 0 and result.counts.damaged > 0


def test_without_noise_nothing_is_repeated() -> None:
    result = soak(300, seed=2, noise=Noise())
    assert result.passed, result
    assert result.flips == result.drops == result.extras == 0
    counts = result.counts
    assert counts.repeated_requests == counts.polls == counts.damaged == counts.timeouts == counts.unexpected == 0


def test_bursts_fill_the_line() -> None:
    share = measure_throughput(1 << 15)
    assert share.write >= 0.95
    assert share.read >= 0.95


def test_a_slow_memory_is_waited_for(open_target: Callable[..., tuple[BridgeSimulation, Target]]) -> None:
    """Slower than the line: requests pile up, some find no room and are repeated."""
    simulation, target = open_target(timing=Memory(read_latency_cycles=2000, stall_probability=0.5))
    text = bytes(range(256)) * 16
    target.write_memory(3, text)
    assert target.read_memory(3, len(text)) == text
    assert simulation.memory[3 : 3 + len(text)].tobytes() == text
    assert simulation.seen.violations == 0


def test_errors_of_the_buses(open_target: Callable[..., tuple[BridgeSimulation, Target]]) -> None:
    _, target = open_target(timing=Memory(read_errors=(0x1000, 0x1008), write_errors=(0x2000, 0x2008)))
    target.write_memory(0x1000, b"abcdefgh")
    for access, status in (
        (lambda: target.read_memory(0xFF0, 64), Status.SLAVE_ERROR),
        (lambda: target.write_memory(0x2004, b"x"), Status.SLAVE_ERROR),
        (lambda: target.read_registers(FAILING), Status.SLAVE_ERROR),
        (lambda: target.write_registers(FAILING, [1]), Status.SLAVE_ERROR),
        (lambda: target.read_memory(1 << 18, 1), Status.REFUSED),
    ):
        with pytest.raises(AccessError) as failure:
            access()
        assert failure.value.status == status
    assert target.read_memory(0xFF8, 8) == bytes(8)


def test_interrupt_and_reset(open_target: Callable[..., tuple[BridgeSimulation, Target]]) -> None:
    simulation, target = open_target()
    target.write_memory(0, b"stays")
    target.write_registers(0x10, [1, 2, 3])
    assert not target.interrupt
    target.write_registers(INTERRUPT_PIN, [1])
    assert target.link.listen(1e-4)
    assert target.interrupt
    assert target.reset().flags == StateFlag.FRESH
    assert simulation.seen.resets == 1
    assert target.read_registers(0x10, 3) == [0, 0, 0]
    assert target.read_memory(0, 5) == b"stays"
    target.reset()
    target.reset()
    assert simulation.seen.resets == 2


def test_reset_ends_a_wait_that_has_no_end(open_target: Callable[..., tuple[BridgeSimulation, Target]]) -> None:
    simulation, target = open_target(timing=Memory(read_latency_cycles=65535))
    target.link.clock = lambda: 1000 * simulation.now()  # Gives up long before the memory answers.
    with pytest.raises(LinkTimeoutError):
        target.read_memory(0, 512)
    target.link.clock = simulation.now
    assert target.reset().flags & StateFlag.FRESH
    target.write_registers(0x10, [5])
    assert target.read_registers(0x10) == [5]
