"""Requests of hostile clients are refused with a status line, and do not reach an upstream."""

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from esxiproxy.core.http.policy import Http, ListenerPolicy
from tests.net.http_scene import OK, HttpScene, get, read
from tests.net.scene import KEY, opening

FORWARD = ListenerPolicy(http=Http.FORWARD)
REFUSE = ListenerPolicy()
PATHS = ListenerPolicy(http=Http.FORWARD, paths=(b"/ticket/", b"/ui/"))
HARDENED = ListenerPolicy(paths=(b"/ticket/",))

SMUGGLED = b"GET /admin HTTP/1.1\r\nHost: h\r\n\r\n"


def post(*fields, body=b"", version=b"1.1"):
    return get(b"/sdk", *fields, method=b"POST", body=body, version=version)


def ws(*fields, drop=(), replace=(), line=None):
    """Return a browser's opening handshake with an error in it."""
    lines = opening(b"/ticket/abc", *fields)[:-4].split(b"\r\n")
    lines = [each for each in lines if each.split(b":")[0] not in drop]
    for old, new in replace:
        lines = [each.replace(old, new) for each in lines]
    if line is not None:
        lines[0] = line
    return b"\r\n".join(lines) + b"\r\n\r\n"


CL, TE = b"Content-Length: ", b"Transfer-Encoding: "

