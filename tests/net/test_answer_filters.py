"""Filters of single answers: bytes in and bytes out, and all other answers as they were received."""

from __future__ import annotations

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.python.failure import Failure

from esxiproxy.core.errors import RouteNotFound, UpstreamInvalid
from esxiproxy.core.http.answer_filter import is_compressed
from tests.net.http_scene import HttpScene, chunked, get, read

SHORT = b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\nETag: x\r\nX-Kept: yes\r\n\r\nTICKET=ab"
PARTS = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nX-Kept: yes\r\n\r\n"
CASES = {
    "a length": (SHORT, False),
    "chunks": (PARTS + chunked(b"TICK", b"ET=", b"ab", trailers=b"X-T: 1\r\n"), False),
    "to the end": (b"HTTP/1.1 200 OK\r\nX-Kept: yes\r\n\r\nTICKET=ab", True),
    "HTTP/1.0": (b"HTTP/1.0 200 OK\r\nX-Kept: yes\r\n\r\nTICKET=ab", True),
}


class Doubling:
    """A filter that doubles the bodies of answers that begin with TICKET."""

    def __init__(self):
        self.begun = b""
        self.waiting = None
        self.error = None

    def takes(self, status, fields):
        if is_compressed(fields):
            raise UpstreamInvalid("the answer is compressed")
        return status == 200

    def feed(self, octets):
        self.begun += octets
        return self.begun.startswith(b"TICKET"[: len(self.begun)])

    async def change(self, body, upstream):
        assert upstream.name == "esxi1"
        if self.error is not None:
            raise self.error
        if self.waiting is not None:
            await self.waiting
        return body * 2


class Filters:
    """Filters for requests to /ask."""

    def __init__(self):
        self.made = []
        self.next = Doubling()

    def choose(self, request, target, principal):
        if target == b"/ask/../ask":
            raise RouteNotFound("ambiguous")
        if not target.startswith(b"/ask"):
            return None
        self.made.append(self.next)
        self.next = Doubling()
        return self.made[-1]


def scene_with(filters):
    scene = HttpScene()
    scene.factory.gateway.answer_filters = filters
    return scene


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("chunk", [None, 1])
def test_a_chosen_answer_is_changed_as_a_whole(name, chunk):
    answer, ends = CASES[name]
    scene = scene_with(Filters())
    sent = scene.ask(get(b"/ask", b"Accept-Encoding: gzip, br", b"Range: bytes=0-1"))
    assert read(sent).values(b"Accept-Encoding") == [b"identity"] and not read(sent).values(b"Range")
    scene.answer(answer, chunk)
    if ends:
        assert scene.client.received == b"", "nothing is sent before the whole answer is known"
        scene.host.close()
        scene.pump()
    got = read(scene.client.received)
    assert (got.status, got.body, got.rest) == (200, b"TICKET=abTICKET=ab", b"")
    assert got.values(b"Content-Length") == [b"18"] and got.values(b"X-Kept") == [b"yes"]
    assert not got.values(b"ETag") and not got.values(b"Transfer-Encoding")
    assert [(each.status, each.octets_down) for each in scene.records] == [(200, 18)]


@pytest.mark.parametrize("chunk", [None, 1])
def test_other_answers_are_those_without_filters_byte_for_byte(chunk):
    answers = [
        SHORT.replace(b"TICKET", b"NOTICE"),
        SHORT.replace(b"TICKET", b"TICXXX"),
        SHORT.replace(b"200 OK", b"500 No"),
        PARTS + chunked(b"T", b"IC", b"other", trailers=b"X-T: 1\r\n"),
        PARTS + chunked(b"TIC"),
        b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 204 No\r\n\r\n",
    ]
    for target in (b"/ask", b"/other"):
        for answer in answers[:-2] if target == b"/ask" else answers:
            got = []
            for filters in (None, Filters()):
                scene = scene_with(filters)
                scene.ask(get(target, b"Accept-Encoding: gzip"))
                scene.answer(answer, chunk)
                message = read(scene.client.received)
                fields = [field for field in message.fields if field[0] not in (b"X-Request-ID", b"Date")]
                got.append((message.line, fields, message.body, message.trailers, message.whole))
            if b"TIC\r\n" in answer and target == b"/ask":
                assert got[1][2] == b"TICTIC", "the beginning fits, and so the filter decides at the end"
            else:
                assert got[0] == got[1], answer
    scene = scene_with(Filters())
    assert read(scene.ask(get(b"/other", b"Accept-Encoding: gzip"))).values(b"Accept-Encoding") == [b"gzip"]


