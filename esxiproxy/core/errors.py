"""The errors that end a session: one class for each way in which a session can fail.

A class has the HTTP status (with the error type of RFC 9209, Proxy-Status) for a failure before the 101, and
the close code (RFC 6455 section 7.4) for a failure after it.  The class name stands in the log, in the
session record and in the metrics.  The first line of the docstring says what has happened, and ``advice``
what to do: docs/troubleshooting.md is made of them.
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
    advice: ClassVar[str] = ""
    """The action of an operator upon this failure, in a sentence or two."""
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

    advice = (
        "Read the reason in the record, and repeat the request with `curl -v`. With `head_timeout` or "
        "`tls_handshake_timeout` the client was too slow, or is no HTTP client. A proxy in front that "
        "changes the request has to send valid HTTP/1.1."
    )
    status = 400
    proxy_error = "http_request_error"


class BodyTooLarge(MalformedRequest):
    """The request has a body of more than ``max_body`` bytes."""

    advice = "Raise `max_body` of the listener if such uploads are wanted."
    status = 413


class TLSHandshakeFailed(MalformedRequest):
    """The client's TLS handshake failed, so no answer can be sent."""

    advice = (
        "Read the reason in the record. Usual ones are a client without a certificate where `client_ca` is "
        "set, a client that is older than `tls_minimum`, and plain HTTP sent to a TLS listener."
    )


class LoopDetected(SessionError):
    """The request has passed this proxy before: an upstream leads back to the proxy."""

    advice = (
        "Correct the `url` of the upstream, or the line of the router: it leads to a listener of this proxy."
    )
    status = 502  # as RFC 9209 2.3.27 recommends; 508 is WebDAV's, and for Depth: infinity
    proxy_error = "proxy_loop_detected"


class MethodRefused(SessionError):
    """The request is an upgrade that is no GET, or has a method that a proxy does not forward."""

    advice = "Open a console with GET. TRACE is never forwarded."
    status = 405
    proxy_error = "http_request_denied"
    fields = ((b"Allow", b"GET"),)


class UpgradeRequired(SessionError):
    """The request is no WebSocket handshake of version 13, and the listener serves nothing else."""

    advice = (
        "Open the URL as a WebSocket. A proxy in front has to pass `Connection` and `Upgrade` on, in "
        "HTTP/1.1. `http = forward` serves pages and the API as well."
    )
    status = 426
    proxy_error = "http_request_denied"
    fields = (
        (b"Upgrade", b"websocket"),
        (b"Sec-WebSocket-Version", b"13"),
    )


class AccessDenied(SessionError):
    """The client is unknown or may not use this console."""

    advice = (
        "Read the reason in the record. The client needs credentials that one of the listener's "
        "authenticators knows, and the right to open this console."
    )
    status = 403
    close_code = 1008
    proxy_error = "http_request_denied"


class AddressDenied(AccessDenied):
    """The client's address is not allowed."""

    advice = (
        "Ask the owner of the plugin that refuses the address. No authenticator of this package uses this "
        "error."
    )


class OriginRefused(AccessDenied):
    """The page that opens the console has an origin that ``origins`` does not allow."""

    advice = (
        "Add the origin of the page to `origins` of the listener. If a proxy in front ends TLS, list it in "
        "`trusted_proxies`."
    )


class RouteNotFound(SessionError):
    """No upstream belongs to this request."""

    advice = (
        "Compare the URL with `paths` of the listener and with `locate` and the hosts of its routers. The "
        "record shows the target."
    )
    status = 404
    proxy_error = "destination_not_found"


class LinkInvalid(RouteNotFound):
    """There is no such link, or its signature or a claim is not valid."""

    advice = (
        "Make a new link. If all links of a portal fail, compare its `iss`, `aud` and key id with the "
        "router's `issuer`, `audience` and `keys`. The client sees `RouteNotFound`."
    )

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

    advice = (
        "Make a new link, or make links with `--reuse` or `--many` where users open them again. The client "
        "sees `RouteNotFound`."
    )


