"""Tokens and what the agent says to wrong ones."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.local_agent.wire import auth, http
from services.local_agent.wire.auth import Authenticator
from services.local_agent.wire.call_validation import Refused

KEY = b"a key for tests\n"
IDS = {"container_id": "75c5c8f8-d1d9-412f-a01b-f3312ef3ca09", "executor_id": "shim2", "framework_id": "b4fd-0000"}
TOKEN = auth.mint(KEY, **IDS)
CLAIMS = {"cid": IDS["container_id"], "eid": "shim2", "fid": "b4fd-0000"}
BARE = 'Bearer realm="mesos-agent-executor"'


def token(header: object, payload: object, key: bytes = KEY) -> str:
    parts = [value if isinstance(value, bytes) else json.dumps(value).encode() for value in (header, payload)]
    signed = ".".join(base64.urlsafe_b64encode(part).decode().rstrip("=") for part in parts)
    signature = hmac.new(key, signed.encode(), hashlib.sha256).digest()
    return f"{signed}.{base64.urlsafe_b64encode(signature).decode().rstrip('=')}"


def refusal(authorization: str | None, key: bytes = KEY) -> Refused:
    with pytest.raises(Refused) as refused:
        Authenticator(key).authenticate(authorization, now=1000.9)
    assert (refused.value.status, refused.value.body) == (401, "401 Unauthorized.")
    assert [name for name, _ in refused.value.headers] == ["WWW-Authenticate"]
    return refused.value


def description(authorization: str) -> str:
    challenge = refusal(authorization).headers[0][1]
    beginning = BARE + ', error="invalid_token", error_description="'
    assert challenge.startswith(beginning)
    assert challenge.endswith('"')
    return challenge.removeprefix(beginning)[:-1]


def test_token_has_the_recorded_header_and_order_of_claims() -> None:
    recorded = (
        "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJjaWQiOiI3NWM1YzhmOC1kMWQ5LTQxMmYtYTAxYi1mMzMxMmVmM2NhMDkiLCJlaWQiOiJz"
        "aGltMiIsImZpZCI6ImI0ZmQxMjg5LTI3N2UtNDE3NS1hMmU5LWUyYzc5ZjZjOTU0ZS0wMDAwIn0"
    )
    minted = auth.mint(KEY, **IDS | {"framework_id": "b4fd1289-277e-4175-a2e9-e2c79f6c954e-0000"})
    assert minted.rpartition(".")[0] == recorded


def test_signature_is_that_of_the_standard() -> None:
    # RFC 7515, A.1.
    key = base64.urlsafe_b64decode(
        "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow=="
    )
    standard = (
        "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLm"
        "NvbS9pc19yb290Ijp0cnVlfQ.dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"
    )
    claims = Authenticator(key).authenticate(f"Bearer {standard}", now=1300819380.5)
    assert claims == {"iss": "joe", "exp": "1300819380", "http://example.com/is_root": "true"}


def test_own_token_is_accepted_and_the_same_every_time() -> None:
    assert auth.mint(KEY, **IDS) == TOKEN
    assert Authenticator(KEY).authenticate(f"Bearer {TOKEN}", now=0) == CLAIMS


@given(st.text(st.characters(exclude_categories=["Cs"])), st.binary(min_size=1))
def test_any_id_survives(executor_id: str, key: bytes) -> None:
    minted = auth.mint(key, **IDS | {"executor_id": executor_id})
    assert Authenticator(key).authenticate(f"Bearer {minted}", now=0)["eid"] == executor_id


def test_nothing_is_said_to_who_brings_nothing() -> None:
    assert refusal(None).headers == (("WWW-Authenticate", BARE),)


@pytest.mark.parametrize(
    ("authorization", "said"),
    [
        ("Bearer abc", "Invalid JWT: Expected 3 components in token, got 1"),
        ("Bearer a.b.c.d", "Invalid JWT: Expected 3 components in token, got 4"),
        (f"Basic {TOKEN}", "Scheme 'Basic' unsupported"),
        (f"bearer {TOKEN}", "Scheme 'bearer' unsupported"),
        ("Bearer", "Malformed 'Authorization' header"),
        ("", "Malformed 'Authorization' header"),
        (f"Bearer  {TOKEN}", "Malformed 'Authorization' header"),
        (f"Bearer {TOKEN[:-2]}AA", "Invalid JWT: Token signature does not match"),
        (f"Bearer {TOKEN.rpartition('.')[0]}.", "Invalid JWT: Token signature does not match"),
        (f"Bearer {TOKEN}+", "Invalid JWT: Failed to base64url-decode token signature: Invalid character '+'"),
        (
            "Bearer /.b.c",
            "Invalid JWT: Failed to decode token header: Failed to base64url-decode: Invalid character '/'",
        ),
        (
            "Bearer e30x.b.c",
            (
                "Invalid JWT: Failed to decode token header: Failed to parse into JSON: Parsed JSON included "
                "non-whitespace trailing characters: 1"
            ),
        ),
    ],
)
def test_malformed_headers_are_described(authorization: str, said: str) -> None:
    assert description(authorization) == said


@pytest.mark.parametrize(
    ("header", "payload", "said"),
    [
        ([], {}, "Failed to decode token header: Failed to parse into JSON: Unexpected JSON type parsed"),
        ({"typ": "JWT"}, {}, "Failed to locate 'alg' in token JSON header"),
        ({"alg": 1}, {}, "Token 'alg' field is not a string"),
        ({"alg": "HS256", "typ": 1}, {}, "Token 'typ' is not a string"),
        ({"alg": "HS512"}, {}, "Unsupported token algorithm: HS512"),
        ({"alg": "HS256", "crit": []}, {}, "Token 'crit' field is unsupported"),
        ({"alg": "none"}, {}, 'Token \'alg\' value "none" does not match, expected "HS256"'),
        ({"alg": "RS256"}, {}, 'Token \'alg\' value "RS256" does not match, expected "HS256"'),
        (
            {"alg": "HS256"},
            b"{",
            "Failed to decode token payload: Failed to parse into JSON: syntax error at line 1 near: ",
        ),
        ({"alg": "HS256"}, {"exp": "soon"}, "JSON payload 'exp' field is not a number"),
        ({"alg": "HS256"}, {"exp": 999}, "Token has expired: exp(999) < now(1000)"),
    ],
)
def test_unfit_tokens_are_described(header: object, payload: object, said: str) -> None:
    assert description(f"Bearer {token(header, payload)}") == f"Invalid JWT: {said}"


def test_token_without_claims_is_refused_and_one_that_expires_now_is_not() -> None:
    header = {"alg": "HS256"}
    assert description(f"Bearer {token(header, {})}") == "JWT claims missing"
    fresh = token(header, {"exp": 1000, "x": [1, None, True, 0.5]})
    claims = Authenticator(KEY).authenticate(f"Bearer {fresh}", now=1000.9)
    assert claims == {"exp": "1000", "x": "[1,null,true,0.5]"}


def test_an_unsigned_token_is_refused_whatever_it_claims() -> None:
    unsigned = token({"alg": "none"}, CLAIMS).rpartition(".")[0] + "."
    assert "does not match" in description(f"Bearer {unsigned}")


@given(st.text(st.characters(max_codepoint=255)))
def test_no_header_breaks_the_reader(authorization: str) -> None:
    with pytest.raises(Refused):
        Authenticator(KEY).authenticate(authorization, now=0)


@given(st.integers(0, len(TOKEN) - 1), st.characters(max_codepoint=126, min_codepoint=33))
def test_no_changed_token_passes(position: int, character: str) -> None:
    changed = TOKEN[:position] + character + TOKEN[position + 1 :]
    try:
        claims = Authenticator(KEY).authenticate(f"Bearer {changed}", now=0)
    except Refused:
        return
    # Only bits of the signature's last character that belong to no byte, or its padding, may differ.
    assert claims == CLAIMS
    assert changed[: len(TOKEN) - 1] == TOKEN[:-1]


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({}, ""),
        (
            {"executor_id": "shim"},
            "an 'eid' claim with the executor ID shim, which is set in the call",
        ),
        ({"framework_id": "f"}, "an 'fid' claim with the framework ID f, which is set in the call"),
        ({"container_id": "c"}, "a 'cid' claim with the correct active ContainerID"),
    ],
)
def test_claims_are_printed_in_the_recorded_order(changed: dict[str, str], said: str) -> None:
    claims: dict[str, Any] = dict(reversed(CLAIMS.items()))
    problem = auth.claims_problem(claims, **IDS | changed)
    principal = '{"claims":{"fid":"b4fd-0000","eid":"shim2","cid":"75c5c8f8-d1d9-412f-a01b-f3312ef3ca09"}}'
    assert problem == (f"Authenticated principal '{principal}' does not contain {said}" if said else "")


def test_foreign_claims_are_printed_too_and_missing_ones_are_missed() -> None:
    problem = auth.claims_problem({"b": '"', "a": "1", "eid": "e"}, **IDS)
    principal = '{"claims":{"eid":"e","a":"1","b":"\\""}}'
    assert problem.startswith(f"Authenticated principal '{principal}' does not contain an 'fid' claim")


def test_key_is_in_no_representation() -> None:
    assert "key for tests" not in repr(Authenticator(KEY))


@pytest.mark.parametrize("alg", ["x\r\nX-Evil: 1", "x\nX-Evil: 1", "x\rX-Evil: 1", "x\0y", "x\x7fy\x1b[2J"])
def test_what_a_token_holds_begins_no_header(alg: str) -> None:
    refused = refusal(f"Bearer {token({'alg': alg}, {})}")
    head = http.response(refused.status, refused.body, now=0, extra=refused.headers).partition(b"\r\n\r\n")[0]
    lines = head.split(b"\r\n")
    assert [line.partition(b":")[0] for line in lines[1:]] == [
        b"Date",
        b"WWW-Authenticate",
        b"Content-Type",
        b"Content-Length",
    ]
    assert all(32 <= byte != 127 for line in lines for byte in line)
    assert b"Unsupported token algorithm: x?" in head
