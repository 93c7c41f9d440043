"""The response to the readiness check of a load balancer."""

from __future__ import annotations

from esxiproxy.core.errors import MethodRefused
from esxiproxy.core.http.date import date_field
from esxiproxy.core.http.head import RequestHead

_METHODS = (b"GET", b"HEAD", b"OPTIONS")  # OPTIONS is what HAProxy's httpchk sends by default


def asks_for_health(head: RequestHead, path: bytes | None) -> bool:
    """Return whether this request is for the listener's ``health`` path.

    Raise MethodRefused for another method than GET, HEAD or OPTIONS.
    """
    if path is None or head.target.partition(b"?")[0] != path:
        return False
    if head.method not in _METHODS:
        error = MethodRefused("a health check is a GET or a HEAD")
        error.fields = ((b"Allow", b", ".join(_METHODS)),)
        raise error
    return True


def health(head: RequestHead, draining: bool, has_descriptors: bool = True) -> bytes:
    """Return the response to a health check.  The connection is closed after it.

    The status is 503 in a drain, also of this listener alone, and while no file descriptor is left for one
    more session, else 200.  A retiring worker answers 200, since its successor accepts new consoles on the
    same port.
    """
    ready = has_descriptors and not draining
    line = b"HTTP/1.1 200 OK" if ready else b"HTTP/1.1 503 Service Unavailable"
    body = b"ready\n" if ready else b"draining\n" if draining else b"no file descriptors left\n"
    fields = [
        b"Content-Type: text/plain; charset=utf-8",
        b"Cache-Control: no-store",
        b"X-Content-Type-Options: nosniff",
        *(b"%b: %b" % field for field in date_field()),
        b"Content-Length: %d" % len(body),
        b"Connection: close",
    ]
    return b"\r\n".join([line, *fields]) + b"\r\n\r\n" + (b"" if head.method == b"HEAD" else body)
