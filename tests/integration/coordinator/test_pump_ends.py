"""What is told of the end of a log pump, and what a pump may say without harm: real pumps, one process around them."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from pathlib import Path

PARTS = """
import json, os, signal, sys
from executor_shim.coordinator import pump, pump_link, spawn
from executor_shim.coordinator.child import Command
from executor_shim.coordinator.logfile import LogRules
from executor_shim.coordinator.poller import Poller
from executor_shim.coordinator.pumps import Pumps
from executor_shim.coordinator.runs import Run

signal.signal(signal.SIGPIPE, signal.SIG_IGN)
sandbox = sys.argv[1].encode()
said, written, poller = [], [], Poller()
pumps = Pumps(poller, written.append, said.append)
run = Run("t", "p", 0, "m", 0.0)

def open_logs(user="", sandbox=sandbox):
    rules = LogRules(limit=1000, backups=1)
    return pumps.open(run, Command(argv=[], env={}, cwd=b"", user=user, sandbox=sandbox, stdout=b"o", stderr=b"e",
                                   logging=rules))

def spin(until):
    while not until():
        ready = poller.wait(10.0)
        assert ready
        for fd in ready:
            if handler := poller.handler(fd):
                handler()

def link():
    (one,) = pumps._pumps.values()
    return one

def reap():
    (pid,) = pumps.pids
    os.waitpid(pid, 0)
    pumps.died(pid, 0.0)
    return pid
"""


def with_pumps(directory: Path, script: str) -> Any:
    done = subprocess.run(
        [sys.executable, "-c", PARTS + script, str(directory)], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("heard_first", [True, False])
def test_the_cause_of_a_pumps_end_is_told(tmp_path: Path, heard_first: bool) -> None:
    # Whether the socket is read before the process is reaped, or the other way round.
    script = f"""
open_logs(sandbox=sandbox + b"/missing")
{"spin(lambda: not link().up)" if heard_first else ""}
pid = reap()
print(json.dumps([pid, said]))
"""
    pid, said = with_pumps(tmp_path, script)
    cause = f"FileNotFoundError: [Errno 2] No such file or directory: b'{tmp_path}/missing'"
    (line,) = said
    assert line.startswith(f"the log pump {pid} has died (")
    assert cause in line.replace('\\"', '"').replace("\\'", "'")
    assert line.endswith("): starting another one")


def test_a_user_that_is_not_there_is_told_by_name(tmp_path: Path) -> None:
    script = """
open_logs(user="nobody-of-that-name")
reap()
print(json.dumps(said))
"""
    (line,) = with_pumps(tmp_path, script)
    assert "nobody-of-that-name" in line


def test_a_pump_that_was_killed_has_no_words_and_none_of_its_predecessors(tmp_path: Path) -> None:
    script = """
missing = sandbox + b"/later"
open_logs(sandbox=missing)
reap()
os.mkdir(missing)
pumps.tick(1.0)
(pid,) = pumps.pids
os.kill(pid, signal.SIGKILL)
reap()
print(json.dumps([pid, said]))
"""
    pid, (_, second) = with_pumps(tmp_path, script)
    assert second == f"the log pump {pid} has died: starting another one"


@pytest.mark.parametrize(
    "words",
    [
        {"ev": "closed", "id": []},
        {"ev": "flushed", "id": {}},
        {"ev": [], "id": 1},
        {"ev": "closed", "id": 999},
        {"ev": "nonsense"},
        {},
        {"ev": "failed", "why": {"deep": ["x" * 5000]}},
    ],
)
def test_whatever_a_pump_says_that_it_should_not_harms_nobody(tmp_path: Path, words: dict[str, Any]) -> None:
    # A task of the same user may have got at its pump.
    script = f"""
def hostile(sock, user, sandbox):
    from executor_shim.coordinator.wire import Channel
    Channel(sock).send({words!r})
    os._exit(0)

honest, pump.run = pump.run, hostile
out, err = open_logs()
spin(lambda: not link().up)
reap()
pump.run = honest
os.write(out, b"kept\\n")
os.close(out), os.close(err)
pumps.tick(1.0)
spin(lambda: not pumps._pumps)
print(json.dumps([said, open(sandbox + b"/o").read()]))
"""
    said, text = with_pumps(tmp_path, script)
    (line,) = said
    assert "has died" in line
    assert len(line) < 500
    # Whose the pipes are is the coordinator's knowledge: the next pump goes on with them.
    assert text.endswith("kept\n")


def test_a_pump_that_speaks_out_of_step_is_ended_and_why_is_told(tmp_path: Path) -> None:
    script = """
def hostile(sock, user, sandbox):
    sock.send(b"\\xff\\xff\\xff\\xff")
    signal.pause()

pump.run = hostile
open_logs()
spin(lambda: link().why)
reap()
print(json.dumps(said))
"""
    (line,) = with_pumps(tmp_path, script)
    assert "(it spoke out of step: message of 4294967295 bytes announced" in line


def test_a_pump_that_cannot_be_forked_again_is_told_and_tried_later(tmp_path: Path) -> None:
    script = """
out, err = open_logs()
(pid,) = pumps.pids
os.kill(pid, signal.SIGKILL)
reap()
def refuse(work):
    raise OSError(11, "Resource temporarily unavailable")
real, pump_link.spawn.fork = spawn.fork, refuse
pumps.tick(1.0)
due = pumps.due()
pump_link.spawn.fork = real
pumps.tick(due)
os.write(out, b"kept\\n")
os.close(out), os.close(err)
spin(lambda: not pumps._pumps)
print(json.dumps([said[1:], due, open(sandbox + b"/o").read()]))
"""
    said, due, text = with_pumps(tmp_path, script)
    assert said == ["no log pump can be started: Resource temporarily unavailable: trying again"]
    assert due == 2.0
    assert text.endswith("kept\n")
