"""How fast statuses reach the agent when many are due at once: after many ends, and after a long time without an agent.

For the second the agent and the reporter are doubles, so that there are exactly as many updates as are wanted, and the
agent is away for exactly as long; the driver between them is the real one.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import sys
import time
from typing import TYPE_CHECKING

from bench import life
from mesos.v1.executor import executor_pb2
from tests.integration.driver.agent_double import AgentDouble, ExecutorUnderTest, Received, answer, launch
from tests.integration.driver.reporter_double import ReporterDouble, proposal
from tests.integration.faults.stack import Stack

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mesos.v1 import mesos_pb2

ENDS = 200
UPDATES = 1_000
TASKS = 10


def burst(stack: Stack, count: int = ENDS) -> float:
    """Seconds until the agent has the ends of so many tasks of one executor that end at the same moment."""
    anchor = life.Anchor(stack, f"burst-{time.monotonic_ns()}")
    fifo = f"{stack.dir}/burst"
    os.mkfifo(fifo)
    # Held open for reading and writing: readers wait until the last writer has gone.
    keeper = os.open(fifo, os.O_RDWR | os.O_CLOEXEC)
    tasks = [anchor.launch(life.task(life.process(f"read line < {fifo}; true")), watch=False) for _ in range(count)]
    for task in tasks:
        task.wait_acknowledged("TASK_RUNNING")
    life.settle()
    began = time.monotonic()
    os.close(keeper)
    # Nobody watches yet, as that would be the agent's work at the same time.
    tasks[-1].wait_acknowledged("TASK_FINISHED")
    for task in tasks:
        task.watch()
        if task.wait_end() != "TASK_FINISHED":
            raise RuntimeError(f"{task.task_id}: {task.states}")
    last = max(task.received_at[-1] for task in tasks)
    anchor.end()
    os.unlink(fifo)
    return last - began


class Agent(AgentDouble):
    """Acknowledges what SUBSCRIBE lists, as Mesos does; it may refuse updates, and be away."""

    def __init__(self, port: int = 0, *, refuses: bool = False) -> None:
        self.refuses = refuses
        self.got: list[mesos_pb2.TaskStatus] = []
        self._connections: list[socket.socket] = []
        super().__init__(port=port)

    def _serve(self, sock: socket.socket) -> None:
        self._connections.append(sock)
        super()._serve(sock)

    def _subscribe(self, sock: socket.socket, received: Received) -> None:
        super()._subscribe(sock, received)
        for update in received.call.subscribe.unacknowledged_updates:
            self._take(update.status)

    def _handle(self, sock: socket.socket, head: str, body: bytes) -> None:
        if self.refuses and executor_pb2.Call.FromString(body).type == executor_pb2.Call.UPDATE:
            answer(sock, 503)
            return
        super()._handle(sock, head, body)

    def ack(self, received: Received) -> None:
        """An UPDATE has come."""
        self._take(received.call.update.status)

    def _take(self, status: mesos_pb2.TaskStatus) -> None:
        self.got.append(status)
        self.ack_status(status)

    def vanish(self) -> None:
        """Nobody listens, and every connection is broken."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self.close()
        for sock in self._connections:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)


def drain(count: int = UPDATES, *, refused: bool = False) -> float:
    """Seconds from the return of the agent until the driver has the acknowledgement of the last of `count` updates.

    Args:
        count: Updates that wait.
        refused: The agent was not away: it answered 503 to each UPDATE, as it does for a while after its restart.

    Raises:
        RuntimeError: They came in another order, or not all, or twice.
    """
    stack = Stack(start=("runner", "health"), with_agent=False)
    reporter = ReporterDouble(f"unix:{stack.run_dir}/reporter.sock")
    agent = Agent()
    executor = ExecutorUnderTest(agent, stack.dir, stack.run_dir)
    try:
        agent.next_subscribe()
        data = json.dumps(life.task(life.process("exec sleep 600"))).encode()
        for n in range(TASKS):
            agent.send(launch(f"task-{n}", data))
        if refused:
            agent.refuses = True
        else:
            # Every launch has been taken when the task has been passed on.
            reporter.keys(TASKS)
            agent.vanish()
        keys = reporter.keys(TASKS)
        reporter.propose(*(proposal(keys[n % TASKS], n, "TASK_RUNNING", str(n)) for n in range(1, count + 1)))
        reporter.until("accepted", count)
        returned = time.monotonic()
        if refused:
            agent.refuses = False
        else:
            agent = Agent(agent.port)
        reporter.until("acknowledged", count)
        order = [int(status.message) for status in agent.got]
        if order != list(range(1, count + 1)):
            raise RuntimeError(f"{len(order)} updates have come, not in order or not once each")
        return reporter.acknowledged_at - returned
    finally:
        executor.stop()
        agent.vanish()
        reporter.stop()
        stack.close()


def main(arguments: Sequence[str]) -> int:
    """By hand: `python -m bench.delivery [UPDATES]`."""
    count = int(arguments[0]) if arguments else UPDATES
    print(f"{drain(count):.2f} s for {count} updates after the agent's return")
    print(f"{drain(count, refused=True):.2f} s for {count} updates after a time of 503")
    stack = Stack()
    try:
        print(f"{burst(stack):.2f} s for {ENDS} ends")
    finally:
        stack.close()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
