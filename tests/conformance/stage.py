"""What must be there before a recording can be played: flags, framework, environment."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mesos.v1 import mesos_pb2

if TYPE_CHECKING:
    from tests.conformance.recording import Recording


def flags(recording: Recording) -> list[str]:
    words = ["--hostname", "agent1.example", "--resources", "cpus:4;mem:4096;disk:4096;ports:[31000-32000]"]
    for option, flag in (
        ("registration_timeout", "--executor-registration-timeout"),
        ("reregistration_timeout", "--executor-reregistration-timeout"),
        ("recovery_timeout", "--recovery-timeout"),
        ("grace", "--executor-shutdown-grace-period"),
    ):
        if option in recording.options:
            words += [flag, recording.options[option]]
    return words


def environment_of(pid: int) -> dict[str, str]:
    data = b""
    while not data:
        # A few microseconds long it is still empty: the kernel lets the parent go on in the middle of exec.
        with open(f"/proc/{pid}/environ", "rb") as file:
            data = file.read()
    return dict(entry.decode().split("=", 1) for entry in data.split(b"\0") if entry)


def framework(recording: Recording) -> mesos_pb2.FrameworkInfo:
    """For recordings without SUBSCRIBED: as all the others have it."""
    info = mesos_pb2.FrameworkInfo(
        user="root", name="trace", checkpoint=recording.environment["MESOS_CHECKPOINT"] == "1"
    )
    info.id.value = recording.environment["MESOS_FRAMEWORK_ID"]
    info.roles.append("*")
    capability = mesos_pb2.FrameworkInfo.Capability
    for kind in (capability.MULTI_ROLE, capability.TASK_KILLING_STATE, capability.PARTITION_AWARE):
        info.capabilities.add().type = kind
    return info
