"""Scripts of the scripted upstream: how a host treats a connection."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

from tests.support.peer import NotInTime
from tests.support.websocket import (
    BINARY,
    Field,
    accepting_fields,
    frame,
)
from tests.support.websocket_peers import Connection, Script


def echo(subprotocol: str | None = None, fields: Sequence[Field] = ()) -> Script:
    """Accept, echo every frame with its fragmentation, answer Ping and Close, and close."""
    return lambda connection: connection.echo(subprotocol, fields)


def opened(then: Script, subprotocol: str | None = None) -> Script:
    """Return a script that accepts, and continues with another script."""

    def script(connection: Connection) -> None:
        connection.read_request()
        connection.accept(subprotocol)
        then(connection)

    return script


def refuse(status: str, body: bytes = b"", fields: Sequence[Field] = ()) -> Script:
    """Answer the opening handshake with this status and body, and close."""

    def script(connection: Connection) -> None:
        connection.read_request()
        length: Field = ("Content-Length", str(len(body)))
        connection.send_head(status, [length, ("Connection", "close"), *fields], body)
        connection.close()

    return script


def answer(octets: bytes) -> Script:
    """Answer the opening handshake with these bytes, and close."""

    def script(connection: Connection) -> None:
        connection.read_request()
        connection.send_raw(octets)
        connection.close()

    return script


def wrong_accept(connection: Connection) -> None:
    """Answer with a 101 whose accept value belongs to another key."""
    connection.read_request()
    connection.send_head("101 Switching Protocols", accepting_fields("another"))
    connection.serve()


def endless_head(connection: Connection) -> None:
    """Answer with a head that never ends."""
    connection.read_request()
    connection.send_raw(b"HTTP/1.1 101 Switching Protocols\r\n")
    with contextlib.suppress(OSError):
        for number in range(1 << 20):
            connection.send_raw(f"X-{number}: {'x' * 1000}\r\n".encode())


def sends(*frames: bytes) -> Script:
    """Accept, send these frames, serve, and close."""

    def then(connection: Connection) -> None:
        for octets in frames:
            connection.send_raw(octets)
        connection.serve()
        connection.close()

    return opened(then)


def drops_before_answer(connection: Connection) -> None:
    """Read the request and leave."""
    connection.read_request()
    connection.close()


def drops_mid_frame(size: int = 1000, sent: int = 10) -> Script:
    """Accept, announce a frame, send only a part of it and leave."""

    def then(connection: Connection) -> None:
        connection.send_raw(frame(BINARY, b"x" * sent, length=size))
        connection.drop()

    return opened(then)


def stays_after_close(connection: Connection) -> None:
    """Accept, answer a Close, and keep TCP open until the other side has closed it."""
    connection.read_request()
    connection.accept()
    connection.serve()
    with contextlib.suppress(NotInTime):
        connection.recv_eof(60)


def silent(connection: Connection) -> None:
    """Read the request and say nothing more."""
    connection.read_request()
    with contextlib.suppress(NotInTime):
        connection.recv_eof(60)
