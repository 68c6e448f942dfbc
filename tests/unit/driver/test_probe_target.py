"""What an HTTP probe sends, and where redirects may lead it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from executor_shim.driver.probes.results import NoAnswer
from executor_shim.driver.probes.target import Target, probe_head, redirected, target_of
from trivet.health.v1 import health_pb2 as pb

BOTH = ("127.0.0.1", "::1")
HERE = Target(False, BOTH, "localhost", 8080, "/a/b?c=d")


def header(name: str, value: str) -> pb.HttpHeader:
    return pb.HttpHeader(name=name, value=value)


def lines(*headers: pb.HttpHeader, target: Target = HERE, at_origin: bool = True) -> list[str]:
    head = probe_head(target, headers, at_origin=at_origin).decode()
    assert head.endswith("\r\n\r\n")
    return head.removesuffix("\r\n\r\n").split("\r\n")


def test_what_is_sent() -> None:
    own = ["Host: localhost:8080", "User-Agent: trivet", "Accept: */*", "Connection: close"]
    assert lines() == ["GET /a/b?c=d HTTP/1.1", *own]
    more = lines(header("X-Probe", "1"), header("user-agent", "mine"), header("HOST", "example.org"))
    assert more[1:] == ["HOST: example.org", "user-agent: mine", *own[2:], "X-Probe: 1"]


def test_a_path_adds_no_header_and_an_empty_one_is_the_root() -> None:
    evil = HERE._replace(path="/a b\r\nX-Evil: yes\u00fc")
    assert lines(target=evil)[0] == "GET /a%20b%0D%0AX-Evil:%20yes%C3%BC HTTP/1.1"
    assert target_of(pb.HttpProbe(port=1)).path == "/"
    assert target_of(pb.HttpProbe(port=1, path="up?x")).path == "/up?x"


@pytest.mark.parametrize(
    ("name", "value", "why"),
    [
        ("", "x", "http.headers[1].name: is no name of a header"),
        ("a b", "x", "http.headers[1].name: is no name of a header"),
        ("a:", "x", "http.headers[1].name: is no name of a header"),
        ("a\r\nb", "x", "http.headers[1].name: is no name of a header"),
        ("\u00e4", "x", "http.headers[1].name: is no name of a header"),
        ("a", "secret\r\nX-Evil: yes", "http.headers[1].value: holds a line break or NUL"),
        ("a", "secret\n", "http.headers[1].value: holds a line break or NUL"),
        ("a", "secret\0", "http.headers[1].value: holds a line break or NUL"),
    ],
)
def test_a_header_that_is_none_is_named_and_its_value_is_not(name: str, value: str, why: str) -> None:
    with pytest.raises(NoAnswer) as raised:
        lines(header("fine", "x"), header(name, value))
    assert str(raised.value) == why


def test_another_server_gets_no_credentials() -> None:
    secrets = [header(name, "s3cret") for name in ("Authorization", "cookie", "Proxy-Authorization", "Host")]
    sent = lines(*secrets, header("X-Probe", "1"), at_origin=False)
    assert not any("s3cret" in line for line in sent)
    assert "X-Probe: 1" in sent
    assert "Host: localhost:8080" in sent


@pytest.mark.parametrize("port", [0, 65536, 1 << 31])
def test_a_port_that_is_none_is_named(port: int) -> None:
    with pytest.raises(NoAnswer, match=f"http.port: {port} is no port"):
        target_of(pb.HttpProbe(port=port))


@pytest.mark.parametrize(
    ("location", "expected"),
    [
        ("/x", Target(False, BOTH, "localhost", 8080, "/x")),
        ("x", Target(False, BOTH, "localhost", 8080, "/a/x")),
        ("?y=z", Target(False, BOTH, "localhost", 8080, "/a/b?y=z")),
        ("../../../x#fragment", Target(False, BOTH, "localhost", 8080, "/x")),
        ("//localhost/x", Target(False, BOTH, "localhost", 80, "/x")),
        ("https://localhost", Target(True, BOTH, "localhost", 443, "/")),
        ("HTTP://LOCALHOST:99/", Target(False, BOTH, "localhost", 99, "/")),
        ("http://127.0.0.1:9/?q", Target(False, ("127.0.0.1",), "127.0.0.1", 9, "/?q")),
        ("http://127.9.8.7:9/", Target(False, ("127.9.8.7",), "127.9.8.7", 9, "/")),
        ("http://[::1]:9/", Target(False, ("::1",), "[::1]", 9, "/")),
        ("http://user:secret@localhost:9/", Target(False, BOTH, "localhost", 9, "/")),
    ],
)
def test_a_redirect_on_the_loopback_is_followed(location: str, expected: Target) -> None:
    assert redirected(HERE, location, BOTH) == expected


@pytest.mark.parametrize(
    "location",
    [
        "http://example.org/", "//example.org/", "http://10.0.0.1/", "http://169.254.169.254/latest/", "http://[::2]/",
        "http://localhost.example.org/", "http://127.0.0.1.example.org/", "http://localhost@example.org/",
        "http://127.1/", "http://0177.0.0.1/", "http://127.0.0.256/", "http://2130706433/", "http://0.0.0.0/",
        "http://127.0.0.01/", "http://[::ffff:10.0.0.1]/", "http://[::1%25eth0]/", "http://\u06f1\u06f2\u06f7.0.0.1/",
        "file:///etc/passwd", "ftp://localhost/", "unix:/x", "http://localhost:0/", "http://localhost:99999/",
        "http://localhost:x/", "http://[::1/", "http://127.0.0." + "1" * 5000 + "/",
    ],
)  # fmt: skip
def test_any_other_is_not(location: str) -> None:
    assert redirected(HERE, location, BOTH) is None


@given(st.text(max_size=60), st.sampled_from(["", "http://", "http://localhost", "//", "http://[", "http://127.0.0."]))
def test_wherever_it_leads_it_is_the_loopback(rest: str, begin: str) -> None:
    target = redirected(HERE, begin + rest, BOTH)
    if target is None:
        return
    assert all(address == "::1" or address.startswith("127.") for address in target.addresses)
    assert 0 < target.port < 65536
    # It can be sent, and as one request.
    assert b"\r\n\r\n" not in probe_head(target, [])[:-4]
