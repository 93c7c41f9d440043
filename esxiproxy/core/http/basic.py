"""Credentials of the scheme Basic (RFC 7617)."""

from __future__ import annotations

from base64 import b64decode
from binascii import Error as Base64Error
from dataclasses import dataclass, field

from esxiproxy.core.errors import AccessDenied
from esxiproxy.core.http.head import RequestHead

_MAX_CREDENTIALS = 2048
"""Maximum number of characters of the Base64 text."""
_CONTROLS = bytes([*range(32), 127])


@dataclass(frozen=True, slots=True)
class BasicCredentials:
    """A user name and a password."""

    name: str
    password: str = field(repr=False)


def basic_credentials(head: RequestHead) -> BasicCredentials | None:
    """Return the credentials of a request; None without them, or with those of another scheme.

    The text is UTF-8, and Latin-1 where it is not valid UTF-8, as old clients send it.  Raises AccessDenied
    for credentials that cannot be read; its text has no part of them.
    """
    values = head.values(b"authorization")
    found = [value for value in values if value.partition(b" ")[0].lower() == b"basic"]
    if not found:
        return None
    if len(values) > 1:
        raise AccessDenied("the request has several Authorization fields", status=401)
    encoded = found[0].partition(b" ")[2].strip(b" ")
    if len(encoded) > _MAX_CREDENTIALS:
        raise AccessDenied(f"the credentials have more than {_MAX_CREDENTIALS} characters", status=401)
    try:
        octets = b64decode(encoded, validate=True)
    except (Base64Error, ValueError):
        raise AccessDenied("the credentials are not Base64", status=401) from None
    name, colon, password = octets.partition(b":")
    if not colon or not name or len(octets.translate(None, _CONTROLS)) != len(octets):
        raise AccessDenied("the credentials are not NAME:PASSWORD without control characters", status=401)
    try:
        return BasicCredentials(name.decode(), password.decode())
    except UnicodeDecodeError:
        return BasicCredentials(name.decode("latin-1"), password.decode("latin-1"))


def basic_challenge(realm: str) -> tuple[bytes, bytes]:
    """Return the field that asks for credentials.  ``realm`` is ASCII without quotes and backslashes."""
    return b"WWW-Authenticate", f'Basic realm="{realm}", charset="UTF-8"'.encode("ascii")
