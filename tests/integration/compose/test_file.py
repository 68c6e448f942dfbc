"""docker-compose.yml, Dockerfile and .dockerignore, as far as they can be tried without Docker.

The commands and health checks of the compose file are run as they stand there, only with other directories.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests.integration.cli.rig import SECS, directory, statuses, transitions, trivet
from tests.integration.compose import rig as compose

if TYPE_CHECKING:
    from collections.abc import Iterator

BIN = os.path.dirname(sys.executable)


@pytest.fixture
def root() -> Iterator[str]:
    with directory() as path:
        yield path


def project() -> dict[str, Any]:
    return tomllib.loads((compose.CHECKOUT / "pyproject.toml").read_text())


def here(root: str, service: str, argv: list[str]) -> list[str]:
    """The container's argument list for this machine: its directories below `root`, its PATH the environment's."""
    program, *rest = argv
    moved = {compose.SOCKETS: f"{root}/run", compose.STATE: f"{root}/state/{service}"}
    for container, ours in moved.items():
        rest = [word.replace(container, ours) for word in rest]
    return [f"{BIN}/{program}", *rest]


def healthy(root: str) -> list[str]:
    """Services whose health check succeeds."""
    checks = {name: subprocess.Popen(here(root, name, compose.probe(name))) for name in compose.SERVICES}
    return [name for name, check in checks.items() if check.wait(SECS) == 0]


class Containers:
    """The services as the compose file starts them, as plain processes."""

    def __init__(self, root: str, stack: ExitStack) -> None:
        self.root = root
        self._stack = stack
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, *services: str) -> None:
        """Starts them and waits until they serve."""
        for service in services:
            process = subprocess.Popen(here(self.root, service, compose.command(service)))
            self._stack.callback(process.wait)
            self._stack.callback(process.kill)
            self._running[service] = process
        for service in services:
            with grpc.insecure_channel(f"unix:{self.root}/run/{service}-admin.sock") as channel:
                request = health_pb2.HealthCheckRequest()
                watch = health_pb2_grpc.HealthStub(channel).Watch(request, timeout=SECS, wait_for_ready=True)
                assert any(answer.status == health_pb2.HealthCheckResponse.SERVING for answer in watch)
                watch.cancel()

    def stop(self, service: str) -> None:
        """What Docker does first when a container has to stop."""
        self._running[service].terminate()
        assert self._running[service].wait(SECS) == 0


def test_the_file_asks_for_no_privileges() -> None:
    keys = set(re.findall(r"([\w-]+):", compose.text()))
    assert {"privileged", "pid", "ipc", "userns_mode", "cap_add", "devices", "user", "uts"}.isdisjoint(keys)
    assert "docker.sock" not in compose.text()
    assert "host" not in re.findall(r"network_mode: (\w+)", compose.text())


def test_all_programs_of_the_containers_are_installed_by_the_wheel() -> None:
    scripts = project()["project"]["scripts"]
    assert [compose.command(service)[0] for service in compose.SERVICES] == [f"trivet-{s}" for s in compose.SERVICES]
    assert {*(f"trivet-{service}" for service in compose.SERVICES), *compose.entrypoint("trivet")} <= scripts.keys()


def test_all_that_the_wheel_is_made_of_goes_into_the_build() -> None:
    lines = (compose.CHECKOUT / "Dockerfile").read_text().splitlines()
    copied = {
        source
        for line in lines
        if line.startswith("COPY ") and "--from" not in line
        for source in line.removeprefix("COPY ").split()[:-1]
    }
    excepted = {line[1:] for line in (compose.CHECKOUT / ".dockerignore").read_text().splitlines() if line[:1] == "!"}
    build = project()["tool"]["hatch"]["build"]
    needed = {"pyproject.toml", "protos", project()["project"]["readme"], build["hooks"]["custom"]["path"]}
    assert needed | {*build["targets"]["wheel"]["packages"], "tools/generate_protos.py"} <= copied
    assert copied == excepted
    assert all((compose.CHECKOUT / name).exists() for name in copied)


def test_a_health_check_succeeds_while_its_own_service_serves(root: str) -> None:
    with ExitStack() as stack:
        containers = Containers(root, stack)
        containers.start("runner")
        assert healthy(root) == ["runner"]
        containers.start("health", "reporter")
        assert healthy(root) == ["runner", "health", "reporter"]
        containers.stop("health")
        assert healthy(root) == ["runner", "reporter"]


def test_a_task_that_the_files_stack_runs_is_not_disturbed_by_a_restart_of_the_runner(root: str) -> None:
    gate = f"{root}/gate"
    os.mkfifo(gate)
    with ExitStack() as stack:
        containers = Containers(root, stack)
        containers.start(*compose.SERVICES)
        argv = ["run", "--dir", f"{root}/cli", "--output", "json", "--services", f"{root}/run", "--", "cat", gate]
        with trivet(root, *argv) as cli:
            cli.until_state("TASK_RUNNING")
            containers.stop("runner")
            containers.start("runner")
            # A reader is there if, and only if, the process of before still waits.
            with open(os.open(gate, os.O_WRONLY | os.O_NONBLOCK), "w") as file:
                file.write("go\n")
            assert cli.end() == 0
        assert statuses(cli) == ["TASK_STARTING", "TASK_RUNNING", "TASK_FINISHED"]
        assert {run for run, _ in transitions(cli, "cat")} == {0}
        assert transitions(cli, "cat")[-1] == (0, "SUCCESS")