class LinkExpired(LinkInvalid):
    """The link has expired, or is not valid yet."""

    advice = (
        "Make a new link with a longer `--ttl`, and compare the clocks of the machines. The client sees "
        "`RouteNotFound`."
    )


class LinkRevoked(LinkInvalid):
    """The link was revoked."""

    advice = "Make a new link if the user may still open the console. The client sees `RouteNotFound`."


class LimitReached(SessionError):
    """A configured limit on sessions or connections is reached."""

    advice = (
        "The message names the key. Find out which clients hold the sessions, then raise the limit or set "
        "`queue_timeout`. Keep `max_connections` below the 128 connections of an ESXi host."
    )
    status = 503
    close_code = 1013
    proxy_error = "connection_limit_reached"
    retry_after = 5


class OutOfDescriptors(LimitReached):
    """The process has no free file descriptor for the upstream connection."""

    advice = (
        "Raise the limit on open files (`LimitNOFILE=` in the unit) and restart. The log has the number of "
        "sessions that fit."
    )


class StateUnavailable(SessionError):
    """The state that the processes share cannot be reached."""

    advice = (
        "Check the disk, the owner and the folder of the database that `state` names, or the Redis server. "
        "Open consoles continue."
    )
    status = 503
    retry_after = 5
    is_away = True
    """Whether a state that ``admits_when_down`` is done without; False if it answers and refuses the call."""

    @property
    def name(self) -> str:
        """The name of this class, which its subclasses have as well."""
        return StateUnavailable.__name__


class ServiceUnavailable(SessionError):
    """A service that the proxy asks did not answer, or gave no valid answer."""

    advice = (
        "The log names the service: that of `forward` or of `resolver`, or the URL of the `jwt` keys. Check "
        "that it runs and that the proxy reaches it."
    )
    status = 502
    hide_detail = True


class PortalUnavailable(SessionError):
    """The portal, which runs in the admin process, cannot be reached."""

    advice = (
        "The admin process, which has the page, is started again by itself. The log of the proxy says why "
        "it has ended. Open consoles continue."
    )
    status = 503
    retry_after = 3
    hide_detail = True


class DecisionTimeout(SessionError):
    """The authenticator or the router did not answer within ``decision_timeout``."""

    advice = (
        "The log names the section of the authenticator or the router. Check the service that it asks, or "
        "raise `decision_timeout`."
    )
    status = 504


class UpstreamError(SessionError):
    """The upstream is not available."""

    status = 502
    hide_detail = True


class UpstreamDenied(UpstreamError):
    """The upstream's address may not be dialled."""

    advice = (
        "Add the network of the host to `allow` of the router, or take it out of `deny`, if consoles may "
        "lead there. A ticket in an answer needs `tickets_allow` of the listener. The log has the address."
    )
    status = 403
    proxy_error = "destination_ip_prohibited"


class UpstreamUnresolved(UpstreamError):
    """The upstream's name has no address."""

    advice = (
        "Correct the name in `url` or in the list of hosts, or its DNS entry. `getent hosts NAME` on the "
        "machine of the proxy shows its addresses."
    )
    proxy_error = "dns_error"


class UpstreamRefused(UpstreamError):
    """The upstream refuses TCP connections."""

    advice = (
        "Check that the host runs and that its port is right. `esxiproxy doctor wss://HOST/` shows the step "
        "that fails."
    )
    proxy_error = "connection_refused"


class UpstreamTimeout(UpstreamError):
    """The upstream did not accept the connection, or did not answer, in time."""

    advice = (
        "`timeout` in the record names the key. With `connect_timeout` packets are lost: check the firewall "
        "and the host. With another key the host is busy: raise the key if the host needs the time."
    )
    status = 504
    proxy_error = "connection_timeout"


class UpstreamUntrusted(UpstreamError):
    """The upstream's certificate does not match the configuration."""

    advice = (
        "If the host has a new certificate, compare its thumbprint with the one on the host's own console "
        "and change `pin`. Otherwise another machine answers in place of the host."
    )
    proxy_error = "tls_certificate_error"


