"""The beginning of a compressed answer, of which only the examined part is decompressed."""

from __future__ import annotations

import zlib

from esxiproxy.core.http.head import Fields
from esxiproxy.ticket_rewriting.ticket_fields import refused

_CODINGS = frozenset({b"gzip", b"x-gzip", b"deflate"})
_GZIP_OR_ZLIB = zlib.MAX_WBITS | 32


class Decompressor:
    """The decompressor of one answer."""

    def __init__(self) -> None:
        self._zlib = zlib.decompressobj(_GZIP_OR_ZLIB)

    @staticmethod
    def reads(fields: Fields) -> bool:
        """Return whether an answer with these fields is whole, and has one content coding that is known."""
        names = {name.lower() for name, _ in fields}
        codings = [value.strip().lower() for name, value in fields if name.lower() == b"content-encoding"]
        return b"content-range" not in names and len(codings) == 1 and codings[0] in _CODINGS

    def feed(self, octets: bytes, size: int) -> bytes:
        """Return the next bytes of the content, ``size`` at most.  Raise UpstreamInvalid."""
        try:
            content = self._zlib.decompress(octets, size)
        except zlib.error:
            raise refused("it is compressed, and cannot be read") from None
        if self._zlib.unused_data:
            raise refused("it is compressed, and more follows its end")
        return content
