"""The bytes of a refusal, the response to a request that fails."""

from __future__ import annotations

import json
import re
from http import HTTPStatus

from esxiproxy.core.errors import AccessDenied, SessionError, UpgradeRefused
from esxiproxy.core.http.date import date_field
from esxiproxy.core.http.fields import one_connection, response_fields, session_field, upgrade_fields
from esxiproxy.core.http.request import Request
from esxiproxy.core.http.via import PSEUDONYM

_FRAMING = frozenset({b"content-length"})
_ZERO = re.compile(rb"q\s*=\s*0(?:\.0{0,3})?")


def refusal(error: SessionError, request: Request) -> bytes:
    """Return the whole HTTP/1.1 response to this request for this failure.

    The connection is closed after it.  An upstream's own refusal is passed on with its end-to-end fields and
    body.  Every other failure gets a line of plain text, or a JSON object if the client asks for one with
    Accept, and a Proxy-Status field (RFC 9209).  Each response names the session.
    """
    if isinstance(error, UpgradeRefused):
        reason = error.reason
        body = error.body
        fields = response_fields(error.upstream_fields, _FRAMING, request.session)
        fields += upgrade_fields(error.upstream_fields, error.status_code)
    else:
        reason = _phrase(error.status_code)
        media_type, body = _json(error, request) if _wants_json(request) else _text(error, reason)
        fields = [
            (b"Content-Type", media_type),
            (b"Vary", b"Accept"),
            (b"Cache-Control", b"no-store"),
            (b"X-Content-Type-Options", b"nosniff"),
            *error.fields,
            *session_field(request.session),
        ]
        if error.retry_after is not None:
            fields.append((b"Retry-After", str(error.retry_after).encode()))
        challenged = any(name.lower() == b"www-authenticate" for name, _ in error.fields)
        if isinstance(error, AccessDenied) and error.status_code == 401 and not challenged:
            fields.append((b"WWW-Authenticate", b'Basic realm="esxiproxy"'))
    bodiless = error.status_code in (204, 304)
    upgrades = any(name.lower() == b"upgrade" for name, _ in fields)
    fields += date_field(tuple(fields))
    fields.append((b"Proxy-Status", _proxy_status(error)))
    if not bodiless:  # RFC 9110 8.6
        fields.append((b"Content-Length", str(len(body)).encode()))
    if upgrades:
        fields.append((b"Connection", b"Upgrade"))
    fields = one_connection(fields, closing=True)
    lines = [
        b"HTTP/1.1 %d %b" % (error.status_code, reason),
        *(name + b": " + value for name, value in fields),
    ]
    bodiless = bodiless or request.head.method == b"HEAD"
    return b"\r\n".join(lines) + b"\r\n\r\n" + (b"" if bodiless else body)


def _text(error: SessionError, reason: bytes) -> tuple[bytes, bytes]:
    body = f"{error.status_code} {reason.decode()}: {error.public_message}\n"
    return b"text/plain; charset=utf-8", body.encode()


def _json(error: SessionError, request: Request) -> tuple[bytes, bytes]:
    """Return the media type and the body of a refusal for a script.

    A browser shows a script neither the status nor the body of a refused opening handshake.  The script can
    request the same URL with ``fetch`` and read the reason here.
    """
    content = {
        "error": error.public_name,
        "status": error.status_code,
        "message": error.public_message,
        "session": request.session,
    }
    return b"application/json", json.dumps(content).encode() + b"\n"


def _wants_json(request: Request) -> bool:
    """Return whether Accept (RFC 9110 12.5.1) names ``application/json`` with a weight above 0."""
    for value in request.head.values(b"accept"):
        for element in value.lower().split(b","):
            media_type, *parameters = (part.strip() for part in element.split(b";"))
            if media_type == b"application/json":
                return not any(_ZERO.fullmatch(parameter) for parameter in parameters)
    return False


def _phrase(status: int) -> bytes:
    try:
        return HTTPStatus(status).phrase.encode()
    except ValueError:
        return b"Refused"


def _proxy_status(error: SessionError) -> bytes:
    """Return the value of Proxy-Status (RFC 9209 2), without the detail."""
    value = b"%b; error=%b" % (PSEUDONYM, error.proxy_error.encode())
    if isinstance(error, UpgradeRefused):
        value += b"; received-status=%d" % error.status_code
    return value
