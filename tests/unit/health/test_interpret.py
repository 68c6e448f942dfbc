"""What one probe result means, for the one that judges and the one that only tells."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.common.task.checks import CommandTarget, Expected, HttpTarget, Target, TcpTarget
from services.health.interpret import QUOTE_LIMIT, Meaning, Reading, Value, numbered, quote, read
from services.health.model import Kind
from trivet.health.v1 import health_pb2 as pb
from trivet.link.v1 import link_pb2

HTTP, HTTPS = HttpTarget(8080, "/health"), HttpTarget(8443, "/health", tls=True)
TCP, COMMAND = TcpTarget(8080), CommandTarget(("/bin/sh", "-c", "true"), text="true")
ANY = Expected()
MESOS = Expected(((200, 399),))
S, F, T = Meaning.SUCCESS, Meaning.FAILURE, Meaning.TRANSIENT


def aurora(body: str = "ok", status: int = 0) -> Expected:
    return Expected(((status, status),) if status else (), body)


def answer(status: int, body: bytes = b"", **more: object) -> pb.ProbeResult:
    result = pb.ProbeResult(outcome=pb.PROBE_OUTCOME_DONE, http_status=status, body=body, check=pb.CHECK_KIND_HEALTH)
    result.MergeFrom(pb.ProbeResult(**more))  # type: ignore[arg-type]  # fields of the result
    return result


def health(target: Target, result: pb.ProbeResult, expected: Expected = ANY) -> Reading:
    return read(target, expected, 1.5, result, Kind.HEALTH)


def check(target: Target, result: pb.ProbeResult) -> Reading:
    return read(target, ANY, 1.5, result, Kind.CHECK)


@pytest.mark.parametrize(
    ("expected", "status", "body", "meaning"),
    [
        (aurora(), 200, b"ok", S),
        (aurora(), 200, b" \r\nOK\n", S),
        (aurora("OK "), 200, b"ok", S),
        (aurora(), 200, b"okay", F),
        (aurora(), 200, b"", F),
        (aurora(), 302, b"ok", S),
        (aurora(), 399, b"ok", S),
        (aurora(), 400, b"ok", F),
        (aurora(), 404, b"ok", F),
        (aurora(), 503, b"ok", F),
        (aurora(""), 200, b"whatever", S),
        (aurora("  "), 200, b"whatever", S),
        # An error's body counts as empty, so an expected code may match, and no expectation is met by everything.
        (aurora(""), 503, b"whatever", S),
        (aurora("", 503), 503, b"", S),
        (aurora("", 200), 204, b"", F),
        (aurora("ok", 200), 200, b"ok", S),
        (aurora("ok", 200), 201, b"ok", F),
        (aurora("ok", 503), 503, b"ok", F),
        (aurora("grün"), 200, "GRÜN".encode(), S),
        (aurora(), 200, b"ok\xff", F),
        (aurora("\ufffd"), 200, b"\xff", F),
        (aurora(), 200, b"ok" + b" " * 9000, S),
        (aurora(), 0, b"ok", T),
    ],
)
def test_auroras_answers(expected: Expected, status: int, body: bytes, meaning: Meaning) -> None:
    assert health(HTTP, answer(status, body), expected).meaning is meaning


@pytest.mark.parametrize("status", [200, 204, 301, 399])
def test_mesos_takes_200_to_399(status: int) -> None:
    assert health(HTTPS, answer(status), MESOS) == Reading(S, "HTTPS health check passed")


@pytest.mark.parametrize("status", [100, 199, 400, 401, 500, 999])
def test_mesos_takes_nothing_else(status: int) -> None:
    detail = f"HTTP health check failed: status {status}, expected status 200-399"
    assert health(HTTP, answer(status), MESOS) == Reading(F, detail)


@pytest.mark.parametrize(("status", "meaning"), [(199, F), (200, S), (204, S), (205, F), (403, F), (404, S), (405, F)])
def test_given_ranges_of_statuses(status: int, meaning: Meaning) -> None:
    reading = health(HTTP, answer(status), Expected(((200, 204), (404, 404))))
    assert reading.meaning is meaning
    assert meaning is S or reading.detail.endswith(f"status {status}, expected status 200-204 or 404")


def test_of_a_cut_body_the_rest_is_unknown() -> None:
    assert health(HTTP, answer(200, b"ok", body_cut=True), aurora()).meaning is F
    assert health(HTTP, answer(200, b"ok", body_cut=True), aurora("")).meaning is S


def test_a_driver_of_the_version_before_does_not_say_that_it_has_cut() -> None:
    for padding, meaning in ((4093, S), (4094, F)):
        result = answer(200, b"ok" + b" " * padding)
        result.ClearField("check")
        assert health(HTTP, result, aurora()).meaning is meaning


def test_the_reason_says_what_was_expected_and_what_came() -> None:
    detail = health(HTTP, answer(503, b"starting"), aurora()).detail
    assert detail == "HTTP health check failed: status 503, expected body 'ok', got 'starting'"
    detail = health(HTTP, answer(503, b"starting"), aurora("ok", 200)).detail
    assert detail == "HTTP health check failed: status 503, expected status 200, expected body 'ok', got 'starting'"


def test_where_a_redirect_led_to_is_said_without_what_may_be_secret() -> None:
    result = answer(302, location="http://me:pw@far.example/login?token=abc#frag")
    note = " (redirect to 'http://far.example/login' not followed)"
    assert health(HTTP, result, MESOS) == Reading(S, "HTTP health check passed" + note)
    detail = f"HTTP health check failed: status 302, expected status 200{note}"
    assert health(HTTP, result, aurora("", 200)) == Reading(F, detail)
    assert check(HTTP, result) == Reading(S, f"HTTP check: status 302{note}", Value(http_status=302))


SIGNALLED = link_pb2.Exit(signal=9)
EXITS = [
    (link_pb2.Exit(code=0), S, "passed", Value(exit_code=0)),
    (link_pb2.Exit(code=3), F, "failed: Command exited with status 3, output 'no db'", Value(exit_code=3)),
    (link_pb2.Exit(code=127), F, "failed: Command exited with status 127, output 'no db'", Value(exit_code=127)),
    (SIGNALLED, F, "failed: Command terminated with signal Killed, output 'no db'", None),
    (link_pb2.Exit(code=0, signal=9), F, "failed: Command terminated with signal Killed, output 'no db'", None),
    (link_pb2.Exit(signal=250), F, "failed: Command terminated with signal 250, output 'no db'", None),
]


@pytest.mark.parametrize(("exit_", "meaning", "detail", "value"), EXITS, ids=lambda part: str(part)[:12])
def test_commands(exit_: link_pb2.Exit, meaning: Meaning, detail: str, value: Value | None) -> None:
    result = pb.ProbeResult(outcome=pb.PROBE_OUTCOME_DONE, exit=exit_, output=b"no\ndb\n")
    assert health(COMMAND, result) == Reading(meaning, f"Command health check {detail}")
    told = check(COMMAND, result)
    assert told.value == value
    if value is None:
        assert told.meaning is F
        assert told.detail == f"Command check: result unavailable: {detail.removeprefix('failed: ')}"
    else:
        assert told == Reading(S, f"Command check: exit code {value.exit_code}", value)


def test_a_lost_exit_status_is_nobodys_failure() -> None:
    result = pb.ProbeResult(outcome=pb.PROBE_OUTCOME_DONE, output=b"x")
    assert health(COMMAND, result) == Reading(T, "Command health check: the exit status was lost")
    assert check(COMMAND, result) == Reading(T, "Command check: the exit status was lost")


def test_connections() -> None:
    done = pb.ProbeResult(outcome=pb.PROBE_OUTCOME_DONE)
    refused = pb.ProbeResult(outcome=pb.PROBE_OUTCOME_NO_ANSWER, error="connection refused")
    late = pb.ProbeResult(outcome=pb.PROBE_OUTCOME_TIMEOUT)
    assert health(TCP, done) == Reading(S, "TCP health check passed")
    assert health(TCP, refused) == Reading(F, "TCP health check failed: connection refused")
    assert health(TCP, late) == Reading(F, "TCP health check failed: timed out after 1.5 s")
    assert check(TCP, done) == Reading(S, "TCP check: connected", Value(connected=True))
    assert check(TCP, refused) == Reading(S, "TCP check: not connected: connection refused", Value(connected=False))
    assert check(TCP, late) == Reading(F, "TCP check: result unavailable: timed out after 1.5 s")


def test_what_a_check_finds_over_http() -> None:
    assert check(HTTP, answer(503)) == Reading(S, "HTTP check: status 503", Value(http_status=503))
    assert check(HTTP, answer(0)) == Reading(T, "HTTP check: the driver named no status")
    for target, what in ((HTTP, "HTTP"), (COMMAND, "Command")):
        refused = pb.ProbeResult(outcome=pb.PROBE_OUTCOME_NO_ANSWER, error="no such file")
        assert check(target, refused) == Reading(F, f"{what} check: result unavailable: no such file")


@pytest.mark.parametrize(
    ("outcome", "meaning", "detail"),
    [
        (pb.PROBE_OUTCOME_TIMEOUT, F, " failed: timed out after 1.5 s"),
        (pb.PROBE_OUTCOME_NO_ANSWER, F, " failed: connection refused"),
        (pb.PROBE_OUTCOME_TRANSIENT, T, " could not be made: connection refused"),
        (pb.PROBE_OUTCOME_SNOOZED, Meaning.SNOOZED, " snoozed: the snooze file is there"),
        (pb.PROBE_OUTCOME_UNSPECIFIED, T, ": outcome 0 is not known here"),
        (77, T, ": outcome 77 is not known here"),
    ],
)
@pytest.mark.parametrize(("target", "what"), [(HTTP, "HTTP"), (HTTPS, "HTTPS"), (TCP, "TCP"), (COMMAND, "Command")])
def test_other_outcomes(target: Target, what: str, outcome: pb.ProbeOutcome, meaning: Meaning, detail: str) -> None:
    reading = health(target, pb.ProbeResult(outcome=outcome, error="connection refused"))
    assert reading == Reading(meaning, f"{what} health check{detail}")
    assert reading.success is (meaning is S)
    assert reading.counts is (meaning in (S, F))


def test_without_a_cause_there_is_still_a_line() -> None:
    assert health(HTTP, pb.ProbeResult(outcome=pb.PROBE_OUTCOME_NO_ANSWER)).detail.endswith("failed: no answer")
    assert health(HTTP, pb.ProbeResult(outcome=pb.PROBE_OUTCOME_TRANSIENT)).detail.endswith("made: no cause given")


def test_what_a_command_said_before_its_time_was_up_is_quoted() -> None:
    result = pb.ProbeResult(outcome=pb.PROBE_OUTCOME_TIMEOUT, output=b"waiting for db")
    assert health(COMMAND, result).detail.endswith("failed: timed out after 1.5 s, output 'waiting for db'")


ANYTHING = st.builds(
    pb.ProbeResult,
    outcome=st.integers(0, 7),
    http_status=st.integers(0, 999),
    body=st.binary(max_size=100),
    body_cut=st.booleans(),
    output=st.binary(max_size=100),
    error=st.text(st.characters(exclude_categories=["Cs"]), max_size=300),
    location=st.text(st.characters(exclude_categories=["Cs"]), max_size=300),
    exit=st.builds(
        link_pb2.Exit,
        code=st.one_of(st.none(), st.integers(-(2**31), 2**31 - 1)),
        signal=st.one_of(st.none(), st.integers(-(2**31), 2**31 - 1)),
    ),
)


@settings(deadline=None)
@given(
    ANYTHING,
    st.sampled_from([HTTP, HTTPS, TCP, COMMAND]),
    st.sampled_from([ANY, MESOS, aurora(), aurora("ok", 200)]),
    st.sampled_from(Kind),
)
def test_no_result_raises_and_every_line_is_printable(
    result: pb.ProbeResult, target: Target, expected: Expected, kind: Kind
) -> None:
    reading = read(target, expected, 1, result, kind)
    assert reading.detail.isprintable()
    assert len(reading.detail) < 1024
    # Only a check has a value, and exactly if its attempt has succeeded.
    assert (reading.value is not None) == (kind is Kind.CHECK and reading.success)
    if kind is Kind.HEALTH and reading.meaning is F:
        line = numbered(reading.detail, 2, 3)
        assert line.partition(" (2/3): ")[0].endswith(" health check failed")
        assert line.replace(" (2/3)", "", 1) == reading.detail


def test_a_failure_is_numbered_in_its_first_words_only() -> None:
    result = pb.ProbeResult(outcome=pb.PROBE_OUTCOME_NO_ANSWER, error="handshake failed: no cipher")
    line = numbered(health(HTTPS, result).detail, 2, 3)
    assert line == "HTTPS health check failed (2/3): handshake failed: no cipher"


@pytest.mark.parametrize("value", [Value(exit_code=0), Value(http_status=200), Value(connected=False)], ids=str)
def test_values_are_kept(value: Value) -> None:
    assert Value.of_json(value.to_json()) == value


@pytest.mark.parametrize("found", [{}, {"exit_code": 0, "http_status": 200}, {"http_status": 0, "connected": False}])
def test_a_value_is_exactly_one(found: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="not the value of a check"):
        Value(**found)  # type: ignore[arg-type]  # that is the point


@settings(deadline=None)
@given(st.one_of(st.binary(max_size=5000), st.text(max_size=5000)))
def test_a_quote_of_anything_is_one_short_printable_line(raw: bytes | str) -> None:
    for tail in (False, True):
        text = quote(raw, tail=tail)
        assert text.isprintable()
        assert len(text) <= QUOTE_LIMIT + 3


def test_a_quote_hides_terminal_escapes_and_direction_marks() -> None:
    assert quote(b"\x1b[31mred\x1b[0m\x00\r\nnext") == "[31mred [0m next"
    assert quote("a\u202eb") == "a b"


def test_of_long_output_the_end_is_quoted() -> None:
    assert quote(b"x" * 10**6 + b"the cause", tail=True) == "..." + "x" * (QUOTE_LIMIT - 9) + "the cause"
    assert quote(b"<html>" + b"x" * 1000) == "<html>" + "x" * (QUOTE_LIMIT - 6) + "..."
    assert quote(b"ok" + b" " * 10**6) == "ok..."
    assert quote(b" " * 10**6 + b"ok", tail=True) == "...ok"
