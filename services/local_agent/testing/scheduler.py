"""What a scheduler does, as methods: launch, kill, acknowledge, and a master that is there or not."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from mesos.v1 import mesos_pb2
from services.local_agent.client import orders
from services.local_agent.client.orders import Order
from services.local_agent.testing.messages import Messages
from services.local_agent.testing.task import Task
from trivet.agent.v1 import agent_pb2

if TYPE_CHECKING:
    import threading
    from collections.abc import Mapping, Sequence

    from services.local_agent.client.connection import AgentClient


class Scheduler:
    """Orders to one agent, and the tasks that were launched there."""

    def __init__(self, client: AgentClient, agent_id: str, ended: threading.Event, directories: Sequence[str]) -> None:
        self.client = client
        # Set when the connection is going to be closed: what watches ends quietly.
        self.ended = ended
        self.tasks: list[Task] = []
        self._agent_id = agent_id
        self._messages = Messages(client, ended)
        self._directories = list(directories)
        # Ids by name.
        self._frameworks: dict[str, str] = {}
        self._master_away = False

    def launch(
        self,
        executor: str | Sequence[str],
        *,
        data: bytes | str = b"",
        name: str = "",
        task_id: str = "",
        executor_id: str = "",
        resources: str = orders.DEFAULT_TASK_RESOURCES,
        executor_resources: str = orders.DEFAULT_EXECUTOR_RESOURCES,
        kill_grace: float | None = None,
        shutdown_grace: float | None = None,
        environment: Mapping[str, str] | None = None,
        labels: Mapping[str, str] | None = None,
        checkpoint: bool = True,
        capabilities: Sequence[str] = orders.DEFAULT_CAPABILITIES,
        shell: bool = False,
    ) -> Task:
        """Launches a task, and its executor unless one of this `executor_id` runs; returns when its process runs.

        Args:
            executor: its command: words, or one text that is split like a shell does. It starts in its sandbox; words
                that name files next to the test, or below the current directory, are made absolute.
            data: TaskInfo.data.
            name: of the task; its id begins with it.
            task_id: a new one when empty.
            executor_id: a new one when empty; tasks with the same one and the same command share an executor.
            resources: of the task, in Mesos' text form.
            executor_resources: of the executor.
            kill_grace: TaskInfo.kill_policy.grace_period, seconds.
            shutdown_grace: ExecutorInfo.shutdown_grace_period, seconds.
            environment: variables for the executor, beside those that Mesos sets, and PATH.
            labels: of the task.
            checkpoint: whether the framework checkpoints.
            capabilities: of the framework, by name.
            shell: `executor` is for `sh -c`, unchanged.

        Raises:
            InvalidOrder: an argument is wrong.
            AgentError: the agent refuses it; the text names the field.
        """
        order = Order(
            executor=executor,
            data=data.encode() if isinstance(data, str) else data,
            name=name,
            task_id=task_id,
            executor_id=executor_id,
            resources=resources,
            executor_resources=executor_resources,
            kill_grace=kill_grace,
            shutdown_grace=shutdown_grace,
            environment=environment or {},
            labels=labels or {},
            shell=shell,
            directories=self._directories,
        )
        framework = orders.framework_info(capabilities=capabilities, checkpoint=checkpoint)
        return self.launch_task(orders.task_info(order), framework, fresh=not task_id)

    def launch_task(
        self, info: mesos_pb2.TaskInfo, framework: mesos_pb2.FrameworkInfo | None = None, *, fresh: bool = False
    ) -> Task:
        """Launches a TaskInfo that was made by hand, with `executor`; `agent_id` is filled in. Else as `launch`."""
        if not info.HasField("agent_id"):
            info.agent_id.value = ""
        framework = self._framework(framework)
        since = time.monotonic()
        answer = self.client.launch(info, framework, fresh=fresh)
        return self._add(info, answer, since)

    def launch_group(
        self,
        executor: mesos_pb2.ExecutorInfo,
        tasks: Sequence[mesos_pb2.TaskInfo],
        framework: mesos_pb2.FrameworkInfo | None = None,
    ) -> list[Task]:
        """Launches a group in one LAUNCH_GROUP; its tasks have no `executor` of their own. Else as `launch`."""
        request = agent_pb2.LaunchTaskGroupRequest(executor=executor, framework=self._framework(framework))
        for info in tasks:
            request.tasks.append(info)
            if not info.HasField("agent_id"):
                request.tasks[-1].agent_id.value = ""
        since = time.monotonic()
        answer: agent_pb2.LaunchTaskGroupResponse = self.client.ask("LaunchTaskGroup", request)
        launched = agent_pb2.LaunchTaskResponse(
            framework_id=answer.framework_id,
            container_id=answer.container_id,
            sandbox=answer.sandbox,
            failure=answer.failure,
        )
        group = []
        for info in tasks:
            whole = mesos_pb2.TaskInfo()
            whole.CopyFrom(info)
            whole.executor.CopyFrom(executor)
            group.append(self._add(whole, launched, since))
        return group

    def kill(self, task_id: str, grace: float | None = None) -> bool:
        """As `Task.kill`."""
        request = agent_pb2.KillTaskRequest(task_id=task_id)
        if grace is not None:
            request.kill_policy.grace_period.nanoseconds = orders.nanoseconds("grace", grace)
        return bool(self.client.ask("KillTask", request).sent)

    def shutdown(self, framework_id: str, executor_id: str) -> bool:
        """As `Task.shutdown`."""
        request = agent_pb2.ShutdownExecutorRequest(framework_id=framework_id, executor_id=executor_id)
        return bool(self.client.ask("ShutdownExecutor", request).sent)

    def message(self, task: Task, data: bytes | str) -> bool:
        """As `Task.message`."""
        request = agent_pb2.SendMessageRequest(
            framework_id=task.framework_id,
            executor_id=task.executor_id,
            data=data.encode() if isinstance(data, str) else data,
        )
        return bool(self.client.ask("SendMessage", request).sent)

    def wait_message(self, timeout: float = 30.0) -> bytes:
        """The next MESSAGE of an executor that was launched here, the oldest first; each is given once.

        Raises:
            WaitTimeout: there is none after `timeout` seconds.
        """
        return self._messages.next(timeout)

    def executors(self) -> list[agent_pb2.Executor]:
        """Those that run, and the last ones that ended."""
        return self.client.executors()

    def behave(self, *, scheduler_acknowledges: bool | None = None, master_connected: bool | None = None) -> None:
        """How scheduler and master behave from now on; what is None stays as it is."""
        request = agent_pb2.SetBehaviorRequest()
        if scheduler_acknowledges is not None:
            request.scheduler_acknowledges = scheduler_acknowledges
        if master_connected is not None:
            request.master_connected = master_connected
        self.client.ask("SetBehavior", request)
        self._master_away = master_connected is False or (self._master_away and master_connected is None)

    def acknowledge(self, task: Task) -> bytes:
        """The scheduler acknowledges the update of the task that waits for it; returns the update's uuid."""
        answer = self.client.ask("AcknowledgeUpdate", agent_pb2.AcknowledgeUpdateRequest(task_id=task.task_id))
        return bytes(answer.uuid)

    def drain(self, max_grace: float | None = None) -> list[str]:
        """KILL to every task, as an operator's drain does it; returns the tasks that got one."""
        request = agent_pb2.DrainAgentRequest()
        if max_grace is not None:
            request.max_grace_period.nanoseconds = orders.nanoseconds("max_grace", max_grace)
        return list(self.client.ask("DrainAgent", request).task_ids)

    def tear_down(self, task: Task) -> None:
        """Ends the task's framework: SHUTDOWN to its executors, nothing of theirs is acknowledged any more."""
        self.client.ask("TearDown", agent_pb2.TearDownRequest(framework_id=task.framework_id))

    def _framework(self, given: mesos_pb2.FrameworkInfo | None) -> mesos_pb2.FrameworkInfo:
        """With an id, as Mesos' master makes them, so that its messages can be watched before it launches anything."""
        framework = mesos_pb2.FrameworkInfo()
        framework.CopyFrom(given or orders.framework_info())
        if not framework.id.value:
            prefix = self._agent_id.rpartition("-")[0]
            fresh = f"{prefix}-{len(self._frameworks):04d}"
            framework.id.value = self._frameworks.setdefault(framework.name, fresh)
        self._messages.watch(framework.id.value)
        return framework

    def _add(self, info: mesos_pb2.TaskInfo, answer: agent_pb2.LaunchTaskResponse, since: float) -> Task:
        task = Task(self, info, answer, since)
        self.tasks.append(task)
        return task
