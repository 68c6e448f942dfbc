"""Reading logs through the whole stack while its parts die and the task does what it likes with its files."""

from __future__ import annotations

import os
import signal
import time
from typing import TYPE_CHECKING

import grpc
import pytest

from tests.integration.faults.log_reader import Follower, logs_of, read, refusal, request, shell, started, stub, text
from tests.integration.faults.processes import TIMEOUT, wait_dead, wait_until
from trivet.runner.v1 import runner_pb2

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.integration.faults.launched import LaunchedTask
    from tests.integration.faults.stack import Stack


def test_both_streams_by_offset_limit_and_last_lines(stack: Stack) -> None:
    task, gate = started(stack, "echo 0123456789; echo err >&2; seq 1000 1004")
    pieces = read(stack, task)
    assert text(pieces) == b"0123456789\n1000\n1001\n1002\n1003\n1004\n"
    assert [piece.eof for piece in pieces] == [False] * (len(pieces) - 1) + [True]
    assert pieces[0].file == (logs_of(task) / "stdout").stat().st_ino
    assert text(read(stack, task, stream=runner_pb2.LOG_STREAM_STDERR)) == b"err\n"
    (piece,) = read(stack, task, offset=2, limit=3)
    assert (piece.data, piece.offset, piece.eof, piece.run) == (b"234", 2, True, 0)
    assert text(read(stack, task, tail_lines=2)) == b"1003\n1004\n"
    gate.open()
    assert task.wait_end() == "TASK_FINISHED"


def test_whatever_is_missing_is_named(stack: Stack) -> None:
    gate = stack.gate()
    later = {"name": "later", "cmdline": "true"}
    spec = shell(f"rm -r .logs/p/0/stderr; echo x; read x < {gate.path}")
    spec["processes"].append(later)
    spec["constraints"] = [{"order": ["p", "later"]}]
    task = stack.launch(spec)
    task.wait_for("TASK_RUNNING")
    wait_until(lambda: text(read(stack, task)) == b"x\n", "output")
    for message, code, detail in (
        (runner_pb2.ReadLogRequest(task_id="nobody", process="p"), "NOT_FOUND", "task_id: no task 'nobody'"),
        (request(task, "q"), "NOT_FOUND", f"process: task '{task.task_id}' has no process 'q'"),
        (request(task, ""), "INVALID_ARGUMENT", "process: must not be empty"),
        (request(task, run=3), "NOT_FOUND", f"run: process 'p' of task '{task.task_id}' has no run 3"),
        (request(task, "later"), "NOT_FOUND", f"process: 'later' of task '{task.task_id}' has not been started yet"),
        (
            request(task, stream=runner_pb2.LOG_STREAM_STDERR),
            "NOT_FOUND",
            "process 'p', run 0: sandbox/.logs/p/0/stderr: no such file",
        ),
    ):
        assert refusal(stack, message) == (grpc.StatusCode[code], detail)
    gate.open()
    assert task.wait_end() == "TASK_FINISHED"
    wait_until(lambda: refusal(stack, request(task))[0] == grpc.StatusCode.FAILED_PRECONDITION, "the executor's end")
    assert f"{task.sandbox}/sandbox/.logs/p" in str(refusal(stack, request(task))[1])


def test_following_ends_when_the_run_is_over_and_everything_is_read(stack: Stack) -> None:
    task, gate = started(stack, "echo first")
    coordinator = task.coordinator()
    follower = Follower(stack, request(task, follow=True))
    follower.wait_text(b"first\n")
    gate.open()
    assert follower.wait_end() == grpc.StatusCode.OK
    assert text(follower.pieces) == b"first\nlast\n"
    assert follower.pieces[-1].eof
    assert task.wait_end() == "TASK_FINISHED"
    # Sooner than an executor waits for a reader that dawdles.
    wait_dead(coordinator, 4.0)


