"""The protocol of Redis (RESP2): the encoding of commands and the parser of replies.

txredisapi 1.6 is not used.  Its parser waits a turn of the reactor for each string of a reply and copies the
rest of the reply each time, so that a page of sessions takes quadratic time.  It imports the default reactor,
and it never connects again after a refused password.
"""

from __future__ import annotations

from collections.abc import Iterator

MAX_REPLY = 64 << 20
"""Maximum number of bytes of one string in a reply."""
_MAX_LINE = 64 << 10
_MAX_DEPTH = 8
_END = b"\r\n"


class RedisError(Exception):
    """An error reply.  ``code`` is its first word, in capitals."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.code = text.partition(" ")[0]


class InvalidReply(Exception):
    """The peer does not use the protocol of Redis."""


Reply = bytes | int | None | RedisError | list["Reply"]


def command(words: tuple[bytes | str, ...]) -> bytes:
    """Return a command as it is sent."""
    parts = [b"*%d\r\n" % len(words)]
    for word in words:
        data = word.encode("utf-8", "surrogatepass") if isinstance(word, str) else word
        parts += (b"$%d\r\n" % len(data), data, _END)
    return b"".join(parts)


class ReplyReader:
    """A parser that is given the bytes as they arrive."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._position = 0
        self._wanted = 0
        """The length of the buffer at which the next string is complete."""
        self._open: list[tuple[int, list[Reply]]] = []
        """The arrays that are not complete, each with its length."""

    def feed(self, data: bytes) -> Iterator[Reply]:
        """Yield the replies that are complete with these bytes.  Raises InvalidReply."""
        self._buffer += data
        if len(self._buffer) < self._wanted:
            return
        try:
            while (found := self._element()) is not None:
                if self._complete(found[0]):
                    yield self._whole
        finally:
            self._wanted -= self._position
            del self._buffer[: self._position]
            self._position = 0

    def _complete(self, element: Reply) -> bool:
        """Add an element to its array, and return whether a whole reply is there now."""
        while self._open:
            length, items = self._open[-1]
            items.append(element)
            if len(items) < length:
                return False
            self._open.pop()
            element = items
        self._whole = element
        return True

    def _element(self) -> tuple[Reply] | None:
        """Return the next element that is no array with elements, or None if it has not arrived."""
        while (line := self._line()) is not None:
            begin, kind, text = line
            if kind == b"+":
                return (text,)
            if kind == b"-":
                return (RedisError(text.decode("utf-8", "replace")),)
            number = _number(text)
            if kind == b":":
                return (number,)
            if kind == b"$":
                return (None,) if number < 0 else self._string(begin, number)
            if kind != b"*" or len(self._open) >= _MAX_DEPTH:
                raise InvalidReply("the server does not speak the protocol of Redis")
            if number <= 0:
                return (None if number < 0 else [],)
            self._open.append((number, []))
        return None

    def _line(self) -> tuple[int, bytes, bytes] | None:
        begin = self._position
        end = self._buffer.find(_END, begin, begin + _MAX_LINE)
        if end < 0:
            if len(self._buffer) - begin >= _MAX_LINE:
                raise InvalidReply("the server sends a line that does not end")
            return None
        self._position = end + 2
        return begin, bytes(self._buffer[begin : begin + 1]), bytes(self._buffer[begin + 1 : end])

    def _string(self, line: int, length: int) -> tuple[Reply] | None:
        if length > MAX_REPLY:
            raise InvalidReply("the server sends a string that is too long")
        end = self._position + length
        if len(self._buffer) < end + 2:
            self._wanted, self._position = end + 2, line  # its line is read again when the string is complete
            return None
        found = bytes(self._buffer[self._position : end])
        self._position = end + 2
        return (found,)


def _number(text: bytes) -> int:
    try:
        return int(text)
    except ValueError:
        raise InvalidReply("the server sends a length that is no number") from None
