"""Many small chunks of either side cost little, and do not delay other connections."""

import pytest

from esxiproxy.core.http import chunked_body
from esxiproxy.core.http.answer_head import MAX_EMPTY, MAX_INTERIM
from esxiproxy.core.http.chunked_body import CHUNKS_PER_CHECK, CHUNKS_PER_TURN
from tests.net.http_scene import OK, HttpScene, get, read

ONE = b"1\r\nx\r\n"
READ = 96 * 1024
POST = get(b"/", b"Transfer-Encoding: chunked", method=b"POST")
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


def turns(scene):
    """Run the calls that are due, until none is left."""
    while any(call.getTime() <= scene.clock.seconds() for call in scene.clock.getDelayedCalls()):
        scene.clock.advance(0)
        scene.pump()


class Side:
    """The wire of the side that sends chunks, and that of the side that receives them."""

    def __init__(self, name):
        self.scene = scene = HttpScene()
        scene.ask(POST if name == "request" else get())
        if name == "answer":
            scene.answer(CHUNKED)
        hosts = (scene.client, scene.host)
        self.sender, self.receiver = hosts if name == "request" else hosts[::-1]
        self.error = "MalformedRequest" if name == "request" else "UpstreamInvalid"
        self.receiver.received = b""
        self.writes = []
        write = self.receiver.transport.write
        self.receiver.transport.write = lambda octets: (self.writes.append(octets), write(octets))

    def send(self, octets):
        self.sender.send(octets)
        self.scene.pump()


@pytest.fixture(params=["request", "answer"])
def side(request):
    return Side(request.param)


def test_the_chunks_of_one_turn_are_forwarded_in_one_write(side):
    side.send(ONE * CHUNKS_PER_TURN)
    assert side.writes == [ONE * CHUNKS_PER_TURN]


def test_the_work_of_a_turn_is_bounded(side):
    count = 10 * CHUNKS_PER_TURN
    side.send(ONE * count)
    assert side.receiver.received.count(b"x") == CHUNKS_PER_TURN, "one read, and only the first turn of it"
    assert not side.sender.transport.reading
    turns(side.scene)
    assert side.receiver.received.count(b"x") == count and len(side.writes) == 10
    assert side.sender.transport.reading, "what it sends next is read"


def test_a_long_body_of_tiny_chunks_is_refused(side):
    sent = 0
    while not side.scene.records:
        side.send((ONE * READ)[:READ])
        sent += READ
        turns(side.scene)
        assert sent < 3 * CHUNKS_PER_CHECK * len(ONE), "it goes on for ever"
    assert side.scene.record.error == side.error
    assert side.scene.host.ended == "aborted" and side.scene.client.saw_fin
    side.scene.advance(10)
    side.scene.client.close()
    side.scene.pump()
    assert side.scene.at_rest()


def test_single_chunks_are_forwarded_without_a_limit(side, monkeypatch):
    monkeypatch.setattr(chunked_body, "CHUNKS_PER_CHECK", 1024)
    for _ in range(2 * 1024):
        side.sender.protocol.dataReceived(ONE)
    assert not side.scene.records
    assert len(side.writes) == 2 * 1024


@pytest.mark.parametrize("who", ["client", "host"])
@pytest.mark.parametrize("how", ["close", "reset"])
def test_a_connection_lost_between_two_turns_leaves_no_timer(side, who, how):
    side.send(ONE * 4 * CHUNKS_PER_TURN)
    wire = getattr(side.scene, who)
    wire.transport.reading = True
    getattr(wire, how)()
    side.scene.pump()
    side.scene.client.close()
    side.scene.advance(0)
    side.scene.advance(10)
    assert side.scene.at_rest() and len(side.scene.records) == 1


def test_a_complete_response_before_an_unclean_end_is_complete():
    """TLS may report the end of a connection in the same turn as the bytes before it."""
    side = Side("answer")
    side.send(ONE * 4 * CHUNKS_PER_TURN + b"0\r\n\r\n")
    side.scene.host.transport.reading = True
    side.scene.host.close()
    side.scene.pump()
    found = read(OK[:17] + b"Transfer-Encoding: chunked\r\n\r\n" + side.receiver.received)
    assert found.whole and found.body == b"x" * 4 * CHUNKS_PER_TURN and not side.scene.record.error


