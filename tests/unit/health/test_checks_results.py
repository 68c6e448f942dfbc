"""The machine of one check: what results change, and the time in which there are none."""

from __future__ import annotations

from services.health.interpret import Meaning, Reading, Value
from services.health.model import Attached, Cause, Detached, Gap, Save, SendVerdict
from services.health.rules import Limits
from tests.unit.health.play import BAD, GONE, OK, T0, Play, kinds


def test_the_message_of_a_verdict_stays_while_nothing_new_is_told() -> None:
    play = Play(Limits(60, 10, 2, 1), rule="mesos", gates=False).start()
    assert kinds(play.answer(BAD)) == [Save]
    assert play.check.message == ""
    play.until_probe()
    assert kinds(play.answer(OK)) == [Save, SendVerdict]
    assert play.check.message == "passed"


def test_a_check_that_is_only_told_tells_every_change_of_its_value() -> None:
    def found(status: int) -> Reading:
        return Reading(Meaning.SUCCESS, f"HTTP check: status {status}", Value(http_status=status))

    play = Play(rule="check", gates=False).start()
    told = []
    for reading in (found(200), found(200), found(503), Reading(Meaning.FAILURE, "timed out"), GONE, found(503)):
        told.append(SendVerdict in kinds(play.answer(reading)))
        play.until_probe()
    assert told == [True, False, True, True, False, True]
    assert play.check.rule.changes == 4
    assert play.check.failures == 1


def test_the_gap_begins_with_the_first_attempt_that_could_not_be_made_and_ends_with_one_that_could() -> None:
    play = Play().start()
    play.answer(OK)
    begin = play.until_probe()
    play.answer(GONE, begin + 3)
    assert play.check.gap == Gap(begin, Cause.TRANSIENT, "could not be made")
    play.until_probe()
    play.answer(Reading(Meaning.TRANSIENT, "still not"))
    assert play.check.gap == Gap(begin, Cause.TRANSIENT, "still not")
    # A link that is lost on top of it is not what began it.
    play.do(Detached())
    play.do(Attached(0.5), play.now + 100)
    assert play.check.gap == Gap(begin, Cause.TRANSIENT, "still not")
    play.until_probe()
    play.answer(BAD)
    assert play.check.gap is None


def test_the_gap_of_a_lost_link_ends_when_the_driver_is_back() -> None:
    play = Play().start()
    play.answer(OK)
    play.do(Detached(), T0 + 4)
    assert play.check.gap == Gap(T0 + 4, Cause.DETACHED, "no driver is attached")
    play.do(Attached(0.5), T0 + 90)
    assert play.check.gap is None
