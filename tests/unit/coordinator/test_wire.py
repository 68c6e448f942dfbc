from __future__ import annotations

import itertools
import json
import os
import socket
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from executor_shim.coordinator.wire import (
    MAX_MESSAGE,
    Channel,
    Decoder,
    MalformedMessageError,
    WireError,
    encode,
)

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
messages = st.lists(st.dictionaries(st.text(), values, max_size=4), max_size=5)


@given(messages, st.lists(st.integers(0, 200), max_size=10))
def test_messages_survive_any_cutting_of_the_bytes(sent: list[dict[str, Any]], cuts: list[int]) -> None:
    data = b"".join(map(encode, sent))
    borders = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    decoder = Decoder()
    got: list[dict[str, Any]] = []
    for start, end in itertools.pairwise(borders):
        decoder.feed(data[start:end])
        while (message := decoder.take()) is not None:
            got.append(message)
    assert got == sent


def test_bytes_that_are_not_utf8_survive_as_surrogates() -> None:
    text = b"\xff\xfe".decode("utf-8", "surrogateescape")
    decoder = Decoder()
    decoder.feed(encode({"a": text}))
    assert decoder.take() == {"a": text}


@pytest.mark.parametrize("body", [b"", b"\xff", b"[]", b"3", b"{", b"[" * 200_000])
def test_malformed_message_is_dropped_and_the_next_one_read(body: bytes) -> None:
    decoder = Decoder()
    decoder.feed(len(body).to_bytes(4, "big") + body + encode({"ok": 1}))
    with pytest.raises(MalformedMessageError):
        decoder.take()
    assert decoder.take() == {"ok": 1}


def test_error_of_a_malformed_message_never_holds_its_content() -> None:
    body = b'{"env": {"PASSWORD": "hunter2" oops'
    decoder = Decoder()
    decoder.feed(len(body).to_bytes(4, "big") + body)
    with pytest.raises(MalformedMessageError) as caught:
        decoder.take()
    assert "hunter2" not in str(caught.value)


def test_impossible_length_is_fatal() -> None:
    decoder = Decoder()
    decoder.feed((MAX_MESSAGE + 1).to_bytes(4, "big"))
    with pytest.raises(WireError):
        decoder.take()


def test_message_too_long_to_send_is_refused() -> None:
    with pytest.raises(WireError):
        encode({"a": "x" * MAX_MESSAGE})


def test_channel_keeps_what_the_peer_does_not_take_and_never_blocks() -> None:
    left, right = map(Channel, socket.socketpair())
    for number in range(400):
        left.send({"n": number, "filler": "x" * 10_000})
    assert left.pending > 0
    got: list[int] = []
    while len(got) < 400:
        right.receive()
        while (message := right.take()) is not None:
            got.append(message["n"])
        left.flush()
    assert got == list(range(400))
    assert left.pending == 0
    left.close()
    right.close()


def test_descriptors_come_in_order_with_their_messages_and_are_not_inherited() -> None:
    left, right = map(Channel, socket.socketpair())
    pipes = [os.pipe() for _ in range(3)]
    for number in range(200):
        left.send({"filler": "y" * 5000})
        if number % 80 == 0:
            left.send({"fd": number}, fd=pipes[number // 80][1])
    for _, write_end in pipes:
        os.close(write_end)
    taken = []
    count = 0
    while count < 203:
        right.receive()
        while (message := right.take()) is not None:
            count += 1
            if "fd" in message:
                fd = right.take_fd()
                assert fd is not None
                assert not os.get_inheritable(fd)
                os.write(fd, b"%d" % message["fd"])
                os.close(fd)
                taken.append(message["fd"])
        left.flush()
    assert taken == [0, 80, 160]
    assert right.take_fd() is None
    left.close()
    right.close()
    assert [os.read(read_end, 10) for read_end, _ in pipes] == [b"0", b"80", b"160"]
    for read_end, _ in pipes:
        os.close(read_end)


def test_closed_peer_shows_as_eof_after_its_last_message() -> None:
    left, right = map(Channel, socket.socketpair())
    left.send({"last": True})
    left.close()
    right.send({"into": "the void"})
    right.receive()
    right.receive()
    assert right.take() == {"last": True}
    assert right.eof
    assert right.pending == 0
    right.close()


def test_frame_is_length_and_json() -> None:
    data = encode({"op": "beat"})
    assert int.from_bytes(data[:4], "big") == len(data) - 4
    assert json.loads(data[4:]) == {"op": "beat"}
