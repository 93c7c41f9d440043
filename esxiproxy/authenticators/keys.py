"""Configuration keys that several types of authenticators have."""

from __future__ import annotations

from esxiproxy.plugins import AUTHENTICATOR, DURATION, DURATION_OR_OFF, Key

REAUTHENTICATE = Key(
    "reauthenticate",
    AUTHENTICATOR,
    DURATION_OR_OFF,
    "off",
    "Time between two checks of the login of a running console. A console whose login has ended is closed.",
)
REAUTHENTICATE_GRACE = Key(
    "reauthenticate_grace",
    AUTHENTICATOR,
    DURATION,
    "15m",
    "Time for which a console stays open while its login cannot be checked.",
)
