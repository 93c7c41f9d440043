"""A scanner of WebSocket frame boundaries (RFC 6455 section 5.2) that decodes no payload.

Data frames pass the proxy unchanged.  The proxy needs to know how many bytes it may forward, and whether the
stream then stands at a frame boundary, the only place for a control frame.
"""

from __future__ import annotations

from typing import Self

from esxiproxy.core.errors import FrameTooBig, ProtocolViolation, SessionError

_FOLLOWS = {
    False: {0x81: False, 0x82: False, 0x01: True, 0x02: True},
    True: {0x80: False, 0x00: True},
}
"""Whether a message continues after a frame, by whether it did before and by the frame's first byte."""
_CONTROLS = frozenset({8, 9, 10})
_FIN, _RSV, _OPCODE, _CONTROL, _MASKED, _LENGTH = 0x80, 0x70, 0x0F, 0x08, 0x80, 0x7F


def control_frame(opcode: int, payload: bytes, mask: bytes = b"") -> bytes:
    """Return a control frame (RFC 6455 5.5), masked if there is a mask.

    ``payload`` has at most 125 bytes.
    """
    size = len(payload)
    if mask and size:
        key = (mask * (size // 4 + 1))[:size]
        payload = (int.from_bytes(payload) ^ int.from_bytes(key)).to_bytes(size)
    return bytes((_FIN | opcode, (_MASKED if mask else 0) | size)) + mask + payload


def whole_control_frame(octets: bytes, masked: bool) -> tuple[int, bytes, int] | None:
    """Return opcode and payload of the control frame at the beginning of these bytes, and its size.

    Return None if the frame is incomplete or invalid.
    """
    if len(octets) < 2 or (opcode := octets[0] ^ _FIN) not in _CONTROLS:
        return None
    size = octets[1] & _LENGTH
    start = 6 if masked else 2
    end = start + size
    if (octets[1] >= _MASKED) is not masked or size > 125 or end > len(octets) or (opcode == 8 and size == 1):
        return None
    payload = octets[start:end]
    if masked and size:
        key = (octets[2:6] * (size // 4 + 1))[:size]
        payload = (int.from_bytes(payload) ^ int.from_bytes(key)).to_bytes(size)
    return opcode, payload, end


class FrameWalker:
    """The scanner of one direction of a WebSocket connection.

    ``left``
        payload bytes of the current data frame that have not arrived; 0 at a frame boundary.
    ``boundary``
        the offset of the first frame boundary in the bytes of the last :meth:`walk`; -1 if there was none.
    ``control``
        whether the walk stopped in front of a control frame.
    ``fault``
        the protocol violation in the frame at which the walk stopped, or None.
    """

    __slots__ = ("_mask", "boundary", "control", "fault", "fragmented", "left", "max_frame")

    def __init__(self, masked: bool, max_frame: int | None = None) -> None:
        """Create a scanner.

        ``masked`` is whether the sender has to mask, that is, is a client (RFC 6455 5.1).
        """
        self._mask = _MASKED if masked else 0
        self.max_frame = max_frame
        self.left = 0
        self.boundary = -1
        self.fragmented = False
        self.control = False
        self.fault: SessionError | None = None

    @property
    def masked(self) -> bool:
        """Whether the sender has to mask."""
        return self._mask != 0

    def resume(self, other: FrameWalker) -> Self:
        """Copy the position of the other scanner, which may be in the middle of a frame."""
        for name in FrameWalker.__slots__:
            setattr(self, name, getattr(other, name))
        return self

    def walk(self, octets: bytes) -> int:
        """Return the number of leading bytes that belong to data frames and may be forwarded.

        The rest begins with an incomplete header, a control frame or a bad frame.
        """
        end = len(octets)
        position = self.left
        if end >= 2 and not position and octets[0] & _CONTROL:
            self.control = True
            self.boundary = 0
            return 0
        self.control = False
        if position > end or (position == end and end):
            self.left = position - end
            self.boundary = end if position == end else -1
            return end
        self.left = 0
        self.boundary = position
        position = self._skip_frames(octets, position, end)
        if position > end:
            self.left = position - end
            return end
        while end - position >= 2:
            first, second = octets[position], octets[position + 1]
            if first & _CONTROL:
                self.control = True
                return position
            length = second & _LENGTH
            start = position + (2 if length < 126 else 4 if length == 126 else 10)
            if self._mask:
                start += 4
            if fault := self._fault(first, second):
                self.fault = fault
                return position
            if start > end:
                return position
            if length >= 126:
                extended = octets[position + 2 : position + (4 if length == 126 else 10)]
                if fault := self._length_fault(extended):
                    self.fault = fault
                    return position
                length = int.from_bytes(extended, "big")
            if self.max_frame is not None and length > self.max_frame:
                self.fault = FrameTooBig(f"a frame of {length} bytes, max_frame is {self.max_frame}")
                return position
            self.fragmented = not first & _FIN
            position = start + length
            if position > end:
                self.left = position - end
                return end
        return position

    def _skip_frames(self, octets: bytes, position: int, end: int) -> int:
        """Skip good frames of less than 64 KiB and return the position behind them (the fast path).

        A frame that ends behind the given bytes leads to a position there.
        """
        mask, header, longest = self._mask, 6 if self._mask else 2, self.max_frame
        fragmented = self.fragmented
        while True:
            start = position + header
            if start > end:
                break
            follows = _FOLLOWS[fragmented].get(octets[position])
            length = octets[position + 1] ^ mask
            if follows is None or length > 126:
                break
            if length == 126:
                start += 2
                if start > end:
                    break
                length = octets[position + 2] << 8 | octets[position + 3]
                if length < 126:
                    break
            if longest is not None and length > longest:
                break
            fragmented = follows
            position = start + length
        self.fragmented = fragmented
        return position

    def _fault(self, first: int, second: int) -> ProtocolViolation | None:
        """Return the violation in the first two bytes of a data frame's header, or None."""
        opcode = first & _OPCODE
        if first & _RSV:
            return ProtocolViolation("RSV bits set, and no extension was negotiated")
        if opcode > 2:
            return ProtocolViolation(f"reserved opcode {opcode}")
        if (second & _MASKED) != self._mask:
            return ProtocolViolation("unmasked client frame" if self._mask else "masked server frame")
        if opcode == 0 and not self.fragmented:
            return ProtocolViolation("continuation frame outside of a message")
        if opcode and self.fragmented:
            return ProtocolViolation("new message inside of a fragmented one")
        return None

    @staticmethod
    def _length_fault(extended: bytes) -> ProtocolViolation | None:
        """Return a violation unless the length is below 2^63 and in its shortest form (RFC 6455 5.2)."""
        length = int.from_bytes(extended, "big")
        if length < (126 if len(extended) == 2 else 65536):
            return ProtocolViolation("payload length not in its shortest form")
        if length >> 63:
            return ProtocolViolation("payload length of 2^63 or more")
        return None
