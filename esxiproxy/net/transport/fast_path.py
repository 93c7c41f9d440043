"""The short way through a relay, from one leg's connection to the other's: compiled, where that could be."""

from __future__ import annotations

import os
from typing import Any

from cryptography.hazmat.bindings._rust import _openssl
from OpenSSL import SSL

from esxiproxy.core.websocket.frames import FrameWalker
from esxiproxy.net.transport.interfaces import FastPath, Relayable

try:
    from esxiproxy.net.transport import _compiled  # type: ignore[attr-defined]
except ImportError:  # no compiler when it was installed
    _compiled = None

OPENSSL = {
    "SSL_read": "int(*)(SSL *, void *, int)",
    "SSL_write": "int(*)(SSL *, void *, int)",
    "SSL_get_error": "int(*)(SSL *, int)",
    "ERR_clear_error": "void(*)()",
}
"""What the compiled part calls of pyOpenSSL's OpenSSL.  This is no public interface: a test names it."""
_NO_LIMIT = 2**64 - 1


def compiled() -> Any:
    """The compiled part, or None; ``ESXIPROXY_TRANSPORTS=python`` is for when it is the suspect."""
    return None if os.environ.get("ESXIPROXY_TRANSPORTS") == "python" else _compiled


def _openssl_found() -> bool:
    """Tell the compiled part where OpenSSL is; False when it is not as we know it."""
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
    """The short way from a leg's stream to its sink's; None where there is none."""
    source, target, walker = leg.transport, sink.transport, leg.walker
    if _IN_USE is None or not hasattr(type(target), "FAST_PATH_BLOCKERS"):
        return None
    if type(walker) is not FrameWalker:  # one that wants to see what passes
        return None
    here, there = _end(source), _end(target)
    if not _WITH_TLS and (here[1] or there[1]):
        return None
    longest = _NO_LIMIT if walker.max_frame is None else walker.max_frame
    handles = source.getHandle(), target.getHandle()  # while they are held, the addresses are good
    made: FastPath = _IN_USE.FastPath(
        leg, sink, walker, source, target, handles, here, there, walker.masked, longest
    )
    return made


def _end(stream: Relayable) -> tuple[int, int]:
    """A stream's descriptor, and where OpenSSL has its part of a TLS stream; 0 for a plain one."""
    handle = stream.getHandle()
    if not isinstance(handle, SSL.Connection):
        return stream.fileno(), 0
    return stream.fileno(), int(_openssl.ffi.cast("uintptr_t", handle._ssl))
