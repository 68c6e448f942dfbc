"""The command line."""

from __future__ import annotations

import subprocess
import sys

import pytest

from services.cli.arguments import parse


def test_everything_behind_the_dashes_is_the_command() -> None:
    options = parse(["run", "--output", "json", "--", "sh", "-c", "echo --keep", "--", "x"])
    assert (options.verb, options.output, options.task) == ("run", "json", None)
    assert options.command == ["sh", "-c", "echo --keep", "--", "x"]


def test_a_task_file_and_its_ports() -> None:
    options = parse(["run", "task.json", "--port", "http:8080", "--port", "admin-1:1", "--keep"])
    assert options.task == "task.json"
    assert options.port == {"http": 8080, "admin-1": 1}
    assert options.command is None
    assert options.keep


@pytest.mark.parametrize(
    ("argv", "complaint"),
    [
        ([], "required"),
        (["run"], "what shall run?"),
        (["run", "--"], "what shall run?"),
        (["run", "a.json", "--", "true"], "not both"),
        (["run", "a.json", "--port", "http"], "is not NAME:NUMBER"),
        (["run", "a.json", "--port", "http:0"], "from 1 to 65535"),
        (["run", "a.json", "--port", "http:70000"], "from 1 to 65535"),
        (["run", "a.json", "--port", "a:1", "--port", "a:2"], "given twice"),
        (["run", "a.json", "--output", "xml"], "invalid choice"),
        (["up"], "--dir"),
        (["up", "--dir", "d", "--", "true"], "takes no command"),
    ],
)
def test_what_cannot_be_meant_is_refused(argv: list[str], complaint: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        parse(argv)
    assert ended.value.code == 2
    assert complaint in capsys.readouterr().err


def test_help_needs_neither_grpc_nor_rich() -> None:
    script = (
        "import sys\n"
        "from services.cli.__main__ import main\n"
        "try:\n    main(['run', '--help'])\n"
        "except SystemExit:\n    pass\n"
        "loaded = [name for name in ('grpc', 'google.protobuf', 'rich', 'asyncio') if name in sys.modules]\n"
        "sys.exit(' '.join(loaded) or 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "exit status:" in done.stdout
