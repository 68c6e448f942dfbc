"""The driver's command line, as the coordinator writes it. Loaded before SUBSCRIBE is sent."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence


class Options:
    """Descriptors from the coordinator, and the executor's own options."""

    __slots__ = (
        "ack_timeout",
        "fd",
        "generation",
        "incarnation",
        "linger",
        "log_backups",
        "log_destination",
        "log_mode",
        "log_size",
        "preserve_env",
        "service_deadline",
        "services",
        "state_fds",
        "stream_fd",
        "token_fd",
    )

    def __init__(self, argv: Sequence[str]) -> None:
        """Reads `--name value` pairs; unknown ones belong to a newer coordinator and are passed over.

        Raises:
            KeyError: One that is needed is missing.
            ValueError: One is malformed.
        """
        values = {name: value for name, value in zip(argv[::2], argv[1::2], strict=False) if name.startswith("--")}
        self.fd = int(values["--fd"])
        first, second = values["--state-fds"].split(",")
        self.state_fds = (int(first), int(second))
        self.token_fd = int(values.get("--token-fd", -1))
        self.stream_fd = int(values.get("--stream-fd", -1))
        self.generation = int(values["--generation"])
        self.incarnation = values["--incarnation"]
        # Directory of the services' sockets.
        self.services = values["--services"]
        # Seconds that an idle executor waits for another task.
        self.linger = float(values.get("--linger", 0))
        # Seconds until a task that no runner has taken is given up.
        self.service_deadline = float(values.get("--service-deadline", 60))
        # Processes inherit the executor's environment.
        self.preserve_env = values.get("--preserve-env") == "yes"
        # What becomes of output where the task does not say (Thermos: flags of the runner). Bytes.
        self.log_destination = values.get("--process-logger-destination", "file")
        self.log_mode = values.get("--process-logger-mode", "standard")
        self.log_size = int(values.get("--rotate-log-size-mb", 100)) << 20
        self.log_backups = int(values.get("--rotate-log-backups", 5))
        # Seconds after which a terminal status counts as never acknowledged (Mesos' built-in executors: 60).
        self.ack_timeout = float(values.get("--ack-timeout", 60))
