"""Command probes through the whole executor: whatever they do, one answer in time, and nothing stays."""

from __future__ import annotations

import os
import pwd
import signal
from typing import TYPE_CHECKING

import pytest

from tests.integration.faults.processes import wait_until
from tests.integration.probes.executor_rig import Executor, alive, wait_gone
from tests.integration.probes.prober_rig import DONE, TIMEOUT, TRANSIENT
from trivet.health.v1 import health_pb2 as pb
from trivet.link.v1 import link_pb2

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(name="executor")
def run_executor(tmp_path: Path) -> Iterator[Executor]:
    with Executor(tmp_path) as executor:
        yield executor


def test_code_signal_and_output(executor: Executor) -> None:
    for script, code, number, output in (
        ("echo out; echo err >&2; exit 3", 3, None, b"out\nerr\n"),
        ("exit 0", 0, None, b""),
        ("kill -9 $$", None, 9, b""),
        ("pwd; read x || echo no stdin", 0, None, f"{executor.sandbox}/sandbox\nno stdin\n".encode()),
    ):
        result = executor.result(executor.command(script))
        assert (result.outcome, result.output) == (DONE, output)
        assert result.exit.code == code if code is not None else result.exit.signal == number
        assert 0 < result.latency_secs < 20


def test_a_command_that_cannot_be_run_fails_and_a_user_that_is_none_is_a_transient(executor: Executor) -> None:
    result = executor.result(executor.probe(command=pb.CommandProbe(argv=["/no/such"], cwd="sandbox")))
    assert (result.outcome, result.exit.code) == (DONE, 127)
    assert result.output == b"exec /no/such: No such file or directory"
    result = executor.result(executor.command("true", user="no-such-user"))
    assert (result.outcome, result.error) == (TRANSIENT, "user 'no-such-user': unknown")


def test_environment_profile_and_directory_are_those_of_processes(executor: Executor) -> None:
    executor.run(
        '(env; pwd; ulimit -a; umask; id) | grep -v "^\\(TRIVET_.*\\|_\\)=\\|file locks" >process; echo up >up'
    )
    executor.file("sandbox/up")
    with open(f"{executor.sandbox}/sandbox/.thermos_profile", "w") as file:
        file.write("echo profile; unset BASH_ENV\n")
    script = '(env; pwd; ulimit -a; umask; id) | grep -v "^\\(TRIVET_.*\\|_\\)=\\|file locks"'
    output = executor.result(executor.command(script + " >probe", profile="sandbox/.thermos_profile")).output
    assert output == b"profile\n"
    with open(f"{executor.sandbox}/sandbox/process") as process, open(f"{executor.sandbox}/sandbox/probe") as probe:
        assert sorted(probe) == sorted(process)
    # The driver's and the executor's own variables are none of a task's business.
    assert executor.result(executor.command("env | grep -c MESOS_", env={"A": "b"})).output == b"0\n"


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="NOT ROOT: users cannot be changed")
def test_the_user_and_its_groups(executor: Executor) -> None:
    groups = os.getgrouplist("nobody", pwd.getpwnam("nobody").pw_gid)
    result = executor.result(
        executor.command("id -un; id -G; ls ../stderr >/dev/null; echo x >/dev/stdout", user="nobody")
    )
    assert result.output.decode().split("\n")[:2] == ["nobody", " ".join(str(group) for group in groups)]
    assert result.output.endswith(b"x\n")


HANGERS = {
    "ignores TERM": "trap '' TERM HUP INT; echo $$ >pid; while :; do sleep 100; done",
    "forks": "sleep 7001 & sleep 7002 & echo $! >pid; wait",
    "own session": "setsid sleep 7003 & echo $! >pid; wait",
    "double fork": "(setsid bash -c 'echo $$ >pid; exec sleep 7004' </dev/null >/dev/null 2>&1 &); sleep 7005",
    "closes its output": "exec >&- 2>&-; echo $$ >pid; sleep 7006",
    "stops itself": "echo $$ >pid; kill -STOP $$",
    "floods": "echo $$ >pid; exec yes",
}


@pytest.mark.parametrize("name", HANGERS)
def test_what_hangs_is_killed_with_all_that_it_has_started(executor: Executor, name: str) -> None:
    number = executor.command(HANGERS[name], secs=0.6)
    pid = int(executor.file("sandbox/pid"))
    result = executor.result(number)
    assert (result.outcome, result.error) == (TIMEOUT, "no end within 0.6 s")
    assert 0.6 <= result.latency_secs < 10
    assert len(result.output) <= 1024
    wait_gone(pid)
    assert executor.result(executor.command("echo next")).output == b"next\n"