class MachineNotFound(SessionError):
    """There is no such virtual machine, or the principal may not see it."""

    advice = (
        "Compare the name or the UUID with the list of machines. vCenter's account has to see the machine, "
        "and an `[access]` section has to admit the user."
    )
    status = 404
    proxy_error = "destination_not_found"

    def __init__(self, detail: str = "", *, status: int | None = None, timeout: str = "") -> None:
        super().__init__(detail or "no virtual machine has this name or UUID", status=status, timeout=timeout)


class MachineHidden(MachineNotFound):
    """No rule lets the principal open the virtual machine."""

    advice = (
        "Compare `who`, `what` and `may` of the `[access]` sections that the router names with the user and "
        "the machine. The client sees `MachineNotFound`, as for a machine that does not exist."
    )

    @property
    def public_name(self) -> str:
        """The name for the client, which is that of a machine that does not exist."""
        return MachineNotFound.__name__

    @property
    def public_message(self) -> str:
        """The text for the client, which does not say that there is such a machine."""
        return str(MachineNotFound())


class MachineAmbiguous(MachineNotFound):
    """Several virtual machines have this name or this UUID."""

    advice = "Ask for the machine by `SECTION/UUID`, as the list of machines shows it."
    status = 409


class MachinePoweredOff(SessionError):
    """The virtual machine is powered off or suspended, so it has no console."""

    advice = "Power the machine on."
    status = 409
    proxy_error = "destination_unavailable"


class MachineNotReady(SessionError):
    """The virtual machine is in a state in which vSphere refuses the call."""

    advice = (
        "Wait for the task that runs on the machine. The resolution of a screen can only be set while VMware "
        "Tools run in the guest."
    )
    status = 409
    proxy_error = "destination_unavailable"


class MachineNotPermitted(SessionError):
    """The account of the proxy at vCenter or the host may not do this with the virtual machine."""

    advice = (
        "Give the `user` of the `[vsphere]` section the privilege that the record names, on the folder of "
        "the machine. Consoles need `VirtualMachine.Interact.ConsoleInteract`."
    )
    status = 403
    hide_detail = True


class HostNotConnected(UpstreamError):
    """The ESXi host of the virtual machine is not connected to vCenter, or does not answer it."""

    advice = "Look at the host in vCenter: it is disconnected, not responding or in standby."
    status = 504
    proxy_error = "destination_unavailable"


class TooManyConsoles(LimitReached):
    """The virtual machine has as many consoles as it admits."""

    advice = (
        "Close a console of the machine, also one that was opened past the proxy, or raise the machine's "
        "`RemoteDisplay.maxConnections`."
    )


class VSphereUnavailable(SessionError):
    """vCenter or the ESXi host cannot be asked for the console."""

    advice = (
        "The log says why, with the name of the `[vsphere]` section: the server does not answer, its "
        "certificate has changed, or it refuses the user or the password. Open consoles continue."
    )
    status = 503
    proxy_error = "destination_unavailable"
    retry_after = 5
    hide_detail = True


class TicketsUnavailable(SessionError):
    """The admin process, which acquires the tickets of consoles, cannot be reached."""

    advice = (
        "The master starts the admin process again when it has ended, and the log says why it did. Open "
        "consoles continue."
    )
    status = 503
    retry_after = 3
    hide_detail = True


class UpgradeRefused(SessionError):
    """The upstream refused the opening handshake, and its response is passed on."""

    advice = (
        "Request a new ticket. A ticket works once, for 30 minutes at most, and on one host only. The "
        "client gets the answer of the host."
    )
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

    advice = "Use `wss://` in the `url` of the upstream, or the address to which the host redirects."
    proxy_error = "http_upgrade_failed"
    hide_detail = False


class UpstreamInvalid(UpstreamError):
    """The upstream's answer is not valid HTTP, or not valid for this request."""

    advice = (
        "Check that `url` has the right scheme and port, if the host speaks no valid HTTP there. With "
        "`tickets = rewrite`, read in the record why the answer with a ticket was refused."
    )
    proxy_error = "http_protocol_error"


