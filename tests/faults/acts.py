"""Acts of clients and scripts of upstreams: the verbs of the fault table.

An act is a function of the client, and a script is a function of the connection that the upstream accepted.
A row of the table names one of each. Six functions build an act or a script out of octets and further steps:

- `sends(octets, *then)`: the client sends these octets, and after a short pause takes each next step;
- `asks_with(*fields)`: the client sends an opening handshake with these fields added to the usual ones;
- `once_open(*then)`: the client opens a console, and takes these steps on the open connection;
- `frames(*octets)`: the client sends these encoded frames, one write for each;
- `says(octets, then)`: the upstream reads a request, answers with these octets, and goes on with `then`;
- `accepts(octets, then)`: the upstream answers with a 101, sends these octets, and goes on with `then`.

So `sends(OPENING, ends)` is a client that asks for a console and closes the connection before the answer.
Without a `then`, an upstream `stays`: it waits until the proxy has closed the connection.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import time

from tests.faults.fault import Act
from tests.support.peer import NotInTime
from tests.support.programs import TICKET
from tests.support.scripts import opened
from tests.support.websocket import BINARY, CLOSE, Field, close_payload, frame, handshake_fields, head_bytes
from tests.support.websocket_peers import Client, Connection, Script

TARGET = f"/ticket/{TICKET}"
OPENING = head_bytes(f"GET {TARGET} HTTP/1.1", handshake_fields(["binary"]))


def _hello() -> bytes:
    outgoing = ssl.MemoryBIO()
    client = ssl.create_default_context().wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname="localhost")
    with contextlib.suppress(ssl.SSLWantReadError):
        client.do_handshake()
    return outgoing.read()


HALF_HELLO = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(40)
HELLO = _hello()
"""A whole ClientHello."""
SETTLE_DELAY = 0.15
"""Seconds in which what was sent has been read, as a rule; no test depends on it."""


def settle() -> None:
    time.sleep(SETTLE_DELAY)


# The client


def asks(client: Client) -> None:
    """Send an ordinary opening handshake."""
    client.send_raw(OPENING)


def resets(client: Client) -> None:
    client.reset()


def ends(client: Client) -> None:
    client.close()


def waits(client: Client) -> None:
    """Send nothing."""


def sends(octets: bytes, *then: Act) -> Act:
    """Return an act that sends these bytes, and then does these acts."""

    def act(client: Client) -> None:
        client.send_raw(octets)
        for each in then:
            settle()
            each(client)

    return act


def asks_with(*fields: Field) -> Act:
    """Return an act that sends an opening handshake with further fields."""
    return sends(head_bytes(f"GET {TARGET} HTTP/1.1", [*handshake_fields(["binary"]), *fields]))


def once_open(*then: Act) -> Act:
    """Return an act that opens a console, and then does these acts."""

    def act(client: Client) -> None:
        client.open(TARGET, ["binary"])
        for each in then:
            each(client)

    return act


def frames(*octets: bytes) -> Act:
    """Return an act that sends these encoded frames."""

    def act(client: Client) -> None:
        for each in octets:
            client.send_raw(each)
        settle()

    return act


def second(client: Client) -> None:
    """Open a console, and ask for another one on this client, whose answer is the result."""
    with Client(client.stream.getpeername()[1]) as first:
        first.open(TARGET, ["binary"])
        client.send_raw(OPENING)
        client.recv_eof()
        first.send_close(1000)
        first.recv_eof()


def behind_another(client: Client) -> None:
    """Ask on one connection, and then on a second one, whose answer is the result."""
    other = Client(client.stream.getpeername()[1])
    other.send_raw(OPENING)
    other.recv_eof()
    client.received[:] = other.received
    client.reset()
    other.close()


def closes_tls_only(client: Client) -> None:
    """Send a close_notify, and keep TCP open."""
    assert isinstance(client.stream, ssl.SSLSocket)
    client.stream.settimeout(0.3)
    with contextlib.suppress(OSError):
        client.stream.unwrap()


def cuts_tls(client: Client) -> None:
    """Send a FIN without a close_notify."""
    socket.socket.shutdown(client.stream, socket.SHUT_WR)


def half_closes(client: Client) -> None:
    """Send a FIN, and continue to read."""
    client.shutdown()


def never_reads(client: Client) -> None:
    """Read nothing for longer than `stall_timeout`, while the upstream sends."""
    time.sleep(3)


def never_reads_a_little(client: Client) -> None:
    """Read nothing of a console whose data fits into the kernel's buffers."""
    client.stream.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    once_open(never_reads)(client)