def test_output_is_kept_for_the_message_and_bounded(executor: Executor) -> None:
    result = executor.result(executor.command("echo begun; sleep 7007", secs=0.5))
    assert (result.outcome, result.output) == (TIMEOUT, b"begun\n")
    result = executor.result(executor.command("yes | head -c 50000000; printf '\\xff\\xfeend'; exit 1"))
    assert result.exit.code == 1
    assert result.output.endswith("\N{REPLACEMENT CHARACTER}\N{REPLACEMENT CHARACTER}end".encode())
    assert len(result.output) < 1100


def test_a_daemon_that_closes_nothing_does_not_hold_the_answer_and_does_not_stay(executor: Executor) -> None:
    result = executor.result(executor.command("(setsid bash -c 'echo $$ >pid; exec sleep 7008' &); sleep 0.1; exit 4"))
    assert result.exit.code == 4
    wait_gone(int(executor.file("sandbox/pid")))


def test_the_tasks_end_in_the_middle(executor: Executor) -> None:
    executor.run("trap 'sleep 0.2; exit 0' TERM; echo up >up; while :; do sleep 0.1; done")
    executor.file("sandbox/up")
    number = executor.command("echo $$ >pid; sleep 7009", secs=600)
    pid = int(executor.file("sandbox/pid"))
    executor.kill()
    result = executor.result(number)
    assert (result.outcome, result.error) == (TRANSIENT, "the task is ending")
    wait_gone(pid)
    result = executor.result(executor.command("touch never"))
    assert (result.outcome, result.error) == (TRANSIENT, "the task is ending")
    assert not os.path.exists(f"{executor.sandbox}/sandbox/never")


def test_the_tasks_own_end_in_the_middle(executor: Executor) -> None:
    number = executor.command("echo $$ >pid; sleep 7010", secs=600)
    pid = int(executor.file("sandbox/pid"))
    executor.state(phase=link_pb2.TASK_PHASE_CLEANING, end_cause=link_pb2.END_CAUSE_PLAN)
    assert executor.result(number).error == "the task is ending"
    wait_gone(pid)


def test_a_driver_that_is_killed_leaves_nothing_and_its_successor_probes(executor: Executor) -> None:
    number = executor.command("setsid sleep 7011 & echo $! >pid; sleep 7012", secs=600)
    pid = int(executor.file("sandbox/pid"))
    executor.kill_driver()
    wait_gone(pid)
    again = executor.command("echo works")
    assert executor.result(again).output == b"works\n"
    assert number not in executor.results()


def test_a_driver_that_is_frozen_does_not_hold_up_the_kill(executor: Executor) -> None:
    number = executor.command("echo $$ >pid; sleep 7013", secs=0.5)
    pid = int(executor.file("sandbox/pid"))
    driver = executor.driver()
    os.kill(driver, signal.SIGSTOP)
    try:
        wait_gone(pid)
    finally:
        os.kill(driver, signal.SIGCONT)
    assert executor.result(number).outcome == TIMEOUT


def test_when_health_is_gone_its_probe_is_called_off(executor: Executor) -> None:
    number = executor.command("echo $$ >pid; sleep 7014", secs=600)
    pid = int(executor.file("sandbox/pid"))
    executor.health.stop()
    wait_gone(pid)
    executor.health.start()
    executor.health.attached(2)
    again = executor.command("echo works")
    assert executor.result(again).output == b"works\n"
    assert number not in executor.results()


def test_the_next_probe_ends_the_one_before(executor: Executor) -> None:
    first = executor.command("echo $$ >pid; sleep 7015", secs=600)
    pid = int(executor.file("sandbox/pid"))
    other = executor.probe(
        check=pb.CHECK_KIND_CHECK,
        command=pb.CommandProbe(argv=["/bin/bash", "-c", "echo $$ >sandbox/pid2; sleep 1.5; exit 5"]),
    )
    executor.file("sandbox/pid2")
    second = executor.command("echo second")
    assert executor.result(second).output == b"second\n"
    wait_gone(pid)
    # The task's other check is not disturbed.
    assert executor.result(other).exit.code == 5
    assert first not in executor.results()


def test_an_end_of_the_executor_in_the_middle(executor: Executor) -> None:
    executor.command("trap '' TERM; echo $$ >pid; while :; do sleep 100; done", secs=600)
    pid = int(executor.file("sandbox/pid"))
    assert alive(pid)
    executor.executor.process.terminate()
    wait_gone(pid)
    wait_until(lambda: executor.executor.process.poll() is not None, "the executor's end")
