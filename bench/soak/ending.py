"""The ways in which one side ends a session."""

from __future__ import annotations

import enum

from bench.soak.stream import Stream
from tests.support.websocket import BINARY, frame


class Ending(enum.Enum):
    """In order, or as a side does that crashes, sleeps or loses its network."""

    CLEAN = "a Close"
    FIN = "a FIN without a Close"
    RST = "an RST"
    TORN = "an RST in the middle of a frame"

    def abruptly(self, stream: Stream, key: bytes = b"") -> None:
        """End this stream so, which does not stand inside a frame; for a client with a key."""
        if self is Ending.TORN:
            stream.write(frame(BINARY, b"torn", mask=key or False, length=1000))
        (stream.end if self is Ending.FIN else stream.reset)()