class UpstreamLost(UpstreamError):
    """The upstream's connection ended too early."""

    advice = (
        "Look into the log of the host. It was restarted, the machine was moved or switched off, or a "
        "firewall removed the connection. With `ping_timeout` in the record, the host did not answer pings: "
        "an ESXi host does not, so leave `upstream_ping_interval` off."
    )
    close_code = 1011
    proxy_error = "connection_terminated"


class ProtocolViolation(SessionError):
    """A peer violated RFC 6455."""

    advice = (
        "`ended_by` in the record names the side with the fault. Update that program. A proxy in front that "
        "changes WebSocket frames has the same effect."
    )
    status = 400
    close_code = 1002
    proxy_error = "http_protocol_error"


class InvalidPayload(ProtocolViolation):
    """A peer sent a Close frame whose reason is not UTF-8 (RFC 6455 8.1)."""

    advice = (
        "`ended_by` in the record names the side with the fault. Update that program: the reason of its "
        "Close is not UTF-8."
    )
    close_code = 1007


class FrameTooBig(SessionError):
    """A frame is longer than ``max_frame``."""

    advice = "Raise `max_frame`, or leave it `off`: a screen can be one frame."
    close_code = 1009


class PolicyViolation(SessionError):
    """The session exceeded a limit of its duration, its speed or its rate."""

    close_code = 1008


class Flood(PolicyViolation):
    """A peer sent more control frames per second than the proxy allows."""

    advice = "`ended_by` in the record names the side that sends too many pings. Update that program."


class StallTimeout(PolicyViolation):
    """A peer accepted no data for ``stall_timeout`` while data was waiting for it."""

    advice = (
        "The peer sleeps or hangs, or its network is gone, and nothing has to be changed. Raise "
        "`stall_timeout` if slow clients are ended that go on reading."
    )


class IdleTimeout(PolicyViolation):
    """No data frame passed in either direction for ``idle_timeout``."""

    advice = "Raise `idle_timeout`, or set it to `off`, if such consoles are to stay open."


class LifetimeReached(PolicyViolation):
    """The session reached its ``max_lifetime``."""

    advice = "Raise `max_lifetime`, or set it to `off`, if such consoles are to stay open."


class LoginEnded(PolicyViolation):
    """The login of the session's principal has ended."""

    advice = (
        "The user has to log in again. If the login is still valid, look at the log for what the "
        "authenticator says about it."
    )


class Replaced(PolicyViolation):
    """Another opening of the same link has replaced the session."""

    advice = "Nothing has to be changed: the user has opened a reusable link a second time."
    status = 503


class Killed(PolicyViolation):
    """An operator ended the session."""

    advice = "Ask the operators. The reason of the Close and the log have the text that was given."
    status = 503


class ClientLost(SessionError):
    """The client's connection ended without a Close frame."""

    advice = (
        "Nothing has to be changed if single users close their browser. With `ping_timeout` for many users, "
        "their network or a load balancer drops connections: its idle timeout has to be longer than "
        "`ping_interval`."
    )
    status = 499  # nginx's number for the log, no client reads it
    close_code = 1001


class WorkerLost(SessionError):
    """The worker process of the session crashed, and its connections were closed."""

    advice = (
        "Look for the crash in the log, just before this record: it has the exit status or the signal. "
        "Report a crash that repeats."
    )


class ProxyLost(SessionError):
    """The process of the session left the shared state without notice, more than a minute ago."""

    advice = (
        "Look at the machine that the detail names: it crashed, was switched off or lost its network, or its "
        "proxy was killed. If the proxy runs, it cannot reach the shared state, and the console may be open."
    )


class Draining(LimitReached):
    """The proxy is draining."""

    advice = (
        "Nothing has to be changed during a stop, a restart or a drain that an operator has begun: the log "
        "says which it is. Raise `drain_timeout` if consoles need longer to end."
    )
    close_code = 1001


class Internal(SessionError):
    """A bug of the proxy or an exception in a plugin, whose traceback is in the log."""

    advice = "The log has the traceback. Report it, or correct the plugin that it names."
