"""TCP probes: listeners, none, half-open ones, and a driver that has run out of descriptors."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import resource
import socket
import struct
import subprocess
import sys
import textwrap
from typing import TYPE_CHECKING

import pytest

from executor_shim.driver.probes import loopback
from executor_shim.driver.probes.prober import capacity
from tests.integration.probes.prober_rig import (
    DONE,
    NO_ANSWER,
    TIMEOUT,
    TRANSIENT,
    Probing,
    hang,
    head,
    open_sockets,
    probing,
    serving,
    settle,
)
from trivet.health.v1 import health_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Iterator


async def ask(one: Probing, port: int, secs: float = 20.0, **tcp: pb.Loopback) -> tuple[int, str]:
    result = await one.ask(timeout_secs=secs, tcp=pb.TcpProbe(port=port, **tcp))
    assert result.latency_secs >= 0
    return result.outcome, result.error


def test_a_connection_is_enough() -> None:
    async def test(one: Probing) -> None:
        async with serving(hang) as port:
            before = open_sockets()
            assert await ask(one, port) == (DONE, "")
            assert await ask(one, port, loopback=pb.LOOPBACK_IPV4) == (DONE, "")
            assert await ask(one, port, loopback=pb.LOOPBACK_IPV6) == (NO_ANSWER, "Connection refused")
            await settle(lambda: open_sockets() <= before)
        assert await ask(one, port) == (NO_ANSWER, "Connection refused")
        async with serving(hang, "::1") as port:
            assert await ask(one, port) == (DONE, "")
            assert await ask(one, port, loopback=pb.LOOPBACK_IPV6) == (DONE, "")
            assert await ask(one, port, loopback=pb.LOOPBACK_IPV4) == (NO_ANSWER, "Connection refused")
        assert await ask(one, 0) == (NO_ANSWER, "tcp.port: 0 is no port")
        assert await ask(one, 1 << 16) == (NO_ANSWER, "tcp.port: 65536 is no port")

    probing(test)


def test_a_server_that_resets_every_connection_has_taken_it() -> None:
    async def reset(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        sock = writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()

    async def test(one: Probing) -> None:
        async with serving(reset) as port:
            for _ in range(50):
                assert await ask(one, port) == (DONE, "")

    probing(test)


@contextlib.contextmanager
def half_open() -> Iterator[int]:
    """A server that takes no connections any more: its queue is full."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        port = listener.getsockname()[1]
        for _ in range(4):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(("127.0.0.1", port))
        yield port


def test_a_full_accept_queue_is_a_timeout() -> None:
    async def test(one: Probing) -> None:
        with half_open() as port:
            assert await ask(one, port, 0.3) == (TIMEOUT, "no connection within 0.3 s")
            get = await one.get(port, timeout_secs=0.3)
            assert (get.outcome, get.error) == (TIMEOUT, "no answer within 0.3 s")

    probing(test)


def test_the_tasks_end_calls_off_a_connection_that_is_not_there_yet() -> None:
    async def test(one: Probing) -> None:
        with half_open() as port:
            before = open_sockets()
            one.start(tcp=pb.TcpProbe(port=port))
            await settle(lambda: open_sockets() > before)
            one.prober.task_ends(one.task())
            result = await one.result()
            assert (result.outcome, result.error) == (TRANSIENT, "the task is ending")
            await settle(lambda: open_sockets() == before)

    probing(test)


def test_hundreds_at_once_are_answered_and_leave_nothing() -> None:
    count = 300

    async def test(one: Probing) -> None:
        go = asyncio.Barrier(count)

        async def all_together(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await head(reader)
            await go.wait()
            writer.write(b"HTTP/1.1 200 OK\r\n\r\n")

        async with serving(all_together) as port:
            before = open_sockets()
            for number in range(count):
                one.start(one.task(str(number)), http=pb.HttpProbe(port=port), timeout_secs=60)
            results = [await one.result() for _ in range(count)]
            assert {result.id for result in results} == set(range(1, count + 1))
            assert {result.outcome for result in results} == {DONE}
            await settle(lambda: open_sockets() <= before)

    probing(test)


@pytest.mark.parametrize(
    ("descriptors", "probes"), [(1024, 896), (256, 128), (64, 32), (resource.RLIM_INFINITY, sys.maxsize)]
)
def test_some_descriptors_are_left_to_the_rest_of_the_driver(descriptors: int, probes: int) -> None:
    assert capacity(descriptors) == probes


def test_without_descriptors_it_is_nobodys_failure() -> None:
    async def test(one: Probing) -> None:
        async with serving(hang) as port:
            before = open_sockets()
            assert await ask(one, port) == (DONE, "")
            # The other end's descriptor would be one to spare.
            await settle(lambda: open_sockets() <= before)
            limits = resource.getrlimit(resource.RLIMIT_NOFILE)
            used = max(int(fd) for fd in os.listdir("/proc/self/fd"))
            filler = [os.open("/dev/null", os.O_RDONLY) for _ in range(used)]
            resource.setrlimit(resource.RLIMIT_NOFILE, (max(filler) + 1, limits[1]))
            try:
                assert await ask(one, port) == (TRANSIENT, "cannot connect: Too many open files")
                result = await one.get(port)
                assert (result.outcome, result.error) == (TRANSIENT, "cannot connect: Too many open files")
                task = await one.ask(tcp=pb.TcpProbe(port=port), snooze_file="sandbox/.healthchecksnooze")
                assert (task.outcome, task.error) == (TRANSIENT, "snooze_file: Too many open files")
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, limits)
                for fd in filler:
                    os.close(fd)
            assert await ask(one, port) == (DONE, "")

    probing(test)


