"""The opening handshake of both sides (RFC 6455 section 4), without I/O."""

from __future__ import annotations

import binascii
import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import lru_cache

from esxiproxy.core.errors import (
    MalformedRequest,
    MethodRefused,
    UpgradeRequired,
    UpstreamInvalid,
    UpstreamRedirect,
)
from esxiproxy.core.http.fields import NEVER_DOWNSTREAM, end_to_end, host_field, origin_field, request_fields
from esxiproxy.core.http.head import MAX_HEAD, Fields, RequestHead, by_name, tokens
from esxiproxy.core.http.head_writer import answer_head
from esxiproxy.core.http.link_place import without_link
from esxiproxy.core.http.request import Request
from esxiproxy.core.http.rewriting import ResponseRewriter, needs_rewriting
from esxiproxy.core.http.via import via
from esxiproxy.core.quick_init import quick_init
from esxiproxy.core.routing import Principal, Subprotocol, Upstream

BINARY = b"binary"
"""The subprotocol of ESXi's consoles."""

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_KEY = re.compile(rb"[A-Za-z0-9+/]{22}==")
_SUBPROTOCOL = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_NEGOTIATED = frozenset(
    {
        b"sec-websocket-accept",
        b"sec-websocket-extensions",
        b"sec-websocket-key",
        b"sec-websocket-protocol",
        b"sec-websocket-version",
    }
)
_REQUEST_OWN = _NEGOTIATED | {b"origin", b"content-length"}
_RESPONSE_OWN = _NEGOTIATED | {b"content-length"}


_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]++"
_TEXT = rb"[\t \x21-\x7e\x80-\xff]*+"
_SWITCHING = re.compile(rb"HTTP/1\.1 101(?: %b)?+\r\n((?:%b:%b\r\n)++)" % (_TEXT, _TOKEN, _TEXT))
_ACCEPTED = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: "
)
_NOT_PASSED = NEVER_DOWNSTREAM | _RESPONSE_OWN
_SOME_KEY = b"AAAAAAAAAAAAAAAAAAAAAA=="
_MAX_REMEMBERED = 1024
"""Maximum size in bytes of a 101 that is remembered."""
_USUAL_LINE = rb"(?i:connection|date|sec-websocket-protocol|server|upgrade|via):[^\r\n]*+\r\n"
_USUAL_SWITCHING = re.compile(
    rb"(HTTP/1\.1 101[^\r\n]*+\r\n(?:%b)*+(?i:sec-websocket-accept):[ \t]*+)([^\r\n\t ]++)"
    rb"([ \t]*+\r\n(?:%b)*+)" % (_USUAL_LINE, _USUAL_LINE)
)
"""A 101 that is remembered.  It has no field in which an upstream may send a secret."""
_USUAL_SUBPROTOCOLS = frozenset({b"base64", BINARY, b"uint8utf8", b"vmware-vvc"})
"""The subprotocols of consoles.  Some clients of other servers send a token as one."""
_NO_BODY = [b"0"]
_BRIDGE = Subprotocol.BRIDGE


@quick_init
@dataclass(frozen=True, slots=True)
class Upgrade:
    """The client's opening handshake: its key and its subprotocols in order of preference."""

    key: bytes
    subprotocols: tuple[bytes, ...]


@quick_init
@dataclass(frozen=True, slots=True)
class Acceptance:
    """An upstream's verified 101: the subprotocol that it chose, and its fields.

    ``lines`` are the end-to-end fields as they are sent to the client, or None to write them anew.
    """

    subprotocol: bytes | None
    fields: Fields
    lines: bytes | None = None


def accept_value(key: bytes) -> bytes:
    """Return the Sec-WebSocket-Accept for a key (RFC 6455 4.2.2)."""
    return binascii.b2a_base64(hashlib.sha1(key + _GUID).digest(), newline=False)


