"""A plain request to a verified host, which shows that the host answers HTTP.  It sends no ticket."""

from __future__ import annotations

import re
from contextlib import suppress

from esxiproxy.core.routing import Upstream
from esxiproxy.doctor.configuration.result import CheckVerdict
from esxiproxy.doctor.deadline import Deadline
from esxiproxy.doctor.messages.tls import greeting
from esxiproxy.doctor.wire import Wire

_STATUS = re.compile(rb"HTTP/1\.[01] ([1-5][0-9]{2})[ \r]")
_LONGEST = 4096
_SENT_AS_IT_IS = frozenset({"upstream", "client"})


def ask(wire: Wire, upstream: Upstream, timeout: float, deadline: Deadline) -> tuple[CheckVerdict, str]:
    """Request a page, and return the verdict on the answer with a sentence, empty for a usual answer.

    The page is that of the upstream's health check, or ``/``.
    """
    path = upstream.health_check if (upstream.health_check or "").startswith("/") else None
    host = upstream.authority if upstream.host_field in _SENT_AS_IT_IS else upstream.host_field
    request = f"GET {path or '/'} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
    received = b""
    try:
        with suppress(BrokenPipeError, ConnectionResetError):  # the host's reason can still be read
            wire.write(request.encode("ascii", "replace"), deadline)
        while _STATUS.match(received) is None and len(received) < _LONGEST and _may_be_http(received):
            octets = wire.read(deadline)
            if not octets:
                break
            received += octets
    except TimeoutError:
        if not received:
            return CheckVerdict.WARNING, (
                f"no answer to a plain request within {timeout:g} s: check the services of the host"
            )
    except OSError as error:
        if error.errno is None:  # an alert of TLS: TLS 1.3 refuses a client after the handshake
            return CheckVerdict.ERROR, (
                f"the host ended TLS after the handshake ({error}): it may require a client certificate, "
                "which the proxy does not have"
            )
        if not received:
            reason = error.strerror or str(error)
            return CheckVerdict.WARNING, f"a plain request ended the connection ({reason}): check the port"
    return _judged(received, path)


def _judged(received: bytes, path: str | None) -> tuple[CheckVerdict, str]:
    found = _STATUS.match(received)
    if found is None and not received:
        return CheckVerdict.WARNING, (
            "the host closed the connection on a plain request: check which service listens on the port"
        )
    if found is None:
        return CheckVerdict.ERROR, (
            f"the host does not answer with HTTP: it began with {greeting(received)}. Check the port (443 on "
            "ESXi)"
        )
    status = int(found[1])
    if path is not None and status >= 400:
        return CheckVerdict.WARNING, (
            f"the health check {path} was answered with {status}: other addresses are preferred to this one"
        )
    if status == 503:
        return CheckVerdict.WARNING, (
            "a plain request was answered with 503: services of the host are not running, or it has too many "
            "connections"
        )
    return CheckVerdict.OK, ""


def _may_be_http(received: bytes) -> bool:
    return received[:5] == b"HTTP/"[: len(received)]
