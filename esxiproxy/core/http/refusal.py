"""The bytes of a refusal, the response to a request that fails."""

from __future__ import annotations

from http import HTTPStatus

from esxiproxy.core.errors import AccessDenied, SessionError, UpgradeRefused
from esxiproxy.core.http.date import date_field
from esxiproxy.core.http.fields import response_fields, session_field, upgrade_fields
from esxiproxy.core.http.request import Request
from esxiproxy.core.http.via import PSEUDONYM

_FRAMING = frozenset({b"content-length"})


def refusal(error: SessionError, request: Request) -> bytes:
    """Return the whole HTTP/1.1 response to this request for this failure.

    The connection is closed after it.  An upstream's own refusal is passed on with its end-to-end fields and
    body.  Every other failure gets a line of plain text and a Proxy-Status field (RFC 9209).  Each response
    names the session.
    """
    if isinstance(error, UpgradeRefused):
        reason = error.reason
        body = error.body
        fields = response_fields(error.upstream_fields, _FRAMING, request.session)
        fields += upgrade_fields(error.upstream_fields, error.status_code)
    else:
        reason = _phrase(error.status_code)
        body = f"{error.status_code} {reason.decode()}: {error.public_message}\n".encode()
        fields = [
            (b"Content-Type", b"text/plain; charset=utf-8"),
            (b"Cache-Control", b"no-store"),
            (b"X-Content-Type-Options", b"nosniff"),
            *error.fields,
            *session_field(request.session),
        ]
        if error.retry_after is not None:
            fields.append((b"Retry-After", str(error.retry_after).encode()))
        if isinstance(error, AccessDenied) and error.status_code == 401:
            fields.append((b"WWW-Authenticate", b'Basic realm="esxiproxy"'))
    bodiless = error.status_code in (204, 304)
    upgrades = any(name.lower() == b"upgrade" for name, _ in fields)
    fields += date_field(tuple(fields))
    fields.append((b"Proxy-Status", _proxy_status(error)))
    if not bodiless:  # RFC 9110 8.6
        fields.append((b"Content-Length", str(len(body)).encode()))
    fields.append((b"Connection", b"Upgrade, close" if upgrades else b"close"))
    lines = [
        b"HTTP/1.1 %d %b" % (error.status_code, reason),
        *(name + b": " + value for name, value in fields),
    ]
    bodiless = bodiless or request.head.method == b"HEAD"
    return b"\r\n".join(lines) + b"\r\n\r\n" + (b"" if bodiless else body)


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
