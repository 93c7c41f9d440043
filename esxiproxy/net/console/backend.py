"""The upstream leg: Autobahn's client protocol, with its own opening handshake.

Autobahn's handshake appends the port to Host, refuses repeated fields, recodes bytes and drops the body of a
refusal.  Here the request is written and the response is read (RFC 9112) without changing a byte.
"""

from __future__ import annotations

import binascii
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from autobahn.twisted.websocket import WebSocketClientFactory, WebSocketClientProtocol
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IHandshakeListener, IReactorTime
from twisted.python.failure import Failure
from zope.interface import implementer

from esxiproxy.core.errors import (
    SessionError,
    UpgradeRefused,
    UpstreamInvalid,
    UpstreamLost,
    UpstreamRedirect,
)
from esxiproxy.core.http.answer_head import AnswerHead, AnswerHeadReader
from esxiproxy.core.http.body import Body
from esxiproxy.core.http.head import MAX_HEAD, Fields
from esxiproxy.core.http.head_writer import request_head
from esxiproxy.core.http.response_body import response_body
from esxiproxy.core.http.rewriting import ResponseRewriter, needs_rewriting
from esxiproxy.core.quick_init import quick_init
from esxiproxy.core.random_bytes import random_bytes
from esxiproxy.core.websocket.closing import Side
from esxiproxy.core.websocket.frames import FrameWalker
from esxiproxy.core.websocket.handshake import (
    Acceptance,
    check_acceptance,
    check_refusal,
    read_acceptance,
    read_switching,
)
from esxiproxy.net.admission.slot import SlotOwner
from esxiproxy.net.console.leg import Leg
from esxiproxy.net.tls.client import UpstreamTLS

MAX_REFUSAL = 64 * 1024
"""Bytes of a refusal's body that are passed to the client."""
MAX_INTERIM = 5
"""Interim responses (1xx) that are skipped before the 101."""


@quick_init
@dataclass(frozen=True, slots=True)
class OpeningRequest:
    """The opening handshake that is sent to an upstream, and the values that its response is checked against.

    ``view`` returns what rewrites the upstream's names in the response to those that the client knows.
    """

    target: bytes = field(repr=False)
    fields: Fields = field(repr=False)
    key: bytes
    offered: tuple[bytes, ...]
    view: Callable[[], ResponseRewriter]
    max_frame: int | None = None


def new_key() -> bytes:
    """Return a new Sec-WebSocket-Key: 16 random bytes in base64 (RFC 6455 4.1)."""
    return binascii.b2a_base64(random_bytes(16), newline=False)


