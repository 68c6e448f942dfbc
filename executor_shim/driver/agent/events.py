"""Mesos' events, as calls of the hub."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from executor_shim.driver.agent import poison
from executor_shim.driver.clock import boottime
from mesos.v1 import mesos_pb2
from mesos.v1.executor import executor_pb2
from trivet.link.v1 import link_pb2

if TYPE_CHECKING:
    from executor_shim.driver.hub import Hub

_LOG = logging.getLogger(__name__)
_Event = executor_pb2.Event
_Capability = mesos_pb2.FrameworkInfo.Capability
_NANOS = 1e9
_POISONED = "Executor error: the event that brought this task has crashed the executor's driver again and again"


class AgentEvents:
    """Listens to the subscription."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub

    def on_event(self, record: bytes) -> None:
        """One record of the stream. A type of a newer agent is passed over."""
        event = _Event.FromString(record)
        if event.type == _Event.SUBSCRIBED:
            self._subscribed(event.subscribed)
        elif event.type == _Event.LAUNCH:
            self._hub.launch(event.launch.task.task_id.value, event.launch.task.SerializeToString())
        elif event.type == _Event.LAUNCH_GROUP:
            tasks = event.launch_group.task_group.tasks
            self._hub.launch_group([(task.task_id.value, task.SerializeToString()) for task in tasks])
        elif event.type == _Event.KILL:
            policy = event.kill.kill_policy
            grace = policy.grace_period.nanoseconds / _NANOS if policy.HasField("grace_period") else None
            self._hub.kill(event.kill.task_id.value, grace)
        elif event.type == _Event.ACKNOWLEDGED:
            self._hub.acknowledged(event.acknowledged.uuid)
        elif event.type == _Event.SHUTDOWN:
            self._hub.subscription.stop_reconnecting()
            # It may be the first event of a stream, with no SUBSCRIBED: updates are taken all the same.
            self._hub.subscription.confirm()
            grace = self._hub.environment.shutdown_grace
            self._hub.shut_down(link_pb2.END_CAUSE_SHUTDOWN, grace, "Executor shutdown")
        elif event.type == _Event.ERROR:
            _LOG.error("the agent reports an error: %s", event.error.message[:200])
            self._hub.subscription.renew()

    def on_poison(self, record: bytes, attempts: int) -> None:
        """Several drivers have died on this event. Tasks that it brings are failed; then it is skipped."""
        _LOG.error("an event has killed %d drivers: it is skipped", attempts - 1)
        # The first thing to try could be what kills: then the next driver does not try it.
        if attempts > poison.MAX_REPORTS:
            return
        for task_id in poison.launched_task_ids(record):
            if self._hub.book.live_task(task_id) is not None:
                continue
            task = self._hub.book.launch(task_id, b"", 0.0)
            self._hub.report_fallback(task, "TASK_FAILED", _POISONED)

    def on_subscribed(self) -> None:
        """The agent takes updates."""
        self._hub.delivery.subscribed()

    def on_stream_lost(self) -> None:
        """Updates wait."""
        self._hub.delivery.unsubscribed()

    def on_agent_gone(self, why: str) -> None:
        """Nobody will ever hear of the tasks again: they end as if SHUTDOWN had come."""
        _LOG.error("the agent is gone: %s", why)
        self._hub.shut_down(link_pb2.END_CAUSE_AGENT_GONE, self._hub.environment.shutdown_grace, "Agent gone")

    def _subscribed(self, event: executor_pb2.Event.Subscribed) -> None:
        hub = self._hub
        capabilities = {entry.type for entry in event.framework_info.capabilities}
        hub.book.set_identity(
            {
                "agent_id": event.agent_info.id.value,
                "hostname": event.agent_info.hostname,
                "container_id": event.container_id.value,
                "partition_aware": _Capability.PARTITION_AWARE in capabilities,
                "task_killing_state": _Capability.TASK_KILLING_STATE in capabilities,
            }
        )
        updates = list(hub.book.outbox)
        hub.subscription.confirm()
        hub.peers.identified()
        # The SUBSCRIBE carried them all: the agent acknowledges them without another UPDATE.
        hub.delivery.plan.listed(updates, boottime())
        hub.exit_plan.review()
