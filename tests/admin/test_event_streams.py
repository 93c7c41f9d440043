"""Event streams of the admin site: their pace, and their end."""

import time

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionLost
from twisted.python.failure import Failure

from esxiproxy.admin.site import MAX_STREAMS, STREAM_LIFE
from esxiproxy.core.routing import Principal
from tests.admin.site_scene import STAFF, person
from tests.support.admin_site import AdminAddress, parse


class StandInStream:
    """A stream whose events a test sends."""

    def __init__(self):
        self.waiting = None
        self.closed = False

    def next(self):
        self.waiting = Deferred()
        return self.waiting

    def close(self):
        self.closed = True


def open_stream(address):
    protocol, transport = address.connect()
    protocol.dataReceived(b"GET /api/v1/events?view=hosts HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
    return protocol, transport


def test_events_are_written_at_once_and_no_faster_than_they_are_read():
    streams, arguments = [], []

    def opened(_actor, given):
        arguments.append(given)
        streams.append(StandInStream())
        return streams[-1]

    address = AdminAddress(admin=STAFF, authenticate=person("eve", "staff"), streams=opened)
    _, transport = open_stream(address)
    (stream,) = streams
    assert (arguments[0]["view"], arguments[0]["limit"]) == ("hosts", 50)
    stream.waiting.callback(b"event: status\n\n")
    assert b"text/event-stream" in transport.value() and b"event: status\n\n" in transport.value()
    transport.producer.pauseProducing()
    stream.waiting.callback(b"event: late\n\n")
    waiting = stream.waiting
    assert waiting.called  # nothing is asked for while the client does not read
    transport.producer.resumeProducing()
    assert stream.waiting is not waiting
    address.root.close_streams()
    assert stream.closed


def test_a_client_that_leaves_ends_its_stream():
    streams = []

    def opened(_actor, _arguments):
        streams.append(StandInStream())
        return streams[-1]

    address = AdminAddress(admin=STAFF, authenticate=person("eve", "staff"), streams=opened)
    connections = [open_stream(address) for _ in range(MAX_STREAMS)]
    _, transport = open_stream(address)
    assert parse(transport.value()).status == 503
    for protocol, _ in connections:
        protocol.connectionLost(Failure(ConnectionLost()))
    assert all(stream.closed for stream in streams)
    open_stream(address)
    assert len(streams) == MAX_STREAMS + 1


def test_a_stream_ends_with_its_login_and_after_its_life():
    for left, life in ((None, STREAM_LIFE), (20.0, 20.0)):
        streams = []

        async def authenticate(arrival, left=left):
            expires = None if left is None else time.time() + left
            return Principal("root", authenticator="authenticator sso", expires=expires)

        def opened(_actor, _arguments, streams=streams):
            streams.append(StandInStream())
            return streams[-1]

        address = AdminAddress(admin=STAFF, authenticate=authenticate, streams=opened)
        open_stream(address)
        address.clock.advance(life - 1)
        assert not streams[0].closed
        address.clock.advance(2)
        assert streams[0].closed
