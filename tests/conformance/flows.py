"""Which recordings are played, and what has to be done by hand meanwhile."""

from __future__ import annotations

import signal

import grpc
import pytest

from mesos.v1.executor import executor_pb2
from tests.conformance import orders
from tests.conformance.replay import Flow, Player

_EVENT = executor_pb2.Event
_SHUTDOWN = frozenset({_EVENT.SHUTDOWN})
_ABORT = ("--on-check-failure=abort",)
_LINUX = ("--launcher=linux", "--isolation=cgroups/cpu,cgroups/mem,namespaces/pid")


def _nothing(_: Player) -> None: ...


def _no_stream(player: Player) -> None:
    assert not player.agent.kill("t1").sent


def _orders_without_a_stream(player: Player) -> None:
    _no_stream(player)
    player.agent.shut_down(player.framework.id.value, "shim")


def _kill_and_launch_without_a_stream(player: Player) -> None:
    _no_stream(player)
    orders.launch(player, [orders.another_task(player, "t2")])


def _message_without_a_stream(player: Player) -> None:
    # The recording closes the stream only after this note.
    player.clients["c1"].socket.close()
    while player.agent.message(player.framework.id.value, "shim", b"lost on the way"):
        # The agent has not seen the end of the connection yet.
        continue


def _differing_executor(player: Player) -> None:
    task = orders.another_task(player, "t4")
    task.executor.command.environment.variables.add(name="NEW", value="1")
    with pytest.raises(grpc.RpcError) as refused:
        player.agent.launch(task, player.framework)
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert str(refused.value.details()).startswith("task.executor: ")


def _drain(player: Player) -> None:
    assert player.agent.drain(2.0) == ["t1"]


def _tear_down(player: Player) -> None:
    player.agent.tear_down(player.framework.id.value)


def _acknowledge_nothing(player: Player) -> None:
    player.agent.behave(scheduler_acknowledges=False)


def _acknowledge_all(player: Player) -> None:
    player.agent.behave(scheduler_acknowledges=True)


def _master_away(player: Player) -> None:
    player.agent.behave(master_connected=False)


def _leave(player: Player) -> None:
    player.agent.signal(signal.SIGUSR1)


def _clean_up(player: Player) -> None:
    player.agent.end(signal.SIGKILL)
    player.restart_agent("--recover=cleanup")


def _aborted(player: Player) -> None:
    assert player.clients["c3"].closed_by_agent(), "no answer"
    assert player.agent.wait_end() == -signal.SIGABRT


_NO_SCHEDULER_ROWS = "the recording has no rows of the scheduler"

PLAYED: dict[str, Flow] = {
    "adoption": Flow(),
    "agent-restart": Flow(),
    "agent-signals": Flow(
        at_note={
            "stream: Closed: EOF": Player.restart_agent,
            "agent: SIGUSR1": _leave,
        },
        ordered_by_note=_SHUTDOWN,
        agent_ends=True,
    ),
    "auth": Flow(
        needs_key=True,
        flags=("--authenticate-http-executors",),
        uncompared_tasks={
            "t2": "its executor is destroyed at the end; Mesos notices that up to 1.5 s later, after the recording"
        },
    ),
    "auth-not-enforced": Flow(needs_key=True),
    "basic-json": Flow(),
    "basic-protobuf": Flow(),
    "big-data": Flow(),
    "cgroups-restart": Flow(flags=_LINUX),
    "cgroups-restart-nocheckpoint": Flow(
        flags=_LINUX,
        # How long the orphan lives is a race between two processes.
        at_note={"SUBSCRIBE -> 400": _nothing},
    ),
    "container-status-mix": Flow(),
    "domain-socket": Flow(flags=("--http-executor-domain-sockets",)),
    "drain": Flow(at_note={"operator: DRAIN_AGENT": _drain}, ordered_by_note=frozenset({_EVENT.KILL})),
    "drop-before-update": Flow(),
    "env-agent-variables": Flow(
        flags=("--executor-environment-variables", '{"FROM_AGENT":"yes","PATH":"/usr/bin:/bin"}')
    ),
    "env-timeouts": Flow(),
    "executor-killed": Flow(),
    "foreign-task": Flow(),
    "gap-shutdown": Flow(at_note={"scheduler, while no stream is open": _orders_without_a_stream}),
    "handover": Flow(),
    "http-errors": Flow(),
    "json-dialect": Flow(),
    "kill-json": Flow(),
    "kill-protobuf": Flow(),
    "launch-group-json": Flow(),
    "launch-group-protobuf": Flow(),
    "list-bad-uuid": Flow(flags=_ABORT, unanswered=frozenset({"c3"}), at_note={"agent process: DIED": _aborted}),
    "list-no-source": Flow(),
    "list-no-uuid": Flow(),
    "list-staging": Flow(),
    "list-unknown-task": Flow(),
    "list-zero-uuid": Flow(flags=_ABORT, unanswered=frozenset({"c3"}), at_note={"agent process: DIED": _aborted}),
    "master-down": Flow(at_note={"master: SIGKILL": _master_away}),
    "message": Flow(at_note={"the stream is closed; scheduler sends": _message_without_a_stream}),
    "message-protobuf": Flow(),
    "multi-task": Flow(
        at_note={"fourth task whose ExecutorInfo differs": _differing_executor},
        uncompared_tasks={"t4": "Mesos' master says TASK_ERROR; LaunchTask refuses the request"},
    ),
    "never-acked": Flow(at_start=_acknowledge_nothing, at_note={"scheduler now acknowledges": _acknowledge_all}),
    "odd-ids": Flow(),
    "queued-task-update": Flow(uncompared_tasks=dict.fromkeys(("t1", "t2"), _NO_SCHEDULER_ROWS)),
    "registration-timeout": Flow(launched_first=("t1",)),
    "restart-before-subscribe": Flow(launched_first=("t1",)),
    "restart-cleanup": Flow(
        at_note={"agent: SIGKILL, started again with --recover=cleanup": _clean_up},
        ordered_by_note=_SHUTDOWN,
        agent_ends=True,
    ),
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
    "teardown": Flow(at_note={"scheduler: TEARDOWN": _tear_down}, ordered_by_note=_SHUTDOWN),
    "terminal-then-death": Flow(),
    "update-before-launch": Flow(),
    "update-errors": Flow(at_note={"terminal of t2; from here": _acknowledge_nothing}),
}