@implementer(IHandshakeListener)
class Backend(SlotOwner, Leg, WebSocketClientProtocol):
    """The WebSocket connection to one upstream.

    ``opened`` fires with this backend when the upstream's 101 is read, and fails with a SessionError
    otherwise.  ``tls`` verifies the upstream's certificate before the request is sent, since the request
    target may be a ticket.
    """

    side = Side.UPSTREAM
    version = 18
    acceptMaskedServerFrames = False
    maskClientFrames = True
    serverConnectionDropTimeout = 0
    perMessageCompressionOffers = ()

    step = "finish the opening handshake"

    def __init__(self, opening: OpeningRequest, factory: BackendFactory, tls: UpstreamTLS | None) -> None:
        super().__init__(FrameWalker(masked=False, max_frame=opening.max_frame))
        self.factory = factory
        self.may_send: Callable[[], bool] = lambda: True
        self.address: tuple[str, int] | None = None
        self._opening = opening
        self._tls = tls
        self._reader: AnswerHeadReader | None = None  # needed for few upstreams
        self._interim = 0
        self._answer: AnswerHead | None = None
        self._refusal: Body | None = None
        self._body = bytearray()
        self.acceptance: Acceptance | None = None
        self.opened: Deferred[Backend] | None = Deferred(self._cancelled)

    def begin(self) -> None:
        """Send the request, unless TLS comes first."""
        if self._tls is None:
            self._send_request()

    def handshakeCompleted(self) -> None:
        """Verify the upstream's certificate, and send the request."""
        assert self._tls is not None
        try:
            self._tls.verify_peer(self.transport)
        except SessionError as error:
            self.fail(error)
        else:
            self._send_request()

    def _send_request(self) -> None:
        if not self.may_send():
            self.fail(UpstreamLost("another address of the upstream was faster"))
            return
        self.transport.write(request_head(b"GET", self._opening.target, self._opening.fields))

    def processHandshake(self) -> None:
        """Read the bytes of the upstream's answer that were received."""
        octets, self.data = self.data, b""
        if self.opened is None:
            return
        if self._reader is None:
            opening = self._opening
            if (usual := read_acceptance(octets, opening.key, opening.offered)) is not None:
                self._begin(*usual)
                return
            if (switched := read_switching(octets)) is not None:
                self._accepted(b"1.1", *switched)
                return
            self._reader = AnswerHeadReader(max_head=MAX_HEAD)
        self._read(self._reader, octets)

    def _read(self, reader: AnswerHeadReader, octets: bytes) -> None:
        """Read one turn's part of the answer; pause the transport until the next turn if there is more."""
        try:
            if self._refusal is None:
                self._take_heads(reader, octets)
            else:
                self._take_body(self._refusal, octets)
        except UpstreamInvalid as error:
            self.fail(error)
        if self.opened is not None and self._has_more:
            self.transport.pauseProducing()
            self.factory.clock.callLater(0, self._read_on, reader)

    @property
    def _has_more(self) -> bool:
        """Whether chunks of a refusal wait for another turn of the reactor."""
        return self._refusal is not None and self._refusal.more

    def _read_on(self, reader: AnswerHeadReader) -> None:
        if self.opened is None:
            return
        self._read(reader, b"")
        if self.opened is not None and not self._has_more:
            self.transport.resumeProducing()

    def _read_end(self, reader: AnswerHeadReader) -> None:
        """Read what is left of a refusal after the end of the connection; pass on what was received."""
        while self.opened is not None and self._has_more:  # the bytes of one read
            self._read(reader, b"")
        if self.opened is not None:
            self._refused()

    def _take_heads(self, reader: AnswerHeadReader, octets: bytes) -> None:
        reader.feed(octets)
        while self.opened is not None and (head := reader.take()) is not None:
            if head.status == 101:
                self._accepted(b"1.%d" % head.minor, head.fields, reader.rest)
                return
            if head.status >= 200:
                self._answer, self._refusal = head, response_body(head, payload_only=True)
                self._take_body(self._refusal, reader.rest)
                return
            self._interim += 1
            if self._interim > MAX_INTERIM:
                raise UpstreamInvalid(f"the upstream sent more than {MAX_INTERIM} interim answers")

    def _take_body(self, body: Body, octets: bytes) -> None:
        self._body += body.take(octets)
        if body.is_complete or len(self._body) >= MAX_REFUSAL:
            self._refused()
        elif body.is_invalid:
            body.take(b"")

    def _accepted(self, version: bytes, fields: Fields, early: bytes) -> None:
        """Check a 101 with these fields."""
        opening = self._opening
        try:
            acceptance = check_acceptance(version, fields, opening.key, opening.offered)
        except UpstreamInvalid as error:
            self.fail(error)
            return
        if needs_rewriting(fields):
            acceptance = replace(acceptance, fields=tuple(opening.view().response_fields(fields)))
        self._begin(acceptance, early)

    def _begin(self, acceptance: Acceptance, early: bytes) -> None:
        """Enter the open state, and begin with the bytes behind the 101."""
        self.acceptance = acceptance
        del self._reader, self._opening  # frees memory: a console lasts for days
        self.open()
        opened, self.opened = self.opened, None
        assert opened is not None
        opened.callback(self)
        self.data = early + self.data
        if early and not self.lost:
            self.consumeData()

    def _refused(self) -> None:
        answer = self._answer
        assert answer is not None
        view, fields = self._opening.view(), answer.fields
        try:
            check_refusal(answer.status, fields, view)
        except UpstreamRedirect as error:
            self.fail(error)
            return
        seen, body = tuple(view.response_fields(fields)), bytes(self._body[:MAX_REFUSAL])
        self.fail(UpgradeRefused(answer.status, answer.reason, seen, body))

    def fail(self, error: SessionError) -> None:
        """Abort the connection, and fail ``opened`` with ``error``."""
        opened, self.opened = self.opened, None
        self._abort()
        if opened is not None:
            opened.errback(Failure(error))

    def _cancelled(self, _opened: Deferred[Backend]) -> None:
        self.opened = None
        self._abort()

    def _abort(self) -> None:
        if not self.lost and self.transport is not None:
            self.transport.abortConnection()

    def connection_ended(self, reason: Failure) -> None:
        if self.relay is not None:
            self.relay.lost(self)
        elif self.opened is not None:
            if self._answer is not None and self._reader is not None:
                self._read_end(self._reader)
            if self.opened is not None:
                self.fail(self._lost_error(reason))

    def _lost_error(self, reason: Failure) -> SessionError:
        if self._tls is not None:
            explained = self._tls.explain(reason.value)
            if explained is not None:
                return explained
        return UpstreamLost("the upstream ended the connection without an answer")


class BackendFactory(WebSocketClientFactory):
    """The Autobahn factory that all backends share."""

    noisy = False

    def __init__(self, clock: IReactorTime) -> None:
        super().__init__("ws://upstream.invalid", reactor=clock)
        self.clock = clock
