"""TCP probes: a connection to the task's own loopback is enough."""

from __future__ import annotations

import asyncio
import time

from executor_shim.driver.probes import loopback, results
from executor_shim.driver.probes.results import NoAnswer, NotMade
from executor_shim.driver.probes.target import check_port
from trivet.health.v1 import health_pb2


async def probe(probe: health_pb2.Probe) -> health_pb2.ProbeResult:
    """Carries out a TCP probe. Never raises, but when it is cancelled: what went wrong is the result."""
    started = time.monotonic()
    try:
        check_port("tcp.port", probe.tcp.port)
        async with asyncio.timeout(results.budget(probe)):
            sock = await loopback.connect(probe.tcp.port, loopback.hosts(probe.tcp.loopback))
        sock.close()
    except TimeoutError:
        result = results.timed_out(probe, "connection")
    except NoAnswer as error:
        result = results.no_answer(probe, str(error))
    except NotMade as error:
        result = results.transient(probe, str(error))
    else:
        result = results.result_of(probe)
        result.outcome = health_pb2.PROBE_OUTCOME_DONE
    result.latency_secs = time.monotonic() - started
    return result
