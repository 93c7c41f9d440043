"""The messages on the unix sockets of the manhole, between a terminal and a shell.

Each message has one byte for its kind, four bytes for the length, and then its content.  A terminal sends a
request, and then input, sizes and the end of its input.  The shell sends ``READY``, output, and at its end a
status.  Both sides know by ``PING`` and ``PONG`` that the other one still runs.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from enum import Enum
from typing import Any, Self

MAX_CONTENT = 1 << 16
"""Maximum length of the content of a message."""
PING_INTERVAL = 2.0
"""Seconds between two pings of the side of the terminal."""
ANSWER_TIMEOUT = 10.0
"""Seconds without any message after which the process of the shell does not answer."""
MAX_UNANSWERED = 5
"""Pings without an answer in this time.

They are counted in place of the time, since the side that pings may have been suspended itself.
"""
_HEAD = struct.Struct(">cI")
_SIZE = struct.Struct(">HH")
MAX_CELLS = 10_000
"""Maximum number of rows and of columns of a terminal."""

CLOSE_TIMEOUT = 1.0
"""Seconds within which the last output has to be read, before a connection is aborted."""
PROCESS_ENDS = "the process of this shell ends: connect again"
"""The sentence for operators at a reload, a restart and a stop."""

DONE, FAILED, UNREACHABLE = 0, 1, 3
"""Exit statuses of a shell: those of the terminal commands."""


class MessageKind(Enum):
    """The kind of a message.  Its value is the byte on the socket."""

    REQUEST = b"R"
    """The shell that the terminal wants, as the first message."""
    INPUT = b"I"
    """Bytes that were typed."""
    SIZE = b"S"
    """The new size of the terminal."""
    END_OF_INPUT = b"E"
    """No more input follows."""
    PING = b"P"
    """Answered with PONG by the event loop of the process."""
    READY = b"r"
    """The shell has been opened."""
    OUTPUT = b"o"
    """Bytes for the terminal."""
    PONG = b"p"
    """The answer to PING."""
    STATUS = b"s"
    """The end of the shell, as the last message."""


class MessageError(ValueError):
    """Bytes that are no message; the text says why."""


Message = tuple[MessageKind, bytes]
_KINDS = {kind.value: kind for kind in MessageKind}


def encode(kind: MessageKind, content: bytes = b"") -> bytes:
    """Return a message; only input and output may be longer than ``MAX_CONTENT``, as several messages."""
    parts = [content[start : start + MAX_CONTENT] for start in range(0, len(content), MAX_CONTENT)]
    return b"".join(_HEAD.pack(kind.value, len(part)) + part for part in parts or [b""])


class MessageReader:
    """Finds the messages in the bytes of a socket."""

    def __init__(self) -> None:
        self._octets = bytearray()

    def feed(self, octets: bytes) -> Iterator[Message]:
        """Yield the messages that are complete with these bytes.  Raises MessageError."""
        self._octets += octets
        position = 0
        try:
            while len(self._octets) - position >= _HEAD.size:
                byte, length = _HEAD.unpack_from(self._octets, position)
                kind = _KINDS.get(byte)
                if kind is None or length > MAX_CONTENT:
                    raise MessageError("the other side does not speak the protocol of the manhole")
                end = position + _HEAD.size + length
                if end > len(self._octets):
                    break
                content = bytes(self._octets[position + _HEAD.size : end])
                position = end
                yield kind, content
        finally:
            del self._octets[:position]


@dataclass(frozen=True, slots=True)
class ShellRequest:
    """The request of a terminal for a shell.

    With ``terminal`` it is an interactive one, else one that reads lines.  ``worker`` is the number of the
    worker whose shell is wanted, None for the process that is asked, and ``generation`` is that of the
    worker, None for the newest.  ``operator`` names the user in the log of a worker.
    """

    terminal: bool = False
    rows: int = 24
    columns: int = 80
    worker: str | None = None
    generation: int | None = None
    operator: str = ""

    def encode(self) -> bytes:
        """Return the request as a message."""
        return encode(MessageKind.REQUEST, json.dumps(asdict(self)).encode())

    @classmethod
    def decode(cls, content: bytes) -> Self:
        """Return the request of a message; unknown fields are ignored.  Raises MessageError."""
        found = _object(content)
        generation, worker = found.get("generation"), found.get("worker")
        if not (
            isinstance(found.get("terminal"), bool)
            and isinstance(worker, str | None)
            and (generation is None or type(generation) is int)
            and isinstance(found.get("operator"), str)
        ):
            raise MessageError("a request of the manhole with wrong fields")
        rows, columns = checked_size(found.get("rows"), found.get("columns"))
        return cls(found["terminal"], rows, columns, worker, generation, found["operator"][:256])


@dataclass(frozen=True, slots=True)
class ShellStatus:
    """The end of a shell: the exit status, and a sentence, empty for an ordinary end."""

    status: int
    text: str = ""

    def encode(self) -> bytes:
        """Return the status as a message."""
        text = self.text[: MAX_CONTENT // 8]
        return encode(MessageKind.STATUS, json.dumps({"status": self.status, "text": text}).encode())

    @classmethod
    def decode(cls, content: bytes) -> Self:
        """Return the status of a message.  Raises MessageError."""
        found = _object(content)
        status, text = found.get("status"), found.get("text")
        if type(status) is not int or not 0 <= status <= 255 or not isinstance(text, str):
            raise MessageError("a status of the manhole with wrong fields")
        return cls(status, text)


def encode_size(rows: int, columns: int) -> bytes:
    """Return the message with the size of a terminal."""
    return encode(MessageKind.SIZE, _SIZE.pack(min(rows, MAX_CELLS), min(columns, MAX_CELLS)))


def decode_size(content: bytes) -> tuple[int, int]:
    """Return rows and columns of a message.  Raises MessageError."""
    if len(content) != _SIZE.size:
        raise MessageError("a size of a terminal with a wrong length")
    return checked_size(*_SIZE.unpack(content))


def checked_size(rows: Any, columns: Any) -> tuple[int, int]:
    """Return the size of a terminal; a terminal that does not know its size has 24 rows of 80 columns.

    Raises MessageError.
    """
    if type(rows) is not int or type(columns) is not int or not min(rows, columns) >= 0:
        raise MessageError("a terminal with a wrong size")
    return min(rows, MAX_CELLS) or 24, min(columns, MAX_CELLS) or 80


def _object(content: bytes) -> dict[str, Any]:
    try:
        found = json.loads(content)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise MessageError("a message of the manhole without an object")
    return found
