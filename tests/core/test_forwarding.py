"""One exchange without I/O: connections that are kept, framing of bodies, and fields that are refused."""

import random

import pytest

from esxiproxy.core.errors import BodyTooLarge, MalformedRequest, UpstreamInvalid, UpstreamLost
from esxiproxy.core.http.answer_head import parse_answer
from esxiproxy.core.http.fields import rewriter_for
from esxiproxy.core.http.forwarding import Forwarding
from esxiproxy.core.http.head import parse
from esxiproxy.core.http.head_writer import answer_head, request_head
from esxiproxy.core.http.message import forwarded_answer, plain_answer
from esxiproxy.core.http.request import Request
from esxiproxy.core.peer_address import PeerAddress
from esxiproxy.core.routing import Upstream

UPSTREAM = Upstream("u", "u", 80, secure=False)
OK = b"HTTP/1.1 200 OK\r\n"
SIZED = b"Content-Length: 2\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n"
CLOSE = b"Connection: close\r\n"


def forwarding(line=b"GET / HTTP/1.1", *fields, body=b"", more=(), **kwargs):
    """Return an exchange whose request was forwarded, and what the upstream got behind the head."""
    raw = b"\r\n".join([line, b"Host: h", *fields, b"", b""])
    request = Request("s", "l", PeerAddress("192.0.2.7", 1), False, parse(raw))
    found = Forwarding(request, **kwargs)
    found.begin(lambda: rewriter_for(request, UPSTREAM), more)
    return found, found.take_request(body)


CLOSING = (b"GET / HTTP/1.1", b"Connection: x, Close")
POST = (b"POST / HTTP/1.1", b"Content-Length: 3")
# The request, its body, what the upstream sends, whether it ends its connection then; and which of the two
# connections are kept: the client's, the upstream's.
KEPT = {
    "usual": ((), b"", OK + SIZED + b"\r\nok", False, (True, True)),
    "chunked": ((), b"", OK + CHUNKED + b"\r\n2\r\nok\r\n0\r\n\r\n", False, (True, True)),
    "until close": ((), b"", OK + b"\r\nok", True, (True, False)),
    "no body": ((), b"", b"HTTP/1.1 304 X\r\nContent-Length: 9\r\n\r\n", False, (True, True)),
    "HEAD": ((b"HEAD / HTTP/1.1",), b"", OK + SIZED + b"\r\n", False, (True, True)),
    "interim first": ((), b"", b"HTTP/1.1 102 X\r\n\r\n" + OK + SIZED + b"\r\nok", False, (True, True)),
    "with a body": (POST, b"abc", OK + SIZED + b"\r\nok", False, (True, True)),
    "the client closes": (CLOSING, b"", OK + SIZED + b"\r\nok", False, (False, True)),
    "the upstream closes": ((), b"", OK + SIZED + CLOSE + b"\r\nok", False, (True, False)),
    "an upstream of HTTP/1.0": ((), b"", b"HTTP/1.0 200 OK\r\n" + SIZED + b"\r\nok", False, (True, False)),
    "a client of HTTP/1.0": ((b"GET / HTTP/1.0",), b"", OK + SIZED + b"\r\nok", False, (False, True)),
    "an early answer": (POST, b"ab", OK + SIZED + b"\r\nok", False, (False, False)),
    "bytes behind the answer": ((), b"", OK + SIZED + b"\r\nokX", False, (True, False)),
    "bytes behind no body": ((), b"", b"HTTP/1.1 204 X\r\n\r\nX", False, (True, False)),
    "bytes behind the chunks": ((), b"", OK + CHUNKED + b"\r\n0\r\n\r\nX", False, (True, False)),
}  # fmt: skip


@pytest.mark.parametrize("cut", [False, True])
@pytest.mark.parametrize(("asked", "body", "answer", "ends", "kept"), KEPT.values(), ids=KEPT.keys())
def test_a_connection_is_kept_when_both_sides_keep_it(asked, body, answer, ends, kept, cut):
    found, _ = forwarding(*asked, body=body)
    reads = [answer] if not cut else [answer[:-1], answer[-1:]]
    if cut and "X" in answer[-1:].decode():
        reads = [answer]  # the exchange is over before the byte behind it
    sent = b"".join(map(found.take_answer, reads))
    assert found.response_started and found.started
    if ends:
        assert not found.response_complete
        sent += found.upstream_ended(clean=True)
    assert found.response_complete and (found.keeps_client, found.keeps_upstream) == kept
    assert (CLOSE in sent) == (not kept[0]) == found.closing
    assert found.delimited


