"""The strict check of a request head."""

import pytest

from esxiproxy.core.errors import MalformedRequest, SessionError
from esxiproxy.core.http.head import MAX_FIELDS, HeadReader

GOOD = b"GET /ticket/abc?a=1;x=1&b= HTTP/1.1\r\nHost: h\r\nX-A:  b c \t\r\nCookie: a=1\r\nCookie: b=2\r\n\r\n"


def read(raw):
    return HeadReader().feed(raw)


def test_a_head_is_read_byte_for_byte():
    head, rest = read(GOOD + b"rest")
    assert rest == b"rest" and head.raw == GOOD
    assert (head.method, head.target, head.version) == (b"GET", b"/ticket/abc?a=1;x=1&b=", (1, 1))
    assert head.value(b"x-a") == b"b c"
    assert head.values(b"cookie") == [b"a=1", b"b=2"]


def test_a_head_may_come_byte_by_byte():
    reader = HeadReader()
    for index in range(len(GOOD) - 1):
        assert reader.feed(GOOD[index : index + 1]) is None
    head, rest = reader.feed(GOOD[-1:])
    assert head.raw == GOOD and rest == b""


def head(line=b"GET / HTTP/1.1", *fields, host=b"Host: h\r\n"):
    return line + b"\r\n" + host + b"".join(field + b"\r\n" for field in fields) + b"\r\n"


