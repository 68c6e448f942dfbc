"""Our agent answers the recorded executors as the real one did."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import grpc
import pytest

from services.local_agent.wire import dialect_writer
from tests.conformance import recording
from tests.conformance.recording import Event
from tests.conformance.replay import Flow, Player

if TYPE_CHECKING:
    from pathlib import Path

if not recording.directory().is_dir():
    message = f"NO RECORDINGS at {recording.directory()} (set TRIVET_TRACES): nothing is compared with the real Mesos"
    warnings.warn(message, stacklevel=1)
    pytest.skip(message, allow_module_level=True)


def _no_stream(player: Player) -> None:
    assert not player.agent.kill("t1").sent


def _orders_without_a_stream(player: Player) -> None:
    _no_stream(player)
    player.agent.shut_down(player.framework.id.value, "shim")


def _kill_and_launch_without_a_stream(player: Player) -> None:
    _no_stream(player)
    player.launch(player.another_task("t2"))


def _differing_executor(player: Player) -> None:
    task = player.another_task("t4")
    task.executor.command.environment.variables.add(name="NEW", value="1")
    with pytest.raises(grpc.RpcError) as refused:
        player.agent.launch(task, player.framework)
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert str(refused.value.details()).startswith("task.executor: ")


_NO_SCHEDULER_ROWS = "the recording has no rows of the scheduler"

COVERED: dict[str, Flow] = {
    "adoption": Flow(),
    "agent-restart": Flow(),
    "basic-json": Flow(),
    "basic-protobuf": Flow(),
    "big-data": Flow(),
    "container-status-mix": Flow(),
    "drop-before-update": Flow(),
    "env-agent-variables": Flow(
        flags=("--executor-environment-variables", '{"FROM_AGENT":"yes","PATH":"/usr/bin:/bin"}')
    ),
    "env-timeouts": Flow(),
    "executor-killed": Flow(),
    "foreign-task": Flow(),
    "gap-shutdown": Flow(at_note={"scheduler, while no stream is open": _orders_without_a_stream}),
    "handover": Flow(),
    "http-errors": Flow(skipped={"c7": "an operator API, which is what answers there, does not exist in this agent"}),
    "json-dialect": Flow(),
    "kill-json": Flow(),
    "kill-protobuf": Flow(),
    "list-no-source": Flow(),
    "list-no-uuid": Flow(),
    "list-staging": Flow(),
    "list-unknown-task": Flow(),
    "multi-task": Flow(
        at_note={"fourth task whose ExecutorInfo differs": _differing_executor},
        uncompared_tasks={"t4": "Mesos' master says TASK_ERROR; LaunchTask refuses the request"},
    ),
    "odd-ids": Flow(),
    "queued-task-update": Flow(uncompared_tasks=dict.fromkeys(("t1", "t2"), _NO_SCHEDULER_ROWS)),
    "registration-timeout": Flow(launched_first=("t1",)),
    "restart-before-subscribe": Flow(launched_first=("t1",)),
    "restart-idle": Flow(),
    "restart-late": Flow(skipped={"c3": "Mesos notices the death of an adopted process up to 1.5 s late, we at once"}),
    "restart-lists": Flow(),
    "restart-nocheckpoint": Flow(orphan=True),
    "restart-not-partition-aware": Flow(),
    "restart-resend": Flow(),
    "restart-twice": Flow(),
    "rich-task-json": Flow(),
    "rich-task-protobuf": Flow(),
    "second-subscribe": Flow(),
    "shutdown": Flow(),
    "shutdown-silent": Flow(),
    "stream-away-long": Flow(),
    "stream-drop-checkpoint": Flow(at_note={"meanwhile: scheduler KILL": _kill_and_launch_without_a_stream}),
    "stream-drop-nocheckpoint": Flow(at_note={"meanwhile: scheduler KILL": _kill_and_launch_without_a_stream}),
    "stream-endings": Flow(),
    "terminal-then-death": Flow(),
    "update-errors": Flow(
        until=("terminal of t2; from here", "a scheduler that acknowledges nothing cannot be played yet"),
    ),
}

NOT_COVERED: dict[str, str] = {
    "agent-signals": "SIGUSR1 (SHUTDOWN to all, then exit) is not handled yet",
    "auth": "bearer tokens: not yet",
    "auth-not-enforced": "bearer tokens: not yet",
    "cgroups-restart": "linux launcher: not yet",
    "cgroups-restart-nocheckpoint": "linux launcher: not yet",
    "domain-socket": "unix socket for executors: not yet",
    "drain": "agent drain is the master's and has no counterpart in the control API yet",
    "heartbeat": "takes 30 minutes; the machine's test holds the rule",
    "launch-group-json": "LAUNCH_GROUP: not yet",
    "launch-group-protobuf": "LAUNCH_GROUP: not yet",
    "launch-group-refused": "LAUNCH_GROUP: not yet",
    "list-bad-uuid": "aborts Mesos' agent; ours answers 400 and names the entry",
    "list-zero-uuid": "aborts Mesos' agent; ours answers 400 and names the entry",
    "master-down": "no master that could be taken away",
    "message": "the scheduler's MESSAGE has no counterpart in the control API yet",
    "message-protobuf": "the scheduler's MESSAGE has no counterpart in the control API yet",
    "never-acked": "a scheduler that acknowledges nothing cannot be played yet",
    "restart-cleanup": "--recover=cleanup: not yet",
    "teardown": "TEARDOWN has no counterpart in the control API yet",
    "update-before-launch": "aborts Mesos' agent; ours answers 400 and names the task",
}


@pytest.mark.parametrize("name", COVERED)
def test_agent_answers_as_recorded(name: str, tmp_path: Path) -> None:
    Player(recording.load(name), COVERED[name], tmp_path).play()


def test_every_recorded_event_is_written_byte_by_byte_as_mesos_writes_it() -> None:
    compared = 0
    for path in sorted(recording.directory().glob("*.jsonl")):
        for units in recording.load(path.stem).units.values():
            for unit in units:
                if not isinstance(unit, Event):
                    continue
                message = unit.message()
                json = unit.content_type == "application/json"
                assert (dialect_writer.encode(message) if json else message.SerializeToString()) == unit.payload
                assert unit.single, "Mesos sends one record a chunk"
                compared += 1
    assert compared > 400


def test_every_recording_is_played_or_listed_with_a_reason() -> None:
    assert not set(COVERED) & set(NOT_COVERED)
    assert {path.stem for path in recording.directory().glob("*.jsonl")} == set(COVERED) | set(NOT_COVERED)