def upgrade_of(head: RequestHead) -> Upgrade | None:
    """Return the opening handshake in this request, or None if the request is no WebSocket handshake.

    Raise MalformedRequest, MethodRefused or UpgradeRequired for an invalid handshake.  A handshake without
    Upgrade or Connection, which a front proxy has removed, is refused as well: its target is a ticket, and
    plain HTTP would send that ticket to the host.
    """
    named = head.named
    wanted = b"upgrade" in named and b"websocket" in tokens(named[b"upgrade"])
    if not wanted and b"sec-websocket-key" not in named:
        return None
    if spoiled := _damage(head, wanted):
        raise UpgradeRequired(
            f"the opening handshake arrived {spoiled}: "
            "a proxy in front has to pass Upgrade and Connection on, in HTTP/1.1"
        )
    if head.absolute:
        raise MalformedRequest("an opening handshake has its target in origin-form")
    if head.method != b"GET":
        raise MethodRefused("an opening handshake is a GET")
    if named.get(b"content-length", _NO_BODY) != _NO_BODY or b"transfer-encoding" in named:
        raise MalformedRequest("an opening handshake has no body")
    versions = named.get(b"sec-websocket-version", ())
    if len(versions) != 1:
        raise MalformedRequest("an opening handshake has one Sec-WebSocket-Version")
    if versions[0] != b"13":
        raise UpgradeRequired("the WebSocket version is not 13")
    if len(named.get(b"origin", ())) > 1:
        raise MalformedRequest("an opening handshake has one Origin")
    return Upgrade(_key_of(head), _subprotocols_of(head))


def _damage(head: RequestHead, wanted: bool) -> str:
    """Return what a front proxy did to this opening handshake, or an empty text if it is complete."""
    if head.version != (1, 1):  # RFC 9110 7.8: an Upgrade in HTTP/1.0 is ignored
        return "in HTTP/1.0"
    if not wanted:
        return "without Upgrade: websocket"
    return "" if b"upgrade" in head.tokens(b"connection") else "without Connection: upgrade"


def _key_of(head: RequestHead) -> bytes:
    keys = head.named.get(b"sec-websocket-key", ())
    if len(keys) != 1 or not _KEY.fullmatch(keys[0]):
        raise MalformedRequest("an opening handshake has one Sec-WebSocket-Key of 16 bytes")
    return keys[0]


def _subprotocols_of(head: RequestHead) -> tuple[bytes, ...]:
    values = head.named.get(b"sec-websocket-protocol")
    if values is None:
        return ()
    if len(values) == 1 and values[0] in _USUAL_SUBPROTOCOLS:
        return (values[0],)
    listed = [stripped for value in values for part in value.split(b",") if (stripped := part.strip())]
    if len(set(listed)) != len(listed):
        raise MalformedRequest("a subprotocol is offered twice")
    if not all(map(_SUBPROTOCOL.fullmatch, listed)):
        raise MalformedRequest("the name of a subprotocol is no token")
    return without_link(listed)[1]


def offered_upstream(upgrade: Upgrade, upstream: Upstream) -> tuple[bytes, ...]:
    """Return the subprotocols to offer to the upstream.

    These are the client's, or ``binary`` if it has none and the upstream bridges.
    """
    if not upgrade.subprotocols and upstream.subprotocol is _BRIDGE:
        return (BINARY,)
    return upgrade.subprotocols


def opening_fields(
    request: Request, upstream: Upstream, principal: Principal, offered: tuple[bytes, ...], key: bytes
) -> list[tuple[bytes, bytes]]:
    """Return the fields of the proxy's opening handshake to the upstream, with the proxy's own key."""
    fields = [(b"Host", host_field(request, upstream))]
    fields += request_fields(request, _REQUEST_OWN, principal)
    if (origin := origin_field(request, upstream)) is not None:
        fields.append((b"Origin", origin))
    fields += [
        (b"Upgrade", b"websocket"),
        (b"Connection", b"Upgrade"),
        (b"Sec-WebSocket-Version", b"13"),
        (b"Sec-WebSocket-Key", key),
    ]
    if offered:
        fields.append((b"Sec-WebSocket-Protocol", b", ".join(offered)))
    return fields


def read_switching(octets: bytes) -> tuple[Fields, bytes] | None:
    """Return the fields of a whole 101 at the beginning of these bytes, and the bytes behind it.

    Return None for every other response, for an incomplete one, and for one that parsers may read in two
    ways.
    """
    end = octets.find(b"\r\n\r\n", 0, MAX_HEAD)
    match = _SWITCHING.fullmatch(octets, 0, end + 2) if end > 0 else None
    if match is None:
        return None
    lines = match[1]
    lowered = lines.lower()
    if lowered.find(b"content-length") >= 0 or lowered.find(b"transfer-encoding") >= 0:
        return None
    split = [line.partition(b":") for line in lines[:-2].split(b"\r\n")]
    return tuple([(name, value.strip(b" \t")) for name, _, value in split]), octets[end + 4 :]


