"""Keys that several types of authenticators have."""

from __future__ import annotations

from esxiproxy.plugins import AUTHENTICATOR, DURATION, DURATION_OR_OFF, Key, choice
from esxiproxy.plugins.watched_files import OnRemoved

ON_REMOVED = Key(
    "on_removed",
    AUTHENTICATOR,
    choice(OnRemoved),
    "keep",
    "Consoles of a user that is removed: `end` closes them, `keep` leaves them open.",
)
REAUTHENTICATE = Key(
    "reauthenticate",
    AUTHENTICATOR,
    DURATION_OR_OFF,
    "off",
    "Time between two checks of the login of an open console. A console whose login has ended is closed.",
)
REAUTHENTICATE_GRACE = Key(
    "reauthenticate_grace",
    AUTHENTICATOR,
    DURATION,
    "15m",
    "Time for which a console stays open while its login cannot be checked.",
)
REAUTHENTICATION = (REAUTHENTICATE, REAUTHENTICATE_GRACE)
"""The keys of every authenticator that can check a login again."""
