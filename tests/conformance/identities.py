"""What cannot be the same in two runs, and what takes its place: container ids, tokens, ports, directories."""

from __future__ import annotations

import base64
import json
import re
from dataclasses import dataclass, field

_TOKEN = "MESOS_EXECUTOR_AUTHENTICATION_TOKEN"


@dataclass
class Identities:
    """Recorded strings and ours, which have the same length."""

    ours: dict[bytes, bytes] = field(default_factory=dict)

    def learn_container(self, theirs: str, ours: str) -> None:
        self.ours[theirs.encode()] = ours.encode()

    def learn_tokens(self, theirs: dict[str, str], ours: dict[str, str]) -> None:
        """The token itself, and the recording's damaged copy: the same with other last characters."""
        if _TOKEN in theirs:
            their_token, our_token = theirs[_TOKEN].encode(), ours[_TOKEN].encode()
            assert len(their_token) == len(our_token)
            self.ours[their_token] = our_token
            assert our_token[-2:] != b"AA", "the damaged copy would be whole: run again"
            self.ours[their_token[:-2] + b"AA"] = our_token[:-2] + b"AA"

    def translate(self, data: bytes) -> bytes:
        """What the recorded executor sends, or is answered, as it would be here."""
        for theirs, ours in self.ours.items():
            data = data.replace(theirs, ours)
        return data


def environment(variables: dict[str, str]) -> dict[str, str]:
    """The parts of an executor's environment that two agents must agree on."""
    return {name: _comparable(name, value) for name, value in variables.items()}


def _comparable(name: str, text: str) -> str:
    if name == _TOKEN:
        header, claims, _ = text.split(".")
        value = json.loads(_decode(claims))
        assert len(value.pop("cid")) == 36
        return f"{_decode(header)} {value}"
    if name == "MESOS_DOMAIN_SOCKET":
        return "SOCKET"
    text = re.sub(r"^.*/slaves/", "/slaves/", text)
    text = re.sub(r"/runs/[0-9a-f-]{36}", "/runs/CONTAINER", text)
    return re.sub(r"127\.0\.0\.1:\d+", "127.0.0.1:PORT", text)


def _decode(part: str) -> str:
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)).decode()
