"""The table."""

from __future__ import annotations

from tests.faults import acts
from tests.faults.acts import (
    GET,
    HALF_HELLO,
    HELLO,
    OPENING,
    accepts,
    asks,
    breaks,
    close_of,
    cuts_tls,
    ends,
    frames,
    goes,
    half_closes,
    once_open,
    post,
    resets,
    says,
    sends,
    serves,
    stays,
    waits,
)
from tests.faults.fault import Fault, Stage
from tests.support.scripts import drops_before_answer, echo, opened, silent, wrong_accept
from tests.support.websocket import BINARY, CLOSE, CONTINUATION, PING, close_payload, frame

KEY = b"key!"
REFUSAL = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno"
REDIRECT = b"HTTP/1.1 301 Moved\r\nLocation: https://127.0.0.1/ticket/x\r\nContent-Length: 0\r\n\r\n"
PAGE = b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n"
LARGE_PAGE = b"HTTP/1.1 200 OK\r\nContent-Length: 30000000\r\n\r\n" + bytes(30_000_000)
CLOSES = frames(frame(CLOSE, close_payload(1000), mask=KEY))
LONG_FRAME = frame(BINARY, b"x" * 10, mask=KEY, length=1000)
LONG_ANSWER = frame(BINARY, b"x" * 10, length=1000)


def _head(how: str, act: object, **rest: object) -> Fault:
    """Return the fault of a head that could not be read, and so counts as HTTP."""
    values = {"status": 400, "error": "MalformedRequest", "ended_by": "proxy", "kind": "http"} | rest
    return Fault(Stage.HEAD, how, act, **values)  # type: ignore[arg-type]


def _decision(how: str, listener: str, status: int | None, error: str, **rest: object) -> Fault:
    values = {"status": status, "error": error, "ended_by": _ender(error), "listener": listener} | rest
    return Fault(Stage.DECISION, how, values.pop("act", asks), **values)  # type: ignore[arg-type]


def _ender(error: str) -> str:
    """Return which side ended a session before its 101."""
    return (
        "upstream"
        if error in ("UpstreamLost", "UpstreamInvalid", "UpgradeRefused", "UpstreamRedirect")
        else "proxy"
    )


def _dial(how: str, listener: str, status: int | None, error: str, **rest: object) -> Fault:
    values = {"status": status, "error": error, "ended_by": _ender(error), "listener": listener} | rest
    return Fault(Stage.DIAL, how, values.pop("act", asks), **values)  # type: ignore[arg-type]


def _opening(how: str, upstream: object, status: int, error: str, **rest: object) -> Fault:
    values = {"status": status, "error": error, "ended_by": _ender(error), "upstream": upstream} | rest
    return Fault(Stage.OPENING, how, values.pop("act", asks), **values)  # type: ignore[arg-type]


def _client(how: str, act: object, error: str, **rest: object) -> Fault:
    values = {"status": 101, "error": error, "ended_by": "client", "upstream": opened(serves)} | rest
    return Fault(Stage.OPEN, how, act, **values)  # type: ignore[arg-type]


def _upstream(
    how: str, upstream: object, error: str | None, close: int | None = 1011, **rest: object
) -> Fault:
    values = {
        "status": 101,
        "close": close,
        "error": error,
        "ended_by": "upstream",
        "upstream": upstream,
    } | rest
    return Fault(Stage.OPEN, how, values.pop("act", once_open()), **values)  # type: ignore[arg-type]


def _http(how: str, act: object, status: int | None, error: str | None, **rest: object) -> Fault:
    values = {
        "status": status,
        "error": error,
        "ended_by": "proxy",
        "listener": "http",
        "kind": "http",
    } | rest
    return Fault(Stage.HTTP, how, act, **values)  # type: ignore[arg-type]


