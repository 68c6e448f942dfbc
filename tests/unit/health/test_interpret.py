"""What one probe result means."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.health.interpret import QUOTE_LIMIT, Meaning, quote, read
from services.health.spec import HttpTarget, ShellTarget
from trivet.health.v1 import health_pb2 as pb
from trivet.link.v1 import link_pb2

SHELL = ShellTarget("true", "", {})
S, F, T = Meaning.SUCCESS, Meaning.FAILURE, Meaning.TRANSIENT


def http(body: str = "ok", status: int = 0) -> HttpTarget:
    return HttpTarget(8080, "/health", body, status)


def answer(status: int, body: bytes) -> pb.ProbeResult:
    return pb.ProbeResult(outcome=pb.PROBE_OUTCOME_DONE, http_status=status, body=body)


@pytest.mark.parametrize(
    ("target", "status", "body", "meaning"),
    [
        (http(), 200, b"ok", S),
        (http(), 200, b" \r\nOK\n", S),
        (http("OK "), 200, b"ok", S),
        (http(), 200, b"okay", F),
        (http(), 200, b"", F),
        (http(), 302, b"ok", S),
        (http(), 404, b"ok", F),
        (http(), 503, b"ok", F),
        (http(""), 200, b"whatever", S),
        (http(""), 503, b"whatever", S),
        (http("", 503), 503, b"", S),
        (http("", 200), 204, b"", F),
        (http("ok", 200), 200, b"ok", S),
        (http("ok", 200), 201, b"ok", F),
        (http("ok", 503), 503, b"ok", F),
        (http("grün"), 200, "GRÜN".encode(), S),
        (http(), 200, b"ok\xff", F),
        (http("\ufffd"), 200, b"\xff", F),
        (http(), 200, b"ok" + b" " * 4094, F),
        (http(), 200, b"ok" + b" " * 4093, S),
        (http(), 0, b"ok", T),
    ],
)
def test_http_answers(target: HttpTarget, status: int, body: bytes, meaning: Meaning) -> None:
    assert read(target, 1, answer(status, body)).meaning is meaning


@pytest.mark.parametrize(
    ("exit_", "meaning", "detail"),
    [
        (link_pb2.Exit(code=0), S, "shell health check passed"),
        (link_pb2.Exit(code=3), F, "shell health check failed: exit status 3, output 'no db'"),
        (link_pb2.Exit(signal=9), F, "shell health check failed: ended by signal 9, output 'no db'"),
        (link_pb2.Exit(code=0, signal=9), F, "shell health check failed: ended by signal 9, output 'no db'"),
        (link_pb2.Exit(), T, "shell health check: the exit status was lost"),
    ],
)
def test_shell_answers(exit_: link_pb2.Exit, meaning: Meaning, detail: str) -> None:
    reading = read(SHELL, 1, pb.ProbeResult(outcome=pb.PROBE_OUTCOME_DONE, exit=exit_, output=b"no\ndb\n"))
    assert (reading.meaning, reading.detail) == (meaning, detail)


@pytest.mark.parametrize(
    ("outcome", "meaning", "detail"),
    [
        (pb.PROBE_OUTCOME_TIMEOUT, F, "HTTP health check timed out after 1.5 s"),
        (pb.PROBE_OUTCOME_NO_ANSWER, F, "HTTP health check failed: connection refused"),
        (pb.PROBE_OUTCOME_TRANSIENT, T, "HTTP health check could not be made: connection refused"),
        (pb.PROBE_OUTCOME_UNSPECIFIED, T, "HTTP health check: outcome 0 is not known here"),
        (77, T, "HTTP health check: outcome 77 is not known here"),
    ],
)
def test_other_outcomes(outcome: pb.ProbeOutcome, meaning: Meaning, detail: str) -> None:
    reading = read(http(), 1.5, pb.ProbeResult(outcome=outcome, error="connection refused"))
    assert (reading.meaning, reading.detail) == (meaning, detail)


def test_the_reason_says_what_was_expected_and_what_came() -> None:
    detail = read(http(), 1, answer(503, b"starting")).detail
    assert detail == "HTTP health check failed: status 503, expected body 'ok', got 'starting'"
    detail = read(http("ok", 200), 1, answer(503, b"starting")).detail
    assert detail == "HTTP health check failed: status 503, expected status 200, expected body 'ok', got 'starting'"


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
    assert quote(b"x" * 1000 + b"the cause", tail=True).endswith("the cause")
    assert quote(b"<html>" + b"x" * 1000).startswith("<html>")


@settings(deadline=None)
@given(st.integers(0, 999), st.binary(max_size=100), st.integers(0, 5), st.booleans())
def test_no_result_raises(status: int, body: bytes, outcome: int, shell: bool) -> None:
    result = pb.ProbeResult(outcome=outcome, http_status=status, body=body, output=body)  # type: ignore[arg-type]  # a newer driver's number, too
    assert read(SHELL if shell else http(), 1, result).detail.isprintable()
