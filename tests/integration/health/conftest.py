"""The health service and a web server, for the tests of this folder."""

from __future__ import annotations

import http.server
import shutil
import tempfile
import threading
from typing import TYPE_CHECKING

import pytest

from tests.integration.health.double import HealthProcess, Web

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(name="health")
def serve_health() -> Iterator[HealthProcess]:
    # Short: the path of a unix socket is limited.
    directory = tempfile.mkdtemp(prefix="th")
    health = HealthProcess(directory)
    try:
        yield health
    finally:
        health.stop()
        shutil.rmtree(directory)


@pytest.fixture(name="port")
def serve_web() -> Iterator[int]:
    Web.status, Web.body = 200, b"ok"
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Web) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join()
