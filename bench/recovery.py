"""How long the runner takes to serve again: a state directory with ended and live tasks, the process started on it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from typing import TYPE_CHECKING

from mesos.v1 import mesos_pb2
from services.common.keys import Executor, TaskKey
from services.runner import archive
from services.runner.book import Book
from services.runner.events import Gone, HandsSeen
from services.runner.header import Facts, Header
from services.runner.processes import Exit, HandsRun, HandsState
from services.runner.records import Moment
from services.runner.service import boot_id
from services.runner.store import Store

if TYPE_CHECKING:
    from collections.abc import Sequence

ENDED_TASKS = 10_000
LIVE_TASKS = 200
RECORDS = 50
# Records of a run: WAITING, FORKED, RUNNING and the end. One more says that the task is active; the last run goes on.
_RECORDS_PER_RUN = 4


def recovery(ended: int = ENDED_TASKS, live: int = LIVE_TASKS, rounds: int = 1) -> list[tuple[float, float]]:
    """Seconds from exec of the runner until it serves, and MiB that it then holds; each round on the same journals.

    Raises:
        RuntimeError: It does not serve them all.
    """
    directory = tempfile.mkdtemp(prefix="tvb-", dir="/tmp")
    try:
        fill(os.path.join(directory, "state"), ended, live)
        return [_start(directory, {"tasks": live, "ended": ended, "damaged": 0}) for _ in range(rounds)]
    finally:
        shutil.rmtree(directory)


def fill(state_dir: str, ended: int, live: int) -> None:
    """Writes the journals that a runner would have left behind."""
    store = Store(state_dir)
    os.makedirs(os.path.join(state_dir, "tasks"), mode=0o700)
    store.open()
    boot = boot_id()
    shelf = archive.Archive(store, keep=ended)
    for number in range(ended + live):
        book = _book(store, boot, number)
        if number < ended:
            book.step([Gone("bench")], _moment(number))
            if not shelf.add(book):
                raise RuntimeError(f"{state_dir}: cannot be written")
        else:
            book.log.close()


def runs_of(records: int) -> int:
    """Runs of a process whose journal has `records` records or one more."""
    return (records + 2) // _RECORDS_PER_RUN


def _book(store: Store, boot: str, number: int) -> Book:
    key = TaskKey(Executor("framework", f"executor-{number}", "incarnation"), f"task-{number}", 1)
    info = mesos_pb2.TaskInfo(name="bench")
    info.task_id.value = key.task_id
    info.agent_id.value = "agent"
    names = ("setup", "work", "report")
    processes = [{"name": name, "cmdline": f"exec run {name}", "max_failures": 0, "min_duration": 0} for name in names]
    info.data = json.dumps({"processes": processes, "constraints": [{"order": names}]}).encode()
    head = Header(key, info.SerializeToString(), Facts(boot, "host", "/sandbox", "/sandbox", 0), time.time())
    book = Book(head, store.log_of(key), recorded=False)
    book.step([HandsSeen((), 0, hello=True)], _moment(number))
    for run in range(runs_of(RECORDS) - 1):
        book.step([_seen(run, code=1)], _moment(number))
    return book


def _seen(run: int, code: int) -> HandsSeen:
    ended = HandsRun("setup", run, HandsState.EXITED, 4711, 1, Exit(code=code), forked_at=1.0, exited_at=2.0)
    return HandsSeen([ended], 0)


def _moment(number: int) -> Moment:
    return Moment(1000.0 + number, time.time())


def _start(directory: str, expected: dict[str, int]) -> tuple[float, float]:
    command = [sys.executable, "-m", "services.runner", "--run-dir", f"{directory}/run"]
    command += ["--state-dir", f"{directory}/state"]
    begin = time.monotonic()
    runner = subprocess.Popen(command, stderr=subprocess.PIPE)
    try:
        _wait_ready(runner, expected)
        seconds = time.monotonic() - begin
        with open(f"/proc/{runner.pid}/status") as file:
            kib = next(int(line.split()[1]) for line in file if line.startswith("VmRSS:"))
    finally:
        runner.send_signal(signal.SIGTERM)
        runner.communicate(timeout=30)
    return seconds, kib / 1024


def _wait_ready(runner: subprocess.Popen[bytes], expected: dict[str, int]) -> None:
    stream = runner.stderr
    if stream is None:
        raise RuntimeError("no pipe")
    patience = threading.Timer(60.0, runner.kill)
    patience.start()
    try:
        for line in stream:
            entry = json.loads(line)
            if entry["msg"] == "replayed" and {name: entry[name] for name in expected} != expected:
                raise RuntimeError(f"not all was replayed: {entry}")
            if entry["msg"] == "ready":
                return
    finally:
        patience.cancel()
    raise RuntimeError("the runner has ended, or is not ready after 60 s")


def main(arguments: Sequence[str]) -> int:
    """By hand: `python -m bench.recovery [ENDED [LIVE [ROUNDS]]]`."""
    for seconds, mib in recovery(*map(int, arguments)):
        print(f"{seconds:.2f} s, {mib:.0f} MiB")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
