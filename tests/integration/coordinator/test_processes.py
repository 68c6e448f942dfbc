"""Processes in the container, through the whole stack: what users see of logs, environment, users and endings."""

from __future__ import annotations

import os
import pwd
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.integration.faults.processes import start_ticks, wait_until
from tests.integration.faults.stack import Stack

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.integration.faults.launched import LaunchedTask

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can change users")


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    stack = Stack()
    yield stack
    stack.close()


def process(cmdline: str, name: str = "p", **more: Any) -> dict[str, Any]:
    return {"name": name, "cmdline": cmdline, **more}


def run(stack: Stack, *processes: dict[str, Any], options: tuple[str, ...] = (), **task: Any) -> LaunchedTask:
    """A task that has come to its end."""
    launched = stack.launch({"processes": list(processes), **task}, options=options)
    launched.wait_end()
    return launched


def logs(task: LaunchedTask, name: str = "p", number: int = 0) -> Path:
    return Path(task.sandbox, "sandbox/.logs", name, str(number))


def out(task: LaunchedTask, name: str = "p", number: int = 0) -> str:
    return (logs(task, name, number) / "stdout").read_text()


# Logger


def test_logger_of_a_process_rotates_with_exact_limits(stack: Stack) -> None:
    logger = {"mode": "rotate", "rotate": {"log_size": 1000, "backups": 2}}
    task = run(stack, process("seq 1 2000", logger=logger))
    assert task.wait_end() == "TASK_FINISHED"
    files = {file.name: file.stat().st_size for file in logs(task).iterdir()}
    assert set(files) == {"stdout", "stdout.1", "stdout.2", "stderr"}
    assert (files["stdout.1"], files["stdout.2"]) == (1000, 1000)
    assert 0 < files["stdout"] <= 1000
    assert out(task).endswith("2000\n")


def test_logger_options_of_the_executor_hold_where_a_process_says_nothing(stack: Stack) -> None:
    task = run(
        stack,
        process("echo quiet", "quiet"),
        process("echo kept", "kept", logger={}),
        process("echo to console", "loud", logger={"destination": "console"}),
        process("echo twice", "both", logger={"destination": "both"}),
        options=("--process-logger-destination", "none"),
    )
    assert task.wait_end() == "TASK_FINISHED"
    assert sorted(entry.name for entry in Path(task.sandbox, "sandbox/.logs").iterdir()) == ["both", "kept"]
    assert (out(task, "kept"), out(task, "both")) == ("kept\n", "twice\n")
    console = Path(task.sandbox, "stdout").read_text()
    assert sorted(console.splitlines()) == ["to console", "twice"]


# Environment and command lines


def test_environment_is_small_and_preserve_env_makes_it_the_executors(stack: Stack) -> None:
    task = run(stack, process("env -0 | tr '\\0' '\\n'; pwd"))
    seen = dict(line.partition("=")[::2] for line in out(task).splitlines() if "=" in line)
    sandbox = f"{task.sandbox}/sandbox"
    user = pwd.getpwuid(os.geteuid()).pw_name
    assert (seen["HOME"], seen["USER"], seen["LOGNAME"], seen["PWD"]) == (sandbox, user, user, sandbox)
    assert out(task).splitlines()[-1] == sandbox
    # The others are bash's own, and the mark by which a run is recognised.
    assert set(seen) <= {"HOME", "USER", "LOGNAME", "PATH", "PWD", "SHLVL", "OLDPWD", "_", "TRIVET_RUN"}
    task = run(stack, process("echo $MESOS_EXECUTOR_ID $HOME; env"), options=("--preserve-env",))
    assert out(task).splitlines()[0] == f"{task.executor_id} {task.sandbox}/sandbox"
    assert "MESOS_EXECUTOR_AUTHENTICATION_TOKEN" not in out(task)


def test_profile_that_a_first_process_makes_holds_for_later_ones(stack: Stack) -> None:
    task = run(
        stack,
        process("echo [$SPICE]; echo SPICE=salt >.thermos_profile", "first"),
        process("echo [$SPICE]", "second"),
        constraints=[{"order": ["first", "second"]}],
    )
    assert (out(task, "first"), out(task, "second")) == ("[]\n", "[salt]\n")


@pytest.mark.parametrize("name", ["with blank", "quo'te\"s", "tab\there", "*", "$HOME", "größe", "a%b", "x" * 200])
def test_names_of_every_kind_work(stack: Stack, name: str) -> None:
    task = run(stack, process("echo here", name))
    assert task.wait_end() == "TASK_FINISHED"
    assert out(task, name) == "here\n"


def test_empty_command_line_succeeds(stack: Stack) -> None:
    assert run(stack, process("")).wait_end() == "TASK_FINISHED"


def test_kill_0_is_a_death_by_that_signal_and_not_a_lost_run(stack: Stack) -> None:
    # Killed is no failure: it is run again, and the second time succeeds.
    task = run(stack, process("test -e ../once && exit 0; touch ../once; kill -KILL 0", min_duration=0))
    assert task.wait_end() == "TASK_FINISHED"
    first = task.runs()["p"][0]
    assert (first.exit.signal, first.error) == (9, "")


def test_signals_umask_and_descriptors_are_the_defaults(stack: Stack) -> None:
    task = run(stack, process("grep -E '^Sig(Blk|Ign)' /proc/self/status; umask; ls /proc/self/fd | wc -l"))
    rows = out(task).split()
    # grep's own: nothing blocked, nothing ignored (libc's two internal ones apart).
    assert [int(mask, 16) & ~(3 << 31) for mask in rows[1:4:2]] == [0, 0]
    assert rows[4:] == ["0022", "4"]


