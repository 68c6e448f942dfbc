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


def test_everything_behind_agent_is_the_agents() -> None:
    options = parse(["agent", "--work-dir", "d", "--help", "--", "x"])
    assert (options.verb, options.flags) == ("agent", ["--work-dir", "d", "--help", "--", "x"])


def test_an_executor_as_one_text_or_as_words() -> None:
    text = parse(["launch", "--executor", "./mine --flag", "--agent", "d", "--capability", "A", "--capability", "B"])
    assert (text.executor, text.command, text.agent, text.capability) == ("./mine --flag", None, "d", ["A", "B"])
    words = parse(["launch", "--no-checkpoint", "--env", "A=b=c", "--", "./mine", "--flag", "--", "--json"])
    assert (words.command, words.json, words.checkpoint) == (["./mine", "--flag", "--", "--json"], False, False)
    assert words.env == [("A", "b=c")]


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("5s", 5),
        ("1.5s", 1.5),
        ("500ms", 0.5),
        ("2mins", 120),
        ("2m", 120),
        ("7", 7),
        ("0", 0),
        ("1h", 3600),
        ("3secs", 3),
    ],
)
def test_times_in_short_and_in_mesos_words(text: str, seconds: float) -> None:
    assert parse(["kill", "t", "--grace", text]).grace == seconds


@pytest.mark.parametrize("verb", ["health", "snooze", "inspect", "logs", "explain", "top", "watch"])
def test_an_id_that_begins_with_a_dash_stands_behind_dashes(verb: str) -> None:
    for name in ("-x", "--json", "--", "-"):
        options = parse([verb, "--", name])
        assert (options.verb, options.task) == (verb, name)
    assert parse([verb, "x"]).task == "x"


def test_options_stand_before_the_dashes_and_ids_behind() -> None:
    options = parse(["health", "--executor", "e", "--json", "--", "-x"])
    assert (options.executor, options.json, options.task) == ("e", True, "-x")
    options = parse(["snooze", "--for", "30s", "--", "-x"])
    assert (options.span, options.task) == (30, "-x")
    options = parse(["logs", "-f", "--", "-x", "-process"])
    assert (options.follow, options.task, options.process) == (True, "-x", "-process")
    assert parse(["logs", "t", "--", "-process"]).process == "-process"
    options = parse(["kill", "--no-wait", "a", "--", "-x", "--wait"])
    assert (options.tasks, options.wait) == (["a", "-x", "--wait"], False)
    assert parse(["ps", "--", "-x*"]).pattern == "-x*"
    assert parse(["journal", "--", "-x"]).file == "-x"


@pytest.mark.parametrize("argv", [["--agent", "d", "list"], ["list", "--agent", "d"]])
def test_the_agent_may_be_named_on_both_sides_of_the_action(argv: list[str]) -> None:
    options = parse(["fault", *argv])
    assert (options.action, options.agent) == ("list", "d")


@pytest.mark.parametrize(
    ("argv", "complaint"),
    [
        (["launch"], "what shall be launched?"),
        (["launch", "--"], "nothing behind --"),
        (["launch", "--executor", "x", "--", "y"], "not both"),
        (["launch", "--shell", "--", "y"], "--shell goes with --executor"),
        (["launch", "--executor", "x", "--services", "d"], "FILE.json"),
        (["launch", "f.json", "--name", "x"], "--name: FILE.json says that"),
        (["launch", "f.json", "--task-data", "x"], "--task-data: FILE.json says that"),
        (["launch", "--executor", "x", "--env", "A"], "is not NAME=VALUE"),
        (["launch", "f.json", "--port", "x"], "is not NAME:NUMBER"),
        (["kill"], "TASK"),
        (["kill", "t", "--grace", "soon"], "'soon' is not a time"),
        (["kill", "t", "--grace", "-1s"], "argument"),
        (["watch", "t", "--", "x"], "unrecognized arguments: x"),
        (["executors", "--", "x"], "`executors` takes no command"),
        (["snooze", "--"], "TASK"),
        (["health", "-x"], "unrecognized arguments: -x"),
        (["fault"], "ACTION"),
        (["fault", "add"], "SPEC"),
        (["agent-restart", "--gap", "5 s"], "is not a time"),
    ],
)
def test_what_cannot_be_ordered_is_refused(argv: list[str], complaint: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        parse(argv)
    assert ended.value.code == 2
    assert complaint in capsys.readouterr().err


@pytest.mark.parametrize("verb", ["kill", "logs"])
def test_an_option_that_a_command_does_not_have_is_a_mistake_of_that_command(
    verb: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        parse([verb, "t", "--json"])
    assert ended.value.code == 2
    assert capsys.readouterr().err == f"trivet {verb}: unrecognized arguments: --json (see --help)\n"
