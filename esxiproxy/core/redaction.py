"""The form of a request target, a URL or a text that may be shown: without tickets, passwords and tokens.

An ESXi ticket stands in the path and opens a console.  vCloud Director puts its tickets behind a semicolon,
vCenter puts them into the query.  A lease of ``/nfc/`` reads and writes disks.  Nothing that leaves this
process for a person's eyes contains one.  In doubt a part is hidden.
"""

from __future__ import annotations

import re

HIDDEN = "***"
MAX_SHOWN = 1024
"""Bytes of a target or a URL that are looked at and shown."""

_HIDDEN = HIDDEN.encode()
_CUT = b"..."
# What follows one of these in a path is a secret, up to the query.  Punctuation alone is none.
_PATH = re.compile(
    rb"(?i)([/\\](?:tickets?|ha-nfc|nfc|tokens?|jwt|sessions?)[/\\;]|[/\\][0-9]{1,5};|cst-)"
    rb"(?=[^?#]*[^?#/\\;,:.'\")\]}>*])[^?#]*"
)
# In the text around a target everything up to a space is one word.
_WORD = re.compile(rb"[^\s\"<>]{4,}")
_FIELD = re.compile(
    rb"(?i)(\b(?:(?:proxy-)?authorization|(?:set-)?cookie|[a-z]{1,16}-csrf-token)"
    rb"[\"']?[ \t]{0,8}:[ \t]{0,8})[^\r\n]+"
)
_USER = re.compile(rb"://[^/?#\s]*@")
# In the name of a parameter they make its value a secret.
_WORDS = (
    *(
        b"ticket",
        b"tkt",
        b"token",
        b"passw",
        b"passphrase",
        b"pwd",
        b"secret",
        b"sess",
        b"credential",
        b"auth",
    ),
    *(b"jwt", b"saml", b"signature", b"cookie", b"csrf", b"xsrf", b"bearer", b"assertion", b"hmac", b"lease"),
)
_NAME = re.compile(
    b"|".join(_WORDS) + rb"|(?:(?:sid|key)|(?:\A|[^a-z])(?:sig|code|otp|pin|pw|pass|sso|jws))\Z"
)
_MOST = 64
"""Parameters that are looked at one by one: of a longer list nothing is shown."""
# Without any of these nothing has to be looked at: finding a word is a tenth of the cost of a pattern.
_SUSPECT = (*_WORDS, b"cst-", b"nfc", b"=", b";", b"://", b"#")
_SEPARATOR = re.compile(rb"([?&;#])")
# One escape, however often it is escaped itself: %74, %2574, %252574.
_ESCAPE = re.compile(rb"%(?:25)*([0-9A-Fa-f]{2})")
_STILL = re.compile(rb"(?i)%(?:[0-9a-f]{2}|u[0-9a-f]{4})")


def redact(target: bytes) -> str:
    """Return a request target or a URL as it may be logged, ASCII only, with ``***`` in place of secrets.

    A target that is longer than ``MAX_SHOWN`` is cut and ends with ``...``.  A secret behind
    percent-encoding (``/tick%65t/...``) is hidden with everything after the first ``%``.
    """
    short = target[:MAX_SHOWN]
    shown = _shown(short, whole=True)
    if len(target) > MAX_SHOWN:
        shown += _CUT
    return shown.decode("ascii", "backslashreplace")


def redact_text(text: str) -> str:
    """Return a text for the log with the secrets in it hidden, those of every target and URL among them."""
    octets = text.encode("utf-8", "surrogateescape")
    octets = _FIELD.sub(lambda match: match[1] + _HIDDEN, octets)
    if b"%" in octets or _suspect(octets):
        octets = _WORD.sub(lambda match: _shown(match[0]), octets)
    return octets.decode("utf-8", "replace")


def is_secret(name: str) -> bool:
    """Whether the value of a parameter or a field with this name is hidden."""
    return _NAME.search(name.lower().encode("utf-8", "surrogateescape")) is not None


def _suspect(octets: bytes) -> bool:
    lowered = octets.lower()
    return any(word in lowered for word in _SUSPECT)


def _shown(octets: bytes, whole: bool = False) -> bytes:
    """``whole``: these bytes are a target or a URL, and not a word of a text that may be one."""
    if b"%" in octets:
        plain = _ESCAPE.sub(_decoded, octets)
        if _STILL.search(plain) or (plain != octets and _hide(plain, whole) != plain):
            before = _hide(octets.partition(b"%")[0], whole)
            return before if before.endswith(_HIDDEN) else before + _HIDDEN
    return _hide(octets, whole)


def _decoded(match: re.Match[bytes]) -> bytes:
    return bytes((int(match[1], 16),))


def _hide(octets: bytes, whole: bool) -> bytes:
    if not _suspect(octets):
        return octets
    whole = whole or b"://" in octets or octets.startswith(b"/")
    octets = _PATH.sub(rb"\1" + _HIDDEN, _USER.sub(b"://" + _HIDDEN + b"@", octets))
    parts = [b"", *_SEPARATOR.split(octets)]
    if len(parts) > 2 * _MOST or octets.count(b"=") > _MOST:
        return parts[1].partition(b"=")[0] + _HIDDEN
    shown: list[bytes] = []
    hiding = False
    for separator, part in zip(parts[::2], parts[1::2], strict=True):
        if separator == b"#" and whole:
            shown += [separator, _HIDDEN]
            break
        if hiding and separator != b"&":
            continue  # the value goes on: a ticket may have a semicolon in it
        bare = (
            separator == b"?" and b"=" not in part and shown[-1].lower().endswith((b"/ticket", b"/tickets"))
        )
        visible = b"" if bare and part else _visible(part)
        hiding = visible is not part
        shown += [separator, visible + _HIDDEN if hiding else part]
    return b"".join(shown)


def _visible(part: bytes) -> bytes:
    """Return what stands in front of a secret value, or the part itself where it has none."""
    words = part.split(b"=")
    for count, word in enumerate(words[:-1], 1):
        if _NAME.search(word.lower()):
            return b"=".join(words[:count]) + b"="
    return part