def test_an_answer_that_its_filter_refuses_is_no_part_of_an_answer():
    filters = Filters()
    scene = scene_with(filters)
    scene.ask(get(b"/ask"))
    scene.answer(SHORT.replace(b"ETag: x", b"Content-Encoding: gzip"))
    assert read(scene.client.received).status == 502 and b"TICKET" not in scene.client.received
    for error, status, name in (
        (UpstreamInvalid("no ticket"), 502, "UpstreamInvalid"),
        (KeyError("bug"), 500, "Internal"),
    ):
        filters = Filters()
        filters.next.error = error
        scene = scene_with(filters)
        scene.ask(get(b"/ask"))
        scene.answer(SHORT)
        assert read(scene.client.received).status == status and b"TICKET" not in scene.client.received
        assert [each.error for each in scene.records] == [name]


def test_a_request_that_its_filters_refuse_is_not_sent():
    scene = scene_with(Filters())
    assert scene.ask(get(b"/ask/../ask")) == b"" and scene.host.ended
    assert read(scene.client.received).status == 404
    assert [each.error for each in scene.records] == ["RouteNotFound"]


def test_a_filter_may_wait_and_ends_with_its_client():
    filters = Filters()
    filters.next.waiting = Deferred()
    scene = scene_with(filters)
    scene.ask(get(b"/ask"))
    waiting = filters.made[0].waiting
    assert scene.answer(SHORT) == b""
    waiting.callback(None)
    scene.pump()
    assert read(scene.client.received).body == b"TICKET=abTICKET=ab"

    # The connections of both sides serve the next request.
    scene.clear()
    ended = []
    filters.next.waiting = Deferred(lambda _: ended.append(True))
    scene.ask(get(b"/ask"))
    assert len(scene.hosts) == 1
    scene.answer(SHORT)
    scene.client.close()
    scene.pump()
    assert ended == [True] and scene.records[-1].error == "ClientLost"


def waiting_scene(request, answer, *, chunk=None):
    """Return a scene whose filter waits with a whole answer, and what it waits for."""
    filters = Filters()
    filters.next.waiting = Deferred()
    scene = scene_with(filters)
    scene.ask(request)
    assert scene.answer(answer, chunk) == b""
    return scene, filters.made[0].waiting


def test_an_upstream_is_not_read_while_a_filter_waits():
    for answer in (SHORT, PARTS + chunked(b"TICKET=ab")):
        scene, waiting = waiting_scene(get(b"/ask"), answer)
        for _ in range(4):
            scene.host.send(b"x" * 65536)
            scene.pump()
        assert scene.host.ended, "nothing was asked, and so these bytes end the connection"
        waiting.callback(None)
        scene.pump()
        assert read(scene.client.received).body == b"TICKET=abTICKET=ab"
        assert [each.error for each in scene.records] == [""]

    # Bytes in the same read as the answer, and an answer to a request that is not complete.
    for request, more in ((get(b"/ask"), b"x"), (get(b"/ask", b"Content-Length: 4", method=b"POST"), b"")):
        scene, waiting = waiting_scene(request, SHORT + more)
        assert scene.host.ended
        scene.ask(b"abcd" if b"POST" in request else b"")
        waiting.callback(None)
        scene.pump()
        assert read(scene.client.received).body == b"TICKET=abTICKET=ab"


def test_the_end_of_an_upstream_does_not_spoil_its_whole_answer():
    many = PARTS + chunked(*[b"TICKET=ab"] * 3000)
    for answer, is_reset in ((SHORT, True), (SHORT, False), (many, True), (many, False)):
        filters = Filters()
        filters.next.waiting = Deferred()
        scene = scene_with(filters)
        scene.ask(get(b"/ask"))
        scene.host.send(answer)
        scene.host.pump()
        # The reading of many chunks is paused between turns, and a write may still report the end.
        scene.host._end("far", Failure(ConnectionLost() if is_reset else ConnectionDone()))
        scene.pump()
        assert scene.client.received == b""
        filters.made[0].waiting.callback(None)
        scene.pump()
        assert read(scene.client.received).status == 200, (len(answer), is_reset)


def test_a_request_behind_one_whose_filter_waits_is_served():
    for answer in (SHORT, b"HTTP/1.1 200 OK\r\n\r\nTICKET=ab"):
        filters = Filters()
        filters.next.waiting = Deferred()
        scene = scene_with(filters)
        scene.ask(get(b"/ask"))
        scene.answer(answer)
        if b"Length" not in answer:
            scene.host.close()
            scene.pump()
        scene.ask(get(b"/next"))
        filters.made[0].waiting.callback(None)
        scene.pump()
        assert b"/next" in scene.host.received


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
    ],
)
def test_an_answer_whose_end_is_ambiguous_is_refused_with_a_filter_too(head):
    for target in (b"/ask", b"/other"):
        scene = scene_with(Filters())
        scene.ask(get(target))
        scene.answer(head + chunked(b"TICKET=ab"))
        assert read(scene.client.received).status == 502 and b"TICKET" not in scene.client.received
