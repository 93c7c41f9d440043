"""Cases of the parity test: frames, closing handshakes and lost connections."""

from __future__ import annotations

import contextlib

from tests.integration.parity_run import CASES, Run, case, received_until_end, shown
from tests.support.peer import NotInTime, StreamEnded
from tests.support.scripts import echo, opened, sends, stays_after_close
from tests.support.websocket import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    accepting_fields,
    frame,
    handshake_fields,
    head_bytes,
)
from tests.support.websocket_peers import Connection


@case
def text_and_binary(run: Run) -> None:
    client = run.open()
    client.send_frame(TEXT, "grüße".encode())
    client.send_frame(BINARY, bytes(range(60)))
    client.send_frame(TEXT)
    client.send_frame(BINARY)
    run.observe_echoes(client, 4)
    run.close(client)


@case
def fragmentation(run: Run) -> None:
    client = run.open()
    for opcode, payload, fin in (
        (TEXT, b"one", False),
        (CONTINUATION, b"", False),
        (CONTINUATION, b"two", True),
    ):
        client.send_frame(opcode, payload, fin=fin)
    client.send_frame(BINARY, b"", fin=False)
    client.send_frame(CONTINUATION, b"", fin=True)
    run.observe_echoes(client, 5)
    run.close(client)


@case
def masking_key_zero(run: Run) -> None:
    client = run.open()
    client.send_frame(BINARY, b"hello", mask=b"\0\0\0\0")
    run.observe_echoes(client, 1)
    run.close(client)


