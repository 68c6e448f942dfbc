"""Generates docs/reasons.md, for authors of frameworks, from the reporter's table of statuses.

.venv/bin/python -m tools.generate_reasons
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from mesos.v1 import mesos_pb2
from services.reporter.mapping import TABLE
from services.reporter.updates import UNHEARD_INTERVAL, UPDATE_INTERVAL
from services.reporter.writer import ALLOWED_REASONS, MAX_MESSAGE_BYTES, message_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from services.reporter.mapping import Wording

PAGE = Path(__file__).resolve().parent.parent / "docs" / "reasons.md"

EXECUTOR, AGENT, MASTER, NOBODY = "executor", "agent", "master", "nobody"


class Reason(NamedTuple):
    """Who sends a reason, and with which states (Mesos: task state reasons)."""

    owner: str
    states: str
    note: str = ""


_NEVER_RAN = "DROPPED, LOST"

REASONS: Mapping[int, Reason] = {
    0: Reason(NOBODY, "-", "deprecated. Also what most libraries show when there is no reason at all"),
    1: Reason(AGENT, "FAILED; DROPPED, LOST", "the executor has died, or was gone before the task reached it"),
    2: Reason(NOBODY, "-", "not used since Mesos 1.5"),
    3: Reason(MASTER, "KILLED", "the framework was removed"),
    4: Reason(AGENT, _NEVER_RAN, "directories of an earlier run could not be kept from deletion"),
    5: Reason(NOBODY, "-"),
    6: Reason(f"{MASTER}, {AGENT}", _NEVER_RAN, "the offers of an ACCEPT were no longer valid"),
    7: Reason("v0 scheduler driver", _NEVER_RAN, "it had no master when the task was launched"),
    8: Reason(AGENT, "FAILED", "over the memory limit of the container; with `limitation`"),
    9: Reason(f"{MASTER}, {AGENT}", "any", "a copy of a known state, not an event; data and message are empty"),
    10: Reason(MASTER, _NEVER_RAN, "the agent was disconnected when the task was launched"),
    11: Reason(MASTER, "UNREACHABLE, LOST, DROPPED", "the agent was removed"),
    12: Reason(AGENT, _NEVER_RAN, "the agent has restarted, and the executor does not know the task"),
    13: Reason(NOBODY, "-"),
    14: Reason(f"{EXECUTOR}, {MASTER}, {AGENT}", "ERROR; DROPPED, LOST (agent)", "the task is not valid"),
    15: Reason(f"{EXECUTOR}, {MASTER}, {AGENT}", "ERROR", "the principal or user may not run it"),
    16: Reason(NOBODY, "-"),
    17: Reason(AGENT, "GONE, LOST", "its revocable resources were needed"),
    18: Reason(AGENT, _NEVER_RAN, "resources that the agent does not have"),
    19: Reason(AGENT, "FAILED", "another limit of the container: network, ports; with `limitation`"),
    20: Reason(AGENT, "FAILED", "over the disk quota of the container; with `limitation`"),
    21: Reason(AGENT, "FAILED", "the executor's container could not be started"),
    22: Reason(AGENT, "GONE, LOST", "the container could not be given the task's resources"),
    23: Reason(AGENT, "FAILED", "the executor did not subscribe in time"),
    24: Reason(AGENT, "GONE, LOST", "after a restart of the agent the executor did not subscribe again in time"),
    25: Reason(MASTER, "ERROR", "a member of the task group is not valid"),
    26: Reason(f"{MASTER}, {AGENT}", "ERROR", "a member of the task group is not authorised"),
    27: Reason(AGENT, "FAILED", "the server for the container's I/O has died"),
    28: Reason(EXECUTOR, "RUNNING", "the result of `TaskInfo.check` has changed"),
    29: Reason(EXECUTOR, "RUNNING", "news from the health check"),
    30: Reason(f"{MASTER}, {AGENT}", "KILLED", "killed before it reached its executor"),
    31: Reason(MASTER, "GONE_BY_OPERATOR, LOST", "an operator has marked the agent as gone"),
    32: Reason(MASTER, "the last known one", "the agent is back"),
    33: Reason(EXECUTOR, "FAILED", "`max_completion_time` is over"),
    34: Reason(
        AGENT, "KILLING, KILLED; DROPPED", "the agent is drained: it puts this in the place of any other reason"
    ),
}

_HEAD = f"""\
# Statuses and reasons

For authors of frameworks: what Trivet tells about a task, and when. This page is made from the table that the
reporter works with (`services/reporter/mapping.py`) by `python -m tools.generate_reasons`.

Every task goes one way, and never back: STARTING, RUNNING (repeated for news from its checks), KILLING (only with
the capability TASK_KILLING_STATE), and exactly one terminal status. Steps may be left out; of a refused task the
terminal status is the only one. A terminal status is sent when no process of the task is left.

