"""The executor's environment: exactly what Mesos' agent sets, nothing inherited (Mesos: environment contract)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from services.local_agent.core import durations
from services.local_agent.wire import auth

if TYPE_CHECKING:
    from collections.abc import Mapping

    from services.local_agent.core.model import Executor, Framework

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# libprocess' name of the agent's process; part of the long form of the API's path.
LIBPROCESS_ID = "slave(1)"


def build(
    executor: Executor,
    framework: Framework,
    *,
    agent_id: str,
    ip: str,
    port: int,
    flags: EnvironmentFlags,
) -> dict[str, str]:
    """The whole environment; the framework's own variables win over everything."""
    info = executor.info
    grace = flags.executor_shutdown_grace_period
    if info.HasField("shutdown_grace_period"):
        grace = info.shutdown_grace_period.nanoseconds
    environment = dict(flags.extra)
    environment |= {
        "LIBPROCESS_IP": ip,
        "LIBPROCESS_PORT": "0",
        "MESOS_AGENT_ENDPOINT": f"{ip}:{port}",
        "MESOS_CHECKPOINT": "1" if framework.info.checkpoint else "0",
        "MESOS_DIRECTORY": executor.sandbox,
        "MESOS_EXECUTOR_ID": executor.executor_id,
        "MESOS_EXECUTOR_SHUTDOWN_GRACE_PERIOD": durations.render(grace),
        "MESOS_FRAMEWORK_ID": executor.framework_id,
        "MESOS_HTTP_COMMAND_EXECUTOR": "0",
        "MESOS_SANDBOX": executor.sandbox,
        "MESOS_SLAVE_ID": agent_id,
        "MESOS_SLAVE_PID": f"{LIBPROCESS_ID}@{ip}:{port}",
    }
    if framework.info.checkpoint:
        environment["MESOS_RECOVERY_TIMEOUT"] = durations.render(flags.recovery_timeout)
        environment["MESOS_SUBSCRIPTION_BACKOFF_MAX"] = durations.render(flags.executor_reregistration_timeout)
    if flags.domain_socket is not None:
        environment["MESOS_DOMAIN_SOCKET"] = flags.domain_socket
    if flags.jwt_secret_key is not None:
        # Enforced or not (Mesos: executor authentication).
        environment["MESOS_EXECUTOR_AUTHENTICATION_TOKEN"] = auth.mint(
            flags.jwt_secret_key,
            container_id=executor.container_id,
            executor_id=executor.executor_id,
            framework_id=executor.framework_id,
        )
    environment |= {variable.name: variable.value for variable in info.command.environment.variables}
    environment.setdefault("PATH", DEFAULT_PATH)
    return environment


class EnvironmentFlags:
    """The agent's flags that executors see; durations in nanoseconds. Never printed: it holds the key."""

    def __init__(
        self,
        *,
        recovery_timeout: int,
        executor_reregistration_timeout: int,
        executor_shutdown_grace_period: int,
        extra: Mapping[str, str],
        domain_socket: str | None = None,
        jwt_secret_key: bytes | None = None,
    ) -> None:
        self.recovery_timeout = recovery_timeout
        self.executor_reregistration_timeout = executor_reregistration_timeout
        self.executor_shutdown_grace_period = executor_shutdown_grace_period
        self.extra = dict(extra)
        self.domain_socket = domain_socket
        self.jwt_secret_key = jwt_secret_key
