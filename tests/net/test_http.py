"""Plain HTTP: the request is forwarded to the upstream, and the response to the client."""

import pytest

from esxiproxy.core.http.via import RECEIVED_BY
from esxiproxy.core.routing import Principal
from esxiproxy.core.session.record import Kind
from tests.net.http_scene import OK, HttpScene, chunked, get, read
from tests.net.scene import KEY, opening
from tests.support.websocket import accept_of

PAGE = get()
CL5 = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 5\r\n\r\nhello"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunked(b"hel", b"lo")


def case(request=PAGE, answer=CL5, status=200, body=b"hello", *, sent=None, sent_body=b"", ends=False):
    """Return a request, the line and the body that the host gets, its answer, and what the client gets.

    By default the host gets the method and the target of the request. With `ends` it closes after its answer.
    """
    sent = sent or request.partition(b"\r\n")[0].rpartition(b" ")[0]
    return request, (sent + b" HTTP/1.1", sent_body), answer, ends, (status, body)


GOOD = {
    "GET": case(),
    "GET with a query": case(get(b"/a;b?x=1;y&z=")),
    "GET //": case(get(b"//a//b")),
    "GET with dots": case(get(b"/a/../b")),
    "GET %2f": case(get(b"/a%2fb%00")),
    "GET chunked answer": case(answer=CHUNKED),
    "GET empty chunked": case(
        answer=b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", body=b""
    ),
    "GET to the end": case(answer=b"HTTP/1.1 200 OK\r\n\r\nhello", ends=True),
    "GET from HTTP/1.0": case(answer=b"HTTP/1.0 200 OK\r\n\r\nhello", ends=True),
    "GET empty": case(answer=b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", body=b""),
    "GET 204": case(answer=b"HTTP/1.1 204 No Content\r\n\r\n", status=204, body=b""),
    "GET 304": case(
        get(b"/", b'If-None-Match: "x"'),
        answer=b'HTTP/1.1 304 Not Modified\r\nETag: "x"\r\n\r\n',
        status=304,
        body=b"",
    ),
    "GET 304 with a length": case(
        answer=b"HTTP/1.1 304 Not Modified\r\nContent-Length: 500\r\n\r\n", status=304, body=b""
    ),
    "GET 206": case(
        get(b"/iso", b"Range: bytes=0-4"),
        answer=CL5.replace(b"200 OK", b"206 Partial Content\r\nContent-Range: bytes 0-4/99"),
        status=206,
    ),
    "GET 404": case(answer=CL5.replace(b"200 OK", b"404 Not Found"), status=404),
    "GET 500": case(answer=CL5.replace(b"200 OK", b"500 Oops"), status=500),
    "GET 401": case(answer=CL5.replace(b"200 OK", b"401 No"), status=401),
    "GET without a reason": case(answer=CL5.replace(b"200 OK", b"200")),
    "GET odd status": case(answer=CL5.replace(b"200 OK", b"299 Fine"), status=299),
    "GET with a body": case(get(b"/q", b"Content-Length: 3", body=b"abc"), sent_body=b"abc"),
    "HEAD with a length": case(
        get(method=b"HEAD"), answer=b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n", body=b""
    ),
    "HEAD without a length": case(get(method=b"HEAD"), answer=b"HTTP/1.1 200 OK\r\n\r\n", body=b""),
    "HEAD chunked": case(
        get(method=b"HEAD"), answer=b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", body=b""
    ),
    "POST": case(get(b"/sdk", b"Content-Length: 5", method=b"POST", body=b"abcde"), sent_body=b"abcde"),
    "POST empty": case(get(b"/sdk", b"Content-Length: 0", method=b"POST")),
    "POST without a length": case(get(b"/sdk", method=b"POST")),
    "POST chunked": case(
        get(b"/sdk", b"Transfer-Encoding: chunked", method=b"POST", body=chunked(b"ab", b"cde")),
        sent_body=b"abcde",
    ),
    "POST chunked, empty": case(get(b"/sdk", b"Transfer-Encoding: chunked", method=b"POST", body=chunked())),
    "POST chunked with extensions": case(
        get(b"/sdk", b"Transfer-Encoding: chunked", method=b"POST", body=b"3;a=b\r\nabc\r\n00;x\r\n\r\n"),
        sent_body=b"abc",
    ),
    "POST chunked both ways": case(
        get(b"/sdk", b"Transfer-Encoding: Chunked", method=b"POST", body=chunked(b"abc")),
        sent_body=b"abc",
        answer=CHUNKED,
    ),
    "PUT": case(
        get(b"/folder/x.iso", b"Content-Length: 4", method=b"PUT", body=b"\0\xff\r\n"),
        sent_body=b"\x00\xff\r\n",
        answer=b"HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n",
        status=201,
        body=b"",
    ),
    "DELETE": case(get(method=b"DELETE")),
    "PATCH": case(get(b"/", b"Content-Length: 1", method=b"PATCH", body=b"x"), sent_body=b"x"),
    "OPTIONS": case(get(method=b"OPTIONS")),
    "OPTIONS *": case(get(b"*", method=b"OPTIONS")),
    "PROPFIND": case(get(method=b"PROPFIND")),
    "absolute-form for us": case(get(b"http://Proxy.example:81/x?y"), sent=b"GET /x?y"),
    "absolute-form without a path": case(get(b"http://proxy.example:81"), sent=b"GET /"),
    "HTTP/1.0": case(get(version=b"1.0")),
    "HTTP/1.0, chunked answer": case(get(version=b"1.0"), answer=CHUNKED),
    "HTTP/1.0 without Host": case(b"GET / HTTP/1.0\r\n\r\n"),
    "HTTP/1.0 POST": case(
        get(b"/", b"Content-Length: 1", method=b"POST", version=b"1.0", body=b"x"), sent_body=b"x"
    ),
    "Upgrade without Connection": case(get(b"/", b"Upgrade: foo")),
    "h2c": case(
        get(b"/", b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: AAMAAABkAAQAAP")
    ),
    "interim answers": case(
        answer=b"HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" + CL5
    ),
    "the byte 0x85": case(get(b"/", b"X-Name: \xc3\x85se")),
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


def test_credentials_that_the_authenticator_consumed_are_not_forwarded():
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
