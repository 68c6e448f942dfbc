"""Orders of events that a whole coordinator shows only once in a blue moon, forced on its real parts in one process."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

PARTS = """
import json, os, socket, sys
from executor_shim.coordinator.driver_link import DriverLink
from executor_shim.coordinator.family import Family
from executor_shim.coordinator.hands import Hands
from executor_shim.coordinator.poller import Poller
from executor_shim.coordinator.probing import Probes
from executor_shim.coordinator.pumps import Pumps
from executor_shim.coordinator.reaper import Reaper
from executor_shim.coordinator.wire import encode
told = []
family, poller = Family(), Poller()
probes = Probes(family, poller, told.append, lambda task: False)
no = lambda task: False
pumps = Pumps(poller, lambda run: None, print)
orphaned = lambda task, pid: None
hands = Hands(family, poller, pumps, told.append, no, orphaned)
reaper = Reaper(hands, family, pumps, no, orphaned, probes.ended, lambda task, told: None)
common = {"task": "t", "env": {}, "cwd": b"", "user": "", "sandbox": sys.argv[1].encode()}
run = {**common, "process": "p", "run": 0, "stdout": b"", "stderr": b"", "profile": b""}
"""


def with_parts(directory: Path, script: str) -> Any:
    done = subprocess.run(
        [sys.executable, "-c", PARTS + script, str(directory)], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_status_that_somebody_else_took_is_called_lost_and_never_success(tmp_path: Path) -> None:
    script = """
hands.start({**run, "argv": [b"/bin/true"]}, 0.0)
os.waitpid(hands.tasks["t"].runs["p", 0].pid, 0)
reaper.reap()
last = told[-1]["run"]
print(json.dumps([last["state"], last["code"], last["signal"], last["error"]]))
"""
    assert with_parts(tmp_path, script) == ["exited", None, None, "exit status lost"]


def test_exit_that_is_seen_before_the_exec_still_comes_after_it(tmp_path: Path) -> None:
    script = """
hands.start({**run, "argv": [b"/bin/sh", b"-c", b"exit 3"]}, 0.0)
os.waitid(os.P_PID, hands.tasks["t"].runs["p", 0].pid, os.WEXITED | os.WNOWAIT)
reaper.reap()
print(json.dumps([(event["run"]["state"], event["run"]["code"], event["run"]["ticks"] > 0) for event in told]))
"""
    assert with_parts(tmp_path, script) == [["running", None, True], ["exited", 3, True]]


def test_a_fork_without_an_exec_is_told_once_when_its_time_has_come(tmp_path: Path) -> None:
    script = """
# Nobody looks at the pipe: as if exec took its time.
hands.start({**run, "argv": [b"/bin/sh", b"-c", b"exit 3"]}, 100.0)
due = hands.due()
hands.tick(due - 0.001)
early = len(told)
hands.tick(due)
hands.tick(due + 1)
known = [(event["run"]["state"], event["alive"]) for event in told]
print(json.dumps([100.0 < due < 100.1, early, known, hands.due()]))
"""
    assert with_parts(tmp_path, script) == [True, 0, [["forked", 1]], float("inf")]


def test_output_that_was_not_read_before_the_exit_is_in_the_answer(tmp_path: Path) -> None:
    script = """
probes.start({**common, "id": "i", "timeout": 9, "argv": [b"/bin/sh", b"-c", b"echo all of it"]}, 0.0)
os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOWAIT)
reaper.reap()
print(json.dumps([told[-1]["output"], told[-1]["code"]]))
"""
    assert with_parts(tmp_path, script) == ["all of it\n", 0]


def test_commands_that_a_reaped_driver_left_unread_are_carried_out(tmp_path: Path) -> None:
    script = """
class NoLauncher:
    incarnation = "x"
carried = []
link = DriverLink(NoLauncher(), poller, 10, carried.append, dict, print)
ours, theirs = socket.socketpair()
link.attach(1 << 22, ours, 0.0)
theirs.sendall(encode({"n": 1}) + encode({"n": 2}) + b"\\0\\0\\0\\x09{half")
theirs.close()
link.detach()
print(json.dumps([carried, link.pid]))
"""
    assert with_parts(tmp_path, script) == [[{"n": 1}, {"n": 2}], 0]