**Only the newest update of each state survives.** Mesos delivers each status once, but what it keeps, shows and
reconciles is the last one of a row of equal states. Of many RUNNING statuses you may see the last one alone,
without ever having seen the reason or message of those before it. So read `healthy` and `check_status` from every
status, whatever its reason; and take nothing from a reason that you cannot do without. Reconciliation (reason 9)
empties message and data.

## What each status means

An empty cell: the field is not set. The source is always SOURCE_EXECUTOR. `<detail>` is one line for people, here
with an example; do not parse it. A message is valid UTF-8 on one line of at most {MAX_MESSAGE_BYTES} bytes, longer
ones end in `...`.
"""

_RULES = f"""
- **`healthy`** is only set for tasks with a health check. On KILLING it is never set, and on a terminal status only
  when health has ended the task: KILLED with `healthy=false` is not a kill that you have asked for.
- **`check_status`** is set in every status of a task with `TaskInfo.check`, whatever the status is about. It is the
  newest result; the message of its type is there and empty while there is none. It changes only while the task
  runs: on KILLING and on the terminal status it is the last result that was found.
- **Updates are coalesced.** There is at least {UPDATE_INTERVAL:g} s between two RUNNING statuses of a task, and of
  each reason (28, 29) at most one on its way to the agent; what has changed meanwhile is told by the newest value
  alone. When both have changed, each gets its update, in turns. While the agent does not acknowledge (it restarts),
  there is one for each reason every {UNHEARD_INTERVAL:g} s.
- **After the reporter has lost its journal** (not: after a restart) an update may be told a second time, once.
  Nothing that was told is taken back.
- **RUNNING never follows the begin of the end.** A task whose health check fails for good may be told as RUNNING
  with `healthy=false` first; when there is no time for that, the terminal status alone says it.
- **max_completion_time** counts from the task's start. Its end has no KILLING and no grace. A kill that
  came before it is the cause; one that comes later changes nothing.
- **A kill policy** (`KILL.kill_policy`, `TaskInfo.kill_policy`) decides how long a kill may take, never its status.
  A repeated KILL may only shorten it.
- **The first cause counts.** A task that ends well while it is being killed was killed.

## Statuses without the reporter

When the services are away, the executor obeys KILL and SHUTDOWN by itself and then says only what it is sure of,
without a reason and without `healthy`: KILLED, or what the runner had found; FAILED when the task cannot be handled
at all; DROPPED (LOST for frameworks that are not partition-aware) when no runner came and nothing was started. See
[architecture](architecture.md#how-a-task-ends). `check_status` is set and empty then.

Nothing is sent for a container that Mesos itself ends (memory, disk, preemption, a dead executor): that is the
agent's to say.

## All reasons of Mesos

Only the executors' own are ever sent by Trivet; the reporter holds back any other. Reason 15 is an executor's, too,
but there is nothing yet that Trivet forbids a user. Numbers 10, 11, 12, 13, 31, 32 and 34 say SLAVE for AGENT in
the v0 API.
"""


def page() -> str:
    """The whole page."""
    sent = {row.reason for row in TABLE.values()}
    statuses = _table(
        ("state", "reason", "healthy", "when", "message"),
        (
            (
                _state(row.state),
                "" if row.reason is None else f"{row.reason} {_reason(row.reason)}",
                "as it is now" if row.keeps_healthy else {True: "true", False: "false", None: ""}[row.healthy],
                row.when,
                _message(row),
            )
            for row in TABLE.values()
        ),
    )
    reasons = _table(
        ("", "reason", "sent by", "with", "Trivet", "meaning"),
        (
            (
                str(number),
                _reason(number),
                reason.owner,
                reason.states,
                "sends it" if number in sent else "could" if number in ALLOWED_REASONS else "",
                reason.note,
            )
            for number, reason in sorted(REASONS.items())
        ),
    )
    return f"{_HEAD}\n{statuses}{_RULES}\n{reasons}"


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |\n" for line in lines)


def _state(state: int) -> str:
    return mesos_pb2.TaskState.Name(mesos_pb2.TaskState.ValueType(state)).removeprefix("TASK_")


def _reason(number: int) -> str:
    return mesos_pb2.TaskStatus.Reason.Name(mesos_pb2.TaskStatus.Reason.ValueType(number)).removeprefix("REASON_")


def _message(row: Wording) -> str:
    if not row.detailed:
        return f"`{row.text}`" if row.text else ""
    pattern = f"`{row.prefix}<detail>`"
    example = message_of(row, row.example)
    return f"{pattern}, e.g. `{example}`" if example else pattern


def main() -> None:
    """Writes the page."""
    PAGE.write_text(page())
    sys.stdout.write(f"{PAGE.name} is up to date\n")


if __name__ == "__main__":
    main()
