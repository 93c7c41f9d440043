"""The encodings of the console's bytes in WebSocket messages, by subprotocol."""

from __future__ import annotations

import base64
from collections.abc import Sequence


def choose(offered: Sequence[str], spoken: Sequence[str]) -> str | None:
    """Return the first of the supported subprotocols that the client offers, or None."""
    return next((name for name in spoken if name in offered), None)


def encode(subprotocol: str | None, payload: bytes) -> tuple[bytes, bool]:
    """Return a message's payload, and whether the message is binary."""
    if subprotocol == "uint8utf8":
        # vCloud Director sends every byte as the code point with its number.
        return payload.decode("latin-1").encode("utf-8"), False
    if subprotocol == "base64":
        return base64.b64encode(payload), False
    return payload, True


def decode(subprotocol: str | None, payload: bytes) -> bytes:
    """Return the console's bytes in a message's payload. Raises ValueError for an invalid payload."""
    if subprotocol == "uint8utf8":
        return payload.decode("utf-8").encode("latin-1")
    if subprotocol == "base64":
        return base64.b64decode(payload, validate=True)
    return payload