BAD = {
    "bare LF ends the line": (b"GET / HTTP/1.1\nHost: h\r\n\r\n", 400),
    "bare LF head": (b"GET / HTTP/1.1\nHost: h\n\n", 400),
    "bare CR": (head(b"GET / HTTP/1.1", b"X: a\rb"), 400),
    "NUL": (head(b"GET / HTTP/1.1", b"X: a\0b"), 400),
    "escape": (head(b"GET / HTTP/1.1", b"X: a\x1bb"), 400),
    "vertical tab": (head(b"GET / HTTP/1.1", b"X: a\x0bb"), 400),
    "file separator": (head(b"GET / HTTP/1.1", b"X: a\x1cb"), 400),
    "obs-fold": (head(b"GET / HTTP/1.1", b"X: a", b" b"), 400),
    "obs-fold with a tab": (head(b"GET / HTTP/1.1", b"X: a", b"\tb"), 400),
    "space before the colon": (head(b"GET / HTTP/1.1", b"X : a"), 400),
    "no colon": (head(b"GET / HTTP/1.1", b"X"), 400),
    "empty name": (head(b"GET / HTTP/1.1", b": a"), 400),
    "name with 0x85": (head(b"GET / HTTP/1.1", b"X\x85: a"), 400),
    "nine leading blank lines": (b"\r\n" * 9 + head(), 400),
    "two spaces": (head(b"GET  / HTTP/1.1"), 400),
    "tab in the line": (head(b"GET\t/ HTTP/1.1"), 400),
    "no version": (head(b"GET /"), 400),
    "HTTP/1.2": (head(b"GET / HTTP/1.2"), 400),
    "HTTP/2 preface": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
    "lower-case http": (head(b"GET / http/1.1"), 400),
    "no Host": (head(host=b""), 400),
    "two Hosts": (head(b"GET / HTTP/1.1", b"Host: other"), 400),
    "two equal Hosts": (head(b"GET / HTTP/1.1", b"Host: h"), 400),
    "empty Host": (head(host=b"Host:\r\n"), 400),
    "Host with a path": (head(host=b"Host: a/b\r\n"), 400),
    "Host with a user": (head(host=b"Host: u@h\r\n"), 400),
    "Host list": (head(host=b"Host: a, b\r\n"), 400),
    "absolute form": (head(b"GET http://other/ HTTP/1.1"), 400),
    "CONNECT": (head(b"CONNECT h:443 HTTP/1.1"), 400),
    "asterisk with GET": (head(b"GET * HTTP/1.1"), 400),
    "fragment": (head(b"GET /#x HTTP/1.1"), 400),
    "raw UTF-8 in the target": (head("GET /é HTTP/1.1".encode()), 400),
    "TRACE": (head(b"TRACE / HTTP/1.1"), 405),
    "Content-Length twice": (head(b"POST / HTTP/1.1", b"Content-Length: 1", b"Content-Length: 1"), 400),
    "Content-Length list": (head(b"POST / HTTP/1.1", b"Content-Length: 1, 1"), 400),
    "Content-Length +1": (head(b"POST / HTTP/1.1", b"Content-Length: +1"), 400),
    "Content-Length -1": (head(b"POST / HTTP/1.1", b"Content-Length: -1"), 400),
    "Content-Length 0x1": (head(b"POST / HTTP/1.1", b"Content-Length: 0x1"), 400),
    "Content-Length empty": (head(b"POST / HTTP/1.1", b"Content-Length:"), 400),
    "Content-Length ¹": (head(b"POST / HTTP/1.1", b"Content-Length: \xb9"), 400),
    "both framings": (
        head(b"POST / HTTP/1.1", b"Content-Length: 1", b"Transfer-Encoding: chunked"),
        400,
    ),
    "gzip, chunked": (head(b"POST / HTTP/1.1", b"Transfer-Encoding: gzip, chunked"), 501),
    "xchunked": (head(b"POST / HTTP/1.1", b"Transfer-Encoding: xchunked"), 400),
    "chunked twice": (
        head(b"POST / HTTP/1.1", b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked"),
        400,
    ),
    "chunked in 1.0": (head(b"POST / HTTP/1.0", b"Transfer-Encoding: chunked"), 400),
    "long target": (head(b"GET /" + b"a" * 8192 + b" HTTP/1.1"), 414),
    "endless target": (b"GET /" + b"a" * 9000, 414),
    "large head": (head(b"GET / HTTP/1.1", *[b"X: " + b"a" * 1000] * 17), 431),
    "endless head": (b"GET / HTTP/1.1\r\n" + b"X: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\n" * 600, 431),
    "many fields": (head(b"GET / HTTP/1.1", *[b"X: a"] * (MAX_FIELDS + 1)), 431),
    "TLS on a plain port": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
}


@pytest.mark.parametrize(("raw", "status"), BAD.values(), ids=BAD.keys())
def test_a_head_that_could_be_read_in_two_ways_is_refused(raw, status):
    with pytest.raises(SessionError) as caught:
        read(raw)
    assert caught.value.status_code == status


@pytest.mark.parametrize(
    "raw",
    [
        head(b"GET / HTTP/1.0", host=b""),
        head(b"OPTIONS * HTTP/1.1"),
        head(b"POST /sdk HTTP/1.1", b"Content-Length: 10"),
        head(b"POST /sdk HTTP/1.1", b"Transfer-Encoding: Chunked"),
        head(b"GET /a//b/%2f?x=1;y=2&z= HTTP/1.1"),
        head(host=b"Host: [2001:db8::1]:443\r\n"),
        head(b"GET / HTTP/1.1", "X-Name: Åse".encode()),
        head(b"GET / HTTP/1.1", b"X-Empty:"),
    ],
)
def test_a_plain_head_is_admitted(raw):
    assert read(raw)[0].raw == raw


@pytest.mark.parametrize("step", [None, 1, 2, 3])
@pytest.mark.parametrize("count", [1, 2, 8])
def test_empty_lines_before_a_request_line_are_skipped(count, step):
    reader, raw = HeadReader(), head()
    octets = b"\r\n" * count + raw
    step = step or len(octets)
    found = [reader.feed(octets[i : i + step]) for i in range(0, len(octets), step)]
    assert found[-1][0].raw == raw and not any(found[:-1]) and not len(reader)


@pytest.mark.parametrize("before", [b"\r\n" * 9, b"\n", b"\r", b"\r\r\n", b" \r\n", b"\r\n\n", b"\r\n\r"])
def test_other_things_before_a_request_line_are_refused(before):
    for octets in ([before + head()], [bytes([octet]) for octet in before + head()]):
        reader = HeadReader()
        with pytest.raises(MalformedRequest):
            for each in octets:
                reader.feed(each)


CODINGS = {
    b"gzip, chunked": 501,
    b"GZIP ,\tChunked": 501,
    b"identity, chunked": 501,
    b"deflate;q=1, gzip, chunked": 501,
    b"gzip": 400,
    b"chunked, gzip": 400,
    b"gzip, chunked, chunked": 400,
    b", chunked": 400,
    b"gzip,, chunked": 400,
}


@pytest.mark.parametrize(("value", "status"), CODINGS.items())
@pytest.mark.parametrize("version", [b"1.1", b"1.0"])
def test_a_coding_beside_chunked_is_not_implemented(value, status, version):
    """RFC 9112 6.1; where the end of the body is not clear it is a bad request (6.3)."""
    with pytest.raises(MalformedRequest) as caught:
        read(head(b"POST / HTTP/" + version, b"Transfer-Encoding: " + value))
    assert caught.value.status_code == (status if version == b"1.1" else 400)


def test_a_refusal_never_repeats_the_request():
    with pytest.raises(MalformedRequest) as caught:
        read(head(b"GET /ticket/secret\x01 HTTP/1.1"))
    assert "secret" not in str(caught.value)
