"""Pieces of the commands about tasks: words, tables, the page of `top`, where services are."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING, Any

import grpc
import pytest

from services.cli.arguments import parse
from services.cli.plantree import tree
from services.cli.tasks import address, texts
from services.cli.tasks.connection import RunnerRefused
from services.cli.tasks.inspection import report
from services.cli.tasks.kill import kill
from services.cli.tasks.ps import ps, row
from services.cli.tasks.top import Picture
from services.common.task import Graph
from trivet.link.v1 import link_pb2
from trivet.runner.v1 import runner_pb2

if TYPE_CHECKING:
    import pathlib


@pytest.mark.parametrize(
    ("span", "words"),
    [(-3, "0.0s"), (0.06, "0.0s"), (9.99, "9.9s"), (10, "10s"), (59.9, "59s"), (60, "1m00s"), (3599, "59m59s"),
     (3600, "1h00m"), (86399, "23h59m"), (86400, "1d00h"), (1e7, "115d17h")],
)  # fmt: skip
def test_a_span_of_time_has_at_most_two_units(span: float, words: str) -> None:
    assert texts.seconds(span) == words


@pytest.mark.parametrize(
    ("number", "words"),
    [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (12 << 20, "12.0 MiB"), (1 << 62, "4096.0 PiB")],
)
def test_bytes_in_the_largest_unit(number: int, words: str) -> None:
    assert texts.size(number) == words


def test_what_never_was_has_no_time_and_what_cannot_be_is_a_number() -> None:
    assert (texts.moment(0), texts.since(0, 5)) == ("-", "-")
    assert texts.moment(1e300) == "@1e+300"


def test_numbers_of_a_newer_version_are_shown() -> None:
    assert (texts.phase_name(99), texts.cause_name(2), texts.state_name(5)) == ("99", "KILL", "FAILED")


def test_cells_of_a_table_cannot_reach_the_terminal() -> None:
    assert list(texts.table(("A", "B"), [("x\x1b[2Jy\n", "1"), ("z", "")])) == ["A        B", "x [2Jy   1", "z"]


def task(task_id: str = "t", *, phase: link_pb2.TaskPhase = link_pb2.TASK_PHASE_ACTIVE) -> runner_pb2.Task:
    made = runner_pb2.Task(attached=True, process_count=3)
    made.state.key.task_id, made.state.key.executor.executor_id, made.state.phase = task_id, "e", phase
    made.phases.add(phase=phase, at=100.0)
    made.processes.add(process="p", state=runner_pb2.PROCESS_STATE_RUNNING)
    return made


def test_a_row_of_ps() -> None:
    assert row(task(), 165.0) == ("t", "ACTIVE", "1/3", "1m05s", "yes", "e")
    away = task()
    away.attached = False
    assert row(away, 100.0)[4] == "NO"
    assert row(task(phase=link_pb2.TASK_PHASE_LOST), 100.0)[4] == "-"
    old = task()
    old.process_count = 0
    assert row(old, 100.0)[2] == "1/1"


def test_a_start_that_is_not_confirmed_does_not_count_as_running() -> None:
    held = task()
    held.processes.add(process="q", state=runner_pb2.PROCESS_STATE_FORKED)
    assert row(held, 165.0)[2] == "1/3"


@pytest.mark.parametrize("flags", [[], ["--json"]])
def test_ps_says_which_journals_take_no_records(flags: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    held = task("held")
    held.warnings.extend(["role 'x': not acted on", "journal: j: No space left on device: nothing new is started"])

    class RunnerDouble:
        async def ask(self, _method: str, _request: object) -> runner_pb2.ListTasksResponse:
            return runner_pb2.ListTasksResponse(tasks=[held, task("sound")])

    runner: Any = RunnerDouble()
    assert asyncio.run(ps(parse(["ps", *flags]), runner)) == 0
    said = capsys.readouterr()
    if flags:
        assert (len(said.out.splitlines()), said.err) == (2, "")
        return
    assert said.err == "trivet: held: journal: j: No space left on device: nothing new is started\n"
    assert len(said.out.splitlines()) == 3


@pytest.mark.parametrize(("known", "status"), [((), 2), (("a",), 1), (("a", "b"), 0)])
def test_a_kill_of_which_no_order_was_taken_has_done_nothing(known: tuple[str, ...], status: int) -> None:
    class RunnerDouble:
        async def ask(self, _method: str, request: runner_pb2.KillTaskRequest) -> runner_pb2.KillTaskResponse:
            if request.task_id not in known:
                raise RunnerRefused(grpc.StatusCode.NOT_FOUND, f"task_id: no task '{request.task_id}'")
            return runner_pb2.KillTaskResponse(state=task(request.task_id, phase=link_pb2.TASK_PHASE_KILLED).state)

    runner: Any = RunnerDouble()
    assert asyncio.run(kill(parse(["kill", "a", "b"]), runner)) == status


def test_lines_of_a_process_stand_below_it_in_the_tree() -> None:
    graph = Graph.from_orders("abc", ["ab"])
    assert list(tree(graph, "abc", str, lambda name: [f"{name}1", f"{name}2"])) == [
        "├─ a",
        "│  │    a1",
        "│  │    a2",
        "│  └─ b",
        "│          b1",
        "│          b2",
        "└─ c",
        "        c1",
        "        c2",
    ]


def test_only_the_newest_runs_are_shown_unless_all_are_asked_for() -> None:
    whole = runner_pb2.GetTaskResponse(task=task())
    whole.spec.task.processes.add(name="p")
    for number in range(8):
        whole.runs.add(process="p", run=number, state=runner_pb2.PROCESS_STATE_FAILED).exit.code = number
    lines = [line.strip() for line in report(whole, 200.0)]
    assert lines[-6:] == ["3 earlier runs (--all)", *(f"run {number} FAILED exit {number}" for number in range(3, 8))]
    assert sum("FAILED exit" in line for line in report(whole, 200.0, all_runs=True)) == 8


def test_a_task_without_a_plan_is_shown_with_what_there_is() -> None:
    lines = list(report(runner_pb2.GetTaskResponse(task=task()), 200.0))
    assert lines[-2:] == ["  p", "    run 0 RUNNING"]


def sample(task_id: str, cpus: float | None, rss: int, disk: int | None = None) -> runner_pb2.WatchUsageResponse:
    made = runner_pb2.WatchUsageResponse()
    made.key.task_id = task_id
    made.usage.at = 1.0
    made.usage.total.rss_bytes = rss
    if cpus is not None:
        made.usage.total.cpus = cpus
    if disk is not None:
        made.usage.disk.used_bytes = disk
    return made


@pytest.mark.parametrize(
    ("sort", "order"),
    [("cpu", ["b", "a", "c"]), ("memory", ["c", "a", "b"]), ("disk", ["a", "b", "c"]), ("task", ["a", "b", "c"])],
)
def test_what_uses_most_stands_at_the_top(sort: str, order: list[str]) -> None:
    picture = Picture(sort)
    for each in (sample("c", None, 9), sample("a", 0.0, 5, 7), sample("b", 0.5, 1, 3)):
        picture.observe(each)
    assert [line[0] for line in picture.rows()] == order
    assert [line[1] for line in picture.rows() if line[0] == "c"] == ["-"]


def test_a_task_that_is_over_leaves_the_page() -> None:
    picture = Picture("cpu")
    picture.observe(sample("a", 1.0, 1))
    over = sample("a", None, 0)
    over.over = True
    picture.observe(over)
    picture.observe(over)
    assert picture.rows() == []


def test_services_are_found_by_option_then_variable_then_in_run(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a", "b/run"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "runner-admin.sock").touch()
    given_, variable = str(tmp_path / "a"), {"TRIVET_RUN_DIR": str(tmp_path / "b")}
    monkeypatch.setattr(address, "MAX_SOCKET_PATH", 4096)
    assert address.find(given_, variable) == given_
    assert address.find(None, variable) == f"{tmp_path}/b/run"
    monkeypatch.setattr(address, "DEFAULT", str(tmp_path / "none"))
    with pytest.raises(address.NoService, match=f"{tmp_path}/none: there is no such directory\nName the directory"):
        address.find(None, {})


def test_a_stack_whose_runner_is_away_is_still_one(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(address, "MAX_SOCKET_PATH", 4096)
    (tmp_path / "health-admin.sock").touch()
    assert address.find(str(tmp_path), {}) == str(tmp_path)


def test_a_path_that_is_too_long_is_said(tmp_path: pathlib.Path) -> None:
    deep = tmp_path / ("x" * 100)
    deep.mkdir()
    (deep / "runner-admin.sock").touch()
    with pytest.raises(address.NoService, match="too long for a unix socket"):
        address.find(str(deep), {})


def test_anothers_services_are_said_to_be_so(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(address, "MAX_SOCKET_PATH", 4096)
    (tmp_path / "runner-admin.sock").touch(0o600)
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(address.NoService, match=f"permission denied: only the services' user \\(uid {os.getuid()}\\)"):
        address.find(str(tmp_path), {})


def test_kill_asks_the_services_unless_an_agent_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TRIVET_AGENT", raising=False)
    monkeypatch.delenv("TRIVET_RUN_DIR", raising=False)
    assert parse(["kill", "t"]).agent is None
    assert parse(["kill", "t", "--agent", "d"]).agent == "d"
    monkeypatch.setenv("TRIVET_AGENT", "a")
    assert parse(["kill", "t"]).agent == "a"
    assert parse(["kill", "t", "--run-dir", "d"]).agent is None
    assert parse(["kill", "t", "--lose"]).agent is None
    monkeypatch.setenv("TRIVET_RUN_DIR", "r")
    assert parse(["kill", "t", "--agent", "d"]).agent == "d"


@pytest.mark.parametrize(
    ("argv", "complaint"),
    [
        (["ps", "x", "--", "y"], "unrecognized arguments: y"),
        (["inspect"], "TASK"),
        (["logs"], "TASK"),
        (["logs", "t", "--run", "1"], "name the PROCESS"),
        (["logs", "t", "p", "--run", "-1"], "argument"),
        (["logs", "t", "p", "--run", "4294967296"], "is not a number from 0"),
        (["logs", "t", "--tail", "0"], "from 1"),
        (["logs", "t", "--tail", "٣"], "is not a number from 0"),
        (["logs", "t", "--stdout", "--stderr"], "not allowed with"),
        (["kill", "t", "--agent", "a", "--run-dir", "d"], "not both"),
        (["kill", "t", "--agent", "a", "--no-wait"], "not both"),
        (["kill", "t", "--lose", "--grace", "1s"], "no grace period"),
        (["top", "--interval", "0.1s"], "from 0.5s to 1h"),
        (["top", "--interval", "2h"], "from 0.5s to 1h"),
        (["top", "--sort", "colour"], "invalid choice"),
        (["journal"], "FILE"),
    ],
)
def test_what_cannot_be_asked_is_refused(argv: list[str], complaint: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        parse(argv)
    assert ended.value.code == 2
    assert complaint in capsys.readouterr().err
