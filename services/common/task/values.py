"""What single values of a task may be: the parts of which its rules are made."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from services.common.task.findings import Findings, at, quoted

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

MAX_COMMAND_BYTES = 131_071
"""Linux: MAX_ARG_STRLEN (32 pages) without the closing NUL. A longer argument fails every exec."""

MAX_SECONDS = 10 * 365 * 86_400
"""Ten years: no wait is longer, and all sums of times stay within every clock's range."""

MAX_PORT = 65535

MAX_PATH_BYTES = 8192
"""No server takes a longer request line, and each probe carries it."""

MAX_HEADERS_BYTES = 1 << 16

MAX_PROBE_BYTES = 1 << 18
"""Arguments and environment of a command probe together: what every kernel takes, and a message can carry."""

_ENDPOINT = re.compile(r"/[!-~]*")
# RFC 9110: token. Values are kept to what every server reads in the same way.
_HEADER_NAME = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]{1,256}")
_HEADER_VALUE = re.compile(r"[\t -~]{0,8192}")
# They say how the request is carried, and that is the prober's business.
_FRAMING = frozenset({"connection", "content-length", "transfer-encoding", "upgrade", "te", "trailer", "expect"})


def check_command(command: str | None, path: str, findings: Findings) -> None:
    """Checks a text for `bash -c`. An empty one is allowed: it succeeds."""
    if command is None:
        findings.violation(path, "is required")
    else:
        check_argument(command, path, findings)


def check_argument(text: str, path: str, findings: Findings) -> None:
    """Checks a text that the kernel gets as an argument or as a variable of the environment."""
    if "\0" in text:
        findings.violation(path, "must not contain NUL")
    elif len(text.encode()) > MAX_COMMAND_BYTES:
        findings.violation(path, f"must not be longer than {MAX_COMMAND_BYTES} bytes: the kernel refuses it")


def check_argv(argv: Sequence[str], path: str, findings: Findings) -> None:
    """Checks the arguments of a program, itself the first."""
    if not argv:
        findings.violation(path, "must not be empty")
    elif not argv[0]:
        findings.violation(at(path, 0), "must not be empty: it is the program")
    for index, argument in enumerate(argv):
        check_argument(argument, at(path, index), findings)
    check_size(argv, path, findings)


def check_variables(environment: Mapping[str, str], path: str, findings: Findings) -> None:
    """Checks an environment. Values may be secret: they are never quoted."""
    for name in sorted(environment):
        check_variable(name, environment[name], at(path, name), findings)
    check_size([f"{name}={value}" for name, value in environment.items()], path, findings)


def check_variable(name: str, value: str, path: str, findings: Findings) -> None:
    """Checks one variable of an environment."""
    if not name or "=" in name or "\0" in name:
        findings.violation(path, "must not be empty, nor contain = or NUL: it names a variable")
    else:
        check_argument(f"{name}={value}", path, findings)


def check_size(texts: Sequence[str], path: str, findings: Findings) -> None:
    """Checks arguments or variables for their size in all."""
    total = sum(len(text.encode()) + 1 for text in texts)
    if total > MAX_PROBE_BYTES:
        findings.violation(path, f"must not have more than {MAX_PROBE_BYTES} bytes in all, has {total}")


def check_headers(headers: Mapping[str, str], path: str, findings: Findings) -> None:
    """Checks the headers of a request without a body. Their values may be secret: they are never quoted."""
    seen: set[str] = set()
    for name in sorted(headers):
        place = at(path, name)
        folded = name.lower()
        if not _HEADER_NAME.fullmatch(name):
            findings.violation(place, "is not the name of a header")
        elif folded in _FRAMING:
            findings.violation(place, "cannot be set: the prober does")
        elif folded in seen:
            findings.violation(place, "is given twice: case makes no difference")
        elif not _HEADER_VALUE.fullmatch(headers[name]):
            findings.violation(place, "must be printable ASCII, without line breaks, of at most 8192 bytes")
        seen.add(folded)
    total = sum(len(name) + len(value.encode()) for name, value in headers.items())
    if total > MAX_HEADERS_BYTES:
        findings.violation(path, f"must not have more than {MAX_HEADERS_BYTES} bytes in all, has {total}")


def check_endpoint(endpoint: str, path: str, findings: Findings) -> None:
    """Checks the path of a request."""
    if not _ENDPOINT.fullmatch(endpoint):
        findings.violation(path, "must start with a slash and be ASCII without blanks")
    elif len(endpoint) > MAX_PATH_BYTES:
        findings.violation(path, f"must not be longer than {MAX_PATH_BYTES} bytes")


def check_port(number: int, path: str, findings: Findings) -> None:
    """Checks the number of a port."""
    if not 1 <= number <= MAX_PORT:
        findings.violation(path, f"must be from 1 to {MAX_PORT}, is {number}")


def seconds(message: object, names: Sequence[str], path: str, findings: Findings) -> None:
    """Checks times of a message: not negative, and not beyond every clock."""
    not_negative(message, names, path, findings)
    for name in names:
        value = getattr(message, name)
        if value > MAX_SECONDS:
            findings.violation(at(path, name), f"must not be more than {MAX_SECONDS} s, is {value}")


def not_negative(message: object, names: Sequence[str], path: str, findings: Findings) -> None:
    """Checks numbers of a message."""
    for name in names:
        value = getattr(message, name)
        if value < 0:
            findings.violation(at(path, name), f"must not be negative, is {value}")


def one_of(value: str, allowed: Sequence[str], path: str, findings: Findings) -> None:
    """Checks a word."""
    if value not in allowed:
        findings.violation(path, f"must be {' or '.join(allowed)}, is {quoted(value)}")