# name: (policy, what is sent, the status of the answer)
HOSTILE = {
    # two framings
    "CL.TE": (FORWARD, post(CL + b"6", TE + b"chunked", body=b"0\r\n\r\nG"), 400),
    "TE.CL": (FORWARD, post(TE + b"chunked", CL + b"4", body=b"5c\r\n" + SMUGGLED + b"0\r\n\r\n"), 400),
    "CL.CL": (FORWARD, post(CL + b"5", CL + b"6", body=b"abcdeG"), 400),
    "CL.CL, equal": (FORWARD, post(CL + b"5", CL + b"5", body=b"abcde"), 400),
    "CL list": (FORWARD, post(CL + b"5, 5", body=b"abcde"), 400),
    "CL +5": (FORWARD, post(CL + b"+5", body=b"abcde"), 400),
    "CL -5": (FORWARD, post(CL + b"-5", body=b"abcde"), 400),
    "CL 5.0": (FORWARD, post(CL + b"5.0", body=b"abcde"), 400),
    "CL 0x5": (FORWARD, post(CL + b"0x5", body=b"abcde"), 400),
    "CL 5 6": (FORWARD, post(CL + b"5 6", body=b"abcde"), 400),
    "CL empty": (FORWARD, post(b"Content-Length:", body=b"abcde"), 400),
    "CL huge": (FORWARD, post(CL + b"9" * 30), 400),
    "CL quoted": (FORWARD, post(CL + b'"5"', body=b"abcde"), 400),
    "CL in other digits": (FORWARD, post(CL + "٥".encode(), body=b"abcde"), 400),
    "CL 1_0": (FORWARD, post(CL + b"1_0", body=b"abcde"), 400),
    "TE xchunked": (FORWARD, post(TE + b"xchunked", body=b"0\r\n\r\n"), 400),
    "TE chunked, identity": (FORWARD, post(TE + b"chunked, identity", body=b"0\r\n\r\n"), 400),
    "TE identity": (FORWARD, post(TE + b"identity", body=b"0\r\n\r\n"), 400),
    "TE gzip, chunked": (FORWARD, post(TE + b"gzip, chunked", body=b"0\r\n\r\n"), 501),
    "TE chunked, chunked": (FORWARD, post(TE + b"chunked, chunked", body=b"0\r\n\r\n"), 400),
    "TE twice": (FORWARD, post(TE + b"chunked", TE + b"x", body=b"0\r\n\r\n"), 400),
    "TE empty": (FORWARD, post(b"Transfer-Encoding:", body=b"0\r\n\r\n"), 400),
    "TE chunked;q=1": (FORWARD, post(TE + b"chunked;q=1", body=b"0\r\n\r\n"), 400),
    "TE with vertical tab": (FORWARD, post(TE + b"\x0bchunked", body=b"0\r\n\r\n"), 400),
    "TE with NEL": (FORWARD, post(TE + b"\x85chunked", body=b"0\r\n\r\n"), 400),
    "TE with NBSP": (FORWARD, post(TE + b"\xa0chunked", body=b"0\r\n\r\n"), 400),
    "TE in HTTP/1.0": (FORWARD, post(TE + b"chunked", body=b"0\r\n\r\n", version=b"1.0"), 400),
    "TE space before the colon": (FORWARD, post(b"Transfer-Encoding : chunked", body=b"0\r\n\r\n"), 400),
    "TE folded": (FORWARD, post(b"Transfer-Encoding:\r\n chunked", body=b"0\r\n\r\n"), 400),
    "TE behind a bare LF": (FORWARD, post(b"X: y\nTransfer-Encoding: chunked", body=b"0\r\n\r\n"), 400),
    "TE behind a bare CR": (FORWARD, post(b"X: y\rTransfer-Encoding: chunked", body=b"0\r\n\r\n"), 400),
    "TE with a tab in its name": (FORWARD, post(b"Transfer\tEncoding: chunked"), 400),
    "TE quoted": (FORWARD, post(TE + b'"chunked"'), 400),
    # lines and characters
    "bare LF": (FORWARD, b"GET / HTTP/1.1\nHost: h\n\n", 400),
    "bare LF at the end": (FORWARD, b"GET / HTTP/1.1\r\nHost: h\r\n\n", 400),
    "obs-fold": (FORWARD, get(b"/", b"X: a\r\n b"), 400),
    "obs-fold at the start": (FORWARD, b"GET / HTTP/1.1\r\n Host: h\r\n\r\n", 400),
    "NUL in a value": (FORWARD, get(b"/", b"X: a\0b"), 400),
    "NUL in a name": (FORWARD, get(b"/", b"X\0: a"), 400),
    "NUL in the target": (FORWARD, get(b"/\0"), 400),
    "form feed": (FORWARD, get(b"/", b"X: a\x0cb"), 400),
    "record separator": (FORWARD, get(b"/", b"X: a\x1eTransfer-Encoding: chunked"), 400),
    "unit separator": (FORWARD, get(b"/", b"X: a\x1fb"), 400),
    "DEL": (FORWARD, get(b"/", b"X: a\x7fb"), 400),
    "nine blank lines first": (FORWARD, b"\r\n" * 9 + get(), 400),
    "a space first": (FORWARD, b" " + get(), 400),
    "a field without a colon": (FORWARD, get(b"/", b"X"), 400),
    "a field without a name": (FORWARD, get(b"/", b": x"), 400),
    "a name that is no token": (FORWARD, get(b"/", b"X(y): z"), 400),
    # request line
    "HTTP/1.2": (FORWARD, get(version=b"1.2"), 400),
    "HTTP/2.0": (FORWARD, get(version=b"2.0"), 400),
    "HTTP/0.9": (FORWARD, b"GET /\r\n\r\n", 400),
    "HTTP/1.10": (FORWARD, get(version=b"1.10"), 400),
    "HTTP/2 preface": (FORWARD, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0", 400),
    "TLS on a plain port": (FORWARD, b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03" + b"\0" * 20, 400),
    "PROXY header where none is taken": (FORWARD, b"PROXY TCP4 1.2.3.4 1.2.3.4 1 2\r\n" + get(), 400),
    "CONNECT": (FORWARD, b"CONNECT 10.0.0.1:22 HTTP/1.1\r\nHost: 10.0.0.1:22\r\n\r\n", 400),
    "TRACE": (FORWARD, get(method=b"TRACE"), 405),
    "another method in the target": (FORWARD, b"GET / HTTP/1.1 HTTP/1.1\r\nHost: h\r\n\r\n", 400),
    "absolute-form for another": (FORWARD, get(b"http://10.0.0.1/"), 400),
    "absolute-form with a user": (FORWARD, get(b"http://proxy.example:81@10.0.0.1/"), 400),
    "absolute-form, another port": (FORWARD, get(b"http://proxy.example:22/"), 400),
    "absolute-form, ftp": (FORWARD, get(b"ftp://proxy.example:81/"), 400),
    "authority-form": (FORWARD, get(b"10.0.0.1:80"), 400),
    "a target that is no path": (FORWARD, get(b"@10.0.0.1/"), 400),
    "asterisk with GET": (FORWARD, get(b"*"), 400),
    "fragment": (FORWARD, get(b"/a#b"), 400),
    # Host
    "no Host": (FORWARD, b"GET / HTTP/1.1\r\n\r\n", 400),
    "two Hosts": (FORWARD, get(b"/", b"Host: evil"), 400),
    "two equal Hosts": (FORWARD, get(b"/", b"Host: proxy.example:81"), 400),
    "Host in two ways": (FORWARD, get(b"/", b"hOST: evil"), 400),
    "empty Host": (FORWARD, get(host=b""), 400),
    "Host with a path": (FORWARD, get(host=b"h/../x"), 400),
    "Host with a user": (FORWARD, get(host=b"a@b"), 400),
    "Host list": (FORWARD, get(host=b"a,b"), 400),
    "Host with a space": (FORWARD, get(host=b"a b"), 400),
    # sizes
    "long target": (FORWARD, get(b"/" + b"a" * 9000), 414),
    "endless target": (FORWARD, b"GET /" + b"a" * 20000, 414),
    "long target with a line": (FORWARD, get(b"/?" + b"a" * 8192), 414),
    "large field": (FORWARD, get(b"/", b"X: " + b"a" * 20000), 431),
    "endless field": (FORWARD, b"GET / HTTP/1.1\r\nX: " + b"a" * 20000, 431),
    "many fields": (FORWARD, get(b"/", *[b"X: y"] * 101), 431),
    "many bytes of fields": (FORWARD, get(b"/", *[b"X: " + b"y" * 500] * 40), 431),
    # WebSocket
    "no WebSocket": (REFUSE, get(), 426),
    "no WebSocket, POST": (REFUSE, post(CL + b"5", body=b"abcde"), 426),
    "version 12": (FORWARD, ws(replace=[(b"Version: 13", b"Version: 12")]) + SMUGGLED, 426),
    "version 777": (FORWARD, ws(replace=[(b"Version: 13", b"Version: 777")]) + SMUGGLED, 426),
    "version +13": (FORWARD, ws(replace=[(b"Version: 13", b"Version: +13")]), 426),
    "version 13, 8": (FORWARD, ws(replace=[(b"Version: 13", b"Version: 13, 8")]), 426),
    "no version": (FORWARD, ws(drop=[b"Sec-WebSocket-Version"]) + SMUGGLED, 400),
    "two versions": (FORWARD, ws(b"Sec-WebSocket-Version: 8"), 400),
    "no key": (FORWARD, ws(drop=[b"Sec-WebSocket-Key"]) + SMUGGLED, 400),
    "short key": (FORWARD, ws(replace=[(KEY, b"YWJj")]), 400),
    "two keys": (FORWARD, ws(b"Sec-WebSocket-Key: " + KEY), 400),
    "upgrade with a body": (FORWARD, ws(CL + b"%d" % len(SMUGGLED)) + SMUGGLED, 400),
    "upgrade with chunks": (FORWARD, ws(TE + b"chunked") + b"0\r\n\r\n", 400),
    "upgrade by POST": (FORWARD, ws(line=b"POST /ticket/abc HTTP/1.1"), 405),
    "upgrade in absolute-form": (FORWARD, ws(line=b"GET http://proxy.example:81/x HTTP/1.1"), 400),
    "a subprotocol twice": (FORWARD, ws(b"Sec-WebSocket-Protocol: binary"), 400),
    "a subprotocol that is none": (FORWARD, ws(replace=[(b": binary", b": bin ary")]), 400),
    # paths
    "another path": (PATHS, get(b"/sdk"), 404),
    "another path for a WebSocket": (PATHS, ws(line=b"GET /sdk HTTP/1.1"), 404),
    "a path behind dots": (PATHS, get(b"/ui/../sdk"), 404),
    "a path behind a dot": (PATHS, get(b"/ui/./../sdk"), 404),
    "a path behind encoded dots": (PATHS, get(b"/ui/%2e%2e/sdk"), 404),
    "a path behind half encoded dots": (PATHS, get(b"/ui/.%2E/sdk"), 404),
    "a path behind an encoded slash": (PATHS, get(b"/ui/..%2fsdk"), 404),
    "a path behind a backslash": (PATHS, get(b"/ui/..\\sdk"), 404),
    "a path behind an encoded backslash": (PATHS, get(b"/ui/..%5csdk"), 404),
    "a path encoded twice": (PATHS, get(b"/ui/%252e%252e/sdk"), 404),
    "a path with a parameter": (PATHS, get(b"/ui/..;/sdk"), 404),
    "a path with an overlong dot": (PATHS, get(b"/ui/%c0%ae%c0%ae/sdk"), 404),
    "a path with a broken encoding": (PATHS, get(b"/ui/%zz"), 404),
    "a path with an encoded NUL": (PATHS, get(b"/ui/%00"), 404),
    "two slashes": (PATHS, get(b"/ui//sdk"), 404),
    "two slashes first": (PATHS, get(b"//ui/"), 404),
    "a path in other letters": (PATHS, get(b"/UI/"), 404),
    "a path that begins alike": (PATHS, get(b"/uix/"), 404),
    "an encoded letter": (PATHS, get(b"/%75i/"), 404),
    "OPTIONS * where paths are few": (PATHS, get(b"*", method=b"OPTIONS"), 404),
    "absolute-form where paths are few": (PATHS, get(b"http://proxy.example:81/sdk"), 404),
    "a page of a hardened listener": (HARDENED, get(b"/ticket/"), 426),
    "another page of a hardened listener": (HARDENED, get(b"/ui/"), 404),
}


@pytest.mark.parametrize("chunk", [None, 3])
@pytest.mark.parametrize(("policy", "octets", "status"), HOSTILE.values(), ids=HOSTILE.keys())
def test_a_hostile_request_is_refused_and_nothing_goes_upstream(policy, octets, status, chunk):
    scene = HttpScene(policy=policy)
    scene.ask(octets, chunk)
    assert scene.connector.dials == 0 and scene.host is None
    found = read(scene.client.received)
    assert found.status == status and found.line.startswith(b"HTTP/1.1 ") and not found.rest
    assert b"close" in found.values(b"Connection")[0] and found.values(b"Proxy-Status")
    assert not found.values(b"Location")
    if status == 426:
        assert found.values(b"Upgrade") == [b"websocket"]
        assert found.values(b"Sec-WebSocket-Version") == [b"13"]
    assert scene.client.saw_fin
    scene.ask(SMUGGLED)
    assert scene.connector.dials == 0, "a refused connection serves nothing more"
    scene.advance(10)
    assert scene.at_rest() and scene.record.status == status


KEPT = {name: case for name, case in HOSTILE.items() if case[0].http is Http.FORWARD}


@pytest.mark.parametrize("pipelined", [False, True])
@pytest.mark.parametrize(("policy", "octets", "status"), KEPT.values(), ids=KEPT.keys())
def test_a_hostile_request_after_a_good_one_is_refused(policy, octets, status, pipelined):
    scene = HttpScene(policy=policy)
    scene.ask(get(b"/ui/") + octets * pipelined)
    scene.host.received = b""
    found = read(scene.answer(OK) + b"")
    assert found.body == b"ok"
    if not pipelined:
        scene.client.received = b""
        scene.ask(octets)
    assert not scene.host.received and scene.connector.dials == 1
    assert read(found.rest if pipelined else scene.client.received).status == status


BODIES = {
    "a chunk that is none": b"XY\r\n",
    "a chunk of -1": b"-1\r\n",
    "a chunk of 0x1": b"0x1\r\na\r\n",
    "a chunk of +1": b"+1\r\na\r\n",
    "a chunk that ends with a bare LF": b"1\na\r\n",
    "a chunk with too many bytes": b"1\r\nab\r\n",
    "a chunk with too few bytes": b"3\r\na\r\n0\r\n\r\n",
    "an extension with a bare LF": b"1;a\nb\r\na\r\n",
    "a size of many digits": b"1" * 30 + b"\r\n",
    "a size of 2^80": b"100000000000000000000\r\n",
    "trailers with a bare LF": b"0\r\nX: a\n\r\n",
    "trailers that end with a bare LF": b"0\r\nX: a\n\n" + SMUGGLED,
    "an end with a bare LF": b"0\r\n\n" + SMUGGLED,
    "trailers that are folded": b"0\r\nX: a\r\n b\r\n\r\n",
    "a trailer without a colon": b"0\r\nX\r\n\r\n",
    "a trailer with a space before its colon": b"0\r\nX : y\r\n\r\n",
    "a trailer with a NUL": b"0\r\nX: a\0b\r\n\r\n",
    "endless trailers": b"0\r\nX: " + b"a" * 20000,
    "endless extension": b"1;" + b"a" * 20000,
    "last chunk with a bare CR": b"0;a\rb\r\n\r\n",
}


@pytest.mark.parametrize("chunk", [None, 1])
@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES.keys())
def test_a_hostile_body_never_ends_a_request_upstream(body, chunk):
    scene = HttpScene()
    scene.ask(post(TE + b"chunked"))
    scene.ask(body, chunk)
    found = read(scene.client.received)
    assert found.status == 400 and scene.record.error == "MalformedRequest"
    assert scene.host.ended == "aborted" and not read(scene.host.received).whole
    assert b"/admin" not in scene.host.received


@pytest.mark.parametrize("known", [True, False])
def test_a_body_that_is_too_large_is_a_413(known):
    scene = HttpScene(max_body=10)
    if known:
        scene.ask(post(CL + b"11", body=b"x" * 11))
        assert scene.connector.dials == 0
    else:
        scene.ask(post(TE + b"chunked", body=b"6\r\nxxxxxx\r\n6\r\nxxxxxx\r\n"))
        assert scene.host.ended == "aborted"
    assert read(scene.client.received).status == 413 and scene.record.error == "BodyTooLarge"
    scene = HttpScene(max_body=10)
    assert scene.ask(post(CL + b"10", body=b"x" * 10)).endswith(b"x" * 10)


@pytest.mark.parametrize("answer", [b"HTTP/1.1 426 Upgrade Required\r\nContent-Length: 0\r\n\r\n", OK])
def test_a_refused_upgrade_is_no_tunnel(answer):
    """After a refused opening handshake, no byte of the client reaches the upstream."""
    scene = HttpScene()
    scene.ask(opening() + SMUGGLED)
    scene.answer(answer)
    assert b"/admin" not in scene.host.received
    scene.ask(SMUGGLED)
    assert b"/admin" not in scene.host.received and scene.host.ended


def test_a_101_for_a_plain_request_is_no_tunnel():
    scene = HttpScene()
    scene.ask(get(b"/", b"Upgrade: foo") + SMUGGLED)
    scene.answer(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
    assert read(scene.client.received).status == 502 and b"/admin" not in scene.host.received


NAMES = st.sampled_from(
    [
        b"Content-Length",
        b"Transfer-Encoding",
        b"Host",
        b"Connection",
        b"X",
        b"Expect",
        b"TE",
        b"content-length",
    ]
)
VALUES = st.one_of(
    st.sampled_from([b"chunked", b"0", b"5", b"close", b"h", b"", b"chunked, x", b"100-continue"]),
    st.binary(max_size=8),
)
ENDS = st.sampled_from([b"\r\n", b"\r\n", b"\r\n", b"\n", b"\r", b"\r\n "])


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.tuples(NAMES, st.sampled_from([b": ", b":", b" : "]), VALUES, ENDS), max_size=5),
    st.binary(max_size=40),
)
@example([], b"")
def test_the_upstream_gets_only_complete_requests_framed_by_the_proxy(fields, body):
    """Each forwarded request is one request to a simple parser, and no byte follows it."""
    head = b"POST /sdk HTTP/1.1\r\nHost: h\r\n" + b"".join(b"".join(field) for field in fields) + b"\r\n"
    scene = HttpScene()
    scene.ask(head + body + b"\r\n" + SMUGGLED)
    for host in scene.hosts:
        if not host.received:  # refused in the turn in which its head was written
            continue
        sent = read(host.received)
        assert not (sent.values(b"Content-Length") and sent.values(b"Transfer-Encoding"))
        assert len(sent.values(b"Content-Length")) <= 1 and len(sent.values(b"Host")) == 1
        assert not sent.rest
