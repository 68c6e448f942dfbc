"""What the hands do to a child between its fork and its own session, and to who it becomes."""

from __future__ import annotations

import json
import os
import pwd
import signal
import subprocess
from typing import Any

import pytest

from executor_shim.coordinator import child
from executor_shim.coordinator.family import Family
from executor_shim.coordinator.hands import Hands
from executor_shim.coordinator.runs import FORKED, RUNNING, Run


class Nothing:
    """Stands for parts that a stop does not use."""


@pytest.mark.parametrize("own_session", [False, True])
def test_a_run_is_stopped_before_and_after_it_has_made_its_session(own_session: bool) -> None:
    told: list[Any] = []
    nothing: Any = Nothing()

    def never(*_: object) -> Any:
        raise AssertionError("not part of a stop")

    hands = Hands(Family(), nothing, nothing, told.append, never, never)
    script = 'trap "" TERM; echo; read x'
    process = subprocess.Popen(
        ["/bin/sh", "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=own_session
    )
    try:
        assert process.stdout is not None
        process.stdout.readline()
        run = Run("t", "p", 0, "marker", 0.0)
        run.pid, run.state = process.pid, RUNNING if own_session else FORKED
        hands.task("t").runs["p", 0] = run
        hands.stop("t", "p", 0)
        assert process.wait(20) == -signal.SIGKILL
        assert hands.task("t").errors == []
        assert [event["run"]["pid"] for event in told] == [process.pid]
    finally:
        process.kill()
        process.communicate()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
def test_another_user_has_its_own_groups_and_none_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    groups = [1, 60_001, 60_002]
    account = pwd.struct_passwd(("made-up", "x", 60_000, 60_003, "", "/", "/bin/sh"))
    asked: list[object] = []

    def lookup(name: str, group: int) -> list[int]:
        asked.append((name, group))
        return [*groups, group]

    monkeypatch.setattr(os, "getgrouplist", lookup)
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            child.change_user(account)
            seen = [sorted(os.getgroups()), os.getresuid(), os.getresgid(), asked]
            os.write(writer, json.dumps(seen).encode())
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        seen = json.loads(pipe.read())
    os.waitpid(pid, 0)
    assert seen == [sorted([*groups, 60_003]), [60_000] * 3, [60_003] * 3, [["made-up", 60_003]]]