def test_the_end_of_the_last_task_does_not_cut_off_a_reader(stack: Stack) -> None:
    size = 8 << 20
    gate = stack.gate()
    task = stack.launch(shell(f"echo first; read x < {gate.path}; head -c {size} /dev/zero"))
    task.wait_for("TASK_RUNNING")
    wait_until(lambda: text(read(stack, task)) == b"first\n", "output")
    follower = Follower(stack, request(task, follow=True))
    follower.wait_text(b"first\n")
    gate.open()
    assert follower.wait_end() == grpc.StatusCode.OK
    assert len(text(follower.pieces)) == size + len(b"first\n")
    assert task.wait_end() == "TASK_FINISHED"


def test_following_goes_through_truncation_and_rotation(stack: Stack) -> None:
    rounds = [stack.gate() for _ in range(3)]
    said = stack.gate()
    cmdline = "\n".join(
        [
            "echo the first line is the longest",
            f"read x < {rounds[0].path}; : > .logs/p/0/stdout; echo two",
            f"read x < {rounds[1].path}; mv .logs/p/0/stdout .logs/p/0/stdout.1; echo old end",
            f"exec > .logs/p/0/stdout; echo three; echo ok > {said.path}",
            f"read x < {rounds[2].path}",
        ]
    )
    task = stack.launch(shell(cmdline))
    task.wait_for("TASK_RUNNING")
    follower = Follower(stack, request(task, follow=True))
    follower.wait_text(b"longest\n")
    rounds[0].open()
    follower.wait_event(runner_pb2.LOG_EVENT_TRUNCATED)
    follower.wait_text(b"two\n")
    rounds[1].open()
    said.read()
    follower.wait_event(runner_pb2.LOG_EVENT_ROTATED)
    follower.wait_text(b"three\n")
    rounds[2].open()
    assert follower.wait_end() == grpc.StatusCode.OK
    assert text(follower.pieces) == b"the first line is the longest\ntwo\nold end\nthree\n"
    assert task.wait_end() == "TASK_FINISHED"


def test_a_log_that_the_pump_rotates_is_followed_without_a_gap(stack: Stack) -> None:
    lines = 20_000
    gate = stack.gate()
    logger = {"destination": "file", "mode": "rotate", "rotate": {"log_size": 20_000, "backups": 20}}
    task = stack.launch(shell(f"echo begin; read x < {gate.path}; seq {lines}", logger=logger))
    task.wait_for("TASK_RUNNING")
    wait_until(lambda: text(read(stack, task)) == b"begin\n", "output")
    follower = Follower(stack, request(task, follow=True))
    follower.wait_text(b"begin\n")
    gate.open()
    assert follower.wait_end() == grpc.StatusCode.OK
    assert text(follower.pieces) == b"begin\n" + b"".join(b"%d\n" % number for number in range(1, lines + 1))
    assert runner_pb2.LOG_EVENT_ROTATED in {piece.event for piece in follower.pieces}
    assert runner_pb2.LOG_EVENT_GAP not in {piece.event for piece in follower.pieces}
    assert task.wait_end() == "TASK_FINISHED"


@pytest.mark.parametrize("victim", ["runner", "driver"])
def test_a_reader_goes_on_where_it_was_after_a_restart(stack: Stack, victim: str) -> None:
    second = stack.gate()
    task, gate = started(stack, f"echo first; (read x < {second.path}; echo second) &")
    follower = Follower(stack, request(task, follow=True))
    follower.wait_text(b"first\n")
    if victim == "runner":
        stack.restart("runner")
    else:
        pid = task.driver()
        os.kill(pid, signal.SIGKILL)
        wait_dead(pid)
    assert follower.wait_end() == grpc.StatusCode.UNAVAILABLE
    second.open()
    last = follower.pieces[-1]
    at = last.offset + len(last.data)
    wait_until(lambda: _answers(stack, request(task, offset=at, file=last.file)), "the driver to be attached")
    again = Follower(stack, request(task, follow=True, offset=at, file=last.file))
    again.wait_text(b"second\n")
    gate.open()
    assert again.wait_end() == grpc.StatusCode.OK
    assert text(follower.pieces) + text(again.pieces) == b"first\nsecond\nlast\n"
    assert task.wait_end() == "TASK_FINISHED"


