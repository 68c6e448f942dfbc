"""The log's records survive being written and read."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.local_agent.core import records
from services.local_agent.core.records import Record

VALUES: dict[str, st.SearchStrategy[object]] = {
    "str": st.text(st.characters(exclude_categories=["Cs"])),
    "int": st.integers(),
    "float": st.floats(allow_nan=False),
    "bytes": st.binary(),
    "bool": st.booleans(),
    "tuple[str, ...]": st.lists(st.text(st.characters(exclude_categories=["Cs"]))).map(tuple),
}


@st.composite
def any_record(draw: st.DrawFn) -> Record:
    record_type = draw(st.sampled_from(Record.__subclasses__()))
    return record_type(**{field.name: draw(VALUES[str(field.type)]) for field in dataclasses.fields(record_type)})


@given(any_record())
def test_every_record_is_read_as_it_was_written(record: Record) -> None:
    assert records.decode(records.encode(record)) == record


@pytest.mark.parametrize("payload", [b'{"type":"Unheard"}', b'{"type":"TaskAdded","task_id":"t"}', b"{}"])
def test_records_of_another_version_are_refused(payload: bytes) -> None:
    with pytest.raises(records.RecordError):
        records.decode(payload)
