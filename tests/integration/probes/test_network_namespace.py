"""An executor in a network namespace of its own: its task is reached from inside, and from nowhere else.

Everything is real. The agent is heard over its unix socket, as no TCP leads out.
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import uuid
from typing import TYPE_CHECKING

import pytest

from tests.integration.faults.stack import Stack

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mesos.v1 import mesos_pb2

pytestmark = pytest.mark.root

# Answers `ok` until the test writes to the gate; then it says that it is ill.
SERVER = """
import http.server, sys, threading
port, gate = int(sys.argv[1]), sys.argv[2]
class Handler(http.server.BaseHTTPRequestHandler):
    answer = b"ok"
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(Handler.answer)
def wait():
    with open(gate) as file:
        Handler.answer = file.readline().encode()
threading.Thread(target=wait, daemon=True).start()
http.server.HTTPServer(("127.0.0.1", port), Handler).serve_forever()
"""


@pytest.fixture(name="namespace")
def make_namespace() -> Iterator[str]:
    if os.geteuid():
        pytest.skip("NOT ROOT: no network namespaces")
    name = f"tvt-{uuid.uuid4().hex[:8]}"
    try:
        made = subprocess.run(["ip", "netns", "add", name], capture_output=True, text=True, timeout=20, check=False)
    except FileNotFoundError:
        pytest.skip("NO ip (iproute2) HERE: network namespaces are not tested")
    if made.returncode:
        pytest.skip(f"NO NETWORK NAMESPACES HERE: {made.stderr.strip()}")
    try:
        subprocess.run(["ip", "-n", name, "link", "set", "lo", "up"], timeout=20, check=True)
        yield name
    finally:
        subprocess.run(["ip", "netns", "del", name], timeout=20, check=True)


@pytest.fixture(name="stack")
def run_stack() -> Iterator[Stack]:
    stack = Stack(["--http-executor-domain-sockets"])
    yield stack
    stack.close()


def reachable(port: int) -> bool:
    with contextlib.suppress(ConnectionRefusedError), socket.create_connection(("127.0.0.1", port), 5):
        return True
    return False


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


def checker(kind: str, port: int) -> dict[str, object]:
    """Aurora's two kinds: one probes in the driver, the other in a process of its own."""
    if kind == "http":
        return {"http": {"expected_response": "ok"}}
    get = f"exec 3<>/dev/tcp/127.0.0.1/{port} && printf 'GET / HTTP/1.0\\r\\n\\r\\n' >&3 && grep -q ok <&3"
    return {"shell": {"shell_command": get}}


@pytest.mark.parametrize("kind", ["http", "shell"])
def test_probes_are_made_where_the_task_is(stack: Stack, namespace: str, kind: str) -> None:
    gate, port = stack.gate(), free_port()
    script = f"{stack.dir}/server.py"
    with open(script, "w") as file:
        file.write(SERVER)

    def inside(info: mesos_pb2.TaskInfo) -> None:
        command = info.executor.command
        program, arguments = command.value, list(command.arguments)
        del command.arguments[:]
        command.arguments.extend(["ip", "netns", "exec", namespace, program, *arguments[1:]])
        command.value = "ip"
        command.shell = False

    task = {
        "processes": [{"name": "server", "cmdline": f"exec {sys.executable} {script} {port} {gate.path}"}],
        "health_check_config": {
            "health_checker": checker(kind, port),
            "interval_secs": 0.2,
            "initial_interval_secs": 10,
            "timeout_secs": 10,
        },
    }
    launched = stack.launch(task, ports={"health": port}, edit=inside)
    assert launched.wait_for("TASK_RUNNING").healthy
    assert not reachable(port)
    with open(f"/proc/{launched.driver()}/ns/net") as theirs, open("/proc/self/ns/net") as ours:
        assert os.fstat(theirs.fileno()).st_ino != os.fstat(ours.fileno()).st_ino
    gate.open("ill")
    assert launched.wait_end() == "TASK_FAILED"
    end = launched.wait_for("TASK_FAILED")
    assert not end.healthy
    # Not because nobody answered.
    assert ("'ill'" if kind == "http" else "exited with status 1") in end.message