def test_a_listener_that_is_replaced_closes_its_connections():
    found, _ = forwarding()
    found.closing = True
    assert CLOSE in found.take_answer(OK + SIZED + b"\r\nok") and not found.keeps_client


# The version of the client, the answer, and what the client gets behind its head.
FRAMED = {
    "length": (b"1.1", SIZED + b"\r\nok", b"ok", SIZED),
    "chunked": (b"1.1", CHUNKED + b"\r\n2\r\nok\r\n", b"2\r\nok\r\n", CHUNKED),
    "until close": (b"1.1", b"\r\nok", b"2\r\nok\r\n", CHUNKED),
    "length, old": (b"1.0", SIZED + b"\r\nok", b"ok", SIZED),
    "chunked, old": (b"1.0", CHUNKED + b"\r\n2\r\nok\r\n", b"ok", b""),
    "until close, old": (b"1.0", b"\r\nok", b"ok", b""),
    # A Connection that names it does not remove the framing.
    "length, named": (b"1.1", b"Connection: content-length\r\n" + SIZED + b"\r\nok", b"ok", SIZED),
    "chunked, named": (b"1.1", b"Connection: transfer-encoding\r\n" + CHUNKED + b"\r\n", b"", CHUNKED),
    "two lengths": (b"1.1", SIZED + SIZED + b"\r\nok", b"ok", SIZED),
}


@pytest.mark.parametrize(("version", "answer", "body", "framing"), FRAMED.values(), ids=FRAMED.keys())
def test_a_body_is_framed_for_the_client(version, answer, body, framing):
    found, _ = forwarding(b"GET / HTTP/" + version)
    head, _, rest = found.take_answer(OK + answer).partition(b"\r\n\r\n")
    lines = [each + b"\r\n" for each in (head + b"\r\n").split(b"\r\n")[1:-1]]
    assert [each for each in lines if each in (SIZED, CHUNKED)] == ([framing] if framing else [])
    assert rest == body and found.octets_down == (2 if b"ok" in body else 0)
    assert found.delimited == (version == b"1.1" or bool(framing))


@pytest.mark.parametrize("status", [204, 304])
@pytest.mark.parametrize("framing", [b"", SIZED, CHUNKED])
def test_an_answer_without_a_body_has_no_chunks(status, framing):
    found, _ = forwarding()
    sent = found.take_answer(b"HTTP/1.1 %d X\r\n%b\r\n" % (status, framing))
    assert found.response_complete and b"ransfer" not in sent and sent.endswith(b"\r\n\r\n")
    assert (SIZED in sent) == (framing == SIZED and status == 304)


def test_the_body_of_a_request_is_passed_on():
    found, sent = forwarding(*POST, b"Expect: 100-Continue")
    assert found.expects_continue and not sent and not found.request_complete
    assert found.take_answer(b"HTTP/1.1 100 X\r\n\r\n").startswith(b"HTTP/1.1 100 X\r\n")
    assert not found.expects_continue
    assert found.take_request(b"ab") == b"ab" and not found.request_complete
    assert found.take_request(b"cGET") == b"c" and found.request_complete and found.octets_up == 3
    assert found.take_request(b" /") == b"" and found.trailing_data == b"GET /"
    found, sent = forwarding(*POST, b"Expect: 100-continue", body=b"a")
    assert sent == b"a" and not found.expects_continue, "its body is on the way"
    found, sent = forwarding(
        b"POST / HTTP/1.1", b"Transfer-Encoding: chunked", b"Expect: 100-continue", body=b"5"
    )
    assert not sent and not found.expects_continue, "its first chunk is on the way"
    for line, fields in ((b"GET / HTTP/1.0", POST[1:]), (b"GET / HTTP/1.1", [b"Content-Length: 0"])):
        assert not forwarding(line, *fields, b"Expect: 100-continue")[0].expects_continue
    asked = (b"POST / HTTP/1.1", b"Transfer-Encoding: chunked")
    found, sent = forwarding(*asked, body=b"2;x\r\nab\r\n0\r\nA: b\r\nX-User: c\r\nTE: d\r\n\r\nX",
                             dropped_trailers=frozenset({b"x-user"}))  # fmt: skip
    assert sent == b"2\r\nab\r\n0\r\nA: b\r\n\r\n" and found.trailing_data == b"X"
    with pytest.raises(BodyTooLarge, match="more than 2 bytes"):
        forwarding(*POST, max_body=2)
    with pytest.raises(BodyTooLarge, match="more than 2 bytes"):
        forwarding(*asked, body=b"3\r\nabc\r\n", max_body=2)
    with pytest.raises(MalformedRequest, match="has a chunk"):
        forwarding(*asked, body=b"1\r\na\r\nX\r\n")


