"""What a client and an upstream can do to each other through a proxy, one case a function.

A case plays one session through `Run` and notes what each side saw. It never says what is right: the parity
test compares two proxies' notes.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from tests.support.listeners import Listeners
from tests.support.programs import TICKET
from tests.support.websocket import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    Field,
    Frame,
    Head,
    accepting_fields,
    frame,
    handshake_fields,
    head_bytes,
)
from tests.support.websocket_peers import (
    Client,
    Connection,
    NotInTime,
    Peer,
    Script,
    ScriptedUpstream,
    StreamEnded,
    answer,
    drops_before_answer,
    echo,
    endless_head,
    opened,
    refuse,
    sends,
    stays_after_close,
    wrong_accept,
)

OPCODES = {CONTINUATION: "CONT", TEXT: "TEXT", BINARY: "BINARY", CLOSE: "CLOSE", PING: "PING", PONG: "PONG"}
PATIENCE = 4.0
"""How long, in seconds, a client waits for what has to come."""
QUIET = 2.0
"""How long, in seconds, a side waits for what may not come; esxiproxy's close_timeout is 1 s here."""
ANSWERED = [
    "Upgrade",
    "Sec-WebSocket-Protocol",
    "Sec-WebSocket-Extensions",
    "Set-Cookie",
    "Location",
    "WWW-Authenticate",
    "Retry-After",
    "Proxy-Status",
    "X-One",
]
"""The fields of an answer that are noted; X-Request-ID is not, here and in requests: a new one every time."""
WATCHED = [
    "host",
    "origin",
    "cookie",
    "user-agent",
    "authorization",
    "sec-websocket-protocol",
    "sec-websocket-extensions",
    "sec-websocket-version",
    "upgrade",
    "x-one",
    "x-two",
]
"""The fields of a request that are noted."""


def shown(got: Frame) -> str:
    """A frame as the notes show it."""
    name = OPCODES.get(got.opcode, hex(got.opcode)) + ("" if got.fin else "+")
    name += f" rsv={got.rsv}" if got.rsv else ""
    if got.opcode == CLOSE:
        code = int.from_bytes(got.payload[:2], "big") if got.payload else "-"
        return f"{name} {code} {got.payload[2:].decode()}".rstrip()
    if len(got.payload) > 64:
        return f"{name} {len(got.payload)} bytes {hashlib.sha256(got.payload).hexdigest()[:12]}"
    return f"{name} {got.payload.decode('latin-1')}".rstrip()


def rest(peer: Peer, seconds: float = QUIET) -> list[str]:
    """All that still comes to this side: frames, a part of one, and whether the stream ended."""
    seen: list[str] = []
    try:
        while True:
            seen.append(shown(peer.recv_frame(seconds)))
    except StreamEnded as end:
        return [*seen, *(["a part of a frame"] if end.got else []), "end"]
    except NotInTime:
        return [*seen, "still open"]