def test_there_is_a_bound_for_probes_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(one: Probing) -> None:
        monkeypatch.setattr(one.prober, "_most", 3)
        async with serving(hang) as port:
            for number in range(3):
                one.start(one.task(str(number)), http=pb.HttpProbe(port=port))
            one.start(one.task("one too many"), http=pb.HttpProbe(port=port))
            result = await one.result()
            assert (result.id, result.outcome) == (4, TRANSIENT)
            assert result.error == "3 probes are being made already"
            # The place of an older probe of the same check is free.
            one.start(one.task("0"), tcp=pb.TcpProbe(port=port))
            assert (await one.result()).outcome == DONE

    probing(test)


@pytest.mark.parametrize(
    "number", [errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EADDRNOTAVAIL, errno.EAGAIN]
)
def test_what_the_kernel_has_run_out_of_is_not_the_targets_fault(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    async def no(_host: str, _port: int) -> socket.socket:
        raise OSError(number, "asyncio's own words")

    monkeypatch.setattr(loopback, "_connect", no)

    async def test(one: Probing) -> None:
        # This machine has ::1: ports have run out there just the same.
        for family in (pb.LOOPBACK_IPV4, pb.LOOPBACK_IPV6):
            assert await ask(one, 9, loopback=family) == (TRANSIENT, f"cannot connect: {os.strerror(number)}")

    probing(test)


IN_A_NAMESPACE = """
import asyncio, socket, sys
from executor_shim.driver.probes import tcp
from trivet.health.v1 import health_pb2 as pb

async def main():
    for loopback in (pb.LOOPBACK_UNSPECIFIED, pb.LOOPBACK_IPV4, pb.LOOPBACK_IPV6):
        outcomes = set()
        for _ in range(30):
            probe = pb.Probe(timeout_secs=5, tcp=pb.TcpProbe(port=40000, loopback=loopback))
            result = await tcp.probe(probe)
            outcomes.add(f"{pb.ProbeOutcome.Name(result.outcome)} {result.error}")
        print(sorted(outcomes))

asyncio.run(main())
"""


def in_a_namespace(setup: str, script: str) -> list[str]:
    """Runs a script in a new network namespace."""
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    command = ["unshare", "-n", "sh", "-ec", f'{setup}\nexec "$0" -c "$1"', sys.executable, textwrap.dedent(script)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environ, check=False)
    if "unshare" in done.stderr and "Operation not permitted" in done.stderr:
        pytest.skip("NO NETWORK NAMESPACES here (unshare: not permitted)")
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="NOT ROOT: no network namespaces")
def test_a_socket_that_connects_to_itself_is_no_server() -> None:
    # With three local ports Linux soon hands out the one that is asked for; for connections it prefers the even ones.
    setup = "ip link set lo up; echo 40000 40002 >/proc/sys/net/ipv4/ip_local_port_range"
    assert in_a_namespace(setup, IN_A_NAMESPACE) == ["['PROBE_OUTCOME_NO_ANSWER Connection refused']"] * 3


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="NOT ROOT: no network namespaces")
def test_a_container_without_loopback_is_no_transient() -> None:
    either, four, six = in_a_namespace(":", IN_A_NAMESPACE)
    assert either == four == "['PROBE_OUTCOME_NO_ANSWER Network is unreachable']"
    assert six == "['PROBE_OUTCOME_NO_ANSWER Cannot assign requested address']"
