"""Soak: random calls of every kind from many threads on two devices, the model and the emitted Verilog, for as long as asked.

Every result is compared, bit for bit, with that of a model of its own. Threads abort calls, drop submissions and caches, give
up waiting, close devices, and kill the simulator. At the end the accounts of memory must be balanced, and no process, thread
or file may be left. Exit status 1 if anything was wrong.
"""

from __future__ import annotations

import argparse
import faulthandler
import gc
import os
import random
import signal
import sys
import tempfile
import threading
import time
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import fusemax
from fusemax.errors import (
    AbortFaultError,
    DeviceClosedError,
    DeviceError,
    DeviceMemoryError,
    DeviceTimeoutError,
    NonFiniteError,
    ScoreOverflowError,
)
from fusemax_sim import SimulatorDied

#: A thread that does nothing for this long hangs.
HANG_SECONDS = 300
MEMORY_BYTES = 1 << 19
PAGES = 24
#: What may become of a call when others abort, close, kill and fill the memory.
EXPECTED = (AbortFaultError, DeviceClosedError, DeviceMemoryError, DeviceTimeoutError, SimulatorDied)


class Slot:
    """A device that threads use, and open anew when one of them has closed it or its simulator was killed."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._lock = threading.Lock()
        self._device = self._open()

    def _open(self) -> fusemax.Device:
        return fusemax.open(self.kind, config="tiny", memory_bytes=MEMORY_BYTES)

    @property
    def device(self) -> fusemax.Device:
        return self._device

    def renew(self, old: fusemax.Device) -> None:
        """Open another one, unless another thread has."""
        with self._lock:
            if self._device is old:
                old.close()
                self._device = self._open()

    def close(self) -> None:
        self._device.close()


class Worker(threading.Thread):
    """One thread's random calls."""

    def __init__(self, number: int, slots: list[Slot], end: float, seed: int, counts: Counter[str], wrong: list[str]) -> None:
        super().__init__(name=f"worker {number}", daemon=True)
        self.random, self.slots, self.end_time = random.Random(f"{seed} {number}"), slots, end
        self.counts, self.wrong = counts, wrong
        self.alive_at = time.monotonic()
        # Whose bits are right; nobody else uses it.
        self.reference = fusemax.open("model", config="tiny", memory_bytes=MEMORY_BYTES)
        self.caches: list[tuple[Slot, fusemax.KVCache, dict[int, list[np.ndarray]]]] = []

    def run(self) -> None:
        acts: list[Callable[[Slot], None]] = [
            self.call,
            self.call,
            self.submit,
            self.submit,
            self.cache,
            self.cache,
            self.cache,
        ]
        rare: list[Callable[[Slot], None]] = [self.drop, self.abort, self.give_up, self.wrong_numbers]
        while time.monotonic() < self.end_time:
            self.alive_at = time.monotonic()
            slot = self.random.choice(self.slots)
            chosen = self.random.choice(acts if self.random.random() < 0.8 else rare)
            if self.random.random() < 0.004:
                chosen = self.kill
            device = slot.device
            try:
                chosen(slot)
                self.counts[f"{slot.kind} {chosen.__name__}"] += 1
            except EXPECTED as error:
                self.counts[f"{slot.kind} {type(error).__name__}"] += 1
                if isinstance(error, (DeviceClosedError, SimulatorDied)):
                    slot.renew(device)
            except BaseException as error:
                self.wrong.append(f"{self.name}, {slot.kind} {chosen.__name__}: {error!r}")
        for _, cache, _ in self.caches:
            cache.close()
        self.caches.clear()
        self.reference.close()

    # -- calls -----------------------------------------------------------------------------------------------

    def numbers(self, *shape: int) -> np.ndarray:
        return np.random.default_rng(self.random.getrandbits(32)).standard_normal(shape, np.float32)

    def operands(self) -> tuple[list[np.ndarray], dict[str, Any]]:
        heads, e = self.random.choice((1, 2, 3)), self.random.choice((8, 5, 16))
        queries, keys = self.random.randrange(1, 20), self.random.randrange(1, 60)
        arrays = [self.numbers(heads, queries, e), self.numbers(heads, keys, e), self.numbers(heads, keys, 8)]
        options: dict[str, Any] = {}
        for name, value in (
            ("causal", True),
            ("window", (3, 1)),
            ("out_dtype", "float32"),
            ("sink", [0.5] * heads),
            ("temperature", 2.0),
            ("alibi_slopes", [0.25] * heads),
            ("prefix", 2),
        ):
            if self.random.random() < 0.25:
                options[name] = value
        return arrays, options

    def compare(self, found: np.ndarray, expected: np.ndarray) -> None:
        self.counts["compared"] += 1
        if found.tobytes() != expected.tobytes():
            self.wrong.append(f"{self.name}: {np.count_nonzero(found != expected)} of {found.size} elements differ")

    def call(self, slot: Slot) -> None:
        arrays, options = self.operands()
        found = fusemax.attention(*arrays, device=slot.device, **options)
        self.compare(found, fusemax.attention(*arrays, device=self.reference, **options))

    def submit(self, slot: Slot) -> None:
        calls = [self.operands() for _ in range(self.random.randrange(1, 4))]
        submissions = [slot.device.submit(*arrays, **options) for arrays, options in calls]
        self.random.shuffle(order := list(range(len(calls))))
        for index in order:
            arrays, options = calls[index]
            found = submissions[index].result(HANG_SECONDS)
            self.compare(found, fusemax.attention(*arrays, device=self.reference, **options))

    def drop(self, slot: Slot) -> None:
        """A submission that nobody waits for, in a cycle half of the time."""
        arrays, options = self.operands()
        dropped: list[Any] = [slot.device.submit(*arrays, **options)]
        if self.random.random() < 0.5:
            dropped.append(dropped)

    def cache(self, slot: Slot) -> None:
        """A step of a cache of this thread's: grow, fork, cut, free, attend."""
        mine = [entry for entry in self.caches if entry[0] is slot and not entry[1].device.closed]
        self.caches = [entry for entry in self.caches if not entry[1].device.closed]
        if not mine:
            self.caches.append((slot, fusemax.KVCache(slot.device, heads=2, e=8, page_size=4, pages=PAGES), {}))
            return
        _, cache, arrays = mine[0]
        if self.random.random() < 0.03:
            # Closed, or left to the collector.
            self.caches.remove(mine[0])
            if self.random.random() < 0.5:
                cache.close()
            return
        for _ in range(self.random.randrange(1, 6)):
            self.grow(cache, arrays)
        names = [name for name, (k, _) in arrays.items() if k.shape[1]]
        if names:
            chosen = self.random.choices(names, k=self.random.randrange(1, 4))
            queries = [self.numbers(4, self.random.randrange(1, 5), 8) for _ in chosen]
            options: dict[str, Any] = {"causal": True} if self.random.random() < 0.5 else {}
            for name, q, out in zip(chosen, queries, cache.attend(queries, chosen, **options), strict=True):
                k, v = arrays[name]
                offset = k.shape[1] - q.shape[1]
                self.compare(out, fusemax.attention(q, k, v, device=self.reference, query_offset=offset, **options))

    def grow(self, cache: fusemax.KVCache, arrays: dict[int, list[np.ndarray]]) -> None:
        what, new = self.random.randrange(6), max(arrays, default=0) + 1
        if what == 0 or not arrays:
            cache.allocate(new)
            arrays[new] = [np.zeros((2, 0, 8), np.float32)] * 2
            return
        name = self.random.choice(list(arrays))
        if what == 1:
            cache.fork(name, new)
            arrays[new] = arrays[name]
        elif what == 2:
            length = self.random.randrange(arrays[name][0].shape[1] + 1)
            cache.truncate(name, length)
            arrays[name] = [array[:, :length] for array in arrays[name]]
        elif what == 3 and len(arrays) > 3:
            cache.free(name)
            del arrays[name]
        else:
            more = [self.numbers(2, self.random.randrange(1, 7), 8)] * 2
            try:
                cache.append(name, *more)
            except DeviceMemoryError:
                for other in list(arrays)[:2]:
                    cache.free(other)
                    del arrays[other]
                return
            arrays[name] = [np.concatenate(pair, axis=1) for pair in zip(arrays[name], more, strict=True)]

    def abort(self, slot: Slot) -> None:
        arrays, options = self.operands()
        if self.random.random() < 0.5:
            slot.device.abort()
            return
        try:
            fusemax.attention(*arrays, device=slot.device, progress=lambda *_: slot.device.abort(), **options)
        except AbortFaultError:
            return
        # Only one that was done before anybody was told.
        self.counts[f"{slot.kind} abort too late"] += 1

    def give_up(self, slot: Slot) -> None:
        x = self.numbers(3, 40, 8)
        fusemax.attention(x, x, x, device=slot.device, timeout=self.random.random() * 0.05)

    def wrong_numbers(self, slot: Slot) -> None:
        """Each call gets its own error."""
        x = self.numbers(1, 4, 8)
        try:
            slot.device.submit(x * 1e4, x * 1e4, x).result(HANG_SECONDS)
        except ScoreOverflowError:
            pass
        else:
            self.wrong.append(f"{self.name}: a score out of range was not told")
        try:
            fusemax.attention(x, x, x * np.inf, device=slot.device)
        except NonFiniteError:
            pass
        else:
            self.wrong.append(f"{self.name}: an infinity was not told")

    def kill(self, slot: Slot) -> None:
        """Kill the simulator, or close the device, in the midst of what others do."""
        device = slot.device
        if slot.kind == "rtl" and self.random.random() < 0.7:
            try:
                os.kill(device.transport._simulator.pid, signal.SIGKILL)  # type: ignore[attr-defined]
            except ProcessLookupError:
                return
        else:
            device.close()


