"""What the scheduler ordered in a recording, ordered again through the control API."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mesos.v1 import mesos_pb2
from mesos.v1.executor import executor_pb2
from services.local_agent.containers.process_tree import read_table
from tests.conformance.recording import Event
from trivet.agent.v1 import agent_pb2

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.conformance.replay import Player

_EVENT = executor_pb2.Event
_LAUNCHES = {_EVENT.LAUNCH, _EVENT.LAUNCH_GROUP}
_LIVE = {agent_pb2.EXECUTOR_STATE_REGISTERING, agent_pb2.EXECUTOR_STATE_RUNNING}


def launch(player: Player, tasks: Sequence[mesos_pb2.TaskInfo], *, group: bool = False) -> None:
    """Launches, and remembers container and process."""
    player.launched += [task.task_id.value for task in tasks]
    if group:
        alone = [mesos_pb2.TaskInfo.FromString(task.SerializeToString()) for task in tasks]
        for task in alone:
            task.ClearField("executor")
        response = player.agent.launch_group(tasks[0].executor, alone, player.framework)
        agent_id, framework_id, container_id = response.agent_id, response.framework_id, response.container_id
    else:
        single = player.agent.launch(tasks[0], player.framework)
        agent_id, framework_id, container_id = single.agent_id, single.framework_id, single.container_id
    assert agent_id == player.agent_id
    assert framework_id == player.framework.id.value
    executor_id = tasks[0].executor.executor_id.value
    player.pids[executor_id] = _executor_process(player, executor_id)
    player.containers[executor_id] = container_id


def launch_first(player: Player) -> None:
    """Launches whose events follow a first SUBSCRIBED directly, and those that the flow names."""
    subscribed: set[str] = set()
    following: set[str] = set()
    batches: list[Sequence[mesos_pb2.TaskInfo]] = []
    for index, units in sorted(player.recording.units.items()):
        connection = player.recording.rows[index].connection
        for unit in units:
            if not isinstance(unit, Event):
                continue
            event = unit.message()
            executor_id = event.subscribed.executor_info.executor_id.value
            if event.type == _EVENT.SUBSCRIBED and executor_id not in subscribed:
                subscribed.add(executor_id)
                following.add(connection)
            elif event.type in _LAUNCHES and connection in following:
                batches.append(_launched(event))
                player.given.add(id(unit))
                launch(player, batches[-1], group=event.type == _EVENT.LAUNCH_GROUP)
            else:
                following.discard(connection)
    for task_id in player.flow.launched_first:
        if task_id not in player.launched:
            launch(player, [another_task(player, task_id, batches[0][0] if batches else None)])


def another_task(player: Player, task_id: str, like: mesos_pb2.TaskInfo | None = None) -> mesos_pb2.TaskInfo:
    """A task of which the recording shows no LAUNCH."""
    launched = [event.launch.task for event in player.recording.events if event.type == _EVENT.LAUNCH]
    task = mesos_pb2.TaskInfo()
    if like is not None or launched:
        task.CopyFrom(like if like is not None else launched[0])
    else:
        task.executor.executor_id.value = "shim"
        task.executor.command.shell = False
        task.executor.command.value = "/bin/sleep"
        task.executor.command.arguments.extend(["trivet-shim", "86400"])
        task.agent_id.value = player.agent_id
    task.name = task.task_id.value = task_id
    return task


def give(player: Player, unit: Event) -> None:
    """Gives the order that caused the event, if it was an order and has not been given."""
    event = unit.message()
    if event.type in player.flow.ordered_by_note:
        return
    if event.type in {_EVENT.KILL, _EVENT.SHUTDOWN, _EVENT.MESSAGE, *_LAUNCHES}:
        player.agent.wait_ready()
    if event.type == _EVENT.KILL:
        policy = event.kill.kill_policy if event.kill.HasField("kill_policy") else None
        seconds = policy.grace_period.nanoseconds / 1e9 if policy is not None else None
        assert player.agent.kill(event.kill.task_id.value, seconds).sent
    elif event.type == _EVENT.MESSAGE:
        assert player.agent.message(player.framework.id.value, "shim", event.message.data)
    elif event.type == _EVENT.SHUTDOWN:
        for executor in player.agent.executors():
            if executor.state in _LIVE:
                player.agent.shut_down(executor.framework_id, executor.executor_id)
    elif event.type in _LAUNCHES and id(unit) not in player.given:
        player.given.add(id(unit))
        launch(player, _launched(event), group=event.type == _EVENT.LAUNCH_GROUP)


def _launched(event: executor_pb2.Event) -> Sequence[mesos_pb2.TaskInfo]:
    return [event.launch.task] if event.type == _EVENT.LAUNCH else list(event.launch_group.task_group.tasks)


def _executor_process(player: Player, executor_id: str) -> int:
    """With the linux launcher the container's first process is another one, the executor its only child."""
    first = player.agent.executor(executor_id).pid
    if "--launcher=linux" not in player.flow.flags:
        return first
    (child,) = [row.pid for row in read_table() if row.parent == first]
    return child
