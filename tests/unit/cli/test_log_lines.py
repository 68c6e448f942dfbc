"""Bytes of logs on their way to a file, a pipe or a terminal."""

from __future__ import annotations

import io

from hypothesis import given
from hypothesis import strategies as st

from services.cli.tasks.output import MAX_LINE, Sink


class Terminal(io.TextIOWrapper):
    def __init__(self, *, tty: bool) -> None:
        super().__init__(io.BytesIO())
        self._tty = tty

    def isatty(self) -> bool:
        return self._tty

    @property
    def shown(self) -> bytes:
        buffer = self.buffer
        assert isinstance(buffer, io.BytesIO)
        return buffer.getvalue()


@given(st.lists(st.binary(max_size=20)))
def test_bytes_of_one_process_are_not_touched(pieces: list[bytes]) -> None:
    out = Terminal(tty=False)
    sink = Sink(out, b"")
    for piece in pieces:
        sink.write(piece)
    sink.flush()
    assert out.shown == b"".join(pieces)


@given(st.lists(st.binary(max_size=20)))
def test_with_a_prefix_lines_are_the_same_however_they_were_cut(pieces: list[bytes]) -> None:
    out = Terminal(tty=False)
    sink = Sink(out, b"p | ")
    for piece in pieces:
        sink.write(piece)
    sink.flush()
    whole = b"".join(pieces)
    lines = whole.split(b"\n")
    expected = lines if lines[-1] else lines[:-1]
    assert out.shown == b"".join(b"p | " + line + b"\n" for line in expected)


def test_a_line_without_an_end_does_not_fill_the_memory() -> None:
    out = Terminal(tty=False)
    sink = Sink(out, b"p | ")
    for _ in range(5):
        sink.write(b"x" * MAX_LINE)
    assert len(out.shown) >= 4 * MAX_LINE
    sink.flush()
    assert out.shown.replace(b"p | ", b"").replace(b"\n", b"") == b"x" * (5 * MAX_LINE)


@given(st.binary())
def test_a_terminal_gets_no_control_sequence_but_colours(data: bytes) -> None:
    out = Terminal(tty=True)
    Sink(out, b"").write(b"\x1b[1;31mred\x1b[0m\t" + data)
    assert out.shown.startswith(b"\x1b[1;31mred\x1b[0m\t")
    rest = out.shown.replace(b"\x1b[1;31m", b"").replace(b"\x1b[0m", b"")
    assert not set(rest.replace(b"\x1b[m", b"")) & ({*range(32), 127} - {9, 10, 27})
    assert "ä".encode() in on_a_terminal("ä\x07")


def on_a_terminal(text: str) -> bytes:
    out = Terminal(tty=True)
    Sink(out, b"").write(text.encode())
    return out.shown