def processes() -> set[str]:
    """Processes whose parent this one is."""
    mine = str(os.getpid())
    found = set()
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, parent = path.read_text().rpartition(")")[2].split()[:2]
        except OSError:
            continue
        if parent == mine and state != "Z":
            found.add(path.parent.name)
    return found


def descriptors() -> Counter[str]:
    """What this process has open."""
    found: Counter[str] = Counter()
    for path in Path("/proc/self/fd").iterdir():
        try:
            found[os.readlink(path).partition(":[")[0]] += 1
        except OSError:
            continue
    return found


def left_areas(slot: Slot) -> dict[int, int]:
    """Areas of a device's memory that are taken when everything was dropped, but for those of programs."""
    gc.collect()
    device = slot.device
    x = np.ones((1, 2, 8), np.float32)
    for _ in range(2):
        try:
            device.submit(x, x, x).result(HANG_SECONDS)
        except DeviceError:
            slot.renew(device)
            device = slot.device
    memory = device.driver.memory
    # A program that was new to submit has an area of its own.
    programs = device.driver._programs._addresses.values()
    areas = memory._reserved.items()
    left = {start: size for start, size in areas if not any(start <= place < start + size for place in programs)}
    if memory.call is not None:
        left[memory.call[0]] = memory.call[1] - memory.call[0]
    return left


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=3600.0, help="default: an hour")
    parser.add_argument("--threads", type=int, default=8)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().getrandbits(32))
    parser.add_argument("--device", action="append", choices=("model", "rtl"), help="may be repeated; default: both")
    options = parser.parse_args()
    print(f"seed {options.seed}", flush=True)
    # Caches that are left to the collector say so.
    warnings.simplefilter("ignore", ResourceWarning)
    with tempfile.TemporaryDirectory() as directory:
        tempfile.tempdir = directory
        before, files, threads = processes(), descriptors(), threading.active_count()
        counts: Counter[str] = Counter()
        wrong: list[str] = []
        slots = [Slot(kind) for kind in options.device or ("model", "rtl")]
        end = time.monotonic() + options.seconds
        workers = [Worker(number, slots, end, options.seed, counts, wrong) for number in range(options.threads)]
        for worker in workers:
            worker.start()
        while any(worker.is_alive() for worker in workers):
            time.sleep(0.5)
            late = time.monotonic() - HANG_SECONDS
            if any(worker.is_alive() and worker.alive_at < late for worker in workers):
                faulthandler.dump_traceback()
                print("a thread hangs", file=sys.stderr)
                os._exit(1)
        del workers, worker
        for slot in slots:
            if left := left_areas(slot):
                wrong.append(f"the {slot.kind} device's memory is not balanced: {left}")
            slot.close()
        # The last one's memory is mapped as long as it has a name.
        del slots, slot
        gc.collect()
        for what, left in (
            ("processes", processes() - before),
            ("files", list(Path(directory).iterdir())),
            ("descriptors", dict(descriptors() - files)),
            ("threads", threading.active_count() - threads),
        ):
            if left:
                wrong.append(f"{what} are left: {left}")
    for name, count in sorted(counts.items()):
        print(f"{name}: {count}")
    print(f"{counts['compared']} results compared, {len(wrong)} things wrong")
    for line in wrong[:50]:
        print(line, file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
