"""The result of a check that is only told, as Mesos carries it (Mesos: CheckInfo, CheckStatusInfo)."""

from __future__ import annotations

from mesos.v1 import mesos_pb2
from trivet.link.v1 import link_pb2


def status_of(result: link_pb2.CheckResult) -> mesos_pb2.CheckStatusInfo | None:
    """The `check_status` for a result. Without a value the message of its type is there and empty.

    None: the type is unknown here, or there is none. An agent refuses a whole update because of such a `check_status`.
    """
    status = mesos_pb2.CheckStatusInfo()
    match result.type:
        case link_pb2.CHECK_TYPE_COMMAND:
            status.type = mesos_pb2.CheckInfo.COMMAND
            status.command.SetInParent()
            if result.HasField("exit_code"):
                status.command.exit_code = result.exit_code
        case link_pb2.CHECK_TYPE_HTTP:
            status.type = mesos_pb2.CheckInfo.HTTP
            status.http.SetInParent()
            if result.HasField("http_status"):
                status.http.status_code = result.http_status
        case link_pb2.CHECK_TYPE_TCP:
            status.type = mesos_pb2.CheckInfo.TCP
            status.tcp.SetInParent()
            if result.HasField("connected"):
                status.tcp.succeeded = result.connected
        case _:
            return None
    return status
