"""Where an HTTP probe goes, and where a redirect may lead it. Pure."""

from __future__ import annotations

from typing import NamedTuple

from executor_shim.driver.probes.loopback import IPV6, hosts
from executor_shim.driver.probes.results import NoAnswer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from trivet.health.v1 import health_pb2

REDIRECTS = frozenset({301, 302, 303, 307, 308})
_TOKEN = frozenset("!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
# What belongs to the server that the check names, and not to its neighbours (curl: other port, other credentials).
_OF_ORIGIN = frozenset({"authorization", "cookie", "host", "proxy-authorization"})
_LAST_PORT = 65535


class Target(NamedTuple):
    """One URL on the container's loopback."""

    tls: bool
    # Literal addresses, in the order in which they are tried.
    addresses: tuple[str, ...]
    # As the Host header tells it.
    name: str
    port: int
    # With the query.
    path: str

    @property
    def url(self) -> str:
        """As people write it; what a relative redirect is relative to."""
        return f"{'https' if self.tls else 'http'}://{self.name}:{self.port}{self.path}"

    def same_server(self, other: Target) -> bool:
        """Scheme, name and port are the same."""
        return (self.tls, self.name, self.port) == (other.tls, other.name, other.port)


def target_of(probe: health_pb2.HttpProbe) -> Target:
    """Where a probe begins.

    Raises:
        NoAnswer: There can be no server of that port.
    """
    check_port("http.port", probe.port)
    path = probe.path if probe.path.startswith("/") else f"/{probe.path}"
    return Target(probe.tls, hosts(probe.loopback), "localhost", probe.port, path)


def check_port(place: str, port: int) -> None:
    """Raises NoAnswer for what is no TCP port."""
    if not 0 < port <= _LAST_PORT:
        raise NoAnswer(f"{place}: {port} is no port")


def redirected(here: Target, location: str, own: tuple[str, ...]) -> Target | None:
    """Where a redirect leads; None: out of the container's loopback, or nowhere.

    Args:
        here: Where the answer came from.
        location: Value of the Location header.
        own: Addresses that stand for `localhost`.
    """
    # Loaded at the first redirect: most tasks never send one.
    from urllib.parse import urljoin, urlsplit

    try:
        url = urlsplit(urljoin(here.url, location))
        host, port = url.hostname or "", url.port
    except ValueError:
        return None
    addresses = _addresses(host, own)
    if url.scheme not in {"http", "https"} or not addresses or port == 0:
        return None
    tls = url.scheme == "https"
    name = f"[{host}]" if ":" in host else host
    path = (url.path or "/") + (f"?{url.query}" if url.query else "")
    return Target(tls, addresses, name, port or (443 if tls else 80), path)


def _addresses(host: str, own: tuple[str, ...]) -> tuple[str, ...]:
    """Literal addresses of a name of the loopback; empty: it is another machine's."""
    if host == "localhost":
        return own
    if host == IPV6:
        return (IPV6,)
    parts = host.split(".")
    if len(parts) == 4 and parts[0] == "127" and all(_is_byte(part) for part in parts):
        return (host,)
    return ()


def _is_byte(part: str) -> bool:
    return part.isascii() and part.isdigit() and str(int(part[:4])) == part and int(part) < 256


def request_head(method: str, port: int, path: str, *headers: str) -> bytes:
    """A request without a body. The path comes from the task's configuration: it cannot add headers."""
    own = ["User-Agent: trivet", "Connection: close"]
    return _head(method, path, [f"Host: localhost:{port}", *own, *headers])


def probe_head(target: Target, headers: Iterable[health_pb2.HttpHeader], *, at_origin: bool = True) -> bytes:
    """The request of a probe. The check's headers win over the driver's own.

    Args:
        target: Where it goes.
        headers: Of the check.
        at_origin: False: a redirect has led to another server, which gets no credentials.

    Raises:
        NoAnswer: A header could not be sent as one. Names the place, never the value.
    """
    lines = {
        "host": f"Host: {target.name}:{target.port}",
        "user-agent": "User-Agent: trivet",
        "accept": "Accept: */*",
        "connection": "Connection: close",
    }
    more = []
    for index, header in enumerate(headers):
        _check_header(header, f"http.headers[{index}]")
        lower = header.name.lower()
        if lower in _OF_ORIGIN and not at_origin:
            continue
        line = f"{header.name}: {header.value}"
        if lower in lines:
            lines[lower] = line
        else:
            more.append(line)
    return _head("GET", target.path, [*lines.values(), *more])


def _check_header(header: health_pb2.HttpHeader, place: str) -> None:
    if not header.name or not _TOKEN.issuperset(header.name):
        raise NoAnswer(f"{place}.name: is no name of a header")
    if any(c in header.value for c in "\r\n\0"):
        raise NoAnswer(f"{place}.value: holds a line break or NUL")


def _head(method: str, path: str, lines: list[str]) -> bytes:
    target = "".join(c if 0x20 < ord(c) < 0x7F else f"%{b:02X}" for c in path for b in c.encode()) or "/"
    return "\r\n".join([f"{method} {target} HTTP/1.1", *lines, "", ""]).encode()
