"""The ends of a console that is alive: hosts that send, and clients that read and send."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable

from tests.support.peer import NotInTime, StreamEnded
from tests.support.websocket import BINARY, CLOSE, PING, PONG, frame
from tests.support.websocket_peers import Client, Connection

CLIENT = "client"
"""The name of every thread that drives one."""
KEY = b"\x01\x02\x03\x04"
PIECE = bytes(range(256)) * 256


def serve(connection: Connection) -> None:
    """Serve an idle console: answer the Close, and check once a second whether TCP still has the proxy."""
    connection.stream.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option in (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL):
        connection.stream.setsockopt(socket.IPPROTO_TCP, option, 1)
    connection.stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 100)
    connection.serve(echoes=False)
    connection.close()


def streams(over: threading.Event) -> Callable[[Connection], None]:
    """Send a picture that changes all the time, far slower than the buffers on the way allow."""

    def send(connection: Connection) -> None:
        with contextlib.suppress(OSError):
            while not over.wait(0.02):
                connection.send_frame(BINARY, b"x" * 500)
        connection.drop()

    return send


def fills(connection: Connection) -> None:
    """Send as much as the connection takes."""
    connection.stream.settimeout(60)
    with contextlib.suppress(OSError):
        while True:
            connection.stream.sendall(frame(BINARY, PIECE))
    connection.drop()


def tells(payload: bytes) -> Callable[[Connection], None]:
    """Send one frame, and wait."""

    def send(connection: Connection) -> None:
        connection.send_frame(BINARY, payload)
        serve(connection)

    return send


def tells_half(connection: Connection) -> None:
    """Send a part of a frame, and wait."""
    connection.send_raw(frame(BINARY, b"x" * 10, length=1000))
    serve(connection)


class Living(threading.Thread):
    """A well-behaved client: it reads everything, answers pings, and leaves when the test says so."""

    def __init__(self, client: Client) -> None:
        super().__init__(name=CLIENT, daemon=True)
        self.frames = 0
        self.code: int | None = None
        """Its Close's; None if the stream ended without one."""
        self._client = client
        client.timeout = 60
        self.start()

    def run(self) -> None:
        client = self._client
        with contextlib.suppress(OSError, StreamEnded, NotInTime):
            while (got := client.recv_frame()).opcode != CLOSE:
                client.received.clear()
                self.frames += 1
                if got.opcode == PING:
                    client.send_frame(PONG, got.payload)
            self.code = int.from_bytes(got.payload[:2], "big")
        client.close()


def sends(client: Client, over: threading.Event, payload: bytes, pause: float) -> None:
    """Return a client script that sends such a frame so often."""
    octets = frame(BINARY, payload, mask=KEY)
    client.stream.settimeout(60)

    def send() -> None:
        with contextlib.suppress(OSError):
            while not over.wait(pause):
                client.stream.sendall(octets)

    threading.Thread(target=send, name=CLIENT, daemon=True).start()
