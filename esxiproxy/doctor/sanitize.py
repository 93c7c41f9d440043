"""The removal of tickets, cookies and terminal escapes from text of a host before it is shown."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import unquote_to_bytes

from esxiproxy.core.http.head import Fields
from esxiproxy.core.redaction import HIDDEN, is_secret, redact, redact_text
from esxiproxy.doctor.url import ConsoleUrl

_SPLITS = (re.compile(rb"[/?&;=]+"), re.compile(rb"[?&;]+"), re.compile(rb"[?&;=/+:-]+"))
"""Patterns that split a target into the parts that a host may repeat: tickets and pieces of tickets."""
_SHORTEST = 4
"""Shorter parts of the target are not hidden: they are no tickets and occur in ordinary words."""
_WORDS = frozenset(
    {"ticket", "mksticket", "sessionticket", "token", "access_token", "auth_token", "password"}
)
_SECRET_FIELDS = frozenset(
    {
        "authentication-info",
        "authorization",
        "cookie",
        "proxy-authorization",
        "set-cookie",
        "vmware-api-session-id",
        "vmware-csrf-token",
        "x-csrf-token",
        "x-vcloud-authorization",
        "x-vmware-vcloud-access-token",
    }
)
_OPEN_FIELDS = ("access-control-", "proxy-authenticate", "sec-websocket-", "www-authenticate")
"""Prefixes of fields that contain no secret, even if the field's name looks like it."""
_LINK_FIELDS = frozenset({"content-location", "link", "location", "refresh"})


def printable_line(text: str) -> str:
    """Return a text as one printable line, without the secrets that its form shows."""
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in redact_text(text))


class Sanitizer:
    """A filter that hides the secrets of one URL in texts.

    Secret is what :func:`esxiproxy.core.redaction.redact` removes from the target.  A host may repeat the
    bare ticket in a field, a page or a Close reason, and it is hidden there as well.
    """

    def __init__(self, url: ConsoleUrl) -> None:
        shown = self.target = redact(url.target)
        once = unquote_to_bytes(url.target)
        targets = (url.target, once, unquote_to_bytes(once))
        parts = {part for target in targets for split in _SPLITS for part in split.split(target)}
        secrets = {text for part in parts if (text := part.decode("utf-8", "replace")) not in shown}
        self._secrets = sorted(
            (secret for secret in secrets if len(secret) >= _SHORTEST and secret.lower() not in _WORDS),
            key=len,
            reverse=True,
        )

    def text(self, text: str) -> str:
        """Return a text as one printable line without secrets."""
        for secret in self._secrets:
            text = text.replace(secret, HIDDEN)
        return printable_line(text)

    def facts(self, facts: Mapping[str, Any]) -> dict[str, Any]:
        """Return the facts with every text in them sanitized."""
        return {key: self._value(value) for key, value in facts.items()}

    def fields(self, fields: Fields) -> list[str]:
        """Return a head's fields as ``Name: value``, with the values of secret fields hidden."""
        return [self._field(name.decode("latin-1"), value.decode("latin-1")) for name, value in fields]

    def _field(self, name: str, value: str) -> str:
        if name.lower() in _SECRET_FIELDS or (is_secret(name) and not name.lower().startswith(_OPEN_FIELDS)):
            value = HIDDEN
        elif name.lower() in _LINK_FIELDS:
            before, mark, _query = value.partition("?")
            value = before + mark + (HIDDEN if mark else "")
        return self.text(f"{name}: {value}")

    def _value(self, value: Any) -> Any:
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, Sequence):
            return [self._value(member) for member in value]
        return value