def _answers(stack: Stack, message: runner_pb2.ReadLogRequest) -> bool:
    try:
        list(stub(stack).ReadLog(message, timeout=TIMEOUT, wait_for_ready=True))
    except grpc.RpcError as error:
        if error.code() != grpc.StatusCode.UNAVAILABLE:
            raise
        return False
    return True


def test_clients_that_do_not_read_neither_fill_memory_nor_hold_up_a_kill(stack: Stack) -> None:
    task, _ = started(stack, "head -c 100000000 /dev/zero")
    driver = task.driver()
    runner = stack.parts["runner"].process
    assert runner is not None
    before = _rss(driver), _rss(runner.pid)
    # Nobody takes anything from these.
    calls = [stub(stack).ReadLog(request(task, follow=True), timeout=2 * TIMEOUT) for _ in range(20)]
    for call in calls:
        assert next(iter(call)).offset == 0
    begun = time.monotonic()
    task.kill(grace=0.0)
    assert task.wait_end() == "TASK_KILLED"
    assert time.monotonic() - begun < 3.0
    assert _rss(driver, before[0]) - before[0] < 30 << 20
    assert _rss(runner.pid) - before[1] < 60 << 20
    for call in calls:
        call.cancel()


def _rss(pid: int, otherwise: int = 0) -> int:
    try:
        with open(f"/proc/{pid}/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except FileNotFoundError:
        return otherwise


def test_too_many_readers_are_refused_and_make_room_when_they_go(stack: Stack) -> None:
    task, gate = started(stack, "echo x")
    followers = [Follower(stack, request(task, follow=True)) for _ in range(32)]
    for follower in followers:
        follower.wait_text(b"x\n")
    code, detail = refusal(stack, request(task))
    assert code == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert detail is not None
    assert "32 logs of this executor are being read" in detail
    followers.pop().call.cancel()
    wait_until(lambda: _room(stack, task), "a reader's end")
    gate.open()
    for follower in followers:
        assert follower.wait_end() == grpc.StatusCode.OK
    assert task.wait_end() == "TASK_FINISHED"


def _room(stack: Stack, task: LaunchedTask) -> bool:
    try:
        return text(read(stack, task)) == b"x\n"
    except grpc.RpcError as error:
        if error.code() != grpc.StatusCode.RESOURCE_EXHAUSTED:
            raise
        return False


@pytest.mark.parametrize("trap", ["ln -s /etc/passwd .logs/p/0/stdout", "mkfifo .logs/p/0/stdout"])
def test_what_the_task_puts_in_the_place_of_its_log_is_not_read(stack: Stack, trap: str) -> None:
    task, gate = started(stack, f"rm .logs/p/0/stdout; {trap}")
    code, detail = refusal(stack, request(task))
    assert code == grpc.StatusCode.FAILED_PRECONDITION
    assert detail is not None
    assert "sandbox/.logs/p/0/stdout: " in detail
    gate.open()
    assert task.wait_end() == "TASK_FINISHED"


def test_an_idle_driver_has_no_watch_open_after_the_last_follower(stack: Stack) -> None:
    task, gate = started(stack, "echo x")

    def watches() -> list[str]:
        places = (f"/proc/{task.driver()}/fd/{fd}" for fd in os.listdir(f"/proc/{task.driver()}/fd"))
        return [link for link in map(_link, places) if "inotify" in link]

    assert watches() == []
    follower = Follower(stack, request(task, follow=True))
    follower.wait_text(b"x\n")
    wait_until(watches, "a watch")
    assert len(watches()) == 1
    follower.call.cancel()
    wait_until(lambda: not watches(), "no watch")
    gate.open()
    assert task.wait_end() == "TASK_FINISHED"


def _link(path: str) -> str:
    try:
        return os.readlink(path)
    except FileNotFoundError:
        return ""


@pytest.fixture
def stack(stack: Stack) -> Iterator[Stack]:
    yield stack
    errors = _errors(f"{stack.dir}/runner.log")
    assert not errors, errors


def _errors(path: str) -> list[str]:
    with open(path) as file:
        return [line for line in file if '"level": "error"' in line or '"level":"error"' in line or "Traceback" in line]
