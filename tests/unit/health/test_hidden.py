"""Values of a check's own headers and environment, repeated by what is probed."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import pytest

from services.common.task.checks import CommandTarget, Expected, HttpTarget, TcpTarget
from services.health.hidden import hidden_of
from services.health.interpret import QUOTE_LIMIT, read
from services.health.model import Kind
from tests.unit.health.tasks import task_info
from trivet.health.v1 import health_pb2 as pb

if TYPE_CHECKING:
    from tests.unit.health.world import DriverDouble, World

WEB = HttpTarget(80, "/", headers={"Authorization": "Bearer hush-1", "X-Key": "hush-1-and-more", "X-Number": "17"})
COMMAND = CommandTarget(("./check",), {"TOKEN": "hush-2", "LINES": "hush\nhush", "ODD": "\ud800hush"})


def test_short_values_are_no_secrets_and_a_token_is_known_without_its_scheme() -> None:
    assert hidden_of(WEB) == ("hush-1-and-more", "Bearer hush-1", "hush-1")
    assert set(hidden_of(COMMAND)) == {"hush\nhush", "\ud800hush", "hush-2"}
    assert hidden_of(TcpTarget(80)) == hidden_of(HttpTarget(80, "/")) == ()


@pytest.mark.parametrize("kind", list(Kind))
@pytest.mark.parametrize("secret", ["Bearer hush-1", "hush-1", "hush-1-and-more"])
def test_an_answer_that_repeats_a_header_is_masked(kind: Kind, secret: str) -> None:
    outcomes = [
        pb.ProbeResult(outcome=pb.PROBE_OUTCOME_DONE, http_status=401, body=f"no {secret} 17".encode()),
        # Across the end of what is quoted.
        pb.ProbeResult(outcome=pb.PROBE_OUTCOME_DONE, http_status=401, body=b"x" * (QUOTE_LIMIT - 3) + secret.encode()),
        pb.ProbeResult(outcome=pb.PROBE_OUTCOME_DONE, http_status=302, location=f"http://h/{secret}/17"),
        pb.ProbeResult(outcome=pb.PROBE_OUTCOME_NO_ANSWER, error=f"not HTTP: {secret} 17"),
        pb.ProbeResult(outcome=pb.PROBE_OUTCOME_TRANSIENT, error=f"not made: {secret} 17"),
    ]
    for outcome in outcomes:
        detail = read(WEB, Expected((), "ok"), 1.0, outcome, kind).detail
        assert "hus" not in detail
        if "17" in detail:
            assert "***" in detail


@pytest.mark.parametrize("kind", list(Kind))
@pytest.mark.parametrize("secret", ["hush-2", "hush\nhush"])
def test_an_output_that_repeats_a_variable_is_masked(kind: Kind, secret: str) -> None:
    for outcome in (pb.PROBE_OUTCOME_DONE, pb.PROBE_OUTCOME_TIMEOUT):
        for ending in ({"code": 1}, {"signal": 9}):
            for more in ("", "y" * (QUOTE_LIMIT - 2)):
                result = pb.ProbeResult(outcome=outcome, exit=ending, output=f"+ curl {secret}{more}".encode())
                detail = read(COMMAND, Expected(), 1.0, result, kind).detail
                assert "hush" not in detail
                if "curl" in detail:
                    assert "+ curl ***" in detail


def test_a_body_is_compared_as_it_came_and_quoted_masked() -> None:
    result = pb.ProbeResult(outcome=pb.PROBE_OUTCOME_DONE, http_status=200, body=b"hush-1", check=pb.CHECK_KIND_HEALTH)
    assert read(WEB, Expected((), "hush-1"), 1.0, result, Kind.HEALTH).success
    assert not read(WEB, Expected((), "***"), 1.0, result, Kind.HEALTH).success


def test_no_verdict_log_or_history_repeats_a_secret(
    world: World, driver: DriverDouble, caplog: pytest.LogCaptureFixture
) -> None:
    checker = {"http": {"headers": {"Authorization": "Bearer hush-1"}}}
    info = task_info({"health_checker": checker, "initial_interval_secs": 0}, {"health": 31001})
    with caplog.at_level(logging.DEBUG):
        (probe,) = [each.probe for each in driver.launch(info) if each.HasField("probe")]
        heard = driver.answer(probe, body=b"denied for hush-1")
    (verdict,) = [each.verdict for each in heard if each.HasField("verdict")]
    assert "got 'denied for ***'" in verdict.message
    (entry,) = world.book.entries()
    assert "hush" not in str([list(history) for history in entry.histories.values()])
    assert "hush" not in str([vars(record) for record in caplog.records])
