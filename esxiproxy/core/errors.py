"""The errors that end a session: one class for each way in which a session can fail.

A class has the HTTP status (with the error type of RFC 9209, Proxy-Status) for a failure before the 101, and
the close code (RFC 6455 section 7.4) for a failure after it.  The class name stands in the log, in the
session record and in the metrics.
"""

from __future__ import annotations

from typing import ClassVar


class SessionError(Exception):
    """A failure of one session, with the answers to the client before and after its 101.

    ``str()`` of an error may be logged: code that raises one leaves request targets and field values out of
    the detail.
    """

    status: ClassVar[int] = 500  # HTTP status of the refusal, before the 101
    close_code: ClassVar[int] = 1011
    """The close code (RFC 6455 7.4.1) after the 101."""
    proxy_error: ClassVar[str] = "proxy_internal_error"
    """The error type of RFC 9209 2.3."""
    retry_after: ClassVar[int | None] = None
    """Seconds in the Retry-After field (RFC 9110 10.2.3), None for no such field."""
    fields: tuple[tuple[bytes, bytes], ...] = ()
    """Fields of the refusal that its status requires."""
    hide_detail: bool = False
    """Whether the client gets no detail, since the detail names upstream hosts or people."""

    def __init__(self, detail: str = "", *, status: int | None = None, timeout: str = "") -> None:
        super().__init__(detail)
        self.detail = detail
        self.timeout = timeout  # the configuration key of the timeout that expired, or empty
        self.status_code = self.status if status is None else status
        """The status of this refusal.  One class may have several (400, 408, 414, 431)."""

    @property
    def name(self) -> str:
        """The name of the failure in the log, the record and the metrics."""
        return type(self).__name__

    @property
    def public_name(self) -> str:
        """The name of the failure for the client."""
        return self.name

    @property
    def public_message(self) -> str:
        """The text for the client: the detail, or the class's description where ``hide_detail`` is set."""
        return (type(self).__doc__ or "").partition("\n")[0] if self.hide_detail else str(self)

    def __str__(self) -> str:
        return self.detail or self.name


class MalformedRequest(SessionError):
    """The request head is ambiguous, too large or incomplete after its timeout."""

    status = 400
    proxy_error = "http_request_error"


class BodyTooLarge(MalformedRequest):
    """The request has a body of more than ``max_body`` bytes."""

    status = 413


class TLSHandshakeFailed(MalformedRequest):
    """The client's TLS handshake failed, so no answer can be sent."""


class LoopDetected(SessionError):
    """The request has passed this proxy before: an upstream leads back to the proxy."""

    status = 502  # as RFC 9209 2.3.27 recommends; 508 is WebDAV's, and for Depth: infinity
    proxy_error = "proxy_loop_detected"


class MethodRefused(SessionError):
    """The request is an upgrade that is no GET, or has a method that a proxy does not forward."""

    status = 405
    proxy_error = "http_request_denied"
    fields = ((b"Allow", b"GET"),)


class UpgradeRequired(SessionError):
    """The request is no WebSocket handshake of version 13, and the listener serves nothing else."""

    status = 426
    proxy_error = "http_request_denied"
    fields = (
        (b"Upgrade", b"websocket"),
        (b"Sec-WebSocket-Version", b"13"),
    )


class AccessDenied(SessionError):
    """The client is unknown or may not use this console."""

    status = 403
    close_code = 1008
    proxy_error = "http_request_denied"


class AddressDenied(AccessDenied):
    """The client's address is not allowed."""


class OriginRefused(AccessDenied):
    """The page that opens the console has an origin that ``origins`` does not allow."""


class RouteNotFound(SessionError):
    """No upstream belongs to this request."""

    status = 404
    proxy_error = "destination_not_found"


class LinkInvalid(RouteNotFound):
    """There is no such link, or its signature or a claim is not valid."""

    @property
    def public_name(self) -> str:
        """The name for the client, which is that of an unknown link."""
        return RouteNotFound.__name__

    @property
    def public_message(self) -> str:
        """The text for the client, which does not say that there was such a link."""
        return (RouteNotFound.__doc__ or "").partition("\n")[0]


class LinkUsed(LinkInvalid):
    """The link works once and was used, or is in use."""


class LinkExpired(LinkInvalid):
    """The link has expired, or is not valid yet."""


class LinkRevoked(LinkInvalid):
    """The link was revoked."""


class LimitReached(SessionError):
    """A configured limit on sessions or connections is reached."""

    status = 503
    close_code = 1013
    proxy_error = "connection_limit_reached"
    retry_after = 5


class OutOfDescriptors(LimitReached):
    """The process has no free file descriptor for the upstream connection."""


class StateUnavailable(SessionError):
    """The state that the processes share cannot be reached."""

    status = 503
    retry_after = 5


class ServiceUnavailable(SessionError):
    """A service that the proxy asks did not answer, or not as it should."""

    status = 502
    hide_detail = True


class DecisionTimeout(SessionError):
    """The authenticator or the router did not answer within ``decision_timeout``."""

    status = 504


class UpstreamError(SessionError):
    """The upstream is not available."""

    status = 502
    hide_detail = True


class UpstreamDenied(UpstreamError):
    """The upstream's address may not be dialled."""

    status = 403
    proxy_error = "destination_ip_prohibited"


class UpstreamUnresolved(UpstreamError):
    """The upstream's name has no address."""

    proxy_error = "dns_error"


class UpstreamRefused(UpstreamError):
    """The upstream refuses TCP connections."""

    proxy_error = "connection_refused"


class UpstreamTimeout(UpstreamError):
    """The upstream did not accept the connection, or did not answer, in time."""

    status = 504
    proxy_error = "connection_timeout"


class UpstreamUntrusted(UpstreamError):
    """The upstream's certificate does not match the configuration."""

    proxy_error = "tls_certificate_error"


class UpgradeRefused(SessionError):
    """The upstream refused the opening handshake, and its response is passed on."""

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
    """The upstream answered the opening handshake with a redirect to another server."""

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
    """A peer violated RFC 6455."""

    status = 400
    close_code = 1002
    proxy_error = "http_protocol_error"


class InvalidPayload(ProtocolViolation):
    """A peer sent a Close frame whose reason is not UTF-8 (RFC 6455 8.1)."""

    close_code = 1007


class FrameTooBig(SessionError):
    """A frame is longer than ``max_frame``."""

    close_code = 1009


class PolicyViolation(SessionError):
    """The session exceeded a limit of its duration, its speed or its rate."""

    close_code = 1008


class Flood(PolicyViolation):
    """A peer sent more control frames per second than the proxy allows."""


class StallTimeout(PolicyViolation):
    """A peer accepted no data for ``stall_timeout`` while data was waiting for it."""


class IdleTimeout(PolicyViolation):
    """No data frame passed in either direction for ``idle_timeout``."""


class LifetimeReached(PolicyViolation):
    """The session reached its ``max_lifetime``."""


class LoginEnded(PolicyViolation):
    """The login of the session's principal has ended."""


class Replaced(PolicyViolation):
    """Another opening of the same link has replaced the session."""

    status = 503


class Killed(PolicyViolation):
    """An operator ended the session."""

    status = 503


class ClientLost(SessionError):
    """The client's connection ended without a Close frame."""

    status = 499  # nginx's number for the log, no client reads it
    close_code = 1001


class Draining(LimitReached):
    """The proxy is draining."""

    close_code = 1001


class Internal(SessionError):
    """A bug of the proxy or an exception in a plugin, whose traceback is in the log."""