def sends_what_is_taken(octets: bytes) -> Act:
    """Return an act that sends these bytes until the connection blocks."""

    def act(client: Client) -> None:
        client.stream.settimeout(0.5)
        with contextlib.suppress(TimeoutError):
            client.stream.sendall(octets)

    return act


def post(*fields: Field, body: bytes = b"") -> bytes:
    return head_bytes("POST /ui/ HTTP/1.1", [("Host", "console.test"), *fields]) + body


GET = head_bytes("GET /ui/ HTTP/1.1", [("Host", "console.test")])

# The upstream


def stays(connection: Connection) -> None:
    """Wait until the proxy has closed the connection."""
    with contextlib.suppress(NotInTime):
        connection.recv_eof(20)


def says(octets: bytes, then: Script = stays) -> Script:
    """Return a script that answers any request with these bytes."""

    def script(connection: Connection) -> None:
        connection.read_request()
        connection.send_raw(octets)
        then(connection)

    return script


def accepts(octets: bytes, then: Script) -> Script:
    """Return a script that answers with a 101 and these bytes, and continues with another script."""

    def rest(connection: Connection) -> None:
        connection.send_raw(octets)
        then(connection)

    return opened(rest)


def goes(connection: Connection) -> None:
    connection.drop()


def breaks(connection: Connection) -> None:
    connection.reset()


def serves(connection: Connection) -> None:
    """Serve a console in order, and keep the Close for the test."""
    connection.serve()
    connection.close()


def resets_at_once(connection: Connection) -> None:
    connection.reset()


def pours(connection: Connection) -> None:
    """Send far more than all buffers take, until the connection ends."""
    with contextlib.suppress(OSError):
        for _ in range(1024):
            connection.send_raw(frame(BINARY, bytes(1 << 16)))
    connection.reset()


def never_reads_a_body(connection: Connection) -> None:
    """Read the head of a request, and nothing more for longer than `stall_timeout`."""
    connection.read_request()
    time.sleep(3)
    connection.reset()


def answers_in_plain(connection: Connection) -> None:
    """Answer a ClientHello in plain HTTP."""
    connection.recv_exactly(100)
    connection.send_raw(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
    connection.close()


def reads(client: Client) -> None:
    """Read a head first, and a frame after that."""
    if client.received:
        client.recv_frame()
    else:
        client.recv_head()


def drips(connection: Connection) -> None:
    """Send an endless head of an answer, one line every 0.1 s."""
    connection.read_request()
    with contextlib.suppress(OSError):
        connection.send_raw(b"HTTP/1.1 101 Switching Protocols\r\n")
        for number in range(100):
            connection.send_raw(b"X-%d: y\r\n" % number)
            time.sleep(0.1)


def interims(connection: Connection) -> None:
    """Send interim answers (1xx) and no final one."""
    connection.read_request()
    with contextlib.suppress(OSError):
        for _ in range(10):
            connection.send_raw(b"HTTP/1.1 103 Early Hints\r\n\r\n")
        stays(connection)


def endless(connection: Connection) -> None:
    """Send a head with more fields than the proxy accepts."""
    connection.read_request()
    with contextlib.suppress(OSError):
        connection.send_raw(b"HTTP/1.1 101 Switching Protocols\r\n" + b"X: y\r\n" * 10000)
        stays(connection)


def resets_for_a_close(connection: Connection) -> None:
    """Read one frame, and reset the connection."""
    connection.next_frame()
    connection.reset()


def keeps_tcp(connection: Connection) -> None:
    """Serve a console, answer a Close, and keep TCP open."""
    connection.serve()
    stays(connection)


def close_of(code: int | None = 1000, reason: str = "") -> bytes:
    return frame(CLOSE, close_payload(code, reason))
