"""What there is of `/api/v1`, the operator API: who has mistaken the path hears what Mesos' agent would say."""

from __future__ import annotations

from typing import TYPE_CHECKING

from services.local_agent.wire import json_text
from services.local_agent.wire.call_validation import JSON, PROTOBUF, Refused, require_post
from services.local_agent.wire.dialect_reader import kind

if TYPE_CHECKING:
    from services.local_agent.wire.http import Request

# Types of mesos.v1.agent.Call; any other name counts as no type at all.
_TYPES = frozenset(
    {
        "GET_HEALTH",
        "GET_FLAGS",
        "GET_VERSION",
        "GET_METRICS",
        "GET_LOGGING_LEVEL",
        "SET_LOGGING_LEVEL",
        "LIST_FILES",
        "READ_FILE",
        "GET_STATE",
        "GET_CONTAINERS",
        "GET_FRAMEWORKS",
        "GET_EXECUTORS",
        "GET_OPERATIONS",
        "GET_TASKS",
        "GET_AGENT",
        "GET_RESOURCE_PROVIDERS",
        "LAUNCH_NESTED_CONTAINER",
        "WAIT_NESTED_CONTAINER",
        "KILL_NESTED_CONTAINER",
        "REMOVE_NESTED_CONTAINER",
        "LAUNCH_NESTED_CONTAINER_SESSION",
        "ATTACH_CONTAINER_INPUT",
        "ATTACH_CONTAINER_OUTPUT",
        "LAUNCH_CONTAINER",
        "WAIT_CONTAINER",
        "KILL_CONTAINER",
        "REMOVE_CONTAINER",
        "ADD_RESOURCE_PROVIDER_CONFIG",
        "UPDATE_RESOURCE_PROVIDER_CONFIG",
        "REMOVE_RESOURCE_PROVIDER_CONFIG",
        "MARK_RESOURCE_PROVIDER_GONE",
        "PRUNE_IMAGES",
    }
)


def refuse(request: Request) -> Refused:
    """The answer, which is always an error: 501 for what Mesos' agent would do.

    Raises:
        Refused: 405, 415 or 400, as Mesos' agent finds it.
    """
    require_post(request.method)
    content_type = request.headers.get("content-type")
    if content_type is None:
        raise Refused(400, "Expecting 'Content-Type' to be present")
    if content_type not in {JSON, PROTOBUF}:
        raise Refused(415, f"Expecting 'Content-Type' of {JSON} or {PROTOBUF}")
    if content_type == JSON:
        try:
            value = json_text.parse(request.body)
        except json_text.JsonError as error:
            raise Refused(400, f"Failed to parse body into JSON: {error}") from error
        if not isinstance(value, dict):
            raise Refused(400, "Failed to convert JSON into Call protobuf: Expecting a JSON object")
        name = value.get("type")
        if name is not None and not isinstance(name, str):
            problem = f"Not expecting a JSON {kind(name)} for field 'type'"
            raise Refused(400, f"Failed to convert JSON into Call protobuf: {problem}")
        if name not in _TYPES:
            raise Refused(400, "Failed to validate agent::Call: Expecting 'type' to be present")
    return Refused(501, "501 Not Implemented.")