def test_a_second_attempt_begins_again():
    found, _ = forwarding()
    found.take_answer(b"HTTP/1.1 2")
    assert found.response_started
    with pytest.raises(UpstreamLost, match="before the answer was complete"):
        found.upstream_ended(clean=True)
    found.begin(lambda: None)
    assert not found.response_started
    assert found.take_answer(OK + SIZED + b"\r\nok").endswith(b"ok") and found.keeps_upstream


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 200", OK + SIZED + b"\r\no", OK + CHUNKED + b"\r\n2\r\n"])
@pytest.mark.parametrize("clean", [False, True])
def test_an_answer_that_is_cut_off_is_lost(answer, clean):
    found, _ = forwarding()
    found.take_answer(answer)
    how = "before the answer was complete" if answer or not clean else "without an answer"
    with pytest.raises(UpstreamLost, match=("ended the connection " if clean else "was reset ") + how):
        found.upstream_ended(clean)
    assert not found.response_complete


def test_the_client_gets_the_data_before_a_fault():
    found, _ = forwarding()
    with pytest.raises(UpstreamInvalid, match="has a chunk"):
        found.take_answer(b"HTTP/1.1 103 X\r\n\r\n" + OK + CHUNKED + b"\r\n3\r\nabc\r\nX\r\n")
    sent = found.left()
    assert sent.startswith(b"HTTP/1.1 103 X\r\n") and sent.endswith(b"\r\n\r\n3\r\nabc\r\n")
    assert found.started and found.octets_down == 3 and found.left() == b""


def test_a_101_that_was_not_asked_for_is_refused():
    found, _ = forwarding()
    with pytest.raises(UpstreamInvalid, match="switched protocols"):
        found.take_answer(b"HTTP/1.1 101 X\r\nUpgrade: x\r\n\r\n")


ILLEGAL = [
    (b"A b", b"c"),
    (b"", b"c"),
    (b"A:", b"c"),
    (b"A\r\nB", b"c"),
    (b"A", b"b\r\nC: d"),
    (b"A", b"b\r\n\r\nc"),
    (b"A", b"b\nc"),
    (b"A", b"b\rc"),
    (b"A", b"b\0"),
]


@pytest.mark.parametrize("field", ILLEGAL)
def test_no_field_begins_another_one(field):
    fields = ((b"Host", b"h"), field)
    with pytest.raises(ValueError, match="illegal byte"):
        request_head(b"GET", b"/", fields)
    with pytest.raises(ValueError, match="illegal byte"):
        answer_head(200, b"OK", fields)
    found, _ = forwarding(more=(field,))
    with pytest.raises(UpstreamInvalid, match="fields that cannot be passed on"):
        found.take_answer(OK + SIZED + b"\r\nok")
    assert not found.started and not found.left()


@pytest.mark.parametrize("target", [b"", b"/a b", b"/a\r\nX: y", b"/\0", b"/\xc3\xa9"])
def test_a_target_with_an_illegal_byte_is_not_sent(target):
    with pytest.raises(ValueError, match="illegal byte"):
        request_head(b"GET", target, ((b"Host", b"h"),))


def test_additional_fields_are_sent_but_do_not_frame():
    found, _ = forwarding(more=((b"Set-Cookie", b"a=b"), (b"connection", b"Close")))
    sent = found.take_answer(OK + SIZED + b"\r\nok")
    assert b"\r\nSet-Cookie: a=b\r\n" in sent and found.closing and not found.keeps_client
    for name in (b"content-Length", b"Transfer-Encoding"):
        found, _ = forwarding(more=((name, b"chunked"),))
        with pytest.raises(UpstreamInvalid, match="cannot be passed on"):
            found.take_answer(OK + SIZED + b"\r\nok")


