"""Plain HTTP: the request is forwarded to the upstream, and the response to the client."""

import pytest

from esxiproxy.core.errors import UpstreamLost, UpstreamRefused
from esxiproxy.core.http.via import RECEIVED_BY
from esxiproxy.core.routing import Principal, Upstream
from esxiproxy.core.session.record import Kind
from tests.net.http_scene import OK, HttpScene, get, read
from tests.net.scene import KEY, opening
from tests.support.websocket import accept_of

VIA = b"1.1 " + RECEIVED_BY


def chunked(*chunks, trailers=b""):
    return b"".join(b"%x\r\n%b\r\n" % (len(c), c) for c in chunks) + b"0\r\n" + trailers + b"\r\n"


CL5 = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 5\r\n\r\nhello"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunked(b"hel", b"lo")

# request, (request line, body) that the upstream gets, answer, ends it, (status, body) that the client gets
GOOD = {
    "GET": (get(), (b"GET /ui/ HTTP/1.1", b""), CL5, False, (200, b"hello")),
    "GET with a query": (
        get(b"/a;b?x=1;y&z="),
        (b"GET /a;b?x=1;y&z= HTTP/1.1", b""),
        CL5,
        False,
        (200, b"hello"),
    ),
    "GET //": (get(b"//a//b"), (b"GET //a//b HTTP/1.1", b""), CL5, False, (200, b"hello")),
    "GET with dots": (get(b"/a/../b"), (b"GET /a/../b HTTP/1.1", b""), CL5, False, (200, b"hello")),
    "GET %2f": (get(b"/a%2fb%00"), (b"GET /a%2fb%00 HTTP/1.1", b""), CL5, False, (200, b"hello")),
    "GET chunked answer": (get(), (b"GET /ui/ HTTP/1.1", b""), CHUNKED, False, (200, b"hello")),
    "GET empty chunked": (
        get(),
        (b"GET /ui/ HTTP/1.1", b""),
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        False,
        (200, b""),
    ),
    "GET to the end": (
        get(),
        (b"GET /ui/ HTTP/1.1", b""),
        b"HTTP/1.1 200 OK\r\n\r\nhello",
        True,
        (200, b"hello"),
    ),
    "GET from HTTP/1.0": (
        get(),
        (b"GET /ui/ HTTP/1.1", b""),
        b"HTTP/1.0 200 OK\r\n\r\nhello",
        True,
        (200, b"hello"),
    ),
    "GET empty": (
        get(),
        (b"GET /ui/ HTTP/1.1", b""),
        b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        False,
        (200, b""),
    ),
    "GET 204": (get(), (b"GET /ui/ HTTP/1.1", b""), b"HTTP/1.1 204 No Content\r\n\r\n", False, (204, b"")),
    "GET 304": (
        get(b"/", b'If-None-Match: "x"'),
        (b"GET / HTTP/1.1", b""),
        b'HTTP/1.1 304 Not Modified\r\nETag: "x"\r\n\r\n',
        False,
        (304, b""),
    ),
    "GET 304 with a length": (
        get(),
        (b"GET /ui/ HTTP/1.1", b""),
        b"HTTP/1.1 304 Not Modified\r\nContent-Length: 500\r\n\r\n",
        False,
        (304, b""),
    ),
    "GET 206": (
        get(b"/iso", b"Range: bytes=0-4"),
        (b"GET /iso HTTP/1.1", b""),
        b"HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 0-4/99\r\nContent-Length: 5\r\n\r\nhello",
        False,
        (206, b"hello"),
    ),
    "GET 404": (
        get(),
        (b"GET /ui/ HTTP/1.1", b""),
        CL5.replace(b"200 OK", b"404 Not Found"),
        False,
        (404, b"hello"),
    ),
    "GET 500": (
        get(),
        (b"GET /ui/ HTTP/1.1", b""),
        CL5.replace(b"200 OK", b"500 Oops"),
        False,
        (500, b"hello"),
    ),
    "GET 401": (
        get(),
        (b"GET /ui/ HTTP/1.1", b""),
        CL5.replace(b"200 OK", b"401 No"),
        False,
        (401, b"hello"),
    ),
    "GET without a reason": (
        get(),
        (b"GET /ui/ HTTP/1.1", b""),
        CL5.replace(b"200 OK", b"200"),
        False,
        (200, b"hello"),
    ),
    "GET odd status": (
        get(),
        (b"GET /ui/ HTTP/1.1", b""),
        CL5.replace(b"200 OK", b"299 Fine"),
        False,
        (299, b"hello"),
    ),
    "GET with a body": (
        get(b"/q", b"Content-Length: 3", body=b"abc"),
        (b"GET /q HTTP/1.1", b"abc"),
        CL5,
        False,
        (200, b"hello"),
    ),
    "HEAD with a length": (
        get(method=b"HEAD"),
        (b"HEAD /ui/ HTTP/1.1", b""),
        b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n",
        False,
        (200, b""),
    ),
    "HEAD without a length": (
        get(method=b"HEAD"),
        (b"HEAD /ui/ HTTP/1.1", b""),
        b"HTTP/1.1 200 OK\r\n\r\n",
        False,
        (200, b""),
    ),
    "HEAD chunked": (
        get(method=b"HEAD"),
        (b"HEAD /ui/ HTTP/1.1", b""),
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        False,
        (200, b""),
    ),
    "POST": (
        get(b"/sdk", b"Content-Length: 5", method=b"POST", body=b"abcde"),
        (b"POST /sdk HTTP/1.1", b"abcde"),
        CL5,
        False,
        (200, b"hello"),
    ),
    "POST empty": (
        get(b"/sdk", b"Content-Length: 0", method=b"POST"),
        (b"POST /sdk HTTP/1.1", b""),
        CL5,
        False,
        (200, b"hello"),
    ),
    "POST without a length": (
        get(b"/sdk", method=b"POST"),
        (b"POST /sdk HTTP/1.1", b""),
        CL5,
        False,
        (200, b"hello"),
    ),
    "POST chunked": (
        get(b"/sdk", b"Transfer-Encoding: chunked", method=b"POST", body=chunked(b"ab", b"cde")),
        (b"POST /sdk HTTP/1.1", b"abcde"),
        CL5,
        False,
        (200, b"hello"),
    ),
    "POST chunked, empty": (
        get(b"/sdk", b"Transfer-Encoding: chunked", method=b"POST", body=chunked()),
        (b"POST /sdk HTTP/1.1", b""),
        CL5,
        False,
        (200, b"hello"),
    ),
    "POST chunked with extensions": (
        get(b"/sdk", b"Transfer-Encoding: chunked", method=b"POST", body=b"3;a=b\r\nabc\r\n00;x\r\n\r\n"),
        (b"POST /sdk HTTP/1.1", b"abc"),
        CL5,
        False,
        (200, b"hello"),
    ),
    "POST chunked both ways": (
        get(b"/sdk", b"Transfer-Encoding: Chunked", method=b"POST", body=chunked(b"abc")),
        (b"POST /sdk HTTP/1.1", b"abc"),
        CHUNKED,
        False,
        (200, b"hello"),
    ),
    "PUT": (
        get(b"/folder/x.iso", b"Content-Length: 4", method=b"PUT", body=b"\0\xff\r\n"),
        (b"PUT /folder/x.iso HTTP/1.1", b"\0\xff\r\n"),
        b"HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n",
        False,
        (201, b""),
    ),
    "DELETE": (get(method=b"DELETE"), (b"DELETE /ui/ HTTP/1.1", b""), CL5, False, (200, b"hello")),
    "PATCH": (
        get(b"/", b"Content-Length: 1", method=b"PATCH", body=b"x"),
        (b"PATCH / HTTP/1.1", b"x"),
        CL5,
        False,
        (200, b"hello"),
    ),
    "OPTIONS": (get(method=b"OPTIONS"), (b"OPTIONS /ui/ HTTP/1.1", b""), CL5, False, (200, b"hello")),
    "OPTIONS *": (get(b"*", method=b"OPTIONS"), (b"OPTIONS * HTTP/1.1", b""), CL5, False, (200, b"hello")),
    "PROPFIND": (get(method=b"PROPFIND"), (b"PROPFIND /ui/ HTTP/1.1", b""), CL5, False, (200, b"hello")),
    "absolute-form for us": (
        get(b"http://Proxy.example:81/x?y"),
        (b"GET /x?y HTTP/1.1", b""),
        CL5,
        False,
        (200, b"hello"),
    ),
    "absolute-form without a path": (
        get(b"http://proxy.example:81"),
        (b"GET / HTTP/1.1", b""),
        CL5,
        False,
        (200, b"hello"),
    ),
    "HTTP/1.0": (get(version=b"1.0"), (b"GET /ui/ HTTP/1.1", b""), CL5, False, (200, b"hello")),
    "HTTP/1.0, chunked answer": (
        get(version=b"1.0"),
        (b"GET /ui/ HTTP/1.1", b""),
        CHUNKED,
        False,
        (200, b"hello"),
    ),
    "HTTP/1.0 without Host": (
        b"GET / HTTP/1.0\r\n\r\n",
        (b"GET / HTTP/1.1", b""),
        CL5,
        False,
        (200, b"hello"),
    ),
    "HTTP/1.0 POST": (
        get(b"/", b"Content-Length: 1", method=b"POST", version=b"1.0", body=b"x"),
        (b"POST / HTTP/1.1", b"x"),
        CL5,
        False,
        (200, b"hello"),
    ),
    "Upgrade without Connection": (
        get(b"/", b"Upgrade: foo"),
        (b"GET / HTTP/1.1", b""),
        CL5,
        False,
        (200, b"hello"),
    ),
    "h2c": (
        get(b"/", b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: AAMAAABkAAQAAP"),
        (b"GET / HTTP/1.1", b""),
        CL5,
        False,
        (200, b"hello"),
    ),
    "interim answers": (
        get(),
        (b"GET /ui/ HTTP/1.1", b""),
        b"HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" + CL5,
        False,
        (200, b"hello"),
    ),
    "the byte 0x85": (
        get(b"/", b"X-Name: \xc3\x85se"),
        (b"GET / HTTP/1.1", b""),
        CL5,
        False,
        (200, b"hello"),
    ),
}


def served(octets, bodiless):
    """Return the final response that the client received."""
    found = read(octets, bodiless)
    while 100 <= found.status < 200:
        found = read(found.rest, bodiless)
    return found


@pytest.mark.parametrize("chunk", [None, 1, 7])
@pytest.mark.parametrize(("asked", "upstream", "answer", "ends", "client"), GOOD.values(), ids=GOOD.keys())
def test_a_request_and_its_response_are_forwarded(asked, upstream, answer, ends, client, chunk):
    scene = HttpScene()
    sent = read(scene.ask(asked, chunk))
    assert (sent.line, sent.body) == upstream and sent.whole and not sent.rest
    assert not {key.lower() for key, _ in sent.fields} & {b"upgrade", b"http2-settings", b"keep-alive"}
    assert sent.values(b"Host") == [b"192.0.2.10"]
    scene.answer(answer, chunk)
    if ends:
        scene.host.close()
        scene.pump()
    found = served(scene.client.received, asked.startswith(b"HEAD"))
    assert (found.status, found.body) == client and found.whole and not found.rest
    assert found.values(b"Via")[0].endswith(RECEIVED_BY)
    record = scene.record
    assert (record.kind, record.status, record.error) == (Kind.HTTP, client[0], "")
    assert record.method.encode() == asked.split(b" ")[0]
    assert (record.octets_up, record.octets_down) == (len(upstream[1]), len(client[1]))
    assert [*record.phases] == ["authenticated", "routed", "connected", "answered", "closed"]
    closes = b"close" in found.values(b"Connection")
    assert closes == (b" HTTP/1.0\r\n" in asked)
    scene.client.close()
    scene.advance(10)
    assert scene.at_rest()


def test_requests_of_a_connection_share_an_upstream_connection():
    scene = HttpScene()
    for _ in range(3):
        scene.ask(get())
        scene.answer(OK)
        assert read(scene.client.received).body == b"ok"
        scene.clear()
    assert scene.connector.dials == 1 and len(scene.records) == 3
    assert len({record.session for record in scene.records}) == 3


def test_a_response_in_small_pieces_is_not_delayed():
    """Nagle's algorithm and delayed acknowledgements would take 40 ms for them."""
    scene = HttpScene()
    scene.ask(get())
    assert scene.client.transport.no_delay and scene.host.transport.no_delay


def test_pipelined_requests_are_answered_one_after_the_other():
    scene = HttpScene()
    scene.ask(get(b"/1") + get(b"/2", b"Content-Length: 2", method=b"POST", body=b"ab") + get(b"/3"))
    for number in (1, 2, 3):
        sent = read(scene.host.received)
        assert sent.line.endswith(b" /%d HTTP/1.1" % number) and not sent.rest
        scene.host.received = b""
        scene.answer(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n%d" % number)
    found = read(scene.client.received)
    assert [found.body, read(found.rest).body, read(read(found.rest).rest).body] == [b"1", b"2", b"3"]


def test_every_head_of_a_connection_is_checked():
    scene = HttpScene()
    scene.ask(get(b"/1") + b"GET /2 HTTP/1.1\nHost: x\n\n")
    scene.answer(OK)
    found = read(scene.client.received)
    assert found.status == 200 and read(found.rest).status == 400
    assert b"/2" not in scene.host.received
    assert [record.error for record in scene.records] == ["", "MalformedRequest"]
    scene.advance(10)
    assert scene.at_rest()


def test_a_websocket_may_follow_on_the_same_connection():
    scene = HttpScene()
    scene.ask(get())
    scene.answer(OK)
    http, scene.client.received = scene.host, b""
    scene.ask(opening())
    assert http.saw_fin, "the idle HTTP connection has no use any more"
    http.close()
    scene.accept()
    scene.pump()
    assert scene.client.received.startswith(b"HTTP/1.1 101 ")
    assert accept_of(KEY.decode()).encode() in scene.client.received
    assert scene.client.transport.producer is not None, "the relay's valve"


def test_a_client_that_waits_for_a_100_gets_the_upstreams():
    scene = HttpScene()
    scene.ask(get(b"/x", b"Content-Length: 3", b"Expect: 100-continue", method=b"PUT"))
    assert read(scene.host.received, bodiless=True).values(b"Expect") == [b"100-continue"]
    assert scene.answer(b"HTTP/1.1 100 Continue\r\n\r\n").startswith(b"HTTP/1.1 100 ")
    assert scene.ask(b"abc").endswith(b"abc")
    scene.clear()
    found = read(scene.answer(OK))
    assert found.body == b"ok" and not found.values(b"Connection")


def test_a_client_that_waits_for_a_100_may_get_its_answer_at_once():
    scene = HttpScene()
    scene.ask(get(b"/x", b"Content-Length: 3", b"Expect: 100-continue", method=b"PUT"))
    found = read(scene.answer(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n"))
    assert found.status == 413 and found.values(b"Connection") == [b"close"]
    assert scene.client.saw_fin and scene.host.ended


def test_an_answer_may_come_before_the_request_is_complete():
    scene = HttpScene()
    scene.ask(get(b"/x", b"Content-Length: 6", method=b"POST", body=b"abc"))
    scene.answer(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nok")
    scene.ask(b"def")
    assert scene.host.received.endswith(b"abcdef")
    found = read(scene.answer(b"ok"))
    assert found.body == b"okok" and found.values(b"Connection") == [b"close"]


def test_interim_answers_are_not_for_http_1_0():
    scene = HttpScene()
    scene.ask(get(version=b"1.0"))
    assert read(scene.answer(b"HTTP/1.1 103 Early Hints\r\n\r\n" + OK)).status == 200


def test_trailers_pass_both_ways_but_not_all_of_them():
    scene = HttpScene()
    mine = b"X-Sum: 1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\nX-Forwarded-For: 1.2.3.4\r\n"
    sent = read(
        scene.ask(
            get(
                b"/",
                b"Transfer-Encoding: chunked",
                b"Trailer: X-Sum",
                b"TE: trailers",
                method=b"POST",
                body=chunked(b"abc", trailers=mine),
            )
        )
    )
    assert sent.trailers == [(b"X-Sum", b"1")] and sent.values(b"Trailer") == [b"X-Sum"]
    assert (sent.values(b"TE"), sent.values(b"Connection")) == ([b"trailers"], [b"TE"])
    found = read(
        scene.answer(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-End\r\n\r\n"
            + chunked(b"ok", trailers=b"X-End: 2\r\nSet-Cookie: a=b\r\n")
        )
    )
    assert found.trailers == [(b"X-End", b"2")] and found.values(b"Trailer") == [b"X-End"]


def test_an_answer_to_http_1_0_has_no_chunks_and_no_trailers():
    scene = HttpScene()
    scene.ask(get(version=b"1.0"))
    answer = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunked(b"ok", trailers=b"X: 1\r\n")
    found = read(scene.answer(answer))
    assert found.body == b"ok" and not found.values(b"Transfer-Encoding") and scene.client.saw_fin


@pytest.mark.parametrize("value", [b"close", b"Close, X"])
def test_a_client_that_wants_no_more_gets_its_connection_closed(value):
    scene = HttpScene()
    scene.ask(get(b"/", b"Connection: " + value))
    assert read(scene.answer(OK)).values(b"Connection") == [b"close"]
    assert scene.client.saw_fin
    scene.client.close()
    scene.host.close()
    scene.advance(10)
    assert scene.at_rest()


def test_an_upstream_that_wants_no_more_costs_the_client_nothing():
    scene = HttpScene()
    for _ in range(2):
        scene.ask(get())
        found = read(scene.answer(OK.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")))
        assert not found.values(b"Connection")
        scene.clear()
    assert scene.connector.dials == 2


# Reuse and repetition


def again(scene, request=None):
    scene.ask(get())
    scene.answer(OK)
    scene.clear()
    scene.client.send(request or get(b"/again"))


def test_an_upstream_that_closes_while_idle_is_dialled_again():
    scene = HttpScene()
    scene.ask(get())
    scene.answer(OK)
    scene.host.close()
    scene.pump()
    scene.clear()
    scene.ask(get(b"/again"))
    assert scene.connector.dials == 2
    assert read(scene.answer(OK)).body == b"ok"


@pytest.mark.parametrize("method", [b"GET", b"HEAD", b"OPTIONS", b"DELETE", b"PUT"])
@pytest.mark.parametrize("how", ["close", "reset"])
def test_a_request_that_may_be_repeated_is_tried_on_a_fresh_connection_once(method, how):
    scene = HttpScene()
    again(scene, get(b"/again", method=method))
    first = scene.host
    scene.client.pump()
    getattr(first, how)()
    scene.pump()
    assert scene.connector.dials == 2 and scene.host is not first
    assert read(scene.host.received).line == method + b" /again HTTP/1.1"
    scene.host.reset()
    scene.pump()
    assert read(scene.client.received, method == b"HEAD").status == 502 and scene.connector.dials == 2
    assert scene.records[-1].error == "UpstreamLost"


@pytest.mark.parametrize(
    "request_",
    [
        get(b"/again", b"Content-Length: 0", method=b"POST"),
        get(b"/again", b"Content-Length: 1", method=b"PUT", body=b"x"),
        get(b"/again", b"Content-Length: 1", method=b"PUT"),
        get(b"/again", b"Transfer-Encoding: chunked", method=b"PUT", body=chunked(b"x")),
        get(b"/again", method=b"PATCH"),
    ],
)
def test_an_unsafe_request_is_not_repeated(request_):
    scene = HttpScene()
    again(scene, request_)
    scene.client.pump()
    scene.host.close()
    scene.pump()
    assert read(scene.client.received).status == 502 and scene.connector.dials == 1


def test_a_request_on_a_fresh_connection_is_not_repeated():
    scene = HttpScene()
    scene.ask(get())
    scene.host.close()
    scene.pump()
    assert read(scene.client.received).status == 502 and scene.connector.dials == 1


def test_a_request_whose_answer_has_begun_is_not_repeated():
    scene = HttpScene()
    again(scene)
    scene.pump()
    scene.answer(b"HTTP/1.1 2")
    scene.host.close()
    scene.pump()
    assert read(scene.client.received).status == 502 and scene.connector.dials == 1


def test_another_upstream_gets_another_connection():
    scene = HttpScene()
    scene.ask(get())
    scene.answer(OK)
    first = scene.host
    scene.router.upstream = Upstream("other", "192.0.2.11", 80, False)
    scene.ask(get())
    assert first.saw_fin and scene.host is not first


def test_bytes_of_an_idle_upstream_end_its_connection():
    scene = HttpScene()
    scene.ask(get())
    scene.answer(OK)
    scene.answer(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil")
    assert scene.host.ended == "aborted"
    scene.clear()
    scene.ask(get())
    assert read(scene.answer(OK)).body == b"ok" and scene.connector.dials == 2


def test_bytes_after_a_response_are_not_forwarded():
    scene = HttpScene()
    scene.ask(get())
    found = read(scene.answer(OK + b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"))
    assert found.body == b"ok" and not found.rest and scene.host.ended == "aborted"


# Failures


@pytest.mark.parametrize(("failure", "side"), [(UpstreamRefused, "proxy"), (UpstreamLost, "upstream")])
def test_the_record_names_the_side_that_ended_the_dial(failure, side):
    """A failure after the TCP connect, as in the TLS handshake, is ended by the upstream."""
    scene = HttpScene()
    scene.connector.failure = failure("x")
    scene.ask(get())
    assert (scene.record.status, scene.record.error, scene.record.ended_by) == (502, failure.__name__, side)


def test_an_upstream_that_cannot_be_reached_is_a_502_with_its_name():
    scene = HttpScene()
    scene.connector.failure = UpstreamRefused("esxi1 (192.0.2.10) refused the connection")
    scene.ask(get())
    found = read(scene.client.received)
    assert found.status == 502 and b"192.0.2.10" not in scene.client.received
    assert found.values(b"Proxy-Status") == [b"esxiproxy; error=connection_refused"]
    assert scene.client.saw_fin and scene.record.error == "UpstreamRefused"


BAD_ANSWERS = {
    "no HTTP": b"SSH-2.0-OpenSSH_9.2\r\n",
    "no HTTP, begun": b"HTTX",
    "HTTP/2": b"HTTP/2 200\r\n\r\n",
    "101 unasked": b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
    "both framings": b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
    "two lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nx",
    "gzip, chunked": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
    "chunked in 1.0": b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "length -1": b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
    "NUL": b"HTTP/1.1 200 OK\r\nX: a\0b\r\n\r\n",
    "space before the colon": b"HTTP/1.1 200 OK\r\nX : a\r\n\r\n",
    "endless head": b"HTTP/1.1 200 OK\r\n" + b"X: " + b"a" * 70000,
}


@pytest.mark.parametrize("answer", BAD_ANSWERS.values(), ids=BAD_ANSWERS.keys())
def test_an_answer_that_is_no_http_is_a_502(answer):
    scene = HttpScene()
    scene.ask(get())
    found = read(scene.answer(answer))
    assert found.status == 502 and scene.record.error == "UpstreamInvalid"
    assert found.values(b"Proxy-Status") == [b"esxiproxy; error=http_protocol_error"]
    assert scene.host.ended == "aborted" and scene.client.saw_fin


CUT = {
    "length": b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello",
    "chunked": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
    "in a chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nhello",
}


@pytest.mark.parametrize("how", ["close", "reset"])
@pytest.mark.parametrize("answer", CUT.values(), ids=CUT.keys())
def test_a_truncated_body_never_looks_complete(answer, how):
    scene = HttpScene()
    scene.ask(get())
    scene.answer(answer)
    getattr(scene.host, how)()
    scene.pump()
    found = read(scene.client.received)
    assert (
        scene.client.saw_fin and not found.whole and scene.client.received.endswith((b"hello", b"hello\r\n"))
    )
    assert (scene.record.error, scene.record.status, scene.record.ended_by) == (
        "UpstreamLost",
        200,
        "upstream",
    )


@pytest.mark.parametrize(
    ("version", "length", "end"),
    [
        (b"1.1", b"", "fin"),
        (b"1.1", b"Content-Length: 9\r\n", "fin"),
        (b"1.0", b"Content-Length: 9\r\n", "fin"),
        (b"1.0", b"Transfer-Encoding: chunked\r\n", "reset"),
        (b"1.0", b"", "reset"),
    ],
)
def test_a_client_gets_a_reset_only_where_a_part_looks_complete(version, length, end):
    """HTTP/1.1 without a length is sent in chunks, so the last chunk is missing."""
    scene = HttpScene()
    scene.ask(get(version=version))
    body = b"5\r\nhello\r\n" if b"chunked" in length else b"hello"
    scene.answer(b"HTTP/1.1 200 OK\r\n" + length + b"\r\n" + body)
    scene.host.reset()
    scene.pump()
    assert scene.client.received.rstrip().endswith(b"hello")
    assert (scene.client.ended == "aborted") == (end == "reset")
    assert scene.client.saw_fin == (end == "fin") and scene.record.error == "UpstreamLost"
    if end == "fin":
        assert not read(scene.client.received).whole


def test_a_truncated_response_is_delivered_as_far_as_it_was_received():
    """A download can be resumed there, and a length that is too large by one byte loses nothing."""
    scene = HttpScene()
    scene.ask(get())
    scene.client.block()
    scene.answer(b"HTTP/1.1 200 OK\r\nContent-Length: 100001\r\n\r\n" + b"x" * 100_000, 50_000)
    scene.host.close()
    scene.client.unblock()
    scene.pump()
    assert len(read(scene.client.received).body) == 100_000 and scene.client.saw_fin
    assert (scene.record.error, scene.record.octets_down) == ("UpstreamLost", 100_000)
    scene.client.close()
    scene.advance(10)
    assert scene.at_rest()


def test_a_bad_chunk_in_the_middle_of_an_answer_ends_the_connection():
    scene = HttpScene()
    scene.ask(get())
    scene.answer(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nXX\r\n")
    found = read(scene.client.received)
    assert scene.client.saw_fin and not found.whole and scene.record.error == "UpstreamInvalid"
    assert scene.host.ended == "aborted"


@pytest.mark.parametrize("when", ["dialling", "asked", "answering"])
def test_the_upstream_connection_ends_when_the_client_disconnects(when):
    scene = HttpScene()
    scene.connector.slow = when == "dialling"
    scene.ask(get())
    if when == "answering":
        scene.answer(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello")
    scene.client.close()
    scene.pump()
    assert scene.connector.cancelled == (when == "dialling")
    assert all(host.ended == "aborted" for host in scene.hosts)
    record = scene.record
    assert (record.error, record.status) == ("ClientLost", 200 if when == "answering" else 499)
    assert scene.at_rest()


def test_a_plugin_that_raises_is_a_500_without_its_message():
    scene = HttpScene()
    scene.router.upstream = ValueError("the secret")
    scene.ask(get())
    assert read(scene.client.received).status == 500 and b"secret" not in scene.client.received


def test_a_refusal_of_a_head_request_has_no_body():
    scene = HttpScene()
    scene.connector.failure = UpstreamRefused("x")
    scene.ask(get(method=b"HEAD"))
    assert scene.client.received.endswith(b"\r\n\r\n")


def test_what_the_authenticator_took_stays_here():
    scene = HttpScene()
    scene.authenticator.answer.addCallback(lambda _: Principal("bob", frozenset({b"authorization"})))
    sent = read(scene.ask(get(b"/", b"Authorization: Bearer x", b"Cookie: a=b")))
    assert not sent.values(b"Authorization") and sent.values(b"Cookie") == [b"a=b"]
    scene.answer(OK)
    assert scene.record.principal == "bob"


def test_no_ticket_stands_in_a_record():
    scene = HttpScene()
    scene.ask(get(b"/ticket/secret"))
    scene.answer(OK)
    assert "secret" not in repr(scene.record)
