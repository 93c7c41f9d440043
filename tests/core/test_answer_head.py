"""The heads of upstreams' responses: one reading of each, the same as h11's, and the limits."""

import random
import re

import h11
import pytest

from esxiproxy.core.errors import UpstreamInvalid
from esxiproxy.core.http.answer_head import (
    MAX_ANSWER_FIELDS,
    MAX_ANSWER_HEAD,
    MAX_EMPTY,
    MAX_INTERIM,
    AnswerHeadReader,
    Framing,
    parse_answer,
    take_usual_head,
)

BODY = b"3\r\nabc\r\n0\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\n"
SWITCHING = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n"
LONG = b"9" * 19


def read(octets, bodiless=False):
    """Return a head as the reader reads it and where its body ends, or None for one that is refused."""
    try:
        head = parse_answer(octets, bodiless)
    except UpstreamInvalid:
        return None
    body, left = {
        Framing.NONE: (b"", 0),
        Framing.LENGTH: (BODY[: head.length], max(0, head.length - len(BODY))),
        Framing.CHUNKED: (b"abc", 0),
        Framing.UNTIL_CLOSE: (BODY, None),
    }[head.framing]
    fields = [(name, _as_h11_has_it(name, value)) for name, value in head.fields]
    return b"1.%d" % head.minor, head.status, head.reason, fields, body, left == 0, not head.closes


def _as_h11_has_it(name, value):
    return value.lower() if name.lower() == b"transfer-encoding" else value


def read_by_h11(octets, bodiless=False):
    """Return the same by h11, and why the reader has to be stricter here."""
    client = h11.Connection(h11.CLIENT, max_incomplete_event_size=MAX_ANSWER_HEAD)
    method = b"HEAD" if bodiless else b"GET"
    client.send(h11.Request(method=method, target=b"/", headers=[(b"Host", b"h"), (b"Upgrade", b"x")]))
    client.send(h11.EndOfMessage())
    client.receive_data(octets + BODY)
    if not octets.startswith(b"HTTP/1."):
        return None, ""
    try:
        head = client.next_event()
    except h11.RemoteProtocolError:
        return None, ""
    fields = head.headers.raw_items()
    fields = [(bytes(name), bytes(value)) for name, value in fields]
    named = {name.lower(): value for name, value in fields}
    if isinstance(head, h11.InformationalResponse):
        body, is_complete = b"", True
    else:
        body, is_complete = b"", False
        while not is_complete and type(event := client.next_event()) in (h11.Data, h11.EndOfMessage):
            body += event.data if isinstance(event, h11.Data) else b""
            is_complete |= isinstance(event, h11.EndOfMessage)
    stricter = ""
    if b"transfer-encoding" in named:
        stricter = "two framings" if b"content-length" in named else ""
        stricter = stricter or ("version" if head.http_version != b"1.1" else "")
    if len(named.get(b"content-length", b"")) > 18:
        stricter = "digits"
    closes = b"close" in [
        each.strip() for n, v in fields if n.lower() == b"connection" for each in v.lower().split(b",")
    ]
    keeps = head.http_version >= b"1.1" and not closes
    found = head.http_version, head.status_code, bytes(head.reason), fields, body, is_complete, keeps
    return found, stricter


def head(*fields, line=OK, end=b"\r\n"):
    return line + b"".join(each + end for each in fields) + end


