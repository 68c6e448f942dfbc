"""The hub of the star: what one party says, and who has to hear of it.

No decision about a task is made here. Facts go into the book first; then the others are told.
"""

from __future__ import annotations

import asyncio
import logging
import time
from functools import partial
from typing import TYPE_CHECKING, Any

from executor_shim.driver import ends, statuses, strays
from executor_shim.driver.agent.delivery import Delivery
from executor_shim.driver.agent.events import AgentEvents
from executor_shim.driver.agent.subscription import Subscription
from executor_shim.driver.clock import boottime
from executor_shim.driver.exit import ExitPlan
from executor_shim.driver.groups import Groups
from executor_shim.driver.hands import Hands
from executor_shim.driver.lifecycle import Lifecycles
from executor_shim.driver.links.holdback import Holdback
from executor_shim.driver.links.peers import Peers
from executor_shim.driver.probes.prober import Prober
from executor_shim.driver.starts import start_command
from executor_shim.driver.state.entries import DRIVER, Accepted, EndRequest, Task, Update
from executor_shim.driver.watchman import Watchman
from trivet.link.v1 import link_pb2

if TYPE_CHECKING:
    import socket
    from collections.abc import Sequence

    from executor_shim.driver.agent.endpoint import Endpoint
    from executor_shim.driver.environment import Environment
    from executor_shim.driver.options import Options
    from executor_shim.driver.state.book import Book
    from mesos.v1 import mesos_pb2
    from trivet.runner.v1 import runner_pb2

_LOG = logging.getLogger(__name__)


# Ended runs of a process that the coordinator remembers for a runner that has lost its journal. A daemon may rerun for
# weeks; beyond the run cap (Thermos: 100) they say nothing new.
KEPT_RUNS = 100


