"""What a client, or an upstream, does wrong: the verbs that the fault table is written in.

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
SETTLE = 0.15
"""Seconds in which what was sent has been read, as a rule; no test depends on it."""


def settle() -> None:
    time.sleep(SETTLE)


# The client


def asks(client: Client) -> None:
    """An ordinary opening handshake."""
    client.send_raw(OPENING)


def resets(client: Client) -> None:
    client.reset()


def ends(client: Client) -> None:
    client.close()


def waits(client: Client) -> None:
    """Says nothing."""


def sends(octets: bytes, *then: Act) -> Act:
    """These bytes, and what comes after them."""

    def act(client: Client) -> None:
        client.send_raw(octets)
        for each in then:
            settle()
            each(client)

    return act


def asks_with(*fields: Field) -> Act:
    """With fields of its own."""
    return sends(head_bytes(f"GET {TARGET} HTTP/1.1", [*handshake_fields(["binary"]), *fields]))


def once_open(*then: Act) -> Act:
    """With an open console, do this."""

    def act(client: Client) -> None:
        client.open(TARGET, ["binary"])
        for each in then:
            each(client)

    return act


def frames(*octets: bytes) -> Act:
    """Bytes of frames."""

    def act(client: Client) -> None:
        for each in octets:
            client.send_raw(each)
        settle()

    return act


def second(client: Client) -> None:
    """With one console open, another one is asked for: the answer to that counts."""
    with Client(client.stream.getpeername()[1]) as first:
        first.open(TARGET, ["binary"])
        client.send_raw(OPENING)
        client.recv_eof()
        first.send_close(1000)
        first.recv_eof()


def behind_another(client: Client) -> None:
    """A connection that says nothing is there already: the answer to a second one counts."""
    other = Client(client.stream.getpeername()[1])
    other.send_raw(OPENING)
    other.recv_eof()
    client.received[:] = other.received
    client.reset()
    other.close()


def closes_tls_only(client: Client) -> None:
    """A close_notify, and TCP stays."""
    assert isinstance(client.stream, ssl.SSLSocket)
    client.stream.settimeout(0.3)
    with contextlib.suppress(OSError):
        client.stream.unwrap()


def cuts_tls(client: Client) -> None:
    """A FIN without a close_notify."""
    socket.socket.shutdown(client.stream, socket.SHUT_WR)


def half_closes(client: Client) -> None:
    """A FIN, and it goes on reading."""
    client.shutdown()


def never_reads(client: Client) -> None:
    """Looks away for longer than `stall_timeout`, while the upstream sends and sends."""
    time.sleep(3)


def never_reads_a_little(client: Client) -> None:
    """Looks away as well, from what the kernel has room for."""
    client.stream.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    once_open(never_reads)(client)


def sends_what_is_taken(octets: bytes) -> Act:
    """As much of it as anybody takes without a pause."""

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
    """Until the proxy has let go."""
    with contextlib.suppress(NotInTime):
        connection.recv_eof(20)


def says(octets: bytes, then: Script = stays) -> Script:
    """This is the answer to whatever was asked."""

    def script(connection: Connection) -> None:
        connection.read_request()
        connection.send_raw(octets)
        then(connection)

    return script


def accepts(octets: bytes, then: Script) -> Script:
    """A 101 and this, then that."""

    def rest(connection: Connection) -> None:
        connection.send_raw(octets)
        then(connection)

    return opened(rest)


def goes(connection: Connection) -> None:
    connection.drop()


def breaks(connection: Connection) -> None:
    connection.reset()


def serves(connection: Connection) -> None:
    """As a good one does: a Close is answered, and kept for the test."""
    connection.serve()
    connection.close()


def resets_at_once(connection: Connection) -> None:
    connection.reset()


def pours(connection: Connection) -> None:
    """Far more than the buffers on the way take, as long as anybody takes it."""
    with contextlib.suppress(OSError):
        for _ in range(1024):
            connection.send_raw(frame(BINARY, bytes(1 << 16)))
    connection.reset()


def never_reads_a_body(connection: Connection) -> None:
    """Reads the head, and looks away for longer than `stall_timeout`."""
    connection.read_request()
    time.sleep(3)
    connection.reset()


def answers_in_plain(connection: Connection) -> None:
    """Plain HTTP for an answer to a ClientHello."""
    connection.recv_exactly(100)
    connection.send_raw(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
    connection.close()


def reads(client: Client) -> None:
    """A head, or a frame."""
    if client.received:
        client.recv_frame()
    else:
        client.recv_head()


def drips(connection: Connection) -> None:
    """An answer's head that never ends, a line a moment."""
    connection.read_request()
    with contextlib.suppress(OSError):
        connection.send_raw(b"HTTP/1.1 101 Switching Protocols\r\n")
        for number in range(100):
            connection.send_raw(b"X-%d: y\r\n" % number)
            time.sleep(0.1)


def interims(connection: Connection) -> None:
    """One 1xx after the other."""
    connection.read_request()
    with contextlib.suppress(OSError):
        for _ in range(10):
            connection.send_raw(b"HTTP/1.1 103 Early Hints\r\n\r\n")
        stays(connection)


def endless(connection: Connection) -> None:
    """More fields than any head has."""
    connection.read_request()
    with contextlib.suppress(OSError):
        connection.send_raw(b"HTTP/1.1 101 Switching Protocols\r\n" + b"X: y\r\n" * 10000)
        stays(connection)


def resets_for_a_close(connection: Connection) -> None:
    """Reads one frame."""
    connection.next_frame()
    connection.reset()


def keeps_tcp(connection: Connection) -> None:
    """Reads what comes, answers a Close, and holds on to TCP."""
    connection.serve()
    stays(connection)


def close_of(code: int | None = 1000, reason: str = "") -> bytes:
    return frame(CLOSE, close_payload(code, reason))