def _limit(how: str, listener: str, act: object = acts.second, **rest: object) -> Fault:
    values = {"status": 503, "error": "LimitReached", "ended_by": "proxy", "listener": listener} | rest
    return Fault(Stage.LIMITS, how, act, **values)  # type: ignore[arg-type]


def _second(how: str, listener: str) -> Fault:
    """Return the fault of a second console, while the first one is not affected."""
    return _limit(how, listener, beside=1, upstream_close=1000)


def _closing(how: str, act: object, close: int | None = None, **rest: object) -> Fault:
    values = {"status": 101, "close": close, "upstream": opened(serves)} | rest
    return Fault(Stage.CLOSING, how, act, **values)  # type: ignore[arg-type]


_UNRECORDED = {"status": None, "error": None, "recorded": False}

FAULTS = (
    # Before and in the head
    _head("the client connects and disconnects", ends, **_UNRECORDED),
    _head("the client connects and resets", resets, **_UNRECORDED),
    _head("the client sends nothing", waits, **_UNRECORDED),
    _head("the client disconnects in the middle of the head", sends(OPENING[:40], ends), **_UNRECORDED),
    _head("the client resets in the middle of the head", sends(OPENING[:40], resets), **_UNRECORDED),
    _head(
        "the client stops in the middle of the head",
        sends(OPENING[:40]),
        status=408,
        timeout="head_timeout",
    ),
    _head(
        "the client half-closes in the middle of the head", sends(OPENING[:40], half_closes), **_UNRECORDED
    ),
    _head("the head has a control character", sends(b"GET /\x00 HTTP/1.1\r\n\r\n")),
    _head("the head is too large", sends(b"GET / HTTP/1.1\r\nX: " + b"x" * 20000), status=431),
    _head("the target is too long", sends(b"GET /" + b"x" * 9000 + b" HTTP/1.1\r\n\r\n"), status=414),
    _head("the upgrade has no key", sends(OPENING.replace(b"Sec-WebSocket-Key", b"X-Key"))),
    _head(
        "the upgrade asks for another version",
        sends(OPENING.replace(b"Version: 13", b"Version: 8")),
        status=426,
        error="UpgradeRequired",
    ),
    _head(
        "a proxy in front has damaged the upgrade",
        sends(OPENING.replace(b" HTTP/1.1", b" HTTP/1.0")),
        status=426,
        error="UpgradeRequired",
    ),
    _head(
        "the method of the upgrade is not GET",
        sends(b"POST" + OPENING[3:]),
        status=405,
        error="MethodRefused",
    ),
    _head(
        "a page is requested from a listener for consoles only",
        sends(GET),
        status=426,
        error="UpgradeRequired",
    ),
    _head(
        "a page of an origin that `origins` does not allow opens a console",
        sends(OPENING[:-2] + b"Origin: https://evil.example\r\n\r\n"),
        listener="same-origin",
        status=403,
        error="OriginRefused",
        kind="console",
    ),
    _head("the client speaks TLS to a plain listener", sends(HALF_HELLO)),
    _head(
        "the client speaks plain HTTP to a TLS listener",
        sends(OPENING),
        raw=True,
        listener="tls",
        status=None,
        error="TLSHandshakeFailed",
    ),
    _head(
        "the client resets after its TLS hello",
        sends(HELLO, resets),
        raw=True,
        listener="tls",
        status=None,
        error="TLSHandshakeFailed",
        ended_by="client",
    ),
    _head(
        "the client stops in the middle of the TLS handshake",
        sends(HALF_HELLO),
        raw=True,
        listener="tls",
        status=None,
        timeout="tls_handshake_timeout",
    ),
    _head(
        "the client sends nothing to a TLS listener",
        waits,
        raw=True,
        listener="tls",
        **_UNRECORDED,
    ),
    _head(
        "the client resets within its TLS hello",
        sends(HALF_HELLO, resets),
        raw=True,
        listener="tls",
        **_UNRECORDED,
    ),
    _head(
        "the client sends nothing after the TLS handshake",
        waits,
        listener="tls",
        **_UNRECORDED,
    ),
    _head(
        "the TLS client disconnects in the middle of the head",
        sends(OPENING[:40], ends),
        listener="tls",
        **_UNRECORDED,
    ),
    # Who may, and where to
    _decision("the authenticator raises an unknown exception", "authenticator-raises", 500, "Internal"),
    _decision("the authenticator returns an invalid value", "authenticator-nonsense", 500, "Internal"),
    _decision(
        "the authenticator raises `AccessDenied` with status 401", "authenticator-denies", 401, "AccessDenied"
    ),
    _decision(
        "the authenticator raises `StateUnavailable`", "authenticator-is-cut-off", 503, "StateUnavailable"
    ),
    _decision(
        "the authenticator never answers, and the client disconnects",
        "authenticator-never",
        None,
        "ClientLost",
        act=sends(OPENING, ends),
        ended_by="client",
        recorded_status=499,
    ),
    _decision("the router raises an unknown exception", "router-raises", 500, "Internal"),
    _decision("the router returns an invalid value", "router-nonsense", 500, "Internal"),
    _decision("the router raises `RouteNotFound`", "router-finds-none", 404, "RouteNotFound"),
    _decision("the router raises `AccessDenied`", "router-forbids", 403, "AccessDenied"),
    _decision("the router raises `LimitReached`", "router-is-full", 503, "LimitReached"),
    _decision(
        "the router never answers, and the client resets",
        "router-never",
        None,
        "ClientLost",
        act=sends(OPENING, resets),
        ended_by="client",
        recorded_status=499,
    ),
    _decision(
        "the authenticator never answers",
        "authenticator-never",
        504,
        "DecisionTimeout",
        timeout="decision_timeout",
    ),
    _decision("the router never answers", "router-never", 504, "DecisionTimeout", timeout="decision_timeout"),
    _decision("the authenticator raises `SystemExit`", "authenticator-exits", 500, "Internal"),
    _decision(
        "the authenticator returns a principal with an invalid name",
        "authenticator-named-none",
        500,
        "Internal",
    ),
    # Limits
    _second("`max_sessions` are open", "one"),
    _second("`max_connections` to the upstream are open", "single"),
    _second("a client opens consoles faster than `session_rate`", "rated"),
    _limit("`max_handshakes` are under way", "crowded", acts.behind_another, kind="http"),
    # On the way to the upstream
    _dial(
        "the upstream's name has no address",
        "unresolved",
        502,
        "UpstreamUnresolved",
        proxy_status="dns_error",
    ),
    _dial(
        "the upstream refuses the connection",
        "dead",
        502,
        "UpstreamRefused",
        proxy_status="connection_refused",
        detail=r"dead \(127\.0\.0\.1:\d+\) refused the connection",
    ),
    _dial(
        "the upstream does not answer the TCP connect",
        "unreachable",
        504,
        "UpstreamTimeout",
        timeout="connect_timeout",
    ),
    _dial("the upstream resets at once", "plain", 502, "UpstreamLost", upstream=acts.resets_at_once),
    _dial(
        "the upstream does not speak TLS",
        "no-tls",
        502,
        "UpstreamInvalid",
        upstream=acts.answers_in_plain,
        detail="does not answer with TLS",
    ),
    _dial(
        "the upstream is silent in the TLS handshake",
        "no-tls",
        504,
        "UpstreamTimeout",
        upstream=stays,
        timeout="upstream_handshake_timeout",
    ),
    _dial(
        "the upstream resets in the TLS handshake",
        "no-tls",
        502,
        "UpstreamLost",
        upstream=acts.resets_at_once,
    ),
    _dial("the upstream's certificate is not the pinned one", "mispinned", 502, "UpstreamUntrusted"),
    _dial("the upstream's certificate is from an unknown authority", "unknown-ca", 502, "UpstreamUntrusted"),
    _dial(
        "the client disconnects while the upstream is dialled",
        "unreachable",
        None,
        "ClientLost",
        act=sends(OPENING, ends),
        ended_by="client",
        recorded_status=499,
    ),
    # The upstream's answer
    _opening(
        "the upstream never answers",
        silent,
        504,
        "UpstreamTimeout",
        timeout="upstream_handshake_timeout",
        proxy_status="connection_timeout",
    ),
    _opening("the upstream disconnects without an answer", drops_before_answer, 502, "UpstreamLost"),
    _opening("the upstream resets without an answer", says(b"", breaks), 502, "UpstreamLost"),
    _opening(
        "the upstream disconnects in the middle of the answer",
        says(b"HTTP/1.1 101 Sw", goes),
        502,
        "UpstreamLost",
    ),
    _opening(
        "the upstream sends its answer too slowly",
        acts.drips,
        504,
        "UpstreamTimeout",
        timeout="upstream_handshake_timeout",
    ),
    _opening("the upstream's answer is not HTTP", says(b"SSH-2.0-no\r\n", stays), 502, "UpstreamInvalid"),
    _opening("the upstream's response head never ends", acts.endless, 502, "UpstreamInvalid"),
    _opening("the upstream sends too many 1xx answers", acts.interims, 502, "UpstreamInvalid"),
    _opening("the upstream's Sec-WebSocket-Accept is wrong", wrong_accept, 502, "UpstreamInvalid"),
    _opening("the upstream chooses a subprotocol that was not offered", echo("mqtt"), 502, "UpstreamInvalid"),
    _opening("the upstream refuses", says(REFUSAL, stays), 403, "UpgradeRefused", ended_by="upstream"),
    _opening(
        "the upstream disconnects in the middle of a refusal",
        says(REFUSAL[:-1], goes),
        403,
        "UpgradeRefused",
        ended_by="upstream",
    ),
    _opening("the upstream redirects to its TLS port", says(REDIRECT, stays), 502, "UpstreamRedirect"),
    _opening(
        "the client sends more than 64 KiB before the 101",
        silent,
        400,
        "MalformedRequest",
        act=sends(OPENING + bytes(70000)),
    ),
    Fault(
        Stage.OPENING,
        "the client disconnects before the upstream answers",
        sends(OPENING, ends),
        error="ClientLost",
        upstream=silent,
        recorded_status=499,
    ),
    Fault(
        Stage.OPENING,
        "the TLS client resets before the upstream answers",
        sends(OPENING, resets),
        error="ClientLost",
        upstream=silent,
        listener="tls",
        recorded_status=499,
    ),
    # While the console is open: the client
    _client("the client disconnects without a Close", once_open(ends), "ClientLost", upstream_close=1001),
    _client("the client resets", once_open(resets), "ClientLost", upstream_close=1001),
    _client(
        "the client disconnects in the middle of a frame", once_open(frames(LONG_FRAME), ends), "ClientLost"
    ),
    _client(
        "the client closes TCP without a TLS close_notify",
        once_open(cuts_tls),
        "ClientLost",
        listener="tls",
        upstream_close=1001,
    ),
    _client(
        "the client sends a reserved opcode",
        once_open(frames(b"\x83\x80" + KEY)),
        "ProtocolViolation",
        close=1002,
        upstream_close=1001,
    ),
    _client(
        "the client sends an unmasked frame",
        once_open(frames(frame(BINARY, b"x"))),
        "ProtocolViolation",
        close=1002,
        upstream_close=1001,
    ),
    _client(
        "the client sets a reserved bit",
        once_open(frames(frame(BINARY, b"x", rsv=4, mask=KEY))),
        "ProtocolViolation",
        close=1002,
        upstream_close=1001,
    ),
    _client(
        "the client continues a message that has not begun",
        once_open(frames(frame(CONTINUATION, b"x", mask=KEY))),
        "ProtocolViolation",
        close=1002,
        upstream_close=1001,
    ),
    _client(
        "the client's ping is too long",
        once_open(frames(frame(PING, b"x" * 126, mask=KEY))),
        "ProtocolViolation",
        close=1002,
        upstream_close=1001,
    ),
    _client(
        "the client's frame is over `max_frame`",
        once_open(frames(frame(BINARY, b"", mask=KEY, length=1 << 20))),
        "FrameTooBig",
        close=1009,
        listener="quick",
        upstream_close=1001,
    ),
    _client(
        "the client floods with pings",
        once_open(frames(frame(PING, mask=KEY) * 5000)),
        "Flood",
        close=1008,
        upstream_close=1001,
    ),
    _client(
        "the client does not answer pings",
        once_open(),
        "ClientLost",
        listener="pinging",
        upstream_close=1001,
        timeout="ping_timeout",
    ),
    _client(
        "the client does not read",
        once_open(acts.never_reads),
        "StallTimeout",
        ended_by="proxy",
        upstream=opened(acts.pours),
        listener="quick",
        timeout="stall_timeout",
    ),
    _client(
        "the client does not read data that fits in the kernel's buffers",
        acts.never_reads_a_little,
        "StallTimeout",
        ended_by="proxy",
        upstream=accepts(frame(BINARY, bytes(300_000)), serves),
        upstream_close=1008,
        timeout="stall_timeout",
    ),
    # While the console is open: the upstream
    _upstream("the upstream disconnects without a Close", opened(goes), "UpstreamLost"),
    _upstream("the upstream resets", opened(breaks), "UpstreamLost"),
    _upstream(
        "the upstream disconnects in the middle of a frame",
        accepts(LONG_ANSWER, goes),
        "UpstreamLost",
        close=None,
    ),
    _upstream("the upstream resets, over TLS", opened(breaks), "UpstreamLost", listener="secure"),
    _upstream(
        "the upstream sends a reserved opcode",
        accepts(b"\x83\x00", serves),
        "ProtocolViolation",
        upstream_close=1002,
    ),
    _upstream(
        "the upstream sends a masked frame",
        accepts(frame(BINARY, b"x", mask=KEY), serves),
        "ProtocolViolation",
        upstream_close=1002,
    ),
    _upstream(
        "the upstream's frame is over `max_frame`",
        accepts(frame(BINARY, b"", length=1 << 20), serves),
        "FrameTooBig",
        upstream_close=1009,
        listener="quick",
    ),
    _upstream(
        "the upstream floods with pings", accepts(frame(PING) * 5000, serves), "Flood", upstream_close=1008
    ),
    _upstream(
        "the upstream does not answer pings",
        opened(stays),
        "UpstreamLost",
        listener="pinging-up",
        timeout="ping_timeout",
    ),
    _upstream(
        "no side sends a data frame",
        opened(serves),
        "IdleTimeout",
        1008,
        ended_by="proxy",
        listener="idle",
        upstream_close=1008,
        timeout="idle_timeout",
    ),
    _upstream(
        "the session reaches its maximum age",
        opened(serves),
        "LifetimeReached",
        1008,
        ended_by="proxy",
        listener="mortal",
        upstream_close=1008,
        timeout="max_lifetime",
    ),
    # While it is being closed
    _closing(
        "the client disconnects after its Close",
        once_open(CLOSES, ends),
        upstream_close=1000,
    ),
    _closing(
        "the client sends half a Close and resets",
        once_open(frames(frame(CLOSE, close_payload(1000), mask=KEY)[:5]), resets),
        error="ClientLost",
        upstream_close=1001,
    ),
    _closing(
        "the client's Close has an invalid code",
        once_open(frames(frame(CLOSE, close_payload(1005), mask=KEY))),
        1002,
        error="ProtocolViolation",
        upstream_close=1001,
    ),
    _closing(
        "the reason of the client's Close is not UTF-8",
        once_open(frames(frame(CLOSE, close_payload(1000, b"\xff"), mask=KEY))),
        1007,
        error="InvalidPayload",
        upstream_close=1001,
    ),
    _closing(
        "the upstream never answers the client's Close",
        once_open(CLOSES),
        1000,
        upstream=opened(stays),
        timeout="close_timeout",
    ),
    _closing(
        "the upstream answers the Close and keeps TCP open",
        once_open(CLOSES),
        1000,
        upstream=opened(acts.keeps_tcp),
        upstream_close=1000,
        timeout="close_timeout",
    ),
    _closing(
        "the upstream resets instead of answering the Close",
        once_open(CLOSES),
        1000,
        upstream=opened(acts.resets_for_a_close),
        upstream_close=1000,
    ),
    _closing(
        "the upstream closes and keeps TCP open",
        once_open(),
        1000,
        ended_by="upstream",
        upstream=accepts(close_of(1000), acts.keeps_tcp),
        upstream_close=1000,
        timeout="close_timeout",
    ),
    _closing(
        "the upstream closes, and the client resets",
        once_open(acts.reads, resets),
        ended_by="upstream",
        upstream=accepts(close_of(1000), acts.keeps_tcp),
        upstream_close=1000,
        timeout="close_timeout",
    ),
    # Plain HTTP
    _http(
        "the client resets in the middle of a body",
        sends(post(("Content-Length", "1000"), body=b"x"), resets),
        None,
        "ClientLost",
        upstream=silent,
        ended_by="client",
        recorded_status=499,
    ),
    _http(
        "a chunk of the body is invalid",
        sends(post(("Transfer-Encoding", "chunked"), body=b"XY\r\n")),
        400,
        "MalformedRequest",
        upstream=silent,
        ended_by="client",
    ),
    _http(
        "the body is over `max_body`",
        sends(post(("Content-Length", "1000000"))),
        413,
        "BodyTooLarge",
    ),
    _http(
        "the upstream never answers",
        sends(GET),
        504,
        "UpstreamTimeout",
        upstream=silent,
        timeout="response_timeout",
    ),
    _http(
        "the upstream disconnects without an answer",
        sends(post(("Content-Length", "0"))),
        502,
        "UpstreamLost",
        upstream=drops_before_answer,
        ended_by="upstream",
    ),
    _http(
        "the upstream's answer is not HTTP",
        sends(GET),
        502,
        "UpstreamInvalid",
        upstream=says(b"SSH-2.0-no\r\n\r\n", stays),
        ended_by="upstream",
    ),
    _http(
        "the upstream disconnects in the middle of an answer",
        sends(GET),
        200,
        "UpstreamLost",
        upstream=says(PAGE + b"x", goes),
        ended_by="upstream",
    ),
    _http(
        "the upstream stops in the middle of an answer",
        sends(GET),
        200,
        "UpstreamTimeout",
        upstream=says(PAGE + b"x", stays),
        timeout="response_timeout",
    ),
    _http(
        "the client does not read the answer",
        sends(GET, acts.never_reads),
        200,
        "StallTimeout",
        upstream=says(LARGE_PAGE, stays),
        timeout="stall_timeout",
    ),
    _http(
        "the upstream does not read the body",
        acts.sends_what_is_taken(post(("Content-Length", "30000000"), body=bytes(30_000_000))),
        504,
        "UpstreamTimeout",
        upstream=acts.never_reads_a_body,
        listener="bodies",
        timeout="stall_timeout",
    ),
    _http(
        "the client resets in the middle of an answer",
        sends(GET, acts.reads, resets),
        200,
        "ClientLost",
        upstream=says(PAGE + b"x", stays),
        ended_by="client",
    ),
    _http("the upstream refuses the connection", sends(GET), 502, "UpstreamRefused", listener="dead"),
)
