"""`trivet validate`."""

from __future__ import annotations

import io
import json
import os
import pathlib
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from services.cli.__main__ import main
from tests.unit.task.thrift_writer import encode, i32, struct, text

if TYPE_CHECKING:
    from collections.abc import Callable

EXAMPLES = pathlib.Path(__file__).parents[3] / "examples"
TASK: dict[str, Any] = {
    "name": "shop",
    "processes": [
        {"name": "fetch", "cmdline": "SECRET=hunter2 {{thermos.ports[http]}}", "max_failures": 5},
        {"name": "serve", "cmdline": "true", "daemon": True, "min_duration": 7},
        {"name": "tail", "cmdline": "true", "ephemeral": True, "logger": {"destination": "both", "mode": "rotate"}},
        {"name": "clean", "cmdline": "true", "final": True, "max_failures": 0},
    ],
    "constraints": [{"order": ["fetch", "serve"]}],
    "resources": {"cpu": 1.5, "ram": 1, "disk": 2},
    "max_concurrency": 2,
}


@pytest.fixture
def written(tmp_path: pathlib.Path) -> Callable[[object], str]:
    def write(content: object) -> str:
        path = tmp_path / f"{len(list(tmp_path.iterdir()))}.json"
        path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
        return str(path)

    return write


def test_a_valid_task_is_shown_with_its_plan(
    written: Callable[[object], str], capsys: pytest.CaptureFixture[str]
) -> None:
    file = written(TASK)
    assert main(["validate", file]) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"{file}: valid, a Thermos task",
        "  name       shop",
        "  user       whoever the executor is",
        "  ports      http (from the agent)",
        "  health     none",
        "  lifecycle  none",
        "  limits     fails with 1 failed process, 2 processes at a time, cpu 1.5 cores, ram 1 bytes, disk 2 bytes",
        "  end        30 s for ending everything and the final processes",
        "  plan: 3 processes",
        "    ├─ fetch [up to 5 failed runs]",
        "    │  └─ serve [daemon, 7 s between runs]",
        "    └─ tail [ephemeral, logs to both, logs rotate at 104857600 bytes, 5 kept]",
        "  final: 1 process",
        "    └─ clean [any number of failed runs]",
    ]


