"""One line for people: why a task has ended the way it has."""

from __future__ import annotations

from typing import TYPE_CHECKING

from services.runner.processes import ProcessState, Run
from services.runner.records import Cause

if TYPE_CHECKING:
    from services.runner.plan import Plan
    from services.runner.spec import TaskSpec
    from services.runner.state import State

# Bytes of a Mesos status message are shown in lists: more is cut, with "..." at the end.
MAX_LENGTH = 1000
_MAX_NAMED = 5

_ASKED = {
    Cause.KILL: "Killed by request",
    Cause.SHUTDOWN: "Killed: the executor is shut down",
    Cause.UNHEALTHY: "Unhealthy",
    Cause.DISK_LIMIT: "The sandbox is over its disk limit",
    Cause.COMPLETION_TIME: "The task ran longer than its max_completion_time",
    Cause.AGENT_GONE: "Killed: the agent is gone",
    Cause.INVALID: "Invalid task",
    Cause.OPERATOR: "Killed by an operator",
    Cause.LOSE: "Given up by an operator",
}


def one_line(text: str) -> str:
    """`text` without line breaks and control characters, cut to `MAX_LENGTH`."""
    clean = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return clean if len(clean) <= MAX_LENGTH else f"{clean[: MAX_LENGTH - 3]}..."


def asked(cause: Cause, message: str) -> str:
    """End by request."""
    return one_line(message) or _ASKED.get(cause, cause.name)


def succeeded(state: State) -> str:
    """End of a plan that went well."""
    failed = state.regular.failed
    if not failed:
        return "Task completed"
    return one_line(f"Task completed, although {_failures(state, failed)}")


def failed(state: State) -> str:
    """End of a plan with too many failed processes."""
    return one_line(_failures(state, state.regular.failed))


def deadlocked(state: State) -> str:
    """End of a plan that cannot go on."""
    waiting = state.regular.blocked()
    text = f"deadlock: {_names(waiting)} can never run"
    if state.regular.failed:
        text += f", as {_failures(state, state.regular.failed)}"
    return one_line(text)


def _names(names: list[str]) -> str:
    shown = ", ".join(f"'{name}'" for name in names[:_MAX_NAMED])
    return f"{shown} and {len(names) - _MAX_NAMED} more" if len(names) > _MAX_NAMED else shown


def _failures(state: State, names: list[str]) -> str:
    texts = [_failure(state.spec, state.regular, state.newest.get(name), name) for name in names[:_MAX_NAMED]]
    if len(names) > _MAX_NAMED:
        texts.append(f"{len(names) - _MAX_NAMED} more processes failed")
    return "; ".join(texts)


def _failure(spec: TaskSpec, plan: Plan, run: Run | None, name: str) -> str:
    """`process 'b' failed: exit code 3 (run 2 of at most 2)`."""
    limit = next(process.max_failures for process in spec.processes if process.name == name)
    runs = plan.runs(name)
    if run is None:
        return f"process '{name}' failed"
    why = (
        f"could not be started: {run.error}" if run.exit is None and run.error else str(run.exit or "exit status lost")
    )
    if run.state is not ProcessState.FAILED or plan.failures(name) < limit or limit <= 0:
        return f"process '{name}' failed: {why} (given up after {runs} runs)"
    if plan.failures(name) == runs:
        return f"process '{name}' failed: {why} (run {runs} of at most {limit})"
    return f"process '{name}' failed: {why} ({limit} of {runs} runs failed)"