class Hub:
    """One driver."""

    def __init__(
        self, options: Options, environment: Environment, endpoint: Endpoint, book: Book, hands_socket: socket.socket
    ) -> None:
        self.options = options
        self.environment = environment
        self.book = book
        self.done = asyncio.Event()
        self.hands = Hands(hands_socket, self)
        self.subscription = Subscription(
            book, endpoint, environment, AgentEvents(self), keep=self.hands.keep_stream, clock=boottime
        )
        self.delivery = Delivery(
            book,
            endpoint,
            environment,
            on_dropped=lambda update, _why: self.drop_update(update),
            on_unsubscribed=self.subscription.renew,
            clock=boottime,
        )
        self.peers = Peers(self)
        self.holdback = Holdback()
        self.groups = Groups(self)
        self.prober = Prober(self)
        self.lifecycles = Lifecycles(self)
        self.watchman = Watchman(self)
        self.exit_plan = ExitPlan(self)

    async def run(self, stream: socket.socket | None, *, adopted: bool) -> None:
        """Works until the executor is over.

        Args:
            stream: The event stream, on which SUBSCRIBE has been sent.
            adopted: It was an older driver's.
        """
        # First the coordinator's picture, which it sends unasked: everything else is judged by it.
        self.hands.start()
        await self.hands.known.wait()
        for task in self.book.tasks.values():
            self.watchman.seen_alive(task.key, self.hands.task(task.key).alive, boottime())
        self.subscription.start(stream, adopted=adopted)
        async with asyncio.TaskGroup() as group:
            workers = [group.create_task(self.delivery.run())]
            links = [group.create_task(link.run()) for link in self.peers.links]
            self.watchman.review_all()
            self.groups.review_all()
            self.exit_plan.review()
            await self.done.wait()
            await self.peers.farewell(links)
            for worker in workers + links:
                worker.cancel()

    # What the agent wants

    def launch(self, task_id: str, info: bytes) -> None:
        """A task has come. LAUNCH of a live id is a duplicate."""
        if self.book.shutdown is not None or not self.book.takes(task_id):
            return
        self._launch([(task_id, info)], group=False)

    def launch_group(self, infos: Sequence[tuple[str, bytes]]) -> None:
        """Tasks have come together: (task id, TaskInfo). Those that live already are duplicates."""
        new = [(task_id, info) for task_id, info in infos if self.book.takes(task_id)]
        if self.book.shutdown is not None or not new:
            return
        self._launch(new, group=True)

    def _launch(self, infos: Sequence[tuple[str, bytes]], *, group: bool) -> None:
        now = boottime()
        replaces = any(self.book.live_task(task_id) is not None for task_id, _ in infos)
        tasks = self.book.launch_group(infos, now) if group else [self.book.launch(*infos[0], now)]
        for task in tasks:
            self.peers.launch(task)
            self.watchman.review(task)
        if replaces:
            # What an older task of the id still waited for is not awaited any more.
            self.delivery.plan.keep(self.book.outbox)
            self.exit_plan.review()

    def kill(self, task_id: str, grace: float | None) -> None:
        """KILL: the task's own grace period unless the event brings one."""
        task = self.book.live_task(task_id)
        if task is None:
            if strays.answer_kill(self.book, task_id, self.environment.executor_id):
                self.delivery.kick()
            return
        if task.latch is not None:
            _LOG.info("KILL for a task that is over")
            return
        now = boottime()
        total = grace if grace is not None else self.peers.total_grace(task)
        self.command_end(task, link_pb2.END_CAUSE_KILL, grace, now + total, "Killed by request")

    def shut_down(self, cause: int, grace: float, message: str) -> None:
        """SHUTDOWN, or what has to be treated alike: everything ends within `grace` seconds, statuses included."""
        now = boottime()
        self._end_all(cause, ends.shutdown_deadline(now, grace), now + grace, message)

    def _end_all(self, cause: int, deadline: float, exit_at: float, message: str) -> None:
        now = boottime()
        self.book.begin_shutdown(cause, now, exit_at)
        self.hands.limit("", deadline)
        for task in list(self.book.tasks.values()):
            if task.latch is None:
                self.command_end(task, cause, max(deadline - now, 0.0), deadline, message)
        self.exit_plan.review()

    def command_end(self, task: Task, cause: int, grace: float | None, deadline: float, message: str) -> None:
        """An end that must be obeyed in time: the coordinator learns the deadline before anybody else is asked."""
        self.hands.limit(task.key, deadline)
        self.request_end(task, cause, grace, deadline, message)

    def request_end(self, task: Task, cause: int, grace: float | None, deadline: float, message: str) -> None:
        """Tells the runner that the task has to end, and why."""
        end = EndRequest(cause, len(task.ends) + 1, grace, deadline, message, boottime())
        self.book.request_end(task, end)
        self.prober.task_ends(task)
        self.peers.end(task, end)
        self.groups.drop(task)
        self.watchman.review(task)

    def acknowledged(self, uuid: bytes) -> None:
        """ACKNOWLEDGED: the agent has the update."""
        self.delivery.plan.done(uuid)
        update = self.book.acknowledge(uuid)
        if update is None:
            return
        task = self.book.tasks.get(update.key)
        if task is not None:
            self.peers.acknowledged(task, uuid)
            if update.terminal:
                self.delivery.plan.keep(self.book.outbox)
                self.watchman.review(task)
                self.exit_plan.review()

    def drop_update(self, update: Update) -> None:
        """The agent will never take the update."""
        self.book.drop_update(update.uuid)
        if update.terminal:
            self.exit_plan.give_up(update.key)

    # What the coordinator reports

    def on_run(self, key: str, run: dict[str, Any]) -> None:
        """A run changed. That it was forked is no news to the runner, which has ordered it: exec is."""
        if run["state"] == "forked":
            self.watchman.seen_alive(key, self.hands.task(key).alive, boottime())
            return
        self.holdback.end((key, run["process"], run["run"]))
        self._hands_changed(key, [run])

    def on_alive(self, key: str) -> None:
        """Nothing is left of a task, or it is stuck."""
        self._hands_changed(key, [])

    def _hands_changed(self, key: str, runs: list[dict[str, Any]]) -> None:
        state = self.hands.task(key)
        self.watchman.seen_alive(key, state.alive, boottime())
        task = self.book.tasks.get(key)
        if task is None:
            # The coordinator had not heard yet that it is forgotten.
            self.hands.tasks.pop(key, None)
            return
        self.peers.hands(task, state.to_pb(runs))
        if state.stuck:
            # The agent must not think that the task's resources are free: it destroys the container.
            self.exit_plan.fail("processes survive SIGKILL")
        elif not state.alive:
            self.peers.reporter.release(task)
            self.watchman.review(task)
            self.exit_plan.review()

    def on_command_probe(self, message: dict[str, Any]) -> None:
        """A command probe has ended."""
        self.prober.on_command(message)

    def on_terminate(self, deadline: float) -> None:
        """SIGTERM to the coordinator counts as SHUTDOWN."""
        exit_at = deadline + ends.SHUTDOWN_MARGIN
        self._end_all(link_pb2.END_CAUSE_SHUTDOWN, deadline, exit_at, "Executor terminated")

    def on_coordinator_gone(self) -> None:
        """The container's first process is dead: nothing of it may go on."""
        from executor_shim.driver.orphans import kill_orphans

        _LOG.error("the coordinator is gone: killing what it has left")
        kill_orphans(self.options.incarnation, self.hands.tasks.values())
        raise SystemExit(1)

    # What the services say

    def on_task_state(self, task: Task, state: link_pb2.TaskState) -> None:
        """The runner's newest word goes to the other two, when the task's group is decided."""
        first, held = not task.task_state, self.groups.keeps_back(task, state)
        self.book.set_task_state(task, state.SerializeToString())
        if state.end_cause:
            self.prober.task_ends(task)
        if held:
            self.groups.review(task)
        elif first:
            self.tell_task_state(task, state)
        else:
            self.holdback.pass_on(partial(self.peers.task_state, state))
        self.watchman.review(task)

    def tell_task_state(self, task: Task, state: link_pb2.TaskState | None) -> None:
        """Health and reporter hear of a task for the first time; None: what the runner says now is not for them."""
        self.holdback.pass_on(partial(self.peers.accepted, task))
        if state is not None:
            self.holdback.pass_on(partial(self.peers.task_state, state))

    def on_verdict(self, task: Task, verdict: link_pb2.Verdict) -> None:
        """Health's newest word goes to the reporter, and a death sentence to the runner."""
        self.book.set_verdict(task, verdict.SerializeToString())
        self.peers.verdict(verdict)
        already = any(end.cause == link_pb2.END_CAUSE_UNHEALTHY for end in task.ends)
        if verdict.dead and not already and task.latch is None:
            self.request_end(task, link_pb2.END_CAUSE_UNHEALTHY, None, 0.0, verdict.message)

    def start_run(self, task: Task, start: runner_pb2.Start) -> None:
        """The runner wants a process. A task that is over gets none, whatever a mistaken runner thinks."""
        if task.latch is not None:
            return
        if not self.groups.may_start(task):
            self.groups.hold(task, (start.process, start.run), partial(self.start_run, task, start))
            return
        if start.run >= KEPT_RUNS:
            self.hands.settle(task.key, start.process, start.run - KEPT_RUNS)
        self.holdback.begin((task.key, start.process, start.run))
        self.hands.send(start_command(task.key, start, self.environment, self.options))

    # Statuses

    def accept(self, task: Task, status: mesos_pb2.TaskStatus, epoch: str, n: int) -> bytes:
        """Puts a status into the outbox; returns its uuid. The caller has checked that it may."""
        uuid = statuses.new_uuid()
        payload = statuses.finished(
            status,
            executor_id=self.environment.executor_id,
            uuid=uuid,
            now=time.time(),
            check=statuses.check_type(task.info),
        )
        self.book.accept(task, Accepted(epoch, n, uuid, status.state), payload, boottime())
        self.delivery.kick()
        if task.latch is not None:
            self.peers.latched(task)
            self.groups.review(task)
            self.exit_plan.review()
        return uuid

    def report_fallback(self, task: Task, state: str, message: str, reason: str = "") -> None:
        """A status from the driver's own table."""
        _LOG.warning("task %s: %s without the reporter: %s", task.key, state, message)
        n = sum(1 for entry in task.accepted if not entry.epoch) + 1
        self.accept(task, statuses.fallback(task.task_id, state, message, reason), "", n)
        if task.latch is None or task.latch.origin != DRIVER:
            raise AssertionError("a fallback status ends the task")

    def forget(self, task: Task) -> None:
        """Nothing is left of a task whose end the agent has acknowledged."""
        self.lifecycles.cancel(task.key)
        self.watchman.forget(task.key)
        self.prober.forget(task)
        self.peers.forget(task)
        self.hands.forget(task.key)
        self.book.forget(task)
