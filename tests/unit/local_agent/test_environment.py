"""Whose word counts in the executor's environment."""

from __future__ import annotations

import pytest

from mesos.v1 import mesos_pb2
from services.local_agent.containers import environment
from services.local_agent.containers.environment import DEFAULT_PATH, EnvironmentFlags
from services.local_agent.core.model import Executor, Framework

OWN = ("MESOS_DIRECTORY", "MESOS_AGENT_ENDPOINT", "MESOS_CHECKPOINT", "MESOS_RECOVERY_TIMEOUT", "LIBPROCESS_IP")
TOKEN = "MESOS_EXECUTOR_AUTHENTICATION_TOKEN"


def _build(flags: dict[str, str], **variables: str) -> dict[str, str]:
    """`flags`: --executor-environment-variables; `variables`: those of ExecutorInfo.command."""
    info = mesos_pb2.ExecutorInfo()
    for name, value in variables.items():
        info.command.environment.variables.add(name=name, value=value)
    framework = Framework("f", mesos_pb2.FrameworkInfo(user="u", name="n", checkpoint=True))
    return environment.build(
        Executor("c", "f", "e", info, "/sandbox", 0.0),
        framework,
        agent_id="a",
        ip="127.0.0.1",
        port=5051,
        flags=EnvironmentFlags(
            recovery_timeout=10**9,
            executor_reregistration_timeout=10**9,
            executor_shutdown_grace_period=10**9,
            extra=flags,
            domain_socket="/run/executors.sock",
            jwt_secret_key=b"key",
        ),
    )


@pytest.mark.parametrize("name", [*OWN, TOKEN, "MESOS_DOMAIN_SOCKET"])
def test_flags_are_weaker_than_the_agents_own_and_the_framework_is_stronger(name: str) -> None:
    own = _build({})[name]
    assert own != "other"
    assert _build({name: "other"})[name] == own
    assert _build({}, **{name: "framework's"})[name] == "framework's"
    assert _build({name: "other"}, **{name: "framework's"})[name] == "framework's"


def test_flags_add_what_nobody_else_sets() -> None:
    assert _build({"A": "flag", "PATH": "/flag"}) == _build({}) | {"A": "flag", "PATH": "/flag"}
    assert _build({"A": "flag"}, A="framework's")["A"] == "framework's"
    assert _build({})["PATH"] == DEFAULT_PATH