@dataclass
class Run:
    """One case through one proxy, and the notes that it takes."""

    listeners: Listeners
    name: str
    upstream: ScriptedUpstream
    notes: dict[str, object] = field(default_factory=dict)
    clients: list[Client] = field(default_factory=list)

    def client(self, name: str | None = None) -> Client:
        """A new client of the listener."""
        self.clients.append(self.listeners.client(name or self.name, timeout=PATIENCE))
        return self.clients[-1]

    def play(
        self,
        script: Script | None = None,
        target: str = f"/ticket/{TICKET}",
        subprotocols: Sequence[str] = ("binary",),
        fields: Sequence[Field] = (),
    ) -> Client:
        """Open a session with this upstream; notes the upstream's refusal, if it is one."""
        self.upstream.script = script
        client = self.client()
        self.note_answer(client, lambda: client.ask(target, subprotocols, fields))
        return client

    def note_answer(self, client: Client, ask: Callable[[], Head]) -> None:
        """Note the answer to an opening handshake."""
        try:
            head = ask()
        except StreamEnded:
            self.notes["answer"] = "none"
            return
        except NotInTime:
            self.notes["answer"] = "none in time"
            return
        if not head.line.startswith("HTTP/1.1 "):
            self.notes["answer"] = head.line
            return
        self.notes["status"] = head.status
        for name in ANSWERED:
            if values := head.all(name):
                self.notes[name] = values
        # Which body a refusal of the proxy's own has is its own affair; the upstream's has this mark.
        if head.status != 101:
            with contextlib.suppress(StreamEnded, NotInTime):
                body = client.recv_body(head, QUIET)
                self.notes["body"] = body.decode() if body.startswith(b"upstream:") else "the proxy's"

    def peer(self) -> Connection:
        """The upstream's end of the session."""
        return self.upstream.connection()

    def note_request(self) -> None:
        """Note the request as the upstream got it."""
        request = self.peer().request
        assert request is not None
        self.notes["request line"] = request.line
        own = re.compile(rf"(https?://)?127\.0\.0\.1:{self.upstream.port}$")
        self.notes["request fields"] = sorted(
            f"{name.lower()}: {own.sub('the upstream', value)}"
            for name, value in request.fields
            if name.lower() in WATCHED
        )

    def note_upstream(self) -> None:
        """Note the frames that the upstream got, and whether its stream ended."""
        connection = self.peer()
        done = connection.finished.wait(QUIET)
        self.notes["upstream got"] = [shown(got) for got in connection.frames]
        self.notes["upstream's frames are masked"] = all(got.masked for got in connection.frames)
        self.notes["upstream's stream"] = "done" if done else "still open"

    def note_echoes(self, client: Client, count: int) -> None:
        """Note as many frames as the upstream should have echoed."""
        self.notes["echoes"] = [shown(client.recv_frame(30)) for _ in range(count)]

    def finish(self, client: Client, code: int | None = 1000, reason: str = "done") -> None:
        """Close the session from the client's side and note how that went."""
        client.send_close(code, reason)
        self.note_rest(client)

    def note_rest(self, client: Client) -> None:
        """Note all that still comes to both sides."""
        self.notes["client got"] = rest(client)
        client.close()
        self.note_upstream()

    def stop(self) -> None:
        """Let go of everything."""
        for client in self.clients:
            client.close()
        self.upstream.forget()


Case = Callable[[Run], None]
CASES: dict[str, Case] = {}


def case(function: Case) -> Case:
    """Enter a function into the table under its own name."""
    CASES[function.__name__] = function
    return function


def refusals(name: str, status: str, fields: Sequence[Field] = ()) -> None:
    """Enter a case in which the upstream refuses with this status."""

    def play(run: Run) -> None:
        run.play(refuse(status, b"upstream: no\n" * 20, fields))
        run.note_request()

    CASES[name] = play


# the opening handshake


@case
def first_subprotocol_chosen(run: Run) -> None:
    client = run.play(subprotocols=["binary", "vmware-vvc"])
    run.note_request()
    run.finish(client)


@case
def second_subprotocol_chosen(run: Run) -> None:
    client = run.play(echo("vmware-vvc"), subprotocols=["binary", "vmware-vvc"])
    run.note_request()
    run.finish(client)


@case
def no_subprotocol_chosen(run: Run) -> None:
    run.finish(run.play(echo(""), subprotocols=["binary", "vmware-vvc"]))


@case
def text_subprotocol_chosen(run: Run) -> None:
    client = run.play(subprotocols=["uint8utf8"])
    client.send_frame(TEXT, "grüße".encode())
    run.note_echoes(client, 1)
    run.finish(client)


@case
def no_subprotocol_offered(run: Run) -> None:
    client = run.play(subprotocols=[])
    run.note_request()
    run.finish(client)


@case
def subprotocols_in_two_fields(run: Run) -> None:
    fields = [("Sec-WebSocket-Protocol", "binary"), ("Sec-WebSocket-Protocol", "vmware-vvc")]
    client = run.play(subprotocols=[], fields=fields)
    run.note_request()
    run.finish(client)


@case
def unoffered_subprotocol_chosen(run: Run) -> None:
    run.play(echo("mks"), subprotocols=["binary"])


@case
def deflate_offered(run: Run) -> None:
    client = run.play(fields=[("Sec-WebSocket-Extensions", "permessage-deflate; client_max_window_bits")])
    run.note_request()
    run.finish(client)