def _sizes(name: str, size: int) -> None:
    def play(run: Run) -> None:
        client = run.open()
        client.send_frame(BINARY, (b"0123456789abcdef!" * (size // 17 + 1))[:size])
        run.observe_echoes(client, 1)
        run.close(client)

    CASES[f"frame_of_{name}"] = play


for _name, _size in {
    "125": 125,
    "126": 126,
    "65535": 65535,
    "64KiB": 65536,
    "1MiB": 1 << 20,
    "16MiB": 16 << 20,
}.items():
    _sizes(_name, _size)


@case
def many_frames_in_one_segment(run: Run) -> None:
    client = run.open()
    client.send_raw(b"".join(frame(BINARY, b"%d" % number, mask=True) for number in range(1000)))
    run.observe_echoes(client, 1000)
    run.close(client)


@case
def frames_byte_by_byte(run: Run) -> None:
    client = run.open()
    client.send_bytewise(frame(TEXT, b"hello", mask=True) + frame(BINARY, b"x" * 130, mask=True), 0.001)
    run.observe_echoes(client, 2)
    run.close(client)


@case
def upstream_frames_byte_by_byte(run: Run) -> None:
    octets = frame(TEXT, b"hello") + frame(BINARY, b"x" * 130)

    def after_the_101(connection: Connection) -> None:
        connection.send_bytewise(octets, 0.001)
        connection.serve()
        connection.close()

    client = run.open(opened(after_the_101))
    run.observe_echoes(client, 2)
    run.close(client)


@case
def frame_right_behind_the_request(run: Run) -> None:
    client = run.client()
    run.upstream.script = echo()
    head = head_bytes("GET / HTTP/1.1", handshake_fields(["binary"]))
    client.send_raw(head + frame(TEXT, b"early", mask=True))
    run.observe_answer(client, client.recv_head)
    run.observe_echoes(client, 1)
    run.close(client)


@case
def frame_right_behind_the_101(run: Run) -> None:
    def script(connection: Connection) -> None:
        connection.read_request()
        fields = [*accepting_fields(connection.key), ("Sec-WebSocket-Protocol", "binary")]
        connection.send_head("101 Switching Protocols", fields, frame(BINARY, b"RFB 003.008\n"))
        connection.serve()
        connection.close()

    client = run.open(script)
    run.observe_echoes(client, 1)
    run.close(client)


@case
def close_right_behind_the_101(run: Run) -> None:
    def script(connection: Connection) -> None:
        connection.read_request()
        fields = [*accepting_fields(connection.key), ("Sec-WebSocket-Protocol", "binary")]
        close = frame(CLOSE, b"\x0f\xa1busy")
        connection.send_head("101 Switching Protocols", fields, close)
        connection.next_frame()
        connection.close()

    client = run.open(script)
    run.observe_echoes(client, 1)
    client.send_close(4001)
    run.observe_rest(client)


# control frames


@case
def ping_from_the_client(run: Run) -> None:
    client = run.open()
    client.send_frame(PING, b"are you there")
    run.observe_echoes(client, 1)
    run.close(client)


@case
def ping_between_fragments(run: Run) -> None:
    client = run.open()
    client.send_frame(TEXT, b"one", fin=False)
    client.send_frame(PING, b"middle")
    client.send_frame(CONTINUATION, b"two")
    run.observed["echoes"] = sorted(shown(client.recv_frame()) for _ in range(3))
    run.close(client)


@case
def ping_from_the_upstream(run: Run) -> None:
    client = run.open(sends(frame(PING, b"are you there"), frame(TEXT, b"after")))
    got = client.recv_frame()
    seen = [shown(got)]
    if got.opcode == PING:
        client.send_frame(PONG, got.payload)
        seen.append(shown(client.recv_frame()))
    run.observed["echoes"] = seen
    run.close(client)


@case
def unsolicited_pong_from_the_client(run: Run) -> None:
    client = run.open()
    client.send_frame(PONG, b"nobody asked")
    client.send_frame(TEXT, b"after")
    run.observe_echoes(client, 1)
    run.close(client)


@case
def unsolicited_pong_from_the_upstream(run: Run) -> None:
    client = run.open(sends(frame(PONG, b"nobody asked"), frame(TEXT, b"after")))
    run.close(client)


# closing


def _closes(name: str, code: int | None, reason: str) -> None:
    def from_client(run: Run) -> None:
        run.close(run.open(), code, reason)

    def from_upstream(run: Run) -> None:
        def after_the_101(connection: Connection) -> None:
            connection.send_close(code, reason)
            with contextlib.suppress(StreamEnded, NotInTime):
                connection.next_frame()
            connection.close()

        client = run.open(opened(after_the_101))
        run.observed["close"] = client.recv_close()
        client.send_close(code)
        run.observe_rest(client)

    CASES[f"close_{name}_from_the_client"] = from_client
    CASES[f"close_{name}_from_the_upstream"] = from_upstream


_closes("1000", 1000, "done")
_closes("1001", 1001, "going away")
_closes("1011", 1011, "a fault")
_closes("4999", 4999, "grüße " * 15)
_closes("empty", None, "")


@case
def upstream_stays_after_close(run: Run) -> None:
    """Close in order, and wait for the end of TCP, which is the server's to make."""
    run.close(run.open(stays_after_close))


# lost connections and malformed frames


@case
def upstream_drops_after_the_101(run: Run) -> None:
    run.observed["client got"] = received_until_end(run.open(opened(lambda connection: connection.close())))


@case
def upstream_drops_after_a_frame(run: Run) -> None:
    def after_the_101(connection: Connection) -> None:
        connection.send_frame(TEXT, b"last words")
        connection.close()

    run.observed["client got"] = received_until_end(run.open(opened(after_the_101)))


@case
def upstream_drops_in_a_frame(run: Run) -> None:
    def after_the_101(connection: Connection) -> None:
        connection.send_raw(frame(BINARY, b"x" * 10, length=1000))
        connection.next_frame()
        connection.drop()

    client = run.open(opened(after_the_101))
    run.observed["part"] = client.recv_exactly(14)
    client.send_frame(TEXT, b"seen")
    run.observed["client got"] = received_until_end(client)


@case
def upstream_drops_in_its_second_frame_at_once(run: Run) -> None:
    """Check that complete frames reach the client after the upstream has left."""

    def after_the_101(connection: Connection) -> None:
        connection.send_raw(frame(TEXT, b"last words") + frame(BINARY, b"x" * 10, length=1000))
        connection.drop()

    run.observed["client got"] = [
        seen for seen in received_until_end(run.open(opened(after_the_101))) if seen != "a part of a frame"
    ]


@case
def client_drops(run: Run) -> None:
    client = run.open()
    client.send_frame(TEXT, b"last words")
    run.observe_echoes(client, 1)
    client.drop()
    run.observe_upstream()


@case
def client_resets(run: Run) -> None:
    client = run.open()
    client.send_frame(TEXT, b"last words")
    run.observe_echoes(client, 1)
    client.reset()
    run.observe_upstream()


@case
def client_drops_in_a_frame(run: Run) -> None:
    client = run.open()
    client.send_raw(frame(BINARY, b"x" * 10, mask=True, length=1000))
    client.drop()
    run.observe_upstream()


@case
def client_frame_unmasked(run: Run) -> None:
    client = run.open()
    client.send_frame(TEXT, b"bare", mask=False)
    run.observe_rest(client)


@case
def client_frame_with_a_reserved_bit(run: Run) -> None:
    client = run.open()
    client.send_frame(TEXT, b"compressed?", rsv=4)
    run.observe_rest(client)


@case
def upstream_frame_with_a_reserved_opcode(run: Run) -> None:
    client = run.open(sends(frame(3, b"?")))
    run.observe_rest(client)
