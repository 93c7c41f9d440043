"""The simulated screen as a PNG picture, in the colours of its palette."""

from __future__ import annotations

import struct
import zlib
from typing import Final

from esxiproxy.sim.screen.screen import PALETTE, Screen

SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"


def encode(screen: Screen) -> bytes:
    """Return the picture that the screen shows now."""
    pixels, width = screen.read(screen.bounds), screen.width
    # Every row begins with its filter type, 0 for none.
    rows = b"".join(b"\0" + pixels[start : start + width] for start in range(0, len(pixels), width))
    header = struct.pack("!IIBBBBB", width, screen.height, 8, 3, 0, 0, 0)
    palette = bytes(part for colour in PALETTE for part in colour)
    return SIGNATURE + b"".join(
        _chunk(*chunk)
        for chunk in ((b"IHDR", header), (b"PLTE", palette), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    )


def _chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack("!I", len(content)) + name + content + struct.pack("!I", zlib.crc32(name + content))
