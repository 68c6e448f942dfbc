"""MESSAGEs of executors."""

from __future__ import annotations

import queue
import threading
from typing import TYPE_CHECKING

from services.local_agent.client.connection import AgentError
from services.local_agent.testing.process import AgentDied
from services.local_agent.testing.task import WaitTimeout
from trivet.agent.v1 import agent_pb2

if TYPE_CHECKING:
    from services.local_agent.client.connection import AgentClient


class Messages:
    """Collects what the executors of some frameworks send."""

    def __init__(self, client: AgentClient, ended: threading.Event) -> None:
        self._client = client
        self._ended = ended
        self._threads: dict[str, threading.Thread] = {}
        self._queue: queue.Queue[bytes | Exception] = queue.Queue()

    def watch(self, framework_id: str) -> None:
        """Collects from now on; once a framework, which need not have launched anything yet."""
        if framework_id not in self._threads:
            opened = threading.Event()
            thread = threading.Thread(target=self._follow, args=(framework_id, opened), name="messages", daemon=True)
            self._threads[framework_id] = thread
            thread.start()
            opened.wait()

    def next(self, timeout: float) -> bytes:
        """The next one.

        Raises:
            WaitTimeout: there is none after `timeout` seconds.
            AgentError: the agent refuses to tell.
            AgentDied: it has ended.
        """
        try:
            message = self._queue.get(timeout=timeout)
        except queue.Empty:
            raise WaitTimeout(f"no MESSAGE of an executor after {timeout:g} s") from None
        if isinstance(message, Exception):
            raise message
        return message

    def close(self) -> None:
        """Waits for the threads; the connection must be closed."""
        for thread in self._threads.values():
            thread.join()

    def _follow(self, framework_id: str, opened: threading.Event) -> None:
        request = agent_pb2.WatchMessagesRequest(framework_id=framework_id)
        try:
            stream = self._client.stream("WatchMessages", request, ended=self._ended, replays=False, opened=opened.set)
            for message in stream:
                self._queue.put(message.data)
        except (AgentError, AgentDied) as error:
            self._queue.put(error)
        finally:
            # Whoever waits for it gets the error from `next`.
            opened.set()
