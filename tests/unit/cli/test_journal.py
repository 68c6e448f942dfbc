"""`trivet journal`: journals as the services write them, whole, torn and damaged."""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys
from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from mesos.v1 import mesos_pb2
from services.cli.__main__ import main
from services.cli.tasks.records import Unreadable, described, fields_of
from services.common.journal import MAGIC, frame
from services.common.keys import Executor, TaskKey
from services.common.task.checks import CommandTarget, Expected, HttpTarget, Source
from services.health import records as health
from services.health.model import Kind
from services.health.rules import Limits
from services.health.spec import Spec
from services.reporter import records as reporter
from services.runner import header
from services.runner.processes import ProcessState
from services.runner.records import Cause, EndRecord, Moment, Phase, PhaseRecord, RunRecord, encode
from trivet.link.v1 import link_pb2
from trivet.runner.v1 import runner_pb2

if TYPE_CHECKING:
    import pytest

KEY = TaskKey(Executor("framework", "executor", "abc"), "task-1", 2)
AT = Moment(12.5, 1_700_000_000.25)
RUNNER = [
    header.encode(
        header.Header(
            KEY,
            mesos_pb2.TaskInfo(name="web", data=b"secret").SerializePartialToString(),
            header.Facts("boot", "host", "/s", "/h", 0),
            AT.wall,
        )
    ),
    encode(RunRecord(AT, "p one", 0, ProcessState.RUNNING, pid=42, ticks=7)),
    encode(RunRecord(AT, "p one", 0, ProcessState.FAILED, code=3, error="it\x1b[2J broke")),
    encode(EndRecord(AT, Cause.KILL, Phase.KILLED, 13.0, 14.0)),
    encode(PhaseRecord(AT, Phase.KILLED, "by hand")),
]


def write(path: pathlib.Path, payloads: list[bytes]) -> str:
    path.write_bytes(MAGIC + b"".join(map(frame, payloads)))
    return str(path)


def show(capsys: pytest.CaptureFixture[str], *argv: str) -> tuple[int, list[str], list[str]]:
    status = main(["journal", *argv])
    said = capsys.readouterr()
    return status, said.out.splitlines(), said.err.splitlines()


def offsets(payloads: list[bytes]) -> list[int]:
    return [len(MAGIC) + sum(len(frame(each)) for each in payloads[:number]) for number in range(len(payloads))]


