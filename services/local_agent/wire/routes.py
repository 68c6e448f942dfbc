"""Which path leads where, over TCP and over the unix socket. No I/O."""

from __future__ import annotations

import enum
from urllib.parse import unquote

from services.local_agent.containers.environment import LIBPROCESS_ID


class Route(enum.Enum):
    """Who answers a request."""

    EXECUTOR = "executor API"
    OPERATOR = "operator API"
    NOT_FOUND = "nobody: 404"
    FORBIDDEN = "nobody, and the client has no business there: 403"


_EXECUTOR = ("api", "v1", "executor")
_OPERATOR = ("api", "v1")
# Over the unix socket these strings count, byte by byte (Mesos: unix domain socket).
_UNIX = {
    f"/{LIBPROCESS_ID}/api/v1/executor": Route.EXECUTOR,
    f"/{LIBPROCESS_ID}/api/v1": Route.OPERATOR,
}


def over_tcp(target: str) -> Route:
    """Long and short form, percent-encoded or not; what stands behind a known path is ignored, as in Mesos."""
    parts = tuple(part for part in unquote(target.partition("?")[0]).split("/") if part)
    if parts[:1] == (LIBPROCESS_ID,):
        parts = parts[1:]
    if parts[:3] == _EXECUTOR:
        return Route.EXECUTOR
    return Route.OPERATOR if parts[:2] == _OPERATOR else Route.NOT_FOUND


def over_unix(target: str) -> Route:
    """The long form only."""
    return _UNIX.get(target.partition("?")[0], Route.FORBIDDEN)
