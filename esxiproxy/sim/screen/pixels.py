"""Pixel formats of RFB (RFC 6143 7.4): the conversion of palette colours to a viewer's bytes."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from esxiproxy.sim.screen.screen import Colour

_LAYOUT: Final = struct.Struct("!BBBBHHHBBB3x")


class PixelFormatRefused(ValueError):
    """Raised for an unsupported pixel format: a colour map, or an unusual number of bits."""


@dataclass(frozen=True, slots=True)
class PixelFormat:
    """One true-colour pixel format."""

    bits: int = 32
    depth: int = 24
    big_endian: bool = False
    red_max: int = 255
    green_max: int = 255
    blue_max: int = 255
    red_shift: int = 16
    green_shift: int = 8
    blue_shift: int = 0

    def encode(self) -> bytes:
        """Return the 16 bytes of the format in RFB."""
        return _LAYOUT.pack(
            self.bits,
            self.depth,
            self.big_endian,
            True,
            self.red_max,
            self.green_max,
            self.blue_max,
            self.red_shift,
            self.green_shift,
            self.blue_shift,
        )

    @classmethod
    def decode(cls, wire: bytes) -> PixelFormat:
        """Parse the 16 bytes of a format in RFB. Raises `PixelFormatRefused`."""
        bits, depth, big_endian, true_colour, *rest = _LAYOUT.unpack(wire)
        if bits not in (8, 16, 32):
            raise PixelFormatRefused(f"{bits} bits a pixel")
        if not true_colour:
            raise PixelFormatRefused("a colour map")
        if max(rest[3:]) >= bits:
            raise PixelFormatRefused("a colour's shift is past the pixel")
        return cls(bits, depth, bool(big_endian), *rest)

    def pixel(self, colour: Colour) -> bytes:
        """Return the bytes of one pixel.

        Unused bits are ones, because noVNC 1.3 (Debian's) reads them as the opacity.
        """
        red, green, blue = colour
        value = (
            (red * self.red_max + 127) // 255 << self.red_shift
            | (green * self.green_max + 127) // 255 << self.green_shift
            | (blue * self.blue_max + 127) // 255 << self.blue_shift
        )
        used = (
            self.red_max << self.red_shift
            | self.green_max << self.green_shift
            | self.blue_max << self.blue_shift
        )
        mask = (1 << self.bits) - 1
        return ((value | ~used) & mask).to_bytes(self.bits // 8, "big" if self.big_endian else "little")


class PixelTranslation:
    """A palette in one pixel format, applied to many pixels at once.

    There is a table of 256 bytes for every byte of a pixel, so that the loop over the pixels runs in C.
    """

    def __init__(self, pixel_format: PixelFormat, palette: Sequence[Colour]) -> None:
        pixels = [pixel_format.pixel(colour) for colour in palette]
        self._size = pixel_format.bits // 8
        self._tables = [
            bytes(pixel[place] for pixel in pixels).ljust(256, b"\0") for place in range(self._size)
        ]

    def apply(self, indexes: bytes) -> bytes:
        """Return the pixels of palette indexes."""
        out = bytearray(len(indexes) * self._size)
        for place, table in enumerate(self._tables):
            out[place :: self._size] = indexes.translate(table)
        return bytes(out)
