"""From /proc to what a run uses: parsing, owners, and times that never shrink."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from executor_shim.coordinator import tag
from executor_shim.driver.usage.account import Account, Sum, total
from executor_shim.driver.usage.owners import KnownRun, Owner, owners
from executor_shim.driver.usage.stats import Stat, parse, snapshot

COORDINATOR = 10
A = Owner("1:t", "a", 0)
B = Owner("1:t", "b", 0)


def stat(
    pid: int, ppid: int, cpu: float = 0.0, *, sid: int = 0, ticks: int = 5, state: str = "S", rss: int = 1
) -> Stat:
    return Stat(pid, ppid, sid or pid, ticks, state=state, threads=2, cpu=cpu, rss=rss)


def table(*stats: Stat) -> dict[int, Stat]:
    return {each.pid: each for each in stats}


# Parsing


def test_a_name_with_brackets_and_blanks_does_not_confuse() -> None:
    head = b"77 (a) S 1 b) ) R 10 77 76 0 -1 4194560 1 2 3 4 "
    tail = b"100 50 30 20 20 0 3 0 12345 1000000 25 18446744073709551615"
    read = parse(head + tail)
    assert (read.pid, read.ppid, read.sid, read.state) == (77, 10, 76, "R")
    assert (read.ticks, read.threads) == (12345, 3)
    assert read.cpu == 200 / os.sysconf("SC_CLK_TCK")
    assert read.rss == 25 * os.sysconf("SC_PAGE_SIZE")


@given(st.binary(max_size=200))
def test_what_is_no_stat_file_is_refused_and_nothing_worse(data: bytes) -> None:
    try:
        parse(data)
    except ValueError:
        pass


def test_the_snapshot_holds_this_process() -> None:
    me = snapshot()[os.getpid()]
    assert me.ppid == os.getppid()
    assert me.rss > 1 << 20
    assert me.cpu > 0


# Owners


MARK_A, MARK_B = "x." + "a" * 16, "x." + "b" * 16


def owned(
    *stats: Stat, markers: dict[int, str] | None = None, tags: dict[int, str] | None = None, only: str = ""
) -> dict[int, Owner]:
    runs = [KnownRun(A, 20, 5, MARK_A), KnownRun(B, 30, 5, MARK_B)]
    return owners(
        table(*stats),
        COORDINATOR,
        runs,
        lambda pid: (markers or {}).get(pid, ""),
        lambda pid: tag.of(tags[pid]) if tags and pid in tags else 0,
        driver=11,
        only=only,
    )


def test_a_run_owns_all_that_hangs_below_it_whatever_session_it_has() -> None:
    assert owned(stat(20, 10), stat(21, 20, sid=99), stat(22, 21), stat(30, 10)) == {20: A, 21: A, 22: A, 30: B}


def test_an_orphan_is_known_by_its_marker() -> None:
    assert owned(stat(40, 10, sid=40), stat(41, 40), markers={40: MARK_B}) == {40: B, 41: B}


def test_an_orphan_that_hides_its_marker_is_known_by_its_session() -> None:
    assert owned(stat(40, 10, sid=20)) == {40: A}


def test_an_orphan_that_shed_all_else_is_known_by_its_tag_before_its_marker() -> None:
    assert owned(stat(40, 10, sid=40), stat(41, 40), tags={40: MARK_B}) == {40: B, 41: B}
    assert owned(stat(40, 10, sid=20), tags={40: MARK_B}, markers={40: MARK_A}) == {40: B}


def test_an_orphan_without_evidence_is_the_only_tasks_and_nobodys_among_several() -> None:
    stray = stat(40, 10, sid=40), stat(41, 40)
    assert owned(*stray) == {}
    assert owned(*stray, only="1:t") == dict.fromkeys((40, 41), Owner("1:t", "", 0))


def test_the_driver_and_the_pump_are_nobodys_though_there_is_only_one_task() -> None:
    helpers = stat(COORDINATOR, 1), stat(11, 10), stat(12, 11), stat(13, 10, sid=COORDINATOR)
    assert owned(*helpers, only="1:t") == {}


def test_the_driver_the_pump_and_strangers_are_nobodys() -> None:
    assert owned(stat(11, 10), stat(12, 10, sid=10), stat(500, 1), stat(501, 500)) == {}


def test_a_pid_that_was_given_away_is_not_the_run() -> None:
    assert owned(stat(20, 10, ticks=6, sid=19)) == {}


# Accounts


def test_sums_over_the_tree_and_rates_between_samples() -> None:
    account = Account(COORDINATOR)
    first = account.take(table(stat(20, 10, 1.0), stat(21, 20, 2.0)), {20: A, 21: A}, 100.0)[A]
    assert first == Sum(cpu=3.0, cpus=None, rss=2, threads=4, processes=2)
    second = account.take(table(stat(20, 10, 2.0), stat(21, 20, 5.0)), {20: A, 21: A}, 102.0)[A]
    assert (second.cpu, second.cpus) == (7.0, 2.0)


def test_a_child_that_was_waited_for_is_counted_once() -> None:
    account = Account(COORDINATOR)
    account.take(table(stat(20, 10, 1.0), stat(21, 20, 4.0)), {20: A, 21: A}, 0.0)
    # The kernel has added its time to its parent's.
    after = account.take(table(stat(20, 10, 6.0)), {20: A}, 1.0)[A]
    assert (after.cpu, after.cpus, after.processes) == (6.0, 1.0, 1)


def test_a_child_of_the_coordinator_that_has_ended_is_not_forgotten() -> None:
    account = Account(COORDINATOR)
    account.take(table(stat(20, 10, 1.0), stat(40, 10, 4.0)), {20: A, 40: A}, 0.0)
    after = account.take(table(stat(20, 10, 3.0)), {20: A}, 1.0)[A]
    assert (after.cpu, after.cpus) == (7.0, 2.0)


def test_the_time_of_a_child_that_nobody_waited_for_does_not_make_the_run_younger() -> None:
    account = Account(COORDINATOR)
    account.take(table(stat(20, 10, 1.0), stat(21, 20, 4.0)), {20: A, 21: A}, 0.0)
    after = account.take(table(stat(20, 10, 1.5)), {20: A}, 1.0)[A]
    assert (after.cpu, after.cpus) == (5.0, 0.0)
    later = account.take(table(stat(20, 10, 2.5)), {20: A}, 2.0)[A]
    assert (later.cpu, later.cpus) == (6.0, 1.0)


def test_a_zombie_uses_nothing_but_has_used_time() -> None:
    found = Account(COORDINATOR).take(table(stat(20, 10, 2.0, state="Z")), {20: A}, 0.0)[A]
    # Its other threads live on.
    assert found.processes == 1
    dead = Stat(20, 10, 20, 5, state="Z", threads=1, cpu=2.0, rss=0)
    assert Account(COORDINATOR).take({20: dead}, {20: A}, 0.0)[A] == Sum(cpu=2.0)


def test_the_task_is_the_sum_of_its_runs_and_a_forgotten_one_starts_anew() -> None:
    account = Account(COORDINATOR)
    account.take(table(stat(20, 10, 1.0), stat(30, 10, 1.0)), {20: A, 30: B}, 0.0)
    sums = account.take(table(stat(20, 10, 2.0), stat(30, 10, 2.0)), {20: A, 30: B}, 1.0)
    assert total(list(sums.values())) == Sum(cpu=4.0, cpus=2.0, rss=2, threads=4, processes=2)
    assert total([]) == Sum()
    account.forget("1:t")
    assert account.take({}, {}, 2.0) == {}


_PROCESSES = st.lists(st.tuples(st.integers(20, 25), st.sampled_from([10, 20, 21]), st.floats(0, 100)), max_size=6)


@given(st.lists(_PROCESSES, max_size=10))
def test_times_never_shrink_whatever_comes_and_goes(rounds: list[list[tuple[int, int, float]]]) -> None:
    account = Account(COORDINATOR)
    before = 0.0
    for number, processes in enumerate(rounds):
        procs = table(*(stat(pid, ppid, cpu) for pid, ppid, cpu in processes))
        found = account.take(procs, dict.fromkeys(procs, A), float(number)).get(A, Sum(cpu=before))
        assert found.cpu >= before - 1e-9
        assert found.cpus is None or found.cpus >= -1e-9
        before = found.cpu


def test_psutil_is_never_loaded() -> None:
    import subprocess
    import sys

    code = "import sys, executor_shim.driver.usage.sampler; sys.exit('psutil' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_driver_that_is_not_asked_has_loaded_nothing_of_this() -> None:
    import subprocess
    import sys

    code = (
        "import sys, executor_shim.driver.hub; "
        "sys.exit(any(n.startswith(('executor_shim.driver.usage', 'executor_shim.driver.logs')) for n in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("state", ["Z", "X"])
def test_dead_is_dead(state: str) -> None:
    assert not Stat(1, 0, 1, 1, state=state).lives
