"""Executors' bearer tokens (Mesos: executor authentication): JSON web tokens, HS256, without expiry. No I/O.

Made with the standard library: one algorithm of twenty lines does not need a library, and none would give the bytes and
the complaints of Mesos' agent. Keys and tokens are never part of an error's text.
"""

from __future__ import annotations

import hashlib
import hmac
from typing import TYPE_CHECKING, Any

from services.local_agent.wire import base64_text, json_text
from services.local_agent.wire.call_validation import Refused
from services.local_agent.wire.dialect_writer import number, string

if TYPE_CHECKING:
    from collections.abc import Mapping

REALM = "mesos-agent-executor"
_HEADER = base64_text.encode_url_safe(b'{"alg":"HS256","typ":"JWT"}')
_ALGORITHMS = frozenset({"none", "HS256", "RS256"})
# In which order the agent's 403 prints them; others follow in the order of their names.
_CLAIMS = ("fid", "eid", "cid")


class _Invalid(Exception):
    """What is wrong with a token, in Mesos' words."""


class Authenticator:
    """Tells whose token a call carries. Holds the key."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    def authenticate(self, authorization: str | None, *, now: float) -> dict[str, str]:
        """The claims of the token in an Authorization header. `now` is wall clock, seconds.

        Raises:
            Refused: 401.
        """
        if authorization is None:
            # RFC 6750, 3.1: nothing is said to who has not tried.
            raise _unauthorized("")
        words = authorization.encode("latin-1").decode(errors="surrogateescape").split(" ")
        if len(words) != 2:
            raise _unauthorized("Malformed 'Authorization' header")
        if words[0] != "Bearer":
            raise _unauthorized(f"Scheme '{words[0]}' unsupported")
        try:
            claims = self._verify(words[1], now)
        except _Invalid as problem:
            raise _unauthorized(f"Invalid JWT: {problem}") from None
        if not claims:
            raise _unauthorized("JWT claims missing")
        return {name: value if isinstance(value, str) else _json(value) for name, value in claims.items()}

    def _verify(self, token: str, now: float) -> dict[str, Any]:
        parts = token.split(".")
        if len(parts) != 3:
            raise _Invalid(f"Expected 3 components in token, got {len(parts)}")
        _check_header(_component(parts[0], "header"))
        payload = _component(parts[1], "payload")
        _check_expiry(payload, now)
        try:
            signature = base64_text.decode(parts[2], url_safe=True)
        except ValueError as error:
            raise _Invalid(f"Failed to base64url-decode token signature: {error}") from error
        signed = f"{parts[0]}.{parts[1]}".encode(errors="surrogateescape")
        if not hmac.compare_digest(signature, _sign(self._key, signed)):
            raise _Invalid("Token signature does not match")
        return payload


def mint(key: bytes, *, container_id: str, executor_id: str, framework_id: str) -> str:
    """The token for one run of an executor: the same for the same arguments, whenever it is made."""
    members = (("cid", container_id), ("eid", executor_id), ("fid", framework_id))
    payload = "{" + ",".join(f'"{name}":{string(value)}' for name, value in members) + "}"
    signed = f"{_HEADER}.{base64_text.encode_url_safe(payload.encode(errors='surrogateescape'))}"
    return f"{signed}.{base64_text.encode_url_safe(_sign(key, signed.encode()))}"


def claims_problem(claims: Mapping[str, str], *, framework_id: str, executor_id: str, container_id: str) -> str:
    """Why a token with these claims may not speak for this run of an executor; empty: it may."""
    beginning = f"Authenticated principal '{_principal(claims)}' does not contain"
    if claims.get("fid") != framework_id:
        return f"{beginning} an 'fid' claim with the framework ID {framework_id}, which is set in the call"
    if claims.get("eid") != executor_id:
        return f"{beginning} an 'eid' claim with the executor ID {executor_id}, which is set in the call"
    if claims.get("cid") != container_id:
        return f"{beginning} a 'cid' claim with the correct active ContainerID"
    return ""


def _sign(key: bytes, signed: bytes) -> bytes:
    return hmac.digest(key, signed, hashlib.sha256)


def _unauthorized(description: str) -> Refused:
    challenge = f'Bearer realm="{REALM}"'
    if description:
        challenge += f', error="invalid_token", error_description="{description}"'
    return Refused(401, "401 Unauthorized.", (("WWW-Authenticate", challenge),))


def _component(text: str, name: str) -> dict[str, Any]:
    where = f"Failed to decode token {name}"
    try:
        decoded = base64_text.decode(text, url_safe=True)
    except ValueError as error:
        raise _Invalid(f"{where}: Failed to base64url-decode: {error}") from error
    try:
        value = json_text.parse(decoded)
    except json_text.JsonError as error:
        raise _Invalid(f"{where}: Failed to parse into JSON: {error}") from error
    if not isinstance(value, dict):
        raise _Invalid(f"{where}: Failed to parse into JSON: Unexpected JSON type parsed")
    return value


def _check_header(header: dict[str, Any]) -> None:
    if not isinstance(header.get("typ", ""), str):
        raise _Invalid("Token 'typ' is not a string")
    if "alg" not in header:
        raise _Invalid("Failed to locate 'alg' in token JSON header")
    algorithm = header["alg"]
    if not isinstance(algorithm, str):
        raise _Invalid("Token 'alg' field is not a string")
    if algorithm not in _ALGORITHMS:
        raise _Invalid(f"Unsupported token algorithm: {algorithm}")
    if "crit" in header:
        raise _Invalid("Token 'crit' field is unsupported")
    if algorithm != "HS256":
        raise _Invalid(f'Token \'alg\' value "{algorithm}" does not match, expected "HS256"')


def _check_expiry(payload: dict[str, Any], now: float) -> None:
    if "exp" not in payload:
        return
    expiry = payload["exp"]
    if not isinstance(expiry, int | float) or isinstance(expiry, bool):
        raise _Invalid("JSON payload 'exp' field is not a number")
    if int(expiry) < int(now):
        raise _Invalid(f"Token has expired: exp({int(expiry)}) < now({int(now)})")


def _principal(claims: Mapping[str, str]) -> str:
    names = [name for name in _CLAIMS if name in claims] + sorted(set(claims) - set(_CLAIMS))
    members = ",".join(f"{string(name)}:{string(claims[name])}" for name in names)
    return f'{{"claims":{{{members}}}}}'


def _json(value: Any) -> str:
    """A JSON value as text, members in the order of their names."""
    if isinstance(value, dict):
        return "{" + ",".join(f"{string(name)}:{_json(value[name])}" for name in sorted(value)) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(_json, value)) + "]"
    if isinstance(value, str):
        return string(value)
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    return number(value) if isinstance(value, float) else str(value)
