"""The server's side of RFB 3.8 (RFC 6143) without I/O: bytes in, events and bytes out.

It supports security type None, Raw encoding and true colour. An update is made only at the viewer's
request, so that at most one picture is buffered for a viewer.

VMware's client messages (type 127) hold their own length. A key event with a scan code is understood, as a
host does without negotiation; the others are skipped.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

from esxiproxy.sim.screen.pixels import PixelFormat, PixelFormatRefused, PixelTranslation
from esxiproxy.sim.screen.region import Rect, Region
from esxiproxy.sim.screen.screen import PALETTE, Screen

VERSION: Final = b"RFB 003.008\n"
SECURITY_NONE: Final = 1
ENCODING_RAW: Final = 0
DESKTOP_SIZE: Final = -223
"""The pseudo-encoding that tells the viewer a new size of the picture."""
MAX_CUT_TEXT: Final = 1 << 20

_SET_PIXEL_FORMAT, _SET_ENCODINGS, _UPDATE_REQUEST, _KEY, _POINTER, _CUT_TEXT = 0, 2, 3, 4, 5, 6
_VMWARE = 127
_VMWARE_HEADER, _VMWARE_KEY_EVENT, _VMWARE_KEY_EVENT_SIZE = 4, 0, 8
_FIXED: Final = {_SET_PIXEL_FORMAT: 20, _SET_ENCODINGS: 4, _UPDATE_REQUEST: 10, _KEY: 8, _POINTER: 6,
                 _CUT_TEXT: 8, _VMWARE: _VMWARE_HEADER}  # fmt: skip


class RfbError(Exception):
    """Raised if the viewer violates the protocol or requests something that is not supported."""


@dataclass(frozen=True, slots=True)
class KeyEvent:
    """A pressed or released key; `keysym` is X11's number."""

    keysym: int
    down: bool


@dataclass(frozen=True, slots=True)
class ScanCodeEvent:
    """A key of VMware's message 127/0; `code` is of scan code set 1, with 0x100 for extended keys."""

    code: int
    down: bool


@dataclass(frozen=True, slots=True)
class PointerEvent:
    """The pointer's position and its pressed buttons, one bit each."""

    x: int
    y: int
    buttons: int


Event = KeyEvent | ScanCodeEvent | PointerEvent


class RfbPhase(Enum):
    """The message that the viewer must send next."""

    VERSION = auto()
    SECURITY = auto()
    CLIENT_INIT = auto()
    NORMAL = auto()


