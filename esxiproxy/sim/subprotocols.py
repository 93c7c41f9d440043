"""How a subprotocol carries the console's bytes in WebSocket messages."""

from __future__ import annotations

import base64
from collections.abc import Sequence


def choose(offered: Sequence[str], spoken: Sequence[str]) -> str | None:
    """The first subprotocol spoken here that the client offers, or None."""
    return next((name for name in spoken if name in offered), None)


def encode(subprotocol: str | None, payload: bytes) -> tuple[bytes, bool]:
    """A message's payload, and whether it is a binary one."""
    if subprotocol == "uint8utf8":
        # vCloud Director: every byte is the code point of the same number.
        return payload.decode("latin-1").encode("utf-8"), False
    if subprotocol == "base64":
        return base64.b64encode(payload), False
    return payload, True


def decode(subprotocol: str | None, payload: bytes) -> bytes:
    """The console's bytes in a message's payload; ValueError when it holds none."""
    if subprotocol == "uint8utf8":
        return payload.decode("utf-8").encode("latin-1")
    if subprotocol == "base64":
        return base64.b64decode(payload, validate=True)
    return payload
