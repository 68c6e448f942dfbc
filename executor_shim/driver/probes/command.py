"""Command probes in the coordinator's words: its order, and what its answer means."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from executor_shim.driver.probes import results
from executor_shim.driver.probes.results import NoAnswer
from executor_shim.driver.starts import environment_of
from trivet.health.v1 import health_pb2

if TYPE_CHECKING:
    from executor_shim.driver.environment import Environment
    from executor_shim.driver.options import Options


def order(name: str, task: str, probe: health_pb2.Probe, environment: Environment, options: Options) -> dict[str, Any]:
    """The coordinator's command.

    Args:
        name: Under which it answers.
        task: The coordinator's name of the task.
        probe: With a command.
        environment: Of the executor.
        options: Of the executor.

    Raises:
        NoAnswer: No process can be started with such arguments.
    """
    command = probe.command
    _check(command)
    return {
        "op": "probe",
        "id": name,
        "task": task,
        "argv": list(command.argv),
        "env": environment_of(command.env, environment, options),
        "cwd": command.cwd,
        "user": command.user,
        "profile": command.profile,
        "timeout": results.budget(probe) or 0.0,
        "sandbox": environment.sandbox,
    }


def _check(command: health_pb2.CommandProbe) -> None:
    if not command.argv or not command.argv[0]:
        raise NoAnswer("command.argv: nothing to run")
    for index, argument in enumerate(command.argv):
        if "\0" in argument:
            raise NoAnswer(f"command.argv[{index}]: holds a NUL character")
    for variable, value in command.env.items():
        if not variable or "=" in variable or "\0" in variable or "\0" in value:
            raise NoAnswer("command.env: a name is empty or holds '=', or there is a NUL character")


def result_of(probe: health_pb2.Probe, message: dict[str, Any]) -> health_pb2.ProbeResult:
    """What the coordinator's answer means, be it the probe's end or a refusal."""
    if message.get("timeout"):
        result = results.timed_out(probe, "end")
    elif message.get("error"):
        result = results.transient(probe, str(message["error"]))
    else:
        result = results.result_of(probe)
        result.outcome = health_pb2.PROBE_OUTCOME_DONE
        if message.get("code") is not None:
            result.exit.code = int(message["code"])
        if message.get("signal") is not None:
            result.exit.signal = int(message["signal"])
    result.latency_secs = float(message.get("secs") or 0.0)
    result.output = str(message.get("output") or "").encode()
    return result