def test_a_port_may_be_given(written: Callable[[object], str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["validate", "--port", "http=80", "--port", "x:81", written(TASK)]) == 0
    assert "ports      http 80, x 81\n" in capsys.readouterr().out


def test_a_jobs_checks_and_endpoints_are_shown(
    written: Callable[[object], str], capsys: pytest.CaptureFixture[str]
) -> None:
    job = {"task": TASK, "role": "www"}
    assert main(["validate", written(job)]) == 0
    shown = capsys.readouterr().out
    assert ": valid, an Aurora job\n" in shown
    assert "  user       www\n" in shown
    assert "  health     HTTP if the agent assigns a port `health`\n" in shown
    assert "  lifecycle  HTTP if the agent assigns a port `health`\n" in shown
    assert main(["validate", "--port", "health=1", written(job)]) == 0
    shown = capsys.readouterr().out
    assert "  health     GET http://localhost:1/health every 10 s, timeout 1 s\n" in shown
    assert "  lifecycle  POST /quitquitquit and 5 s, POST /abortabortabort and 5 s before any signal\n" in shown


def test_what_auroras_scheduler_sends_is_read(
    written: Callable[[object], str], capsys: pytest.CaptureFixture[str]
) -> None:
    fields = {4: struct({25: struct({2: text(json.dumps({"task": TASK}))})}), 6: i32(2)}
    file = written(encode(fields))
    assert main(["validate", file]) == 0
    assert capsys.readouterr().out.startswith(f"{file}: valid, an Aurora job in an AssignedTask\n")


def test_all_violations_and_warnings_of_every_file_are_listed(
    written: Callable[[object], str], capsys: pytest.CaptureFixture[str]
) -> None:
    wrong = written({"processes": [{"name": "/"}], "max_concurrency": -1, "colour": "red"})
    assert main(["validate", wrong, written(TASK), written(b"\xff")]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[:5] == [
        f"{wrong}: invalid, a Thermos task",
        "  violation: processes[0].name: must not contain a slash or NUL: it names a directory",
        "  violation: processes[0].cmdline: is required",
        "  violation: max_concurrency: must not be negative, is -1",
        "  warning: colour: unknown field, ignored",
    ]
    assert lines[-1] == "  violation: the task is not UTF-8: byte 0"


def test_json_has_everything_but_command_lines(
    written: Callable[[object], str], capsys: pytest.CaptureFixture[str]
) -> None:
    good, bad = written({"task": TASK, "lifecycle": {}}), written({"processes": []})
    assert main(["validate", "--json", good, bad]) == 1
    out = capsys.readouterr().out
    assert "hunter2" not in out
    first, second = map(json.loads, out.splitlines())
    assert (first["valid"], first["form"], first["name"], first["ports"]) == (True, "job", "shop", {"http": None})
    assert first["limits"] == {"max_failures": 1, "max_concurrency": 2, "finalization_wait": 30}
    assert [(process["name"], process["after"], process["final"]) for process in first["plan"]] == [
        ("fetch", [], False),
        ("serve", ["fetch"], False),
        ("tail", [], False),
        ("clean", [], True),
    ]
    assert second == {
        "file": bad,
        "valid": False,
        "form": "task",
        "wrapping": [],
        "violations": ["processes: must not be empty"],
        "warnings": [],
    }


def test_a_file_that_cannot_be_read_is_the_worst(
    written: Callable[[object], str], tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["validate", str(tmp_path / "none"), written({"processes": []}), str(tmp_path)]) == 2
    captured = capsys.readouterr()
    assert captured.err.splitlines() == [
        f"trivet: {tmp_path}/none: No such file or directory",
        f"trivet: {tmp_path}: Is a directory",
    ]
    assert "processes: must not be empty" in captured.out


def test_a_task_may_come_on_stdin(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(json.dumps(TASK).encode())))
    assert main(["validate", "-"]) == 0
    assert capsys.readouterr().out.startswith("stdin: valid")


def test_a_name_cannot_draw_on_the_terminal(
    written: Callable[[object], str], capsys: pytest.CaptureFixture[str]
) -> None:
    names = ["a\x1b[2J", "b\r\nc"]
    task = {
        "name": "\x1b]0;x\x07",
        "processes": [{"name": name, "cmdline": ""} for name in names],
        "constraints": [{"order": names}],
        "\x1b[31m": 1,
    }
    assert main(["validate", written(task)]) == 0
    out = capsys.readouterr().out
    assert all(char.isprintable() or char == "\n" for char in out)
    assert len(out.splitlines()) == 11


@pytest.mark.parametrize("example", sorted(EXAMPLES.glob("*.json")), ids=lambda path: path.name)
def test_every_example_is_valid(example: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["validate", str(example)]) == 0
    assert "violation" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("argv", "complaint"),
    [
        (["validate"], "which FILE"),
        (["validate", "--port", "http", "x"], "is not NAME:NUMBER"),
        (["validate", "--port", "a=1", "--port", "a=2", "x"], "given twice"),
    ],
)
def test_what_cannot_be_meant_is_refused(argv: list[str], complaint: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(argv)
    assert ended.value.code == 2
    assert complaint in capsys.readouterr().err


def test_a_reader_that_goes_is_no_error(written: Callable[[object], str]) -> None:
    many = {"processes": [{"name": f"p{n}", "cmdline": ""} for n in range(50_000)]}
    read, write = os.pipe()
    process = subprocess.Popen(
        [sys.executable, "-m", "services.cli", "validate", written(many)], stdout=write, stderr=subprocess.PIPE
    )
    os.close(write)
    os.read(read, 10)
    os.close(read)
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, b"")


def test_nothing_of_grpc_is_loaded(written: Callable[[object], str]) -> None:
    script = (
        "import sys\nfrom services.cli.__main__ import main\n"
        "status = main(sys.argv[1:])\n"
        "sys.exit(' '.join(name for name in ('grpc', 'thrift', 'rich', 'asyncio') if name in sys.modules) or status)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, "validate", written(TASK)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
