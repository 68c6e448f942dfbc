"""What a run looks like."""

from __future__ import annotations

import io
import json
import re
from typing import TYPE_CHECKING, Any

import pytest
from rich.console import Console

from services.cli.views import Launched, View, choose
from services.cli.views.jsonlines import JsonLines
from services.cli.views.live import LiveView
from services.cli.views.plain import Plain

if TYPE_CHECKING:
    import pathlib

STATUS: dict[str, Any] = {
    "type": "status",
    "task_id": "t-1",
    "state": "TASK_RUNNING",
    "reason": None,
    "message": "all\x1b[31m good\nreally",
    "healthy": True,
    "source": "SOURCE_EXECUTOR",
    "timestamp": 1.0,
    "uuid": "u",
}
PROCESS: dict[str, Any] = {"type": "process", "process": "a", "run": 0, "exit_code": None, "signal": None, "pid": None}


def play(view: View, sandbox: str) -> None:
    view.launched(Launched("t-1", "t", sandbox, {"http": 80}, "/stack/logs"))
    view.process(PROCESS | {"state": "WAITING"})
    view.process(PROCESS | {"state": "FORKED"})
    view.process(PROCESS | {"state": "RUNNING", "pid": 42})
    view.status(STATUS)
    view.process(PROCESS | {"state": "FAILED", "pid": 42, "exit_code": 3})
    view.process(PROCESS | {"state": "KILLED", "pid": 43, "run": 1, "signal": 9})
    view.note("runner died")
    view.end({"type": "end", "state": "TASK_FAILED", "sandbox": sandbox})
    view.close()


@pytest.fixture
def sandbox(tmp_path: pathlib.Path) -> pathlib.Path:
    log = tmp_path / "sandbox" / ".logs" / "a" / "0"
    log.mkdir(parents=True)
    (log / "stdout").touch()
    (log / "stderr").write_text("oh no\n")
    return tmp_path


def test_json_is_one_object_a_line_and_the_end_is_last(
    sandbox: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = io.StringIO()
    play(JsonLines(out), str(sandbox))
    lines = [json.loads(line) for line in out.getvalue().splitlines()]
    assert [line["type"] for line in lines] == ["process"] * 3 + ["status"] + ["process"] * 2 + ["end"]
    assert lines[3] == STATUS
    assert lines[-1] == {"type": "end", "state": "TASK_FAILED", "sandbox": str(sandbox)}
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "trivet: runner died\n")


def test_plain_is_one_line_a_transition(sandbox: pathlib.Path) -> None:
    out = io.StringIO()
    play(Plain(out), str(sandbox))
    lines = [re.sub(r"^[0-9:.]{12} ", "", line) for line in out.getvalue().splitlines()]
    assert lines == [
        "task t-1 launched, ports http=80",
        f"sandbox {sandbox}",
        "logs of the stack /stack/logs",
        "process a run 0 WAITING",
        "process a run 0 FORKED",
        "process a run 0 RUNNING pid 42",
        "status TASK_RUNNING healthy: all [31m good really",
        "process a run 0 FAILED exit 3",
        "process a run 1 KILLED SIGKILL",
        "task t-1 ended: TASK_FAILED",
        f"sandbox: {sandbox}",
        f"logs: {sandbox}/sandbox/.logs",
        f"  {sandbox}/sandbox/.logs/a/0/stderr (6 bytes)",
    ]


def test_the_live_picture_has_processes_statuses_and_logs(sandbox: pathlib.Path) -> None:
    out = io.StringIO()
    play(LiveView(Console(file=out, force_terminal=True, width=200, height=50)), str(sandbox))
    text = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", out.getvalue())
    last = text[text.rindex("t-1  http=80") :]
    row = next(line.split() for line in last.splitlines() if line.startswith("a "))
    assert row == ["a", "1", "KILLED", "SIGKILL"]
    assert "TASK_RUNNING healthy: all [31m good really" in last
    assert f"{sandbox}/sandbox/.logs/a/0/stderr (6 bytes)" in last
    assert "runner died" in last
    assert "\x1b[?25h" in out.getvalue(), "the cursor is shown again"


def test_the_live_picture_survives_more_processes_than_lines() -> None:
    out = io.StringIO()
    view = LiveView(Console(file=out, force_terminal=True, width=80, height=24))
    for number in range(300):
        view.process(PROCESS | {"process": f"p{number}", "state": "RUNNING", "pid": number})
    view.close()
    assert "more above" in out.getvalue()
    assert "p299" in out.getvalue()


def test_a_task_that_never_started_points_to_the_executors_output(tmp_path: pathlib.Path) -> None:
    out = io.StringIO()
    Plain(out).end({"type": "end", "state": "TASK_FAILED", "sandbox": str(tmp_path)})
    assert "stdout and stderr" in out.getvalue()


def test_a_pipe_gets_plain_lines() -> None:
    assert isinstance(choose("auto"), Plain)
    assert isinstance(choose("json"), JsonLines)
