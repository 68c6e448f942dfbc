"""What Mesos' agent writes into an error response, by status (Mesos: status codes)."""

from __future__ import annotations

from http import HTTPStatus

_TEXTS = {
    400: "Framework cannot be found",
    403: "Executor is not subscribed",
    405: "405 Method Not Allowed. Expecting one of {{ 'POST' }}, but received '{method}'.",
    406: "Expecting 'Accept' to allow 'application/x-protobuf' or 'application/json'",
    415: "Expecting 'Content-Type' of application/json or application/x-protobuf",
    503: "Agent has not finished recovery",
}


def text(status: int, method: str = "POST") -> str:
    """One line; of statuses that its agent does not send, what its HTTP library would write."""
    if status in _TEXTS:
        return _TEXTS[status].format(method=method)
    try:
        return f"{status} {HTTPStatus(status).phrase}."
    except ValueError:
        return f"{status}."
