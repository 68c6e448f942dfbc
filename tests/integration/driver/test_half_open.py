"""A connection whose other end has vanished: nothing comes on it, not even its end."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys

import pytest

from executor_shim.driver.agent.endpoint import KEEPALIVE, prepare


def test_a_vanished_agent_is_noticed_within_a_minute() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.create_connection(listener.getsockname()) as sock:
        prepare(sock)
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        options = (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT)
        assert tuple(sock.getsockopt(socket.IPPROTO_TCP, option) for option in options) == KEEPALIVE
        idle, interval, count = KEEPALIVE
        assert idle + interval * count <= 60
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


@pytest.mark.skipif(
    os.geteuid() != 0 or not all(map(shutil.which, ("unshare", "ip", "iptables"))),
    reason="needs root, unshare, ip and iptables for a network of its own",
)
def test_keepalive_finds_a_stream_whose_agent_has_vanished() -> None:
    command = ["unshare", "--net", sys.executable, "-m", "tests.integration.driver.half_open"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    if "Operation not permitted" in done.stderr or "Permission denied" in done.stderr:
        pytest.skip("no right to make a network namespace")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    # The stream counted as lost, though nobody closed it, and a new one was made when there was a way again.
    assert told == {"lost": 1, "heard": 0, "subscribed": 2, "kills": 1}
