"""The SUBSCRIBE response: any cut of the bytes gives the same records, and no bytes do harm."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from executor_shim.driver.agent.stream import MAX_RECORD, StreamBroken, StreamDecoder

HEAD = b"HTTP/1.1 200 OK\r\nDate: Thu\r\nTransfer-Encoding: chunked\r\nContent-Type: application/x-protobuf\r\n\r\n"

records_strategy = st.lists(st.binary(max_size=300), max_size=8)


def record(payload: bytes) -> bytes:
    return b"%d\n%s" % (len(payload), payload)


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


def cut(data: bytes, sizes: list[int]) -> list[bytes]:
    pieces, rest = [], data
    for size in sizes:
        pieces.append(rest[:size])
        rest = rest[size:]
    return [*pieces, rest]


@given(records_strategy, st.lists(st.integers(1, 40), max_size=30), st.lists(st.integers(1, 40), max_size=30))
def test_chunk_and_read_borders_do_not_matter(payloads: list[bytes], chunks: list[int], reads: list[int]) -> None:
    body = b"".join(record(payload) for payload in payloads)
    wire = HEAD + b"".join(chunk(piece) for piece in cut(body, chunks) if piece) + b"0\r\n\r\n"
    found: list[bytes] = []
    decoder = StreamDecoder()
    for piece in cut(wire, reads):
        decoder.feed(piece, found)
    assert found == payloads
    assert decoder.finished
    assert decoder.status == 200


@given(records_strategy, st.integers(0, 3000))
def test_another_decoder_goes_on_from_any_byte(payloads: list[bytes], at: int) -> None:
    wire = HEAD + b"".join(chunk(record(payload)) for payload in payloads)
    found: list[bytes] = []
    first = StreamDecoder()
    first.feed(wire[:at], found)
    second = StreamDecoder()
    second.restore(*first.snapshot())
    second.feed(wire[at:], found)
    assert found == payloads


@given(st.binary(max_size=400))
def test_any_bytes_end_in_records_or_stream_broken(data: bytes) -> None:
    for prefix in (b"", HEAD):
        decoder = StreamDecoder()
        try:
            decoder.feed(prefix + data, [])
        except StreamBroken:
            pass


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (chunk(b"123456789012345678901\n"), "more than 20 digits"),
        (chunk(b"abc\n"), "record length"),
        (chunk(b"-1\n"), "record length"),
        (chunk(b"%d\n" % (MAX_RECORD + 1)), "record length"),
        (b"zz\r\n", "chunk size"),
        (b"-5\r\n", "chunk of"),
        (b"3\r\n2\nabX\r\n", "longer than it said"),
    ],
)
def test_lost_framing_is_named(body: bytes, why: str) -> None:
    with pytest.raises(StreamBroken, match=why):
        StreamDecoder().feed(HEAD + body, [])


def test_records_before_the_damage_are_kept() -> None:
    found: list[bytes] = []
    with pytest.raises(StreamBroken):
        StreamDecoder().feed(HEAD + chunk(record(b"launch")) + b"garbage\r\n", found)
    assert found == [b"launch"]


def test_an_error_answer_gives_status_and_body() -> None:
    decoder = StreamDecoder()
    wire = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 32\r\n\r\nAgent has not finished recovery\n"
    for i in range(len(wire)):
        decoder.feed(wire[i : i + 1], [])
    assert (decoder.status, decoder.finished) == (503, True)
    assert decoder.error_body == b"Agent has not finished recovery\n"


def test_a_status_without_body_is_complete_with_its_head() -> None:
    decoder = StreamDecoder()
    decoder.feed(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", [])
    assert decoder.finished
