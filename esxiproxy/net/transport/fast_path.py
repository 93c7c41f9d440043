"""Fast paths, which forward data frames and large bodies from one connection to another in C.

Without the compiled part there are none, and Python forwards all data.
"""

from __future__ import annotations

import os
from typing import Any

from cryptography.hazmat.bindings._rust import _openssl
from OpenSSL import SSL

from esxiproxy.core.http.body import Body, FixedBody
from esxiproxy.core.http.chunked_body import ChunkedBody
from esxiproxy.core.websocket.frames import FrameWalker
from esxiproxy.net.transport.interfaces import FastPath, Relayable

try:
    from esxiproxy.net.transport import _compiled  # type: ignore[attr-defined]
except ImportError:  # there was no compiler at installation
    _compiled = None

OPENSSL = {
    "SSL_read": "int(*)(SSL *, void *, int)",
    "SSL_write": "int(*)(SSL *, void *, int)",
    "SSL_get_error": "int(*)(SSL *, int)",
    "ERR_clear_error": "void(*)()",
}
"""OpenSSL functions that the compiled part calls, with their types in pyOpenSSL's private bindings.

A test checks that the bindings still have them.
"""
_BODY_KINDS: dict[type[Body], str] = {FixedBody: "fixed body", ChunkedBody: "chunked body"}
_MAX_LENGTH = 2**63 - 1
"""Maximum of the bytes that are left of a body.  The compiled part counts in 64 bits."""


def compiled() -> Any:
    """Return the compiled part, or None without it and with ``ESXIPROXY_TRANSPORTS=python``."""
    return None if os.environ.get("ESXIPROXY_TRANSPORTS") == "python" else _compiled


def _openssl_found() -> bool:
    """Pass OpenSSL's addresses to the compiled part, and return whether their types are as expected."""
    try:
        ffi, lib = _openssl.ffi, _openssl.lib
        found = [ffi.addressof(lib, name) for name in OPENSSL]
        if [ffi.typeof(each).cname for each in found] != list(OPENSSL.values()):
            return False
        _compiled.openssl(*(int(ffi.cast("uintptr_t", each)) for each in found))
    except (AttributeError, TypeError):
        return False
    return True


_IN_USE = compiled()
_WITH_TLS = _IN_USE is not None and _openssl_found()


def fast_path_for(leg: Any, sink: Any) -> FastPath | None:
    """Return a fast path from a leg's stream to its sink's, or None if there cannot be one.

    There is none without the compiled part, for other transports than streams, and for a walker of another
    class than FrameWalker, such as a trace, which examines the bytes.
    """
    walker = leg.walker
    if type(walker) is not FrameWalker:
        return None
    return _between(leg.transport, sink.transport, "frames", (leg, sink, walker))


def body_fast_path(body: Body, source: Any, target: Any) -> FastPath | None:
    """Return a fast path for a body that ``source`` receives and ``target`` gets, or None.

    There is none without the compiled part, for other transports than streams, and for an OpenBody.
    """
    kind = _BODY_KINDS.get(type(body))
    # Look at the class, since a wrapper passes the attributes of the transport that it wraps.
    if kind is None or body.left > _MAX_LENGTH or not hasattr(type(source), "set_fast_path"):
        return None
    return _between(source, target, kind, (body,))


def _between(source: Any, target: Any, kind: str, objects: tuple[Any, ...]) -> FastPath | None:
    if _IN_USE is None or not hasattr(type(target), "FAST_PATH_BLOCKERS"):
        return None
    here, there = _end(source), _end(target)
    if not _WITH_TLS and (here[1] or there[1]):
        return None
    handles = source.getHandle(), target.getHandle()  # keep OpenSSL's objects alive
    made: FastPath = _IN_USE.FastPath(kind, objects, source, target, handles, here, there)
    return made


def _end(stream: Relayable) -> tuple[int, int]:
    """Return a stream's descriptor and the address of its OpenSSL object, which is 0 for a plain stream."""
    handle = stream.getHandle()
    if not isinstance(handle, SSL.Connection):
        return stream.fileno(), 0
    return stream.fileno(), int(_openssl.ffi.cast("uintptr_t", handle._ssl))