@case
def origin(run: Run) -> None:
    run.finish(run.play(fields=[("Origin", "https://page.test")]))
    run.note_request()


@case
def cookies_and_repeated_fields(run: Run) -> None:
    fields = [
        ("Cookie", "a=1; b=2"),
        ("X-One", "1"),
        ("X-Two", "é, \t;"),
        ("X-One", "2"),
        ("User-Agent", "me/1"),
    ]
    client = run.play(fields=[*fields, ("Authorization", "Basic eDp5")])
    run.note_request()
    run.finish(client)


@case
def forwarded_fields_of_a_stranger(run: Run) -> None:
    names = ("X-Forwarded-For", "X-Real-IP", "Forwarded")
    client = run.play(fields=[(name, "for=192.0.2.66") for name in names])
    request = run.peer().request
    assert request is not None
    run.notes["forwarded"] = [request.all(name) for name in names]
    run.finish(client)


@case
def set_cookie_twice(run: Run) -> None:
    cookies = [("Set-Cookie", "a=1; Path=/; Expires=Wed, 21 Oct 2026 07:28:00 GMT"), ("Set-Cookie", "b=2")]
    run.finish(run.play(echo(fields=[*cookies, ("X-One", "1"), ("X-One", "2")])))


TARGETS = {
    "plain": f"/ticket/{TICKET}",
    "matrix": f"/ticket/{TICKET};x=1;y",
    "equals": f"/ticket/{TICKET}=?k=v==",
    "plus": f"/ticket/{TICKET}+b?c=d+e",
    "escaped": f"/ticket/{TICKET}%2fb%2F%41?x=%2f%3D",
    "double_slash": f"//ticket//{TICKET}//",
    "empty_value": f"/ticket/{TICKET}?x=&y&=z&&",
    "dots": f"/ticket/./{TICKET}/../b?x=../y",
    "marks": f"/ticket/~{TICKET}!$'()*,-._:@?/?:@!$'()*,",
    "odd_escape": f"/ticket/{TICKET}%?x=%zz",
    "long": f"/ticket/{TICKET}" + "a" * 2000,
    "query": f"/ui/console?vm=7&mksTicket={TICKET}&sessionTicket=cst-{TICKET}",
}


def _targets(name: str, target: str) -> None:
    def play(run: Run) -> None:
        client = run.play(target=target)
        if run.notes.get("status") == 101:
            run.note_request()
            run.finish(client)

    CASES[f"target_{name}"] = play


for _name, _target in TARGETS.items():
    _targets(_name, _target)


@case
def early_hints_before_the_101(run: Run) -> None:
    def script(connection: Connection) -> None:
        connection.read_request()
        connection.send_head("103 Early Hints", [("Link", "</a>; rel=preload")])
        connection.accept()
        connection.serve()
        connection.close()

    client = run.play(script)
    if run.notes.get("status") == 101:
        run.finish(client)


# frames


@case
def text_and_binary(run: Run) -> None:
    client = run.play()
    client.send_frame(TEXT, "grüße".encode())
    client.send_frame(BINARY, bytes(range(60)))
    client.send_frame(TEXT)
    client.send_frame(BINARY)
    run.note_echoes(client, 4)
    run.finish(client)


@case
def fragmentation(run: Run) -> None:
    client = run.play()
    for opcode, payload, fin in (
        (TEXT, b"one", False),
        (CONTINUATION, b"", False),
        (CONTINUATION, b"two", True),
    ):
        client.send_frame(opcode, payload, fin=fin)
    client.send_frame(BINARY, b"", fin=False)
    client.send_frame(CONTINUATION, b"", fin=True)
    run.note_echoes(client, 5)
    run.finish(client)


@case
def masking_key_zero(run: Run) -> None:
    client = run.play()
    client.send_frame(BINARY, b"hello", mask=b"\0\0\0\0")
    run.note_echoes(client, 1)
    run.finish(client)