# Users


@pytest.mark.root
@needs_root
def test_user_of_the_task_gets_its_groups_and_its_name(stack: Stack) -> None:
    task = run(stack, process("id -un; id -G; echo $USER $LOGNAME"), user="daemon")
    account = pwd.getpwnam("daemon")
    name, groups, named = out(task).splitlines()
    assert (name, named) == ("daemon", "daemon daemon")
    assert sorted(map(int, groups.split())) == sorted(os.getgrouplist("daemon", account.pw_gid))


def test_unknown_user_fails_the_run_and_the_message_names_it(stack: Stack) -> None:
    task = run(stack, process("true"), user="nobody-knows")
    assert task.wait_end() == "TASK_FAILED"
    assert "user 'nobody-knows': unknown" in task.statuses[-1].message


# Endings


@pytest.mark.root
@needs_root
def test_child_that_changed_user_and_session_dies_with_the_task(stack: Stack) -> None:
    gate = stack.gate()
    change = (
        "import os; os.setsid(); os.setgroups([]); os.setgid(1); os.setuid(1); os.execv('/bin/sleep', ['sleep', '600'])"
    )
    cmdline = f'{sys.executable} -c "{change}" & echo $! >{gate.path}; wait'
    task = stack.launch({"processes": [process(cmdline)]})
    child = int(gate.read())
    wait_until(lambda: os.stat(f"/proc/{child}").st_uid == 1, "the change of user")
    task.kill(grace=0.2)
    assert task.wait_end() == "TASK_KILLED"
    assert not start_ticks(child)


def test_background_children_die_also_after_success(stack: Stack) -> None:
    gate, go = stack.gate(), stack.gate()
    daemon = f"setsid bash -c 'echo $$ >{gate.path}; exec sleep 600'"
    task = stack.launch({"processes": [process(f"{daemon} & read x <{go.path}")]})
    child = int(gate.read())
    go.open()
    assert task.wait_end() == "TASK_FINISHED"
    assert not start_ticks(child)


def test_process_that_starts_while_the_task_ends_does_not_outlive_it(stack: Stack) -> None:
    # The failure of one ends the task in the same moment in which the success of the other starts its successors.
    marker = "600.0625"
    names = [f"n{number}" for number in range(20)]
    task = run(
        stack,
        process("exit 1", "fails"),
        process("true", "opens"),
        *[process(f"exec sleep {marker}", name) for name in names],
        constraints=[{"order": ["opens", name]} for name in names],
        finalization_wait=1,
    )
    assert task.wait_end() == "TASK_FAILED"
    assert subprocess.run(["pgrep", "-f", f"^sleep {marker}$"], capture_output=True, check=False).stdout == b""


# Lifecycle endpoints

SERVER = """
import http.server, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        print(self.path, flush=True)
        self.send_response(200)
        self.end_headers()
        if self.path in sys.argv[2].split(","):
            print("obeys", flush=True)
            import os
            os._exit(0)
    def log_message(self, *args):
        pass
server = http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler)
open(sys.argv[3], "w").write("up\\n")
server.serve_forever()
"""


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def serving(stack: Stack, obeys: str, waits: int = 30, trap: str = "", **http: Any) -> LaunchedTask:
    """A task with an HTTP server that ends when it is asked at one of the paths `obeys`."""
    port, gate = free_port(), stack.gate()
    Path(stack.dir, "server.py").write_text(SERVER)
    server = f"{sys.executable} {stack.dir}/server.py {port} {obeys} {gate.path}"
    config = {"graceful_shutdown_wait_secs": waits, "shutdown_wait_secs": waits, "port": "health", **http}
    definition = {"task": {"processes": [process(trap + server)]}, "lifecycle": {"http": config}}
    task = stack.launch(definition, ports={"health": port}, kill_grace=60)
    assert gate.read() == "up"
    return task


def test_task_that_obeys_its_endpoint_gets_no_signal(stack: Stack) -> None:
    task = serving(stack, "/quitquitquit", trap="trap 'echo TERM' TERM; ")
    task.kill()
    assert task.wait_end() == "TASK_KILLED"
    assert out(task) == "/quitquitquit\nobeys\n"


def test_second_endpoint_is_asked_after_the_first_ones_wait_then_term(stack: Stack) -> None:
    task = serving(stack, "/nothing", waits=1, graceful_shutdown_endpoint="/first?x=1", shutdown_endpoint="/second")
    task.kill()
    assert task.wait_end() == "TASK_KILLED"
    assert out(task) == "/first?x=1\n/second\n"
    assert task.runs()["p"][0].exit.signal == 15


def test_nobody_at_the_port_means_no_wait(stack: Stack) -> None:
    gate = stack.gate()
    config = {"http": {"graceful_shutdown_wait_secs": 3000, "shutdown_wait_secs": 3000}}
    definition = {"task": {"processes": [process(f"echo up >{gate.path}; exec sleep 600")]}, "lifecycle": config}
    task = stack.launch(definition, ports={"health": free_port()}, kill_grace=3600)
    gate.read()
    task.kill()
    # Long before the deadline: TIMEOUT of the wait is 30 s.
    assert task.wait_end() == "TASK_KILLED"


def test_kill_deadline_holds_whatever_the_endpoints_waits(stack: Stack) -> None:
    task = serving(stack, "/nothing", waits=3600)
    task.kill(grace=1.0)
    assert task.wait_end() == "TASK_KILLED"
    assert out(task).startswith("/quitquitquit\n")