class RfbServer:
    """The state of one viewer's connection. `receive` parses its bytes, `bytes_to_send` returns answers.

    With `begins_with_init` the connection begins with ServerInit, as behind the authd of a host.
    """

    def __init__(self, screen: Screen, name: str, begins_with_init: bool = False) -> None:
        self.phase = RfbPhase.VERSION
        self.pixel_format = PixelFormat()
        self.encodings: tuple[int, ...] = ()
        self._screen = screen
        self._size = screen.bounds
        self._name = name.encode("utf-8")
        self._in = bytearray()
        self._out = bytearray(VERSION)
        self._skip = 0
        self._dirty = Region()
        self._asked: Rect | None = None
        self._translation = PixelTranslation(self.pixel_format, PALETTE)
        self._steps: dict[RfbPhase, Callable[[], Iterator[Event] | None]] = {
            RfbPhase.VERSION: self._version,
            RfbPhase.SECURITY: self._security,
            RfbPhase.CLIENT_INIT: self._client_init,
            RfbPhase.NORMAL: self._message,
        }
        if begins_with_init:
            self._out.clear()
            self._init()

    def receive(self, received: bytes) -> list[Event]:
        """Parse bytes in any chunks and return the viewer's events. Raises `RfbError`."""
        self._in += received
        events: list[Event] = []
        while True:
            if self._skip:
                cut = min(self._skip, len(self._in))
                del self._in[:cut]
                self._skip -= cut
            if self._skip or (step := self._steps[self.phase]()) is None:
                return events
            events.extend(step)

    def bytes_to_send(self) -> bytes:
        """Return and clear the handshake's bytes. Updates are returned by `update`."""
        out = bytes(self._out)
        self._out.clear()
        return out

    def damage(self, rect: Rect) -> None:
        """Mark a rectangle of the picture as changed. A viewer that cannot resize keeps its first size."""
        rect = rect.intersection(self._size)
        if not rect.empty:
            self._dirty.add(rect)

    @property
    def update_due(self) -> bool:
        """Whether the viewer has requested an update and the requested area has changed."""
        asked = self._asked
        if asked is not None and self._resized:
            return True
        return asked is not None and any(not rect.intersection(asked).empty for rect in self._dirty)

    def update(self) -> bytes:
        """Return one FramebufferUpdate that answers the request, or no bytes if none is due."""
        if not self.update_due or self._asked is None:
            return b""
        if self._resized:
            self._size = self._screen.bounds
            self._dirty = Region()
            self._dirty.add(self._size)
            self._asked = None
            return struct.pack("!BxHHHHHi", 0, 1, *self._size, DESKTOP_SIZE)
        shown = self._size.intersection(self._screen.bounds)
        changed = (rect.intersection(shown) for rect in self._dirty.take(self._asked))
        rects = [rect for rect in changed if not rect.empty]
        self._asked = None
        parts = [struct.pack("!BxH", 0, len(rects))]
        for rect in rects:
            parts.append(struct.pack("!HHHHi", *rect, ENCODING_RAW))
            parts.append(self._translation.apply(self._screen.read(rect)))
        return b"".join(parts)

    @property
    def _resized(self) -> bool:
        return DESKTOP_SIZE in self.encodings and self._size != self._screen.bounds

    def _take(self, size: int) -> bytes | None:
        if len(self._in) < size:
            return None
        taken = bytes(self._in[:size])
        del self._in[:size]
        return taken

    def _version(self) -> Iterator[Event] | None:
        if (line := self._take(len(VERSION))) is None:
            return None
        number = line[4:11].split(b".")
        if not line.startswith(b"RFB 003.") or line[-1:] != b"\n" or not number[-1].isdigit():
            raise RfbError("the viewer sent no RFB version")
        if int(number[-1]) < 8:
            raise RfbError("RFB versions before 3.8 are not supported")
        self._out += bytes((1, SECURITY_NONE))
        self.phase = RfbPhase.SECURITY
        return iter(())

    def _security(self) -> Iterator[Event] | None:
        if (chosen := self._take(1)) is None:
            return None
        if chosen[0] != SECURITY_NONE:
            raise RfbError(f"security type {chosen[0]} was not offered")
        self._out += struct.pack("!I", 0)
        self.phase = RfbPhase.CLIENT_INIT
        return iter(())

    def _client_init(self) -> Iterator[Event] | None:
        if self._take(1) is None:
            return None
        self._init()
        return iter(())

    def _init(self) -> None:
        bounds = self._size = self._screen.bounds
        self._out += struct.pack("!HH", bounds.width, bounds.height) + self.pixel_format.encode()
        self._out += struct.pack("!I", len(self._name)) + self._name
        self._dirty.add(bounds)
        self.phase = RfbPhase.NORMAL

    def _message(self) -> Iterator[Event] | None:
        if not self._in:
            return None
        kind = self._in[0]
        if kind not in _FIXED:
            raise RfbError(f"message type {kind} is unknown")
        size = _FIXED[kind]
        if kind == _SET_ENCODINGS and len(self._in) >= size:
            size += 4 * int.from_bytes(self._in[2:4], "big")
        elif kind == _VMWARE and len(self._in) >= size:
            size = int.from_bytes(self._in[2:4], "big")
            if size < _VMWARE_HEADER or (self._in[1] == _VMWARE_KEY_EVENT and size != _VMWARE_KEY_EVENT_SIZE):
                raise RfbError(f"a message of VMware's type {self._in[1]} has the length {size}")
        if (message := self._take(size)) is None:
            return None
        return self._read(kind, message)

    def _read(self, kind: int, message: bytes) -> Iterator[Event]:
        if kind == _SET_PIXEL_FORMAT:
            try:
                self.pixel_format = PixelFormat.decode(message[4:])
            except PixelFormatRefused as refused:
                raise RfbError(str(refused)) from refused
            self._translation = PixelTranslation(self.pixel_format, PALETTE)
        elif kind == _SET_ENCODINGS:
            self.encodings = struct.unpack(f"!{len(message) // 4 - 1}i", message[4:])
        elif kind == _UPDATE_REQUEST:
            incremental, *place = struct.unpack("!xBHHHH", message)
            self._request(bool(incremental), Rect(*place))
        elif kind == _KEY:
            down, keysym = struct.unpack("!xBxxI", message)
            yield KeyEvent(keysym, bool(down))
        elif kind == _POINTER:
            buttons, x, y = struct.unpack("!xBHH", message)
            yield PointerEvent(x, y, buttons)
        elif kind == _VMWARE:
            if message[1] == _VMWARE_KEY_EVENT:
                code, down = struct.unpack("!xxxxHBx", message)
                yield ScanCodeEvent(code, bool(down))
        else:
            self._skip = int.from_bytes(message[4:], "big")
            if self._skip > MAX_CUT_TEXT:
                raise RfbError("the cut text is too long")

    def _request(self, incremental: bool, rect: Rect) -> None:
        rect = rect.intersection(self._size)
        if rect.empty:
            return
        if not incremental:
            self._dirty.add(rect)
        self._asked = rect if self._asked is None else self._asked.union(rect)
