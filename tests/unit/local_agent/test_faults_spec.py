"""Faults as texts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.local_agent import settings
from services.local_agent.faults import spec
from services.local_agent.faults.validation import TYPES, FaultRefused, check
from tests.unit.local_agent.faults_strategy import any_fault
from trivet.agent.v1 import faults_pb2

Fault = faults_pb2.Fault


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        (
            "update refuse=503 times=3",
            Fault(call=faults_pb2.CALL_TYPE_UPDATE, refuse=Fault.Refuse(status=503), times=3),
        ),
        (
            "event=ACKNOWLEDGED lose probability=0.2",
            Fault(event=faults_pb2.EVENT_TYPE_ACKNOWLEDGED, lose=Fault.Lose(), probability=0.2),
        ),
        ("connection refuse", Fault(connection=Fault.Connection(), refuse=Fault.Refuse())),
        (
            "event=any hold executor=shim",
            Fault(event=faults_pb2.EVENT_TYPE_ANY, hold=Fault.Hold(), executor_id="shim"),
        ),
        ("event=LAUNCH rechunk=1", Fault(event=faults_pb2.EVENT_TYPE_LAUNCH, rechunk=Fault.Rechunk(chunk_bytes=1))),
        (
            "event=KILL corrupt.flip_bytes=2",
            Fault(event=faults_pb2.EVENT_TYPE_KILL, corrupt=Fault.Corrupt(flip_bytes=2)),
        ),
        ("SUBSCRIBE delay=1500ms", Fault(call=faults_pb2.CALL_TYPE_SUBSCRIBE, delay=Fault.Delay(seconds=1.5))),
        ("call=any cut reset", Fault(call=faults_pb2.CALL_TYPE_ANY, cut=Fault.Cut(reset=True))),
        (
            "event=kill cut after_bytes=7 task='a b'",
            Fault(event=faults_pb2.EVENT_TYPE_KILL, cut=Fault.Cut(after_bytes=7), task_id="a b"),
        ),
        (
            "update refuse=500 body='try later'",
            Fault(call=faults_pb2.CALL_TYPE_UPDATE, refuse=Fault.Refuse(status=500, body="try later")),
        ),
    ],
)
def test_texts_mean_what_they_say(text: str, wanted: Fault) -> None:
    assert spec.parse(text) == wanted


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("", "'': needs a target"),
        ("update", "'update': needs a target and an effect"),
        ("update 'refuse", '"update \'refuse": No closing quotation'),
        ("upgrade hold", "upgrade: no target"),
        ("event=LAUNSH hold", "event=LAUNSH: no such type of event"),
        ("event hold", "event: no such type of event"),
        ("update explode", "explode: no effect"),
        ("update refuse=abc", "refuse=abc: not a whole number"),
        ("update refuse=200", "refuse=200: 200 is not from 400 to 599"),
        ("update refuse", "refuse: 0 is not from 400 to 599"),
        ("update delay=soon", "delay=soon: 'soon' is not a duration"),
        ("update delay", "delay: 0 is not above 0"),
        ("update delay=nan", "delay=nan: nan is not above 0"),
        ("update hold=3", "hold=3: hold takes no value"),
        ("update corrupt.flip_bytes=1", "corrupt.flip_bytes=1: not for this target"),
        ("event=KILL corrupt", "corrupt: needs one of"),
        ("event=KILL corrupt.colour=1", "corrupt.colour=1: there are corrupt.flip_bytes"),
        ("event=KILL corrupt.event_type=3", "corrupt.event_type=3: 3 is a type that executors know"),
        ("event=KILL rechunk=0", "rechunk=0: at least 1"),
        ("event=KILL rechunk=99999999999", "rechunk=99999999999: "),
        ("event=HEARTBEAT lose task=t", "task=t: this event names no task"),
        ("update lose probability=2", "probability=2: from 0 to 1"),
        ("update lose probability=nan", "probability=nan: from 0 to 1"),
        ("update lose probability=x", "probability=x: not a number"),
        ("update lose times=-1", "times=-1: not a whole number"),
        ("update lose times", "times: needs a value"),
        ("update lose times=1 times=2", "times=2: given twice"),
        ("update lose reset", "reset: goes with cut only"),
        ("update lose when=now", "when=now: no such key"),
        ("update cut after_bytes=1", "after_bytes=1: only events are written"),
        ("connection hold executor=e", "executor=e: connections cannot be told apart"),
        ("connection refuse times=1", "times=1: nobody listens"),
        ("connection refuse=503", "refuse=503: a connection that is refused gets no answer"),
        ("connection lose", "lose: not for this target"),
        ("update lose id=a/b", "id=a/b: 1 to 64 of"),
    ],
)
def test_mistakes_name_the_word(text: str, error: str) -> None:
    with pytest.raises(spec.SpecError) as refused:
        spec.parse(text)
    assert str(refused.value).startswith(error)


@given(any_fault())
def test_every_fault_that_makes_sense_has_a_text(fault: Fault) -> None:
    check(fault)
    assert spec.parse(spec.format(fault)) == fault


@given(st.text())
def test_any_text_is_a_fault_or_refused(text: str) -> None:
    try:
        fault = spec.parse(text)
    except spec.SpecError:
        return
    check(fault)


@given(
    st.lists(
        st.sampled_from(
            [
                *TYPES["call"],
                "event=any",
                "connection",
                "refuse=503",
                "hold",
                "cut",
                "reset",
                "times=1",
                "task=t",
                "x=1",
            ]
        ),
        max_size=5,
    )
)
def test_any_words_are_a_fault_or_refused(words: list[str]) -> None:
    try:
        fault = spec.parse(" ".join(words))
    except spec.SpecError:
        return
    assert spec.parse(spec.format(fault)) == fault


def test_a_fault_without_effect_has_no_text() -> None:
    with pytest.raises(ValueError, match="no text"):
        spec.format(Fault(call=faults_pb2.CALL_TYPE_ANY))


@pytest.mark.parametrize(
    ("fault", "field"),
    [
        (Fault(), ""),
        (Fault(call=faults_pb2.CALL_TYPE_UNSPECIFIED, hold=Fault.Hold()), "call"),
        (Fault(event=faults_pb2.EVENT_TYPE_KILL), ""),
        (Fault(call=faults_pb2.CALL_TYPE_UPDATE, refuse=Fault.Refuse(status=399)), "refuse.status"),
        (Fault(call=faults_pb2.CALL_TYPE_UPDATE, corrupt=Fault.Corrupt(flip_bytes=1)), "corrupt"),
        (Fault(event=faults_pb2.EVENT_TYPE_KILL, refuse=Fault.Refuse(status=503)), "refuse"),
        (Fault(event=faults_pb2.EVENT_TYPE_KILL, rechunk=Fault.Rechunk()), "rechunk"),
        (
            Fault(event=faults_pb2.EVENT_TYPE_KILL, rechunk=Fault.Rechunk(events_per_chunk=1)),
            "rechunk.events_per_chunk",
        ),
        (Fault(event=faults_pb2.EVENT_TYPE_KILL, corrupt=Fault.Corrupt(record_length="1\n")), "corrupt.record_length"),
        (Fault(call=faults_pb2.CALL_TYPE_HEARTBEAT, hold=Fault.Hold(), task_id="t"), "task_id"),
        (Fault(connection=Fault.Connection(), cut=Fault.Cut(after_bytes=1)), "cut.after_bytes"),
        (Fault(call=faults_pb2.CALL_TYPE_ANY, delay=Fault.Delay(seconds=float("inf"))), "delay.seconds"),
    ],
)
def test_refusals_name_the_field(fault: Fault, field: str) -> None:
    with pytest.raises(FaultRefused) as refused:
        check(fault)
    assert refused.value.field == field
    assert str(refused.value).startswith(f"fault.{field}: " if field else "fault: ")


def test_flags_take_faults(capsys: pytest.CaptureFixture[str]) -> None:
    parsed = settings.parse(
        ["--work-dir", "/w", "--fault", "update hold", "--fault", "connection refuse", "--fault-seed", "7"]
    )
    assert (parsed.faults, parsed.fault_seed) == ((spec.parse("update hold"), spec.parse("connection refuse")), 7)
    with pytest.raises(SystemExit):
        settings.parse(["--work-dir", "/w", "--fault", "update fold"])
    assert "argument --fault: fold: no effect" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        settings.parse(["--work-dir", "/w", "--fault", "update hold id=a", "--fault", "update lose id=a"])
    assert "--fault: fault.id: a is in use" in capsys.readouterr().err
