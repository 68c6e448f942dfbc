"""The task model: what a user's task is, whether it is valid, and what its templates and ports stand for."""

from services.common.task.aurora_health import HEALTH_PORT
from services.common.task.checks import HealthCheck, StatusCheck
from services.common.task.findings import InvalidTask
from services.common.task.forms import parse_json
from services.common.task.graph import Graph
from services.common.task.lifecycle import Lifecycle
from services.common.task.load import LoadedTask, load
from services.common.task.ports import referenced_ports

__all__ = [
    "HEALTH_PORT",
    "Graph",
    "HealthCheck",
    "InvalidTask",
    "Lifecycle",
    "LoadedTask",
    "StatusCheck",
    "load",
    "parse_json",
    "referenced_ports",
]
