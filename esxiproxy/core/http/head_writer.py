"""The heads of the messages that the proxy sends, each checked as a whole (RFC 9112 sections 2 to 5).

A part of a route, of a plugin or of a configuration must not end its line and begin another field.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

_SEPARATOR = b": "
_NAME = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]++"
_VALUE = rb"[\t \x21-\x7e\x80-\xff]*+"
_LENIENT = (
    rb"[^\x00\n\x0b\x0c\r]*+"  # an upstream's values may have other control characters, see answer_head.py
)
_REQUEST_LINE = rb"%b [\x21-\x7e]++ HTTP/1\.1\r\n" % _NAME
_LINE = re.compile(_REQUEST_LINE)
_REQUEST = re.compile(rb"%b(?:%b: %b\r\n)++\r\n" % (_REQUEST_LINE, _NAME, _VALUE))
_ANSWER = re.compile(rb"HTTP/1\.1 [1-9][0-9]{2} %b\r\n(?:%b: %b\r\n)*+\r\n" % (_LENIENT, _NAME, _LENIENT))


def request_head(method: bytes, target: bytes, fields: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Return the head of a request in HTTP/1.1.

    Raise ValueError for a part that would end its line.
    """
    lines = [method + b" " + target + b" HTTP/1.1", *map(_SEPARATOR.join, fields), b"\r\n"]
    head = b"\r\n".join(lines)
    if _REQUEST.fullmatch(head) is None or head.count(b"\r\n") != len(lines):
        raise ValueError("the head of a request to the upstream has an illegal byte")
    return head


def request_line(method: bytes, target: bytes) -> bytes:
    """Return the request line of such a head, whose field lines are checked already."""
    line = method + b" " + target + b" HTTP/1.1\r\n"
    if _LINE.fullmatch(line) is None:
        raise ValueError("the request line for the upstream has an illegal byte")
    return line


def answer_head(status: int, reason: bytes, fields: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Return the head of a response in HTTP/1.1.

    Raise ValueError for a part that would end its line.
    """
    lines = [b"HTTP/1.1 %d %b" % (status, reason), *map(_SEPARATOR.join, fields), b"\r\n"]
    head = b"\r\n".join(lines)
    if _ANSWER.fullmatch(head) is None or head.count(b"\r\n") != len(lines):
        raise ValueError("the head of a response to the client has an illegal byte")
    return head
