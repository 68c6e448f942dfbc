"""A running agent, with orders and faults as methods."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

from services.local_agent.client.connection import AgentClient
from services.local_agent.faults import spec
from services.local_agent.testing.closing import shut_down_all
from services.local_agent.testing.faults import Fault
from services.local_agent.testing.leftovers import Leftover, LeftoversFound, kill_all, wait_ended
from services.local_agent.testing.process import START_SECS, AgentDied, AgentProcess
from services.local_agent.testing.scheduler import Scheduler
from trivet.agent.v1 import faults_pb2

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


class MesosAgent(Scheduler):
    """A local Mesos agent of its own, in a directory of its own. Made by `start`."""

    def __init__(self, process: AgentProcess, directories: Sequence[str]) -> None:
        agent_id = str(process.description["agent_id"])
        super().__init__(AgentClient(process.socket_path), agent_id, threading.Event(), directories)
        self._process = process
        self._expected_end = False
        process.on_end = self.client.fail

    @classmethod
    @contextmanager
    def start(
        cls,
        flags: Sequence[str] = (),
        *,
        directories: Sequence[str] = (),
        leftovers: str = "fail",
        keep: bool = False,
    ) -> Iterator[MesosAgent]:
        """Starts an agent for the block; at its end it tells all executors to shut down, and ends with them.

        Args:
            flags: of `trivet-agent`, beside --work-dir.
            directories: words of executors' commands that name files below one of these are made absolute; the
                current directory is the last of them in any case.
            leftovers: `fail`, or `kill`: what becomes of processes that are still there at the end.
            keep: leave the agent's directory with all sandboxes where it is.

        Raises:
            AgentDied: it does not start, or has ended by itself in the block.
            LeftoversFound: an executor did not obey SHUTDOWN, or processes have outlived their container.
            ValueError: `leftovers` is neither.
        """
        if leftovers not in ("fail", "kill"):
            raise ValueError(f"leftovers: {leftovers!r} is neither 'fail' nor 'kill'")
        # Not below TMPDIR: the path of a unix socket has room for 107 bytes only.
        directory = tempfile.mkdtemp(prefix="mesos-agent-", dir="/tmp")
        os.chmod(directory, 0o755)  # noqa: S103 - executors of other users must get to their sandboxes
        process = AgentProcess(directory, flags)
        try:
            process.start()
            agent = cls(process, [*directories, os.getcwd()])
            try:
                yield agent
            finally:
                left = agent._close()
        finally:
            process.stop()
            stray = kill_all(process.work_dir)
            if not keep:
                shutil.rmtree(directory)
        if leftovers == "fail" and (left or stray):
            raise LeftoversFound([*left, *stray])

    @property
    def endpoint(self) -> str:
        """HOST:PORT of the executor API, as in MESOS_AGENT_ENDPOINT."""
        return f"{self._process.description['ip']}:{self._process.description['port']}"

    @property
    def agent_id(self) -> str:
        """As executors get it in MESOS_SLAVE_ID."""
        return str(self._process.description["agent_id"])

    @property
    def pid(self) -> int:
        """The agent's process; stays over `restart`."""
        return self._process.pid

    @property
    def work_dir(self) -> str:
        """Its work directory; agent.sock and agent.json are there, too: `trivet watch --agent WORK_DIR TASK`."""
        return self._process.work_dir

    @property
    def log(self) -> str:
        """What the agent has logged so far."""
        with open(self._process.log_path, errors="replace") as file:
            return file.read()

    def fault(self, fault: str | faults_pb2.Fault) -> Fault:
        """Puts a fault into force: `update refuse=503 times=3`; all of them are in docs/local-agent.md.

        Raises:
            ValueError: the text is no fault; names the word.
            AgentError: INVALID_ARGUMENT: the fault makes no sense; names the field.
        """
        wanted = spec.parse(fault) if isinstance(fault, str) else fault
        return Fault(self.client, self.client.ask("AddFault", faults_pb2.AddFaultRequest(fault=wanted)).id)

    def remove_faults(self) -> None:
        """Takes all faults away."""
        self.client.ask("RemoveFaults", faults_pb2.RemoveFaultsRequest())

    def restart(
        self, gap: float = 0.0, *, kill: bool = False, not_found: float = 0.0, unavailable: float = 0.0
    ) -> None:
        """Restarts the agent with the same flags and port; returns when it listens again. Faults are gone then.

        Args:
            gap: seconds in which nobody listens.
            kill: as a crash does it, instead of SIGTERM.
            not_found: seconds in which it then answers 404.
            unavailable: seconds in which it then answers 503.

        Raises:
            AgentDied: it does not come back.
        """
        request = faults_pb2.RestartAgentRequest(
            how=faults_pb2.RESTART_HOW_KILL if kill else faults_pb2.RESTART_HOW_TERM,
            gap_seconds=gap,
            not_found_seconds=not_found,
            unavailable_seconds=unavailable,
        )
        self.client.ask("RestartAgent", request)
        self._process.wait_listening(gap + START_SECS)

    def wait_ended(self, timeout: float = 30.0) -> None:
        """For a test that makes the agent end: waits for that, and it counts as no failure.

        Raises:
            AgentDied: it lives after `timeout` seconds.
        """
        if not wait_ended(self.pid, timeout):
            raise AgentDied(f"the agent still lives after {timeout:g} s")
        self._expected_end = True

    def _close(self) -> list[Leftover]:
        """Tells the executors to shut down and waits for that; returns those that did not obey."""
        try:
            if self._expected_end:
                return []
            # One that a test has stopped.
            self._process.send_signal(signal.SIGCONT)
            self.remove_faults()
            if self._master_away:
                self.behave(master_connected=True)
            return shut_down_all(self)
        finally:
            self.ended.set()
            self.client.close()
            for task in self.tasks:
                task.close()
            self._messages.close()
