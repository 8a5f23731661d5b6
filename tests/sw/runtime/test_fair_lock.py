"""Turns: exclusive, in the order of asking."""

from __future__ import annotations

import threading
import time

from fusemax.runtime.fair_lock import Turns


def test_one_at_a_time_and_in_order() -> None:
    turns, order, inside = Turns(), [], 0

    def take(number: int) -> None:
        nonlocal inside
        with turns:
            inside += 1
            assert inside == 1
            order.append(number)
            inside -= 1

    threads = [threading.Thread(target=take, args=(number,)) for number in range(8)]
    with turns:
        for number, thread in enumerate(threads):
            thread.start()
            while len(turns._waiting) <= number:
                time.sleep(0.001)
    for thread in threads:
        thread.join(10)
    assert order == list(range(8))
    with turns:
        pass


def test_who_takes_turns_again_and_again_lets_others_have_theirs() -> None:
    turns, over = Turns(), threading.Event()

    def often() -> None:
        while not over.is_set():
            with turns:
                time.sleep(0.001)

    thread = threading.Thread(target=often)
    thread.start()
    for _ in range(20):
        start = time.monotonic()
        with turns:
            assert time.monotonic() - start < 1
    over.set()
    thread.join(10)