def test_requests_behind_many_chunks_are_served():
    scene = HttpScene()
    scene.ask(POST + ONE * 3 * CHUNKS_PER_TURN + b"0\r\n\r\n" + get(b"/next"))
    turns(scene)
    assert read(scene.host.received).body == b"x" * 3 * CHUNKS_PER_TURN
    scene.clear()
    scene.answer(OK)
    assert read(scene.host.received).line == b"GET /next HTTP/1.1"


def test_a_connection_is_reused_after_a_response_of_many_chunks():
    scene = HttpScene()
    scene.ask(get())
    scene.answer(CHUNKED + ONE * 3 * CHUNKS_PER_TURN + b"0\r\n\r\n")
    turns(scene)
    assert read(scene.client.received).body == b"x" * 3 * CHUNKS_PER_TURN
    scene.clear()
    scene.ask(get(b"/next"))
    assert scene.connector.dials == 1 and read(scene.answer(OK)).body == b"ok"


BAD = [b"1;a\rb\r\nx\r\n", b"1;\0\r\nx\r\n", b"1;" + b"a" * 20_000 + b"\r\nx\r\n", b"1\nx\r\n"]


@pytest.mark.parametrize("chunk", BAD)
@pytest.mark.parametrize("before", [b"", b"1\r\nx\r\n"])
def test_a_chunk_with_a_bad_line_ends_the_exchange(side, before, chunk):
    side.send(before + chunk + b"1\r\nx\r\n0\r\n\r\n")
    assert side.scene.record.error == side.error and side.scene.host.ended == "aborted"
    assert not side.receiver.received.endswith(b"0\r\n\r\n")


def test_the_chunks_before_a_bad_one_are_delivered():
    scene = HttpScene()
    scene.ask(get())
    scene.answer(CHUNKED + b"5\r\nhello\r\n" * CHUNKS_PER_TURN + b"XX\r\n")
    turns(scene)
    assert scene.client.received.count(b"hello") == CHUNKS_PER_TURN and scene.client.saw_fin
    assert not read(scene.client.received).whole


def test_interim_answers_cost_no_more_than_their_worth():
    interim = b"HTTP/1.1 102 Processing\r\n\r\n"
    scene = HttpScene()
    scene.ask(get())
    for _ in range(4):
        scene.answer(interim * MAX_INTERIM)
    assert scene.client.received.count(b"HTTP/1.1 102") == 4 * MAX_INTERIM and not scene.records
    scene.answer(interim * (MAX_INTERIM + 1))
    assert scene.record.error == "UpstreamInvalid" and scene.host.ended == "aborted"


@pytest.mark.parametrize("chunk", [None, 1])
@pytest.mark.parametrize("count", [1, MAX_EMPTY])
def test_an_empty_line_before_a_status_line_is_nothing(count, chunk):
    scene = HttpScene()
    scene.ask(get())
    found = read(scene.answer(b"\r\n" * count + OK, chunk))
    assert (found.status, found.body, scene.record.error) == (200, b"ok", "")


@pytest.mark.parametrize("before", [b"\r\n" * (MAX_EMPTY + 1), b"\n", b"\r", b"\r\r\n", b" \r\n"])
def test_other_things_before_a_status_line_are_no_http(before):
    scene = HttpScene()
    scene.ask(get())
    scene.answer(before + OK, 1)
    assert read(scene.client.received).status == 502 and scene.record.error == "UpstreamInvalid"


def test_the_record_has_the_status_when_head_and_fault_are_in_one_read():
    scene = HttpScene()
    scene.ask(get())
    scene.answer(b"HTTP/1.1 207 Multi-Status\r\nTransfer-Encoding: chunked\r\n\r\n" + b"no size\r\n", 65536)
    assert scene.record.status == 207 and scene.record.phases["answered"] == 0.0
    assert scene.record.error == "UpstreamInvalid"
    assert scene.client.received.startswith(b"HTTP/1.1 207 ")
