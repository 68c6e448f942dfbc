from __future__ import annotations

from executor_shim.coordinator.ending import ALONE, LIMIT, PARTING, Ending


def test_never_exits_unasked() -> None:
    assert Ending().check(quiet=True, driver=False, now=1e9) is None


def test_end_waits_for_the_processes_then_for_the_driver() -> None:
    ending = Ending()
    ending.end(3, now=0)
    assert ending.check(quiet=False, driver=True, now=1) is None
    assert ending.check(quiet=True, driver=True, now=2) is None
    assert ending.check(quiet=True, driver=False, now=2.1) == 3


def test_driver_that_stays_does_not_hold_the_end_back() -> None:
    ending = Ending()
    ending.end(0, now=0)
    assert ending.check(quiet=True, driver=True, now=1) is None
    assert ending.due() == 1 + PARTING
    assert ending.check(quiet=True, driver=True, now=1 + PARTING) == 0


def test_survivors_of_sigkill_make_the_end_a_failure() -> None:
    ending = Ending()
    ending.end(0, now=0)
    assert ending.due() == LIMIT
    assert ending.check(quiet=False, driver=False, now=LIMIT) == 1
    other = Ending()
    other.end(7, now=0)
    assert other.check(quiet=False, driver=False, now=LIMIT) == 7


def test_first_end_wins() -> None:
    ending = Ending()
    ending.end(4, now=0)
    ending.end(0, now=5)
    assert ending.check(quiet=True, driver=False, now=6) == 4


def test_terminated_executor_waits_for_its_driver_only_so_long() -> None:
    ending = Ending()
    ending.terminate(3)
    assert ending.check(quiet=False, driver=True, now=3) is None
    assert ending.check(quiet=True, driver=True, now=4) is None
    assert ending.check(quiet=True, driver=True, now=4 + ALONE - 0.01) is None
    assert ending.check(quiet=True, driver=True, now=4 + ALONE) == 1


def test_process_that_shows_up_starts_the_wait_anew() -> None:
    ending = Ending()
    ending.terminate(3)
    assert ending.check(quiet=True, driver=True, now=0) is None
    assert ending.check(quiet=False, driver=True, now=1) is None
    assert ending.check(quiet=True, driver=True, now=ALONE) is None


def test_end_during_termination_sets_the_code() -> None:
    ending = Ending()
    ending.terminate(3)
    ending.check(quiet=True, driver=True, now=0)
    ending.end(0, now=0.5)
    assert ending.check(quiet=True, driver=False, now=0.6) == 0


def test_deadline_only_moves_earlier() -> None:
    ending = Ending()
    ending.terminate(3)
    ending.terminate(9)
    assert ending.deadline == 3
    ending.terminate(1)
    assert ending.deadline == 1
