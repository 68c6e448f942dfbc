"""Bytes of events that faults change."""

from __future__ import annotations

import json
import random

from hypothesis import given
from hypothesis import strategies as st

from mesos.v1.executor import executor_pb2
from services.local_agent.faults import damage, refusals
from services.local_agent.wire import call_validation, recordio


@given(st.binary(max_size=64), st.integers(1, 80), st.integers())
def test_as_many_bytes_as_asked_for_are_different(payload: bytes, count: int, seed: int) -> None:
    damaged = damage.flip(payload, count, random.Random(seed))
    assert len(damaged) == len(payload)
    assert sum(a != b for a, b in zip(payload, damaged, strict=True)) == min(count, len(payload))
    assert damage.flip(payload, count, random.Random(seed)) == damaged


@given(st.integers(-(2**31), 2**31 - 1))
def test_an_unknown_type_is_well_formed(number: int) -> None:
    payload = damage.unknown_event(number, call_validation.PROTOBUF)
    event = executor_pb2.Event()
    event.ParseFromString(payload)
    if number not in executor_pb2.Event.Type.values():
        # Kept as a field that is not known: `type` reads as unset.
        assert not event.HasField("type")
        assert event.SerializeToString() == payload
    assert json.loads(damage.unknown_event(number, call_validation.JSON)) == {"type": f"UNKNOWN_{number}"}


def _chunks(data: bytes) -> list[bytes]:
    found = []
    while data:
        size, _, rest = data.partition(b"\r\n")
        length = int(size, 16)
        assert rest[length : length + 2] == b"\r\n"
        found.append(rest[:length])
        data = rest[length + 2 :]
    return found


@given(st.binary(min_size=1, max_size=300), st.integers(1, 400))
def test_pieces_make_up_the_record(record: bytes, size: int) -> None:
    chunks = [chunk for piece in damage.split(record, size) for chunk in _chunks(piece)]
    assert b"".join(chunks) == record
    assert all(len(chunk) == size for chunk in chunks[:-1])


def test_a_large_record_is_not_split_for_ever() -> None:
    record = bytes(10 * damage.MAX_CHUNKS + 1)
    assert len(list(damage.split(record, 1))) <= damage.MAX_CHUNKS


def test_joined_records_are_one_chunk() -> None:
    assert _chunks(damage.join([recordio.record(b"ab"), recordio.record(b"c")])) == [b"2\nab1\nc"]


def test_a_wrong_length_stands_in_a_whole_chunk() -> None:
    assert _chunks(damage.with_length(b"abc", "xyz")) == [b"xyz\nabc"]


def test_texts_are_those_of_mesos() -> None:
    assert refusals.text(503) == "Agent has not finished recovery"
    assert refusals.text(403) == "Executor is not subscribed"
    assert refusals.text(404) == "404 Not Found."
    assert refusals.text(401) == "401 Unauthorized."
    assert refusals.text(599) == "599."