@pytest.mark.parametrize(
    ("answer", "more", "asked", "connection"),
    [
        (OK + SIZED, [b"close"], (), b"close"),
        (OK + SIZED, [b"Close"], CLOSING, b"Close"),
        (OK + SIZED, [b"keep-alive"], (), b"keep-alive"),
        (OK + SIZED, [b"keep-alive, x"], CLOSING, b"x, close"),
        (OK, [b"x", b"X,, close"], (), b"x, close"),
        (b"HTTP/1.1 426 X\r\nUpgrade: h2c\r\n" + SIZED, [], CLOSING, b"Upgrade, close"),
        (b"HTTP/1.1 426 X\r\nUpgrade: h2c\r\n" + SIZED, [b"close"], (), b"Upgrade, close"),
    ],
)
def test_an_answer_has_one_connection(answer, more, asked, connection):
    found, _ = forwarding(*asked, more=tuple((b"connection", value) for value in more))
    head = found.take_answer(answer + b"\r\nok").partition(b"\r\n\r\n")[0]
    lines = [line for line in head.split(b"\r\n") if line.lower().startswith(b"connection:")]
    assert lines == [b"Connection: " + connection]
    assert found.closing == (b"close" in connection.lower())


@pytest.mark.parametrize(
    "answer",
    [
        b"Location: http://u/x\r\nContent-Location: http://u/y\r\nSet-Cookie: a; Domain=u\r\n" + SIZED,
        b"Content-Type: text/event-stream; x\r\n" + SIZED,
    ],
)
def test_few_fields_are_looked_at(answer):
    found, _ = forwarding()
    sent = found.take_answer(OK + answer + b"\r\nok")
    assert found.is_event_stream == (b"event" in answer)
    rewritten = answer.replace(b"http://u", b"http://h").replace(b"; Domain=u", b"")
    assert sent.startswith(OK + rewritten + b"Via: ") and sent.count(b"\r\nDate: ") == 1


LINES = [
    *(b"Server: x", b"Content-Type: text/html; charset=utf-8", b"X: \xe9\x01 y", b"Y: a  b", b"ETag: ab"),
    *(b"Connection: keep-alive", b"connection: Close, Keep-Alive", b"Keep-Alive: timeout=5", b"TE: x"),
    *(b"Transfer-Encoding: chunked", b"UPGRADE: h2c", b"Proxy-Connection: x", b"x-request-ID: theirs"),
    *(b"Date: Sun, 29 Nov 2026 19:00:00 GMT", b"Content-Length: 2", b"Via: 1.1 a", b"Trailer: X", b"Team: x"),
]
OTHER = [
    b"Location: /",
    b"Set-Cookie: a=b",
    b"X:y",
    b"X: y ",
    b"X:\ty",
    b"Connection: x",
    b"Connection: date",
]


def test_a_plain_answer_is_the_same_in_fewer_steps(monkeypatch):
    monkeypatch.setattr("esxiproxy.core.http.message.date_field", lambda: [(b"Date", b"now")])
    chance, plain = random.Random(6), 0
    for _ in range(600):
        lines = chance.sample(LINES, chance.randint(0, 7)) + chance.sample(OTHER, chance.choice((0, 0, 0, 1)))
        chance.shuffle(lines)
        start = b"HTTP/1.%d %d Some Reason" % (
            chance.choice((0, 1, 1)),
            chance.choice((200, 404, 304, 204, 426, 103)),
        )
        try:
            head = parse_answer(b"".join(each + b"\r\n" for each in (start, *lines, b"")))
        except UpstreamInvalid:
            continue
        framing = chance.choice((b"", CHUNKED, CLOSE))
        found = plain_answer(head, "s", framing)
        if found is not None:
            fields = forwarded_answer(head, lambda: None, "s")
            assert found == answer_head(head.status, head.reason, fields)[:-2] + framing + b"\r\n"
            assert not set(OTHER).intersection(lines)
            plain += 1
        else:
            assert set(OTHER).intersection(lines) or head.status in (204, 426, 103)
    assert plain > 150
