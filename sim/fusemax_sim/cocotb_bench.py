"""cocotb module that runs inside the simulator and carries out the host's commands on sim_top's command port.

While a command runs, no Python runs: the bench waits for one edge of ``done``. Between commands it waits for the host,
and simulated time stands still.
"""

from __future__ import annotations

import os
import socket
from typing import Any

import cocotb
from cocotb.triggers import ValueChange

from .bench_commands import Command, Reply, Request, receive

__all__ = ["serve"]


@cocotb.test()
async def serve(dut: Any) -> None:
    """Carry out commands until STOP or until the host closes its socket (descriptor FUSEMAX_SOCKET_FD)."""
    with socket.socket(fileno=int(os.environ["FUSEMAX_SOCKET_FD"])) as host:
        done = ValueChange(dut.done)
        request_phase = fail_phase = cycle = 0
        reply = Reply(0, 0, False, 0, 0, b"")
        while text := receive(host, Request.FORMAT.size):
            request = Request.from_bytes(text)
            if request.command == Command.STOP:
                return
            if request.command == Command.FAIL:
                fail_phase ^= 1
                dut.fail_kind.value = request.address
                dut.fail_after.value = request.data
                dut.fail_response.value = request.cycles
                dut.fail_request.value = fail_phase
                host.sendall(reply.to_bytes())
                continue
            dut.command.value = request.command
            dut.address.value = request.address
            dut.data.value = request.data
            # The first cycle of the command is the next one, whose number is `cycle`.
            dut.stop_cycle.value = cycle + max(request.cycles, 1) - 1
            request_phase ^= 1
            dut.request.value = request_phase
            await done
            cycle = int(dut.cycle.value)
            violation = int(dut.violation.value)
            reply = Reply(
                result=int(dut.result.value),
                response=int(dut.response.value),
                interrupt=bool(dut.interrupt.value),
                cycle=cycle,
                job_cycles=int(dut.job_cycles.value),
                violation=violation.to_bytes((violation.bit_length() + 7) // 8, "big"),
            )
            host.sendall(reply.to_bytes())
