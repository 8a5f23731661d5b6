"""Frames: coding, checking, and what a stream of them looks like in pieces."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusemax.bridge.frame import (
    Answer,
    Deframer,
    FrameError,
    Request,
    State,
    answer_bytes,
    cobs_decode,
    cobs_encode,
    decode,
    encode,
    parse_answer,
)
from fusemax.spec.bridge import Command, StateFlag, Status

#: Bodies with runs of zeros and of other bytes about as long as a group.
BODIES = st.lists(
    st.one_of(st.binary(max_size=20), st.integers(1, 3).map(bytes), st.integers(250, 512).map(lambda size: b"\x55" * size)),
    max_size=4,
).map(b"".join)


@given(BODIES)
def test_cobs_has_no_zeros_and_comes_back(body: bytes) -> None:
    coded = cobs_encode(body)
    assert 0 not in coded
    assert len(coded) <= len(body) + len(body) // 254 + 1
    assert cobs_decode(coded) == body


def test_cobs_is_the_published_code() -> None:
    # Cheshire and Baker, IEEE/ACM Transactions on Networking 7 (1999): the groups of section II.
    assert cobs_encode(b"") == b"\x01"
    assert cobs_encode(b"\0") == b"\x01\x01"
    assert cobs_encode(b"\x11\x22\0\x33") == b"\x03\x11\x22\x02\x33"
    run = bytes(range(1, 255))
    assert cobs_encode(run + b"\x07") == b"\xff" + run + b"\x02\x07"
    assert cobs_encode(run + b"\0\x07")[:255] == b"\xff" + run


@pytest.mark.parametrize("coded", [b"", b"\x03\x11", b"\x02\0", b"\x01\x00\x01", b"\xff\x01"])
def test_what_is_not_cobs_is_refused(coded: bytes) -> None:
    with pytest.raises(FrameError, match="must"):
        cobs_decode(coded)


def test_the_crc_is_that_of_the_catalogue() -> None:
    # Check value of CRC-32/ISO-HDLC.
    assert cobs_decode(encode(b"123456789")[:-1])[-4:] == (0xCBF43926).to_bytes(4, "little")


@given(st.binary(max_size=300), st.data())
def test_no_damage_of_a_byte_or_two_is_taken_for_a_frame(body: bytes, data: st.DataObject) -> None:
    frame = encode(body)
    place = data.draw(st.integers(0, len(frame) - 2))
    change = data.draw(st.integers(1, 255))
    flipped = bytes([frame[place] ^ change])
    for spoilt in (
        frame[:place] + flipped + frame[place + 1 :],
        frame[:place] + frame[place + 1 :],
        frame[:place] + flipped + frame[place:],
    ):
        assert body not in list(Deframer().feed(spoilt)) or spoilt.endswith(b"\0" + frame)


@given(st.lists(BODIES, max_size=5), st.lists(st.integers(1, 40), min_size=1, max_size=50))
def test_frames_come_in_pieces_of_any_size(bodies: list[bytes], sizes: list[int]) -> None:
    text = b"\0".join((b"", *map(encode, bodies)))
    deframer, found, place = Deframer(), [], 0
    for size in (*sizes, len(text)):
        found += deframer.feed(text[place : place + size])
        place += size
    assert found == bodies


def test_after_garbage_the_second_frame_at_the_latest_is_found() -> None:
    rng = random.Random(1)
    for _ in range(200):
        deframer = Deframer()
        list(deframer.feed(rng.randbytes(rng.randrange(100))))
        first, second = encode(b"first"), encode(b"second")
        assert list(deframer.feed(first + second))[-1] == b"second"
    deframer = Deframer()
    list(deframer.feed(b"\x55" * 100_000))
    assert list(deframer.feed(b"\0" + encode(b"found"))) == [None, b"found"]


def test_requests_and_answers_come_back() -> None:
    requests = [
        Request(Command.WRITE_MEMORY, 7, 3, 0x1234_5678, b"abc"),
        Request(Command.READ_MEMORY, 255, 4095, 0xFFFF_FFFF),
        Request(Command.POLL, 1, 0, 0x100),
    ]
    for request in requests:
        assert Request.from_body(decode(request.to_bytes()[:-1])) == request
    answers = [
        Answer(Command.READ_MEMORY, 3, Status.OKAY, bytes(64)),
        Answer(Command.WRITE_REGISTERS, 3, Status.DECODE_ERROR),
        State(9, 77, StateFlag.INTERRUPT | StateFlag.MISSING, 1, 512, 4096, 2048, 16, 1 << 18),
    ]
    for answer in answers:
        assert parse_answer(decode(answer.to_bytes()[:-1])) == answer


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\x91\0\0\0",
        b"\x91\0\x01\0\0",  # length without payload
        b"\x95\0\0\0\0",  # no such command
        b"\x91\0\0\0\x09",  # no such status
        b"\xc0\0\0\0\0",  # empty state
    ],
)
def test_what_is_not_an_answer_is_refused(body: bytes) -> None:
    with pytest.raises(FrameError):
        parse_answer(body)


@pytest.mark.parametrize(
    "request_",
    [Request(Command.WRITE_MEMORY, 0, 4, 0, b"abc"), Request(Command.READ_MEMORY, 0, 3, 0, b"abc")],
)
def test_a_length_that_is_not_the_payload_is_refused(request_: Request) -> None:
    with pytest.raises(FrameError, match="payload"):
        Request.from_body(decode(request_.to_bytes()[:-1]))
    with pytest.raises(FrameError, match="8 bytes at least"):
        Request.from_body(b"short")


@given(BODIES)
def test_no_answer_is_longer_than_the_window_reckons(payload: bytes) -> None:
    assert len(Answer(Command.READ_MEMORY, 1, Status.OKAY, payload).to_bytes()) <= answer_bytes(len(payload))