ALIKE = {
    "usual": head(b"Server: x", b"Content-Type: text/html", b"Content-Length: 5"),
    "no fields": head(),
    "chunked": head(b"Transfer-Encoding: chunked"),
    "chunked in capitals": head(b"TRANSFER-ENCODING:CHUNKED"),
    "until close": head(b"Server: x", b"Connection: close"),
    "close among others": head(b"Connection: x,\tClose , y"),
    "close in the second": head(b"Connection: x", b"connection: close"),
    "keep-alive": head(b"Connection: keep-alive", b"Content-Length: 3"),
    "HTTP/1.0": head(b"Content-Length: 3", line=b"HTTP/1.0 200 OK\r\n"),
    "HTTP/1.0, keep-alive": head(b"Connection: keep-alive", line=b"HTTP/1.0 200 OK\r\n"),
    "HTTP/1.2": head(b"Content-Length: 3", line=b"HTTP/1.2 200 OK\r\n"),
    "204 with a length": head(b"Content-Length: 3", line=b"HTTP/1.1 204 No\r\n"),
    "304 with a length": head(b"Content-Length: 3", line=b"HTTP/1.1 304 No\r\n"),
    "304, chunked": head(b"Transfer-Encoding: chunked", line=b"HTTP/1.1 304 No\r\n"),
    "interim": head(b"Link: </x>", line=b"HTTP/1.1 103 Early Hints\r\n"),
    "101": SWITCHING,
    "odd status": head(line=b"HTTP/1.1 999 X\r\n"),
    "no reason": head(line=b"HTTP/1.1 200\r\n"),
    "empty reason": head(line=b"HTTP/1.1 200 \r\n"),
    "odd reason": head(line=b"HTTP/1.1 200  \t\xe9\x01 \r\n"),
    "LF": head(b"X: y", b"Content-Length: 3", line=b"HTTP/1.1 200 OK\n", end=b"\n"),
    "LF and CRLF": b"HTTP/1.1 200 OK\nX: y\r\nY: z\n\r\n",
    "white space": head(b"X:y", b"Y: \t z \t", b"Z:", b"Z: \t", b"Content-Length:\t3 "),
    "obs-text and controls": head(b"X: \xe9\x85\xa0", b"Y: a\x01\x1f\x7fb"),
    "folded": head(b"X: a\r\n b\r\n\t c", b"Y:\n z", b"Z: a\r\n "),
    "a folded length": head(b"Content-Length:\r\n 3"),
    "equal lengths": head(b"X: y", b"content-length: 3", b"Content-Length: 3", b"Y: z"),
    "equal lengths in one": head(b"Content-Length: 3 ,3"),
    "repeated": head(b"Set-Cookie: a", b"X: y", b"set-cookie: b"),
    "empty names": head(b": y"),
    "18 digits": head(b"Content-Length: " + LONG[1:]),
    "zeros": head(b"Content-Length: 003"),
    # refused by both
    "HTTP/2": b"HTTP/2.0 200 OK\r\n\r\n",
    "two digits": b"HTTP/1.1 20 OK\r\n\r\n",
    "four digits": b"HTTP/1.1 2000 OK\r\n\r\n",
    "status 099": b"HTTP/1.1 099 OK\r\n\r\n",
    "status in other digits": "HTTP/1.1 20\N{ARABIC-INDIC DIGIT ONE} OK\r\n\r\n".encode(),
    "two spaces": b"HTTP/1.1  200 OK\r\n\r\n",
    "a tab": b"HTTP/1.1 200\tOK\r\n\r\n",
    "NUL in the reason": b"HTTP/1.1 200 O\0K\r\n\r\n",
    "CR in the reason": b"HTTP/1.1 200 O\rK\r\n\r\n",
    "no colon": head(b"X"),
    "space before the colon": head(b"X : a"),
    "space in the name": head(b"X Y: a"),
    "space before the name": head(b"X: a", b" Y : b").replace(b"\r\n Y", b"\r\n\x0bY"),
    "fold at the start": head(b" X: a"),
    "NUL": head(b"X: a\0b"),
    "CR": head(b"X: a\rb"),
    "CR CR LF": head(b"X: a\r"),
    "VT": head(b"X: a\x0bb"),
    "FF": head(b"X: \x0c"),
    "unequal lengths": head(b"Content-Length: 3", b"Content-Length: 03"),
    "unequal lengths in one": head(b"Content-Length: 3, 4"),
    "no length": head(b"Content-Length:"),
    "half a length": head(b"Content-Length: 3,"),
    "length -1": head(b"Content-Length: -1"),
    "length +1": head(b"Content-Length: +1"),
    "length 0x1": head(b"Content-Length: 0x1"),
    "length 1_0": head(b"Content-Length: 1_0"),
    "a length of 21 digits": head(b"Content-Length: " + b"0" * 21),
    "gzip, chunked": head(b"Transfer-Encoding: gzip, chunked"),
    "identity": head(b"Transfer-Encoding: identity"),
    "chunked twice": head(b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked"),
    "no coding": head(b"Transfer-Encoding:"),
    "chunked with a parameter": head(b"Transfer-Encoding: chunked;q=1"),
}
STRICTER = {
    "two framings": head(b"Content-Length: 3", b"Transfer-Encoding: chunked"),
    "version": head(b"Transfer-Encoding: chunked", line=b"HTTP/1.0 200 OK\r\n"),
    "digits": head(b"Content-Length: " + LONG),
}


@pytest.mark.parametrize("octets", ALIKE.values(), ids=ALIKE.keys())
def test_a_head_is_read_as_h11_reads_it(octets):
    for bodiless in (False, True):
        assert read_by_h11(octets, bodiless) == (read(octets, bodiless), "")


@pytest.mark.parametrize("why", STRICTER)
def test_a_head_with_an_ambiguous_end_is_refused(why):
    for bodiless in (False, True):
        assert read(STRICTER[why], bodiless) is None and read_by_h11(STRICTER[why], bodiless)[1] == why
    assert read(head(b"Transfer-Encoding: chunked", line=b"HTTP/1.2 200 OK\r\n")) is None


def test_spoiled_heads_are_read_as_h11_reads_them():
    chance = random.Random(9112)
    seeds = [*filter(read, ALIKE.values()), *STRICTER.values()]
    pieces = b"|".join(
        [b"\r\n", b"\n", b"\r", b" ", b"\t", b":", b",", b"\0", b"\x0b", b"\x85", b"1", b"\r\n "]
    )
    accepted = 0
    for _ in range(3000):
        octets = chance.choice(seeds)[:-2]
        for _ in range(chance.randint(1, 2)):
            at, gone = chance.randrange(len(octets)), chance.choice((0, 0, 1, 2))
            octets = octets[:at] + chance.choice(pieces.split(b"|")) + octets[at + gone :]
        octets += b"\r\n\r\n"
        octets = octets[: re.search(rb"\n\r?\n", octets).end()]
        expected, stricter = read_by_h11(octets)
        found = read(octets)
        assert found == (None if stricter else expected), octets
        accepted += found is not None
    assert accepted > 300


def taken(*reads, bodiless=False, **kwargs):
    """Return the heads in these reads, and the bytes behind them."""
    reader, found = AnswerHeadReader(bodiless, **kwargs), []
    assert not reader.started
    for octets in reads:
        reader.feed(octets)
        while (not found or found[-1].status < 200) and (one := reader.take()) is not None:
            found.append(one)
    assert reader.started == bool(reads)
    return found, reader.rest


def one_by_one(octets):
    return [octets[i : i + 1] for i in range(len(octets))]


def test_a_head_is_the_same_wherever_it_is_cut():
    octets = b"\r\n" * MAX_EMPTY + ALIKE["interim"] + ALIKE["folded"] + b"\r\n\r\nrest"

    def seen(*reads):
        found, rest = taken(*reads)
        return [(each.status, each.fields, each.framing, each.plain) for each in found], rest

    whole = seen(octets)
    assert [each[0] for each in whole[0]] == [103, 200] and whole[1] == b"\r\n\r\nrest"
    for cut in range(len(octets)):
        assert seen(octets[:cut], octets[cut:]) == whole
    assert seen(*one_by_one(octets)) == whole


MANY = b"".join(b"X-%d: %d\r\n" % (number, number) for number in range(600))
USUAL = {
    "no fields": OK + b"\r\n",
    "no reason after the space": head(b"A: b", line=b"HTTP/1.1 200 \r\n"),
    "HTTP/1.0": head(b"A: b", line=b"HTTP/1.0 200 OK\r\n"),
    "a framed body": head(b"Server: a", b"Content-Length: 3", b"Date: d"),
    "removed fields": head(b"Connection: keep-alive", b"A: b", b"Keep-Alive: timeout=5", b"X-Request-ID: 7"),
    "two equal lengths": head(b"Content-Length: 3", b"Content-Length: 3"),
    "two spaces in a value": head(b"A: b:  c"),
    "no body": head(b"Content-Length: 3", line=b"HTTP/1.1 304 Not Modified\r\n"),
}
UNUSUAL = {
    "an interim response": b"HTTP/1.1 103 Early Hints\r\n\r\n",
    "a switch": SWITCHING,
    "an empty line": b"\r\n" + head(b"A: b"),
    "incomplete": head(b"A: b")[:-1],
    "no space before the reason": head(b"A: b", line=b"HTTP/1.1 200\r\n"),
    "no space before the value": head(b"A:b"),
    "an empty value": head(b"A: "),
    "a space behind the value": head(b"A: b "),
    "a tab before the value": head(b"A: \tb"),
    "a fold": head(b"A: b", b" c"),
    "LF": head(b"A: b", end=b"\n"),
    "LF behind LF": OK + b"A: b\n\nC: d\r\n\r\n",
    "NUL": head(b"A: b\0"),
    "large": OK + MANY + b"\r\n",
}


def shown(head):
    return [getattr(head, name) for name in (*head.__slots__[:-2], "fields")]


@pytest.mark.parametrize("bodiless", [False, True])
@pytest.mark.parametrize("octets", USUAL.values(), ids=USUAL)
def test_a_usual_head_is_what_a_reader_reads(octets, bodiless):
    head, rest = take_usual_head(octets + BODY, bodiless)
    assert rest == BODY
    assert shown(head) == shown(parse_answer(octets, bodiless))


@pytest.mark.parametrize("octets", UNUSUAL.values(), ids=UNUSUAL)
def test_every_other_head_is_left_to_a_reader(octets):
    assert take_usual_head(octets + BODY * (not octets.endswith(b"\r"))) is None


@pytest.mark.parametrize("octets", [*USUAL.values(), head(b"Content-Length: 3", b"Content-Length: 4")])
def test_both_readers_refuse_the_same(octets):
    spoiled = octets.replace(b"\r\n", b"\r\nTransfer-Encoding: gzip\r\n", 1)
    for read in (parse_answer, take_usual_head):
        with pytest.raises(UpstreamInvalid):
            read(spoiled)


def test_the_bytes_behind_a_101_are_frames():
    reader = AnswerHeadReader()
    reader.feed(SWITCHING + b"\x82\x01a")
    found = reader.take()
    assert found is not None and (found.status, found.fields) == (101, ((b"Upgrade", b"websocket"),))
    assert reader.rest == b"\x82\x01a"


@pytest.mark.parametrize(
    "octets",
    [
        *(b"\r\n" * (MAX_EMPTY + 1), b"\n", b"\r\r", b" ", b"HTTX", b"HTTP/2", b"http/1.1", b"SSH-2.0-x\r\n"),
        *(b"HTTP/1.1 200 OK\r\nX: " + b"a" * MAX_ANSWER_HEAD, b"HTTP/1." + b"1" * MAX_ANSWER_HEAD),
    ],
)
def test_a_bad_head_is_refused_before_its_end(octets):
    with pytest.raises(
        UpstreamInvalid, match=r"^the upstream's answer (is no HTTP/1.1|has a head over 65536)"
    ):
        taken(octets)


def test_the_size_and_the_number_of_fields_are_limited():
    def of_size(size):
        return head(b"X: " + b"a" * (size - len(OK) - 7))

    assert len(of_size(500)) == 500 and taken(of_size(500), max_head=500)[1] == b""
    with pytest.raises(UpstreamInvalid, match="has a head over 500 bytes"):
        taken(of_size(501), max_head=500)
    (found,), _ = taken(head(*[b"A:"] * MAX_ANSWER_FIELDS))
    assert len(found.fields) == MAX_ANSWER_FIELDS
    with pytest.raises(UpstreamInvalid, match=f"more than {MAX_ANSWER_FIELDS} fields"):
        taken(head(*[b"A:"] * (MAX_ANSWER_FIELDS + 1)))


def test_one_read_has_a_limited_number_of_interim_answers():
    interim = ALIKE["interim"]
    assert len(taken(*[interim * MAX_INTERIM] * 3)[0]) == 3 * MAX_INTERIM
    with pytest.raises(UpstreamInvalid, match=f"more than {MAX_INTERIM} interim answers at once"):
        taken(interim * (MAX_INTERIM + 1))


def test_no_value_is_shown():
    assert repr(parse_answer(head(b"Set-Cookie: secret"))) == "<AnswerHead 200, 1 fields, body until close>"