def test_a_journal_of_the_runner_in_words(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, lines, errors = show(capsys, write(tmp_path / "j", RUNNER))
    assert (status, errors) == (0, [])
    assert [int(line.split()[0]) for line in lines] == offsets(RUNNER)
    words = [line[10 + 24 :] for line in lines]
    assert words[0].startswith("task task_id=task-1 launch=2 executor_id=executor framework_id=framework ")
    assert '(TaskInfo "web", ' in words[0]
    assert words[1:] == [
        'run process="p one" run=0 state=RUNNING pid=42 ticks=7',
        'run process="p one" run=0 state=FAILED code=3: it [2J broke',
        "end cause=KILL verdict=KILLED clean_until=13.0 end_at=14.0",
        "phase phase=KILLED: by hand",
    ]
    assert all(line[10:14] == "2023" and line.split()[2].endswith(".250") for line in lines)


def test_no_line_shows_what_is_in_the_task_info(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path / "j", RUNNER)
    assert "secret" not in "".join(show(capsys, path)[1])
    # For programs everything is there.
    first = json.loads(show(capsys, "--json", path)[1][0])
    assert first["offset"] == len(MAGIC)
    assert first["bytes"] == len(RUNNER[0])
    assert first["record"]["info"]


def test_values_of_a_checks_headers_and_environment_are_shown_in_no_form(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    limits = Limits(15, 10, 0, 1)
    web = HttpTarget(80, "/", headers={"Authorization": "Bearer hush-1"})
    command = CommandTarget(("./check",), {"TOKEN": "hush-2"}, "./check")
    both = [
        Spec(kind, Source.AURORA, target, Expected(), 1.0, limits, "aurora-time", True, env={"HOME": "hush-3"})
        for kind, target in ((Kind.HEALTH, web), (Kind.CHECK, command))
    ]
    payload = health.encode_header(health.Header(KEY, b"", "boot", tuple(both)))
    first_format = {"kind": "check", "format": 1, "spec": {"env": {"TOKEN": "hush-4"}, "target": {"headers": "hush-5"}}}
    path = write(tmp_path / "j", [payload, json.dumps(first_format).encode()])
    assert "hush" in payload.decode()
    for form in ([], ["--json"]):
        status, lines, errors = show(capsys, *form, path)
        assert (status, len(lines), errors) == (0, 2, [])
        assert "hush" not in "".join(lines)
    one, other = json.loads(lines[0])["record"]["specs"]
    assert one["target"]["headers"] == {"Authorization": "***"}
    assert (other["target"]["env"], other["env"]) == ({"TOKEN": "***"}, {"HOME": "***"})
    assert other["target"]["argv"] == ["./check"]


def test_a_summary_and_a_journal_of_the_reporter(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    response = runner_pb2.GetTaskResponse()
    response.task.state.phase = link_pb2.TASK_PHASE_SUCCESS
    response.runs.add(process="p", run=1, state=runner_pb2.PROCESS_STATE_SUCCESS)
    summary = header.encode(header.Summary(KEY, "boot", 1.0, AT.wall, response.SerializeToString()))
    _, (line,), _ = show(capsys, write(tmp_path / "s", [summary]))
    assert "response=(SUCCESS; p/1 SUCCESS)" in line
    status = mesos_pb2.TaskStatus(state=mesos_pb2.TASK_FAILED, message="oh no")
    status.task_id.value = "task-1"
    latch = link_pb2.Latch(state=mesos_pb2.TASK_FAILED, origin=link_pb2.LATCH_ORIGIN_REPORTER)
    payloads = [
        reporter.encode(record)
        for record in (
            reporter.Opened(KEY, "e", (mesos_pb2.TASK_STARTING,)),
            reporter.Proposed(1, 5.0, status.SerializeToString()),
            reporter.Answered(1, b"\x01\x02"),
            reporter.Latched(latch.SerializeToString()),
            reporter.Closed(AT.wall, b"", b""),
        )
    ]
    status_, lines, errors = show(capsys, write(tmp_path / "r", payloads))
    assert (status_, errors) == (0, [])
    assert "opened framework_id=framework executor_id=executor " in lines[0]
    assert "accepted=[TASK_STARTING]" in lines[0]
    assert 'status=(TASK_FAILED "oh no")' in lines[1]
    assert "uuid=0102 rejection=none" in lines[2]
    assert "latch=(TASK_FAILED of REPORTER)" in lines[3]
    assert lines[4].split()[1].startswith("2023-11-1")


def test_damage_is_named_and_what_stands_before_it_is_shown(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path / "j", RUNNER)
    data = bytearray(pathlib.Path(path).read_bytes())
    at = offsets(RUNNER)[2]
    data[at + 10] ^= 1
    pathlib.Path(path).write_bytes(data)
    status, lines, errors = show(capsys, path)
    assert (status, len(lines)) == (1, 2)
    assert errors == [f"trivet: {path}: damaged at offset {at}: wrong checksum"]
    assert pathlib.Path(path).read_bytes() == data


def test_a_torn_end_is_said_and_left_as_it_is(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path / "j", RUNNER)
    data = pathlib.Path(path).read_bytes()[:-3]
    pathlib.Path(path).write_bytes(data)
    status, lines, errors = show(capsys, path)
    assert (status, len(lines)) == (0, 4)
    assert f"a torn record at offset {offsets(RUNNER)[4]}: " in errors[0]
    assert pathlib.Path(path).read_bytes() == data


def test_a_record_that_is_none_does_not_hide_the_others(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    payloads = [RUNNER[0], b"{", b"7", b'{"is": 3}', b"[]", b"[" * 100_000, b"\xff", RUNNER[1]]
    path = write(tmp_path / "j", payloads)
    status, lines, errors = show(capsys, path)
    assert (status, len(lines), len(errors)) == (1, 2, 6)
    for at, line in zip(offsets(payloads)[1:7], errors, strict=True):
        assert line.startswith(f"trivet: {path}: damaged at offset {at}: not a record")


def test_what_is_no_journal_is_refused_and_cannot_hold_us_up(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    other = tmp_path / "other"
    other.write_text("something else entirely")
    empty = tmp_path / "empty"
    empty.touch()
    huge = tmp_path / "huge"
    with huge.open("wb") as file:
        file.truncate(1 << 40)
    for path, expected, words in (
        (tmp_path / "missing", 2, "No such file or directory"),
        (tmp_path, 2, "not a file"),
        (fifo, 2, "not a file"),
        (other, 1, "damaged at offset 0: not a journal of this format"),
        (huge, 1, "damaged at offset 0: not a journal of this format"),
        (empty, 0, "no records"),
    ):
        status, lines, (error,) = show(capsys, str(path))
        assert (status, lines) == (expected, []), path
        assert error.startswith(f"trivet: {path}: ")
        assert words in error


def test_no_service_and_no_grpc_is_loaded(tmp_path: pathlib.Path) -> None:
    path = write(tmp_path / "j", RUNNER)
    script = (
        "import sys\nfrom services.cli.__main__ import main\n"
        f"status = main(['journal', {path!r}])\n"
        "loaded = [name for name in ('grpc', 'rich', 'asyncio', 'services.runner') if name in sys.modules]\n"
        "sys.exit(' '.join(loaded) or status)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)
known = st.sampled_from(
    ["task", "summary", "run", "end", "phase", "check", "opened", "proposed", "answered", "latched", "closed"]
)
names = st.sampled_from(
    ["at", "key", "info", "facts", "response", "launched_at", "ended_at", "state", "phase", "cause", "spec", "error"]
)


@given(known, st.dictionaries(names, json_values))
def test_any_fields_of_known_records_are_shown_and_never_break(kind: str, fields: dict[str, object]) -> None:
    assert kind in described(fields_of(json.dumps({**fields, "is": kind}).encode()))


@given(known, st.lists(json_values, max_size=10))
def test_any_list_is_shown_and_never_breaks(kind: str, fields: list[object]) -> None:
    assert kind in described(fields_of(json.dumps([kind, *fields]).encode()))


@given(st.binary(max_size=200))
def test_any_bytes_are_a_record_or_unreadable(payload: bytes) -> None:
    try:
        described(fields_of(payload))
    except Unreadable:
        pass


def test_a_damaged_length_is_damage_and_no_torn_record(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in (0, 2):
        path = write(tmp_path / "j", RUNNER)
        data = bytearray(pathlib.Path(path).read_bytes())
        offset = offsets(RUNNER)[number]
        data[offset + 2] ^= 1 << 4
        pathlib.Path(path).write_bytes(data)
        status, out, err = show(capsys, path)
        assert (status, len(out)) == (1, number)
        assert f"{path}: damaged at offset {offset}: " in err[0]
