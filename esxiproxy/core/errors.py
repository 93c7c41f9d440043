"""The ways in which a session can fail: one class each, with the answer that goes with it.

The table is RFC 9209's (Proxy-Status) on the HTTP side and RFC 6455 section 7.4's (close codes) on the
WebSocket side.  A failure's class name is its name in the log, in a record and in the metrics.
"""

from __future__ import annotations

from typing import ClassVar


class SessionError(Exception):
    """A failure of one session, with what the client is told before and after its 101.

    ``str()`` of an error is safe to log: whoever raises one leaves request targets and fields out of it.
    """

    status: ClassVar[int] = 500  # HTTP status of the refusal, before the 101
    close_code: ClassVar[int] = 1011
    """Close code (RFC 6455 7.4.1) after the 101."""
    proxy_error: ClassVar[str] = "proxy_internal_error"
    """RFC 9209 2.3 error type."""
    retry_after: ClassVar[int | None] = None
    """Seconds for a Retry-After field (RFC 9110 10.2.3), when trying again makes sense."""
    fields: tuple[tuple[bytes, bytes], ...] = ()  # that the status calls for
    hide_detail: ClassVar[bool] = False
    """Whether the detail is for our log only: it names hosts that the client has no business with."""

    def __init__(self, detail: str = "", *, status: int | None = None, timeout: str = "") -> None:
        super().__init__(detail)
        self.detail = detail
        self.timeout = timeout  # the key of the configuration whose time was up, where it is just that
        self.status_code = self.status if status is None else status
        """The status of this very refusal: one name may have several (400, 408, 414, 431)."""

    @property
    def name(self) -> str:
        """The name that log, record and metrics use."""
        return type(self).__name__

    @property
    def public_message(self) -> str:
        """What the client is told: the detail, or where that is not its business, what such a failure is."""
        return (type(self).__doc__ or "").partition("\n")[0] if self.hide_detail else str(self)

    def __str__(self) -> str:
        return self.detail or self.name


class MalformedRequest(SessionError):
    """The request head cannot be read in one way only, is too large, or came too late."""

    status = 400
    proxy_error = "http_request_error"


class BodyTooLarge(MalformedRequest):
    """The request has a body of more than ``max_body`` bytes."""

    status = 413


class TLSHandshakeFailed(MalformedRequest):
    """The client's TLS handshake has failed: there is no request, and no answer can be sent."""


class LoopDetected(SessionError):
    """The request has been here before: an upstream leads back to us."""

    status = 502  # as RFC 9209 2.3.27 recommends; 508 is WebDAV's, and for Depth: infinity
    proxy_error = "proxy_loop_detected"


class MethodRefused(SessionError):
    """An upgrade that is no GET, or a method that a proxy does not pass on."""

    status = 405
    proxy_error = "http_request_denied"
    fields = ((b"Allow", b"GET"),)


class UpgradeRequired(SessionError):
    """A request that is no WebSocket, where only those are served; or another version than 13."""

    status = 426
    proxy_error = "http_request_denied"
    fields = (
        (b"Upgrade", b"websocket"),
        (b"Sec-WebSocket-Version", b"13"),
    )


class AccessDenied(SessionError):
    """The client is nobody we know, or may not go there."""

    status = 403
    close_code = 1008
    proxy_error = "http_request_denied"


class AddressDenied(AccessDenied):
    """The client's address may not come in."""


class RouteNotFound(SessionError):
    """No upstream belongs to this request."""

    status = 404
    proxy_error = "destination_not_found"


class LimitReached(SessionError):
    """A configured number of sessions or connections is in use."""

    status = 503
    close_code = 1013
    proxy_error = "connection_limit_reached"
    retry_after = 5


class OutOfDescriptors(LimitReached):
    """The process has no file descriptor left to dial with."""


class StateUnavailable(SessionError):
    """What the processes share cannot be reached."""

    status = 503
    retry_after = 5


class DecisionTimeout(SessionError):
    """The authenticator or the router has not answered in time."""

    status = 504


class UpstreamError(SessionError):
    """The upstream cannot be had."""

    status = 502
    hide_detail = True


class UpstreamUnresolved(UpstreamError):
    """The upstream's name has no address."""

    proxy_error = "dns_error"


class UpstreamRefused(UpstreamError):
    """The upstream's address takes no connection."""

    proxy_error = "connection_refused"


class UpstreamTimeout(UpstreamError):
    """The upstream did not accept the connection, or did not answer, in time."""

    status = 504
    proxy_error = "connection_timeout"


class UpstreamUntrusted(UpstreamError):
    """The upstream's certificate is not the one that the configuration asks for."""

    proxy_error = "tls_certificate_error"


class UpgradeRefused(SessionError):
    """The upstream answered the opening handshake with something else than 101; the answer is passed on."""

    status = 502
    proxy_error = "http_upgrade_failed"

    def __init__(
        self, status: int, reason: bytes, fields: tuple[tuple[bytes, bytes], ...], body: bytes
    ) -> None:
        super().__init__(f"the upstream answered {status} to the opening handshake", status=status)
        self.reason = reason
        self.upstream_fields = fields
        self.body = body


class UpstreamRedirect(UpstreamError):
    """The upstream answered the opening handshake with a redirect that leads past the proxy."""

    proxy_error = "http_upgrade_failed"
    hide_detail = False


class UpstreamInvalid(UpstreamError):
    """The upstream's answer is not valid HTTP, or not valid for this request."""

    proxy_error = "http_protocol_error"


class UpstreamLost(UpstreamError):
    """The upstream's connection ended too early."""

    close_code = 1011
    proxy_error = "connection_terminated"


class ProtocolViolation(SessionError):
    """A peer sent what RFC 6455 does not allow."""

    status = 400
    close_code = 1002
    proxy_error = "http_protocol_error"


class InvalidPayload(ProtocolViolation):
    """A peer sent a Close whose reason is no UTF-8 (RFC 6455 8.1)."""

    close_code = 1007


class FrameTooBig(SessionError):
    """A frame is longer than ``max_frame``."""

    close_code = 1009


class PolicyViolation(SessionError):
    """The session was longer, slower or louder than it may be."""

    close_code = 1008


class Flood(PolicyViolation):
    """A peer sends control frames faster than any use of them could need."""


class StallTimeout(PolicyViolation):
    """A peer took nothing for ``stall_timeout`` while bytes were waiting for it."""


class IdleTimeout(PolicyViolation):
    """No data frame went either way for ``idle_timeout``."""


class LifetimeReached(PolicyViolation):
    """The session lasted for ``max_lifetime``."""


class Killed(PolicyViolation):
    """An operator ended the session."""

    status = 503


class ClientLost(SessionError):
    """The client's connection ended without a Close; only the upstream can still be told."""

    status = 499  # nobody is there to read it: nginx's number for the log
    close_code = 1001


class Draining(LimitReached):
    """The proxy is going away."""

    close_code = 1001


class Internal(SessionError):
    """A bug of ours, or a plugin that raised; the log has the traceback."""
