"""A local agent for tests of an executor.

The pytest plugin gives it as the fixture `mesos_agent`; `MesosAgent.start` is for everything else.

    with MesosAgent.start() as agent:
        task = agent.launch("python3 my_executor.py")
        assert task.wait().states == ["TASK_STARTING", "TASK_RUNNING", "TASK_FINISHED"]
"""

from __future__ import annotations

from services.local_agent.client.connection import AgentError
from services.local_agent.client.orders import InvalidOrder
from services.local_agent.testing.agent import MesosAgent
from services.local_agent.testing.faults import Fault
from services.local_agent.testing.leftovers import Leftover, LeftoversFound
from services.local_agent.testing.process import AgentDied
from services.local_agent.testing.task import Task, WaitTimeout

__all__ = [
    "AgentDied",
    "AgentError",
    "Fault",
    "InvalidOrder",
    "Leftover",
    "LeftoversFound",
    "MesosAgent",
    "Task",
    "WaitTimeout",
]
