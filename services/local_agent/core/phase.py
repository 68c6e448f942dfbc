"""Life of the agent's process (Mesos: agent restart timeline)."""

from __future__ import annotations

import enum


class Phase(enum.Enum):
    """What the process is up to."""

    UNROUTED = "nothing is answered but 404"
    RECOVERING = "nothing is answered but 503"
    REREGISTERING = "executors come back; SUBSCRIBE and HEARTBEAT only"
    READY = "normal"
    LEAVING = "all executors are being shut down; the process ends after the last one"
