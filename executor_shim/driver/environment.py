"""What the agent tells the executor through its environment (Mesos: executor environment contract).

Loaded before SUBSCRIBE is sent, so it imports next to nothing. The environment is the framework's to override: every
value is checked, and what is wrong is named.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

_UNITS = {
    "ns": 1e-9,
    "us": 1e-6,
    "ms": 1e-3,
    "secs": 1.0,
    "mins": 60.0,
    "hrs": 3600.0,
    "days": 86400.0,
    "weeks": 604800.0,
}
# 64 bits of nanoseconds, seconds (Mesos: duration grammar).
_MAX_DURATION = 9_223_372_036.0
# Mesos: agent flag --executor_shutdown_grace_period.
_SHUTDOWN_GRACE = 5.0
# Mesos: agent flag --recovery_timeout.
_RECOVERY_TIMEOUT = 900.0
# Mesos: agent flag --executor_reregistration_timeout.
_BACKOFF_MAX = 2.0


class BadEnvironment(Exception):
    """A variable is missing or malformed."""


class Environment:
    """The executor's environment, parsed. Durations in seconds."""

    __slots__ = (
        "agent_host",
        "agent_id",
        "agent_port",
        "checkpoint",
        "domain_socket",
        "executor_id",
        "framework_id",
        "host_sandbox",
        "inherited",
        "libprocess_id",
        "path",
        "recovery_timeout",
        "sandbox",
        "shutdown_grace",
        "subscription_backoff_max",
    )

    def __init__(self, environ: Mapping[str, str]) -> None:
        """Parses `environ`.

        Raises:
            BadEnvironment: With the variable's name and what is wrong with it, never its value where that may be
                a secret.
        """
        self.framework_id = _required(environ, "MESOS_FRAMEWORK_ID")
        self.executor_id = _required(environ, "MESOS_EXECUTOR_ID")
        endpoint = _required(environ, "MESOS_AGENT_ENDPOINT")
        host, _, port = endpoint.rpartition(":")
        self.agent_host = host.removeprefix("[").removesuffix("]")
        if not self.agent_host or not port.isascii() or not port.isdigit() or not 0 < int(port) < 65536:
            raise BadEnvironment(f"MESOS_AGENT_ENDPOINT: expected HOST:PORT, got {endpoint!r}")
        self.agent_port = int(port)
        self.libprocess_id = environ.get("MESOS_SLAVE_PID", "").partition("@")[0]
        self.domain_socket = environ.get("MESOS_DOMAIN_SOCKET", "")
        self.agent_id = environ.get("MESOS_SLAVE_ID", "")
        self.sandbox = environ.get("MESOS_SANDBOX") or environ.get("MESOS_DIRECTORY") or os.getcwd()
        self.host_sandbox = environ.get("MESOS_DIRECTORY") or self.sandbox
        # "0" is a true string: only the exact "1" means checkpointing.
        self.checkpoint = environ.get("MESOS_CHECKPOINT") == "1"
        self.shutdown_grace = _duration(environ, "MESOS_EXECUTOR_SHUTDOWN_GRACE_PERIOD", _SHUTDOWN_GRACE)
        self.recovery_timeout = _duration(environ, "MESOS_RECOVERY_TIMEOUT", _RECOVERY_TIMEOUT)
        self.subscription_backoff_max = _duration(environ, "MESOS_SUBSCRIPTION_BACKOFF_MAX", _BACKOFF_MAX)
        # All of it, for processes that are to have it. The token is not there any more.
        self.inherited = dict(environ)
        self.path = environ.get("PATH") or "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def parse_duration(text: str) -> float:
    """Seconds of a Mesos duration such as `90secs` or `1.0625days`.

    Raises:
        ValueError: Not `NUMBER UNIT` written together, with a unit of ns, us, ms, secs, mins, hrs, days, weeks; or more
            than 64 bits of nanoseconds can say.
    """
    digits = text.rstrip("abcdefghijklmnopqrstuvwxyz")
    unit = text[len(digits) :]
    if unit not in _UNITS or not digits.replace(".", "", 1).isdigit() or not digits.isascii():
        raise ValueError(f"expected a number and one of {', '.join(_UNITS)}, got {text!r}")
    seconds = float(digits) * _UNITS[unit]
    if seconds > _MAX_DURATION:
        raise ValueError(f"expected at most {_MAX_DURATION:.0f} s, got {text[:40]!r}")
    return seconds


def _required(environ: Mapping[str, str], name: str) -> str:
    value = environ.get(name, "")
    if not value:
        raise BadEnvironment(f"{name}: not set; trivet-executor is started by a Mesos agent, see README.md")
    return value


def _duration(environ: Mapping[str, str], name: str, default: float) -> float:
    text = environ.get(name)
    if not text:
        return default
    try:
        return parse_duration(text)
    except ValueError as error:
        raise BadEnvironment(f"{name}: {error}") from None