def read_acceptance(octets: bytes, key: bytes, offered: tuple[bytes, ...]) -> tuple[Acceptance, bytes] | None:
    """Return the acceptance in a whole 101, and the bytes behind it, if it is like one that was read before.

    The usual answers of an upstream differ in their Sec-WebSocket-Accept alone, so everything else in them is
    checked once.  Return None for every other response: ``read_switching`` reads it.
    """
    end = octets.find(b"\r\n\r\n", 0, _MAX_REMEMBERED)
    match = _USUAL_SWITCHING.fullmatch(octets, 0, end + 2) if end > 0 else None
    if match is None or match[2] != accept_value(key) or not _USUAL_SUBPROTOCOLS.issuperset(offered):
        return None
    acceptance = _remembered(match[1], match[3], offered)
    return None if acceptance is None else (acceptance, octets[end + 4 :])


@lru_cache(maxsize=256)
def _remembered(before: bytes, after: bytes, offered: tuple[bytes, ...]) -> Acceptance | None:
    """Return the acceptance in a 101 with the right Sec-WebSocket-Accept between these bytes.

    Return None if it is refused, or if its fields have to be rewritten.
    """
    switched = read_switching(before + accept_value(_SOME_KEY) + after + b"\r\n")
    if switched is None or needs_rewriting(switched[0]):
        return None
    try:
        acceptance = check_acceptance(b"1.1", switched[0], _SOME_KEY, offered)
    except UpstreamInvalid:
        return None
    return replace(acceptance, lines=_lines(end_to_end(acceptance.fields, _NOT_PASSED)))


def check_acceptance(
    status_version: bytes, fields: Fields, key: bytes, offered: tuple[bytes, ...]
) -> Acceptance:
    """Return the acceptance in an upstream's 101.  Raise UpstreamInvalid (RFC 6455 4.1)."""
    named = by_name(fields)
    if status_version != b"1.1":
        raise UpstreamInvalid("the upstream accepted in another version than HTTP/1.1")
    if tokens(named.get(b"upgrade", [])) != [b"websocket"] or b"upgrade" not in tokens(
        named.get(b"connection", [])
    ):
        raise UpstreamInvalid("the upstream's 101 does not upgrade to websocket")
    if named.get(b"sec-websocket-accept") != [accept_value(key)]:
        raise UpstreamInvalid("the upstream's 101 has a wrong Sec-WebSocket-Accept")
    if b"sec-websocket-extensions" in named:
        raise UpstreamInvalid("the upstream chose an extension, and none was offered")
    chosen = named.get(b"sec-websocket-protocol", [])
    if len(chosen) > 1 or (chosen and chosen[0] not in offered):
        raise UpstreamInvalid("the upstream chose a subprotocol that was not offered")
    return Acceptance(chosen[0] if chosen else None, fields)


def check_refusal(status: int, fields: Fields, view: ResponseRewriter) -> None:
    """Raise UpstreamRedirect for a refusal that redirects the client to another server.

    Many clients follow a redirect of an opening handshake, and its target contains the ticket.
    """
    if not 300 <= status < 400:
        return
    for location in by_name(fields).get(b"location", ()):
        if view.leads_past(location):
            said = f"the upstream answered {status} to the opening handshake, a redirect past this proxy"
            if view.wants_tls(location):
                raise UpstreamRedirect(f"{said} to the upstream's TLS port: use wss:// in the upstream's url")
            raise UpstreamRedirect(
                f"{said}, which is not passed on: check the upstream's url, and whether it has to be wss://"
            )


def switching_head(upgrade: Upgrade, acceptance: Acceptance, session: str, more: Fields = ()) -> bytes:
    """Return the proxy's 101 to the client.

    It has the chosen subprotocol, the end-to-end fields, the session's id and the end-to-end fields ``more``.
    Raise UpstreamInvalid for one of ``more`` with an illegal byte.
    """
    own = _ACCEPTED + accept_value(upgrade.key) + b"\r\n"
    if acceptance.subprotocol in upgrade.subprotocols:
        own += b"Sec-WebSocket-Protocol: %b\r\n" % (acceptance.subprotocol or b"")
    passed = acceptance.lines
    if passed is None:
        passed = _lines(end_to_end(acceptance.fields, _NOT_PASSED))
    added = _lines(_checked(end_to_end(more, _NOT_PASSED))) if more else b""
    return b"%b%bVia: %b\r\nX-Request-ID: %b\r\n%b\r\n" % (own, passed, via(), session.encode(), added)


def _checked(fields: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """Return these fields of a plugin, none of which ends its line and begins another one."""
    try:
        answer_head(101, b"", fields)
    except ValueError:
        raise UpstreamInvalid("the answer's additional fields cannot be passed on") from None
    return fields


def _lines(fields: Iterable[tuple[bytes, bytes]]) -> bytes:
    return b"".join([b"%b: %b\r\n" % field for field in fields])