def _sizes(name: str, size: int) -> None:
    def play(run: Run) -> None:
        client = run.play()
        client.send_frame(BINARY, (b"0123456789abcdef!" * (size // 17 + 1))[:size])
        run.note_echoes(client, 1)
        run.finish(client)

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
    client = run.play()
    client.send_raw(b"".join(frame(BINARY, b"%d" % number, mask=True) for number in range(1000)))
    run.note_echoes(client, 1000)
    run.finish(client)


@case
def frames_byte_by_byte(run: Run) -> None:
    client = run.play()
    client.send_bytewise(frame(TEXT, b"hello", mask=True) + frame(BINARY, b"x" * 130, mask=True), 0.001)
    run.note_echoes(client, 2)
    run.finish(client)


@case
def upstream_frames_byte_by_byte(run: Run) -> None:
    octets = frame(TEXT, b"hello") + frame(BINARY, b"x" * 130)

    def then(connection: Connection) -> None:
        connection.send_bytewise(octets, 0.001)
        connection.serve()
        connection.close()

    client = run.play(opened(then))
    run.note_echoes(client, 2)
    run.finish(client)


@case
def frame_right_behind_the_request(run: Run) -> None:
    client = run.client()
    run.upstream.script = echo()
    head = head_bytes("GET / HTTP/1.1", handshake_fields(["binary"]))
    client.send_raw(head + frame(TEXT, b"early", mask=True))
    run.note_answer(client, client.recv_head)
    run.note_echoes(client, 1)
    run.finish(client)


@case
def frame_right_behind_the_101(run: Run) -> None:
    def script(connection: Connection) -> None:
        connection.read_request()
        fields = [*accepting_fields(connection.key), ("Sec-WebSocket-Protocol", "binary")]
        connection.send_head("101 Switching Protocols", fields, frame(BINARY, b"RFB 003.008\n"))
        connection.serve()
        connection.close()

    client = run.play(script)
    run.note_echoes(client, 1)
    run.finish(client)


@case
def close_right_behind_the_101(run: Run) -> None:
    def script(connection: Connection) -> None:
        connection.read_request()
        fields = [*accepting_fields(connection.key), ("Sec-WebSocket-Protocol", "binary")]
        close = frame(CLOSE, b"\x0f\xa1busy")
        connection.send_head("101 Switching Protocols", fields, close)
        connection.next_frame()
        connection.close()

    client = run.play(script)
    run.note_echoes(client, 1)
    client.send_close(4001)
    run.note_rest(client)


# control frames


@case
def ping_from_the_client(run: Run) -> None:
    client = run.play()
    client.send_frame(PING, b"are you there")
    run.note_echoes(client, 1)
    run.finish(client)


@case
def ping_between_fragments(run: Run) -> None:
    client = run.play()
    client.send_frame(TEXT, b"one", fin=False)
    client.send_frame(PING, b"middle")
    client.send_frame(CONTINUATION, b"two")
    run.notes["echoes"] = sorted(shown(client.recv_frame()) for _ in range(3))
    run.finish(client)


@case
def ping_from_the_upstream(run: Run) -> None:
    client = run.play(sends(frame(PING, b"are you there"), frame(TEXT, b"after")))
    got = client.recv_frame()
    seen = [shown(got)]
    if got.opcode == PING:
        client.send_frame(PONG, got.payload)
        seen.append(shown(client.recv_frame()))
    run.notes["echoes"] = seen
    run.finish(client)


@case
def unsolicited_pong_from_the_client(run: Run) -> None:
    client = run.play()
    client.send_frame(PONG, b"nobody asked")
    client.send_frame(TEXT, b"after")
    run.note_echoes(client, 1)
    run.finish(client)


@case
def unsolicited_pong_from_the_upstream(run: Run) -> None:
    client = run.play(sends(frame(PONG, b"nobody asked"), frame(TEXT, b"after")))
    run.finish(client)


# closing


def _closes(name: str, code: int | None, reason: str) -> None:
    def from_client(run: Run) -> None:
        run.finish(run.play(), code, reason)

    def from_upstream(run: Run) -> None:
        def then(connection: Connection) -> None:
            connection.send_close(code, reason)
            with contextlib.suppress(StreamEnded, NotInTime):
                connection.next_frame()
            connection.close()

        client = run.play(opened(then))
        run.notes["close"] = client.recv_close()
        client.send_close(code)
        run.note_rest(client)

    CASES[f"close_{name}_from_the_client"] = from_client
    CASES[f"close_{name}_from_the_upstream"] = from_upstream


_closes("1000", 1000, "done")
_closes("1001", 1001, "going away")
_closes("1011", 1011, "a fault")
_closes("4999", 4999, "grüße " * 15)
_closes("empty", None, "")


@case
def upstream_stays_after_close(run: Run) -> None:
    """The client closes by the book and waits for the end of TCP, which is the server's to make."""
    run.finish(run.play(stays_after_close))


# refusals and faults


refusals("refused_403", "403 Forbidden")
refusals("refused_404", "404 Not Found", [("X-One", "1")])
refusals("refused_302", "302 Found", [("Location", "https://login.test/?a=b")])
refusals("refused_401", "401 Unauthorized", [("WWW-Authenticate", 'Basic realm="esxi"')])
refusals(
    "refused_503",
    "503 Service Unavailable",
    [("Retry-After", "7"), ("Set-Cookie", "a=1"), ("Set-Cookie", "b")],
)


@case
def answered_200(run: Run) -> None:
    run.play(refuse("200 OK", b"upstream: a page"))


@case
def wrong_accept_value(run: Run) -> None:
    run.play(wrong_accept)


@case
def answer_is_not_http(run: Run) -> None:
    run.play(answer(b"\x15\x03\x01 hello, this is telnet\r\n\r\n"))


@case
def answer_has_no_end(run: Run) -> None:
    run.play(endless_head)


@case
def nobody_listens(run: Run) -> None:
    client = run.client("dead")
    run.note_answer(client, lambda: client.ask("/", ["binary"]))


@case
def upstream_drops_before_the_answer(run: Run) -> None:
    run.play(drops_before_answer)


@case
def upstream_drops_after_the_101(run: Run) -> None:
    run.notes["client got"] = rest(run.play(opened(lambda connection: connection.close())))


@case
def upstream_drops_after_a_frame(run: Run) -> None:
    def then(connection: Connection) -> None:
        connection.send_frame(TEXT, b"last words")
        connection.close()

    run.notes["client got"] = rest(run.play(opened(then)))


@case
def upstream_drops_in_a_frame(run: Run) -> None:
    def then(connection: Connection) -> None:
        connection.send_raw(frame(BINARY, b"x" * 10, length=1000))
        connection.next_frame()
        connection.drop()

    client = run.play(opened(then))
    run.notes["part"] = client.recv_exactly(14)
    client.send_frame(TEXT, b"seen")
    run.notes["client got"] = rest(client)


@case
def upstream_drops_in_its_second_frame_at_once(run: Run) -> None:
    """What was whole before the upstream left reaches the client."""

    def then(connection: Connection) -> None:
        connection.send_raw(frame(TEXT, b"last words") + frame(BINARY, b"x" * 10, length=1000))
        connection.drop()

    run.notes["client got"] = [seen for seen in rest(run.play(opened(then))) if seen != "a part of a frame"]


@case
def client_drops(run: Run) -> None:
    client = run.play()
    client.send_frame(TEXT, b"last words")
    run.note_echoes(client, 1)
    client.drop()
    run.note_upstream()


@case
def client_resets(run: Run) -> None:
    client = run.play()
    client.send_frame(TEXT, b"last words")
    run.note_echoes(client, 1)
    client.reset()
    run.note_upstream()


@case
def client_drops_in_a_frame(run: Run) -> None:
    client = run.play()
    client.send_raw(frame(BINARY, b"x" * 10, mask=True, length=1000))
    client.drop()
    run.note_upstream()


@case
def client_frame_unmasked(run: Run) -> None:
    client = run.play()
    client.send_frame(TEXT, b"bare", mask=False)
    run.notes["client got"] = rest(client)
    client.close()
    run.note_upstream()


@case
def client_frame_with_a_reserved_bit(run: Run) -> None:
    client = run.play()
    client.send_frame(TEXT, b"compressed?", rsv=4)
    run.notes["client got"] = rest(client)
    client.close()
    run.note_upstream()


@case
def upstream_frame_with_a_reserved_opcode(run: Run) -> None:
    client = run.play(sends(frame(3, b"?")))
    run.notes["client got"] = rest(client)
    client.close()
    run.note_upstream()
