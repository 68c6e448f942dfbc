"""A fault in force."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from services.local_agent.client.connection import AgentError
from trivet.agent.v1 import faults_pb2

if TYPE_CHECKING:
    from services.local_agent.client.connection import AgentClient


class Fault:
    """A fault in force. As a context manager it is removed at the end of the block."""

    def __init__(self, client: AgentClient, fault_id: str) -> None:
        self.id = fault_id
        self._client = client

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.remove()

    def remove(self) -> None:
        """Takes it away; what it holds back goes out at once.

        Raises:
            AgentError: NOT_FOUND: it is gone, by a restart of the agent for example.
        """
        self._client.ask("RemoveFaults", faults_pb2.RemoveFaultsRequest(id=self.id))

    @property
    def strikes(self) -> int:
        """How often it has struck.

        Raises:
            AgentError: NOT_FOUND: it is gone.
        """
        for entry in self._client.ask("ListFaults", faults_pb2.ListFaultsRequest()).faults:
            if entry.fault.id == self.id:
                return int(entry.strikes)
        raise AgentError(f"there is no fault {self.id} any more", "NOT_FOUND")
