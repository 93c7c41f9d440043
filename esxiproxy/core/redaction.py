"""Redaction of request targets, URLs and texts: tickets, passwords and tokens are replaced by ``***``.

An ESXi ticket is a path segment and opens a console.  vCloud Director puts its tickets behind a semicolon,
vCenter puts them into the query.  A lease of ``/nfc/`` reads and writes disks.  All output for people is
redacted.  In doubt a part is hidden.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

HIDDEN = "***"
Secrets = Sequence[tuple[str, bytes]]
"""Places of secrets in a target: pairs of ``path`` and a prefix, or of ``query`` and a parameter's name."""
MAX_SHOWN = 1024
"""Maximum number of bytes of a target or a URL that are shown."""

_HIDDEN = HIDDEN.encode()
_PERCENT = ord("%")
_CUT = b"..."
# The rest of a path behind one of these is a secret, unless it is punctuation alone.
_PATH = re.compile(
    rb"(?i)([/\\](?:tickets?|ha-nfc|nfc|tokens?|jwt|sessions?)[/\\;:,]|[/\\][0-9]{1,5};|cst-)"
    rb"(?=[^?#]*[^?#/\\;,:.'\")\]}>*])[^?#]*"
)
# A word of a text.
_WORD = re.compile(rb"[^\s\"<>]{4,}")
_FIELD = re.compile(
    rb"(?i)(\b(?:(?:proxy-)?authorization|(?:set-)?cookie"
    rb"|(?:[a-z0-9]{1,16}-){1,6}(?:token|ticket|secret|password|session-?id|api-?key)|x-?api-?key)"
    rb"[\"']?[ \t]{0,8}:[ \t]{0,8})[^\r\n]+"
)
# name="value", "name": "value" and b'name', b'value', as JSON and Python write them.
_QUOTED = re.compile(
    rb"(?<![\w.-])([\w.-]{1,64})((?:[\"'][ \t]{0,8}[:=,]|[ \t]{0,8}[:=])[ \t]{0,8}b?)"
    rb"(\"(?:[^\"\\\r\n]|\\[^\r\n])+\"?|'(?:[^'\\\r\n]|\\[^\r\n])+'?)"
)
# name = value, with spaces: INI and prose.
_SPACED = re.compile(rb"(?<![\w.-])([\w.-]{1,64})([ \t]{1,8}=[ \t]{0,8}|=[ \t]{1,8})([^\s\"',;]+)")
_ELEMENT = re.compile(rb"(<(?:[\w.-]{1,32}:)?([\w.-]{1,64})(?:\s[^<>]{0,256})?>)([^<]+)(?=</)")
# A signed token (RFC 7515 7.1), whose header begins with {".
_SIGNED = re.compile(rb"(?<![\w-])eyJ[\w-]++\.[\w.-]*+")
_BEARER = re.compile(rb"(?i)(\bbearer[ \t]{1,8})[A-Za-z0-9._~+/=-]{6,}")
# A file's path in a text is no request target: ESXi and vCenter have no such paths.
_FILE = re.compile(rb"[('\[]?(?:[a-z0-9]{1,16}:)?/(?:etc|home|opt|root|run|srv|tmp|usr|var)/[^?;&=#%@\\]*")
_NEVER_FILE = (b"ticket", b"nfc", b"cst-")
_SLASHES = re.compile(rb"[/\\\\]+")
_USER = re.compile(rb"(\A|:)//[^/?#\s]*@")
# Parts of a parameter's name that make its value a secret.
_WORDS = (
    *(
        b"ticket",
        b"tkt",
        b"token",
        b"passw",
        b"passphrase",
        b"passcode",
        b"pincode",
        b"pwd",
        b"secret",
        b"sess",
        b"credential",
        b"auth",
    ),
    *(b"jwt", b"saml", b"signature", b"cookie", b"csrf", b"xsrf", b"bearer", b"assertion", b"hmac", b"lease"),
)
# Such a name ends with one of the first, or is one of the second.
_ENDINGS = (b"sid", b"key", b"pass", b"psk", b"otp")
_WHOLE = (b"sig", b"code", b"pin", b"pw", b"sso", b"jws")
_NAME = re.compile(
    b"|".join(_WORDS) + rb"|(?:%b|(?:\A|[^a-z])(?:%b))\Z" % (b"|".join(_ENDINGS), b"|".join(_WHOLE))
)
# These make a value a secret in prose too, where "key: ..." and "session: ..." are ordinary words.
_PLAINLY = re.compile(rb"ticket|token|passw|passphrase|passcode|pwd|secret|credential|jwt|api_?key|psk\Z")
_PLACE = re.compile(rb"(?i)[/\\](?:tickets?|ha-nfc|nfc)/?\Z")
_ASSIGNED = re.compile(rb"[=:]")
_AROUND = b"{}[]()\"' "

_harmless: dict[bytes, str] = {}
"""Targets in which nothing is hidden, with their texts.  Files of a page are asked for again and again."""
_MOST_HARMLESS = 512
"""Maximum number of these targets."""
_MAX_HARMLESS = 256
"""Maximum number of bytes of each of them."""
_MOST = 64
"""Maximum number of parameters that are checked.  Of a longer list only the first name is shown."""
# A text without any of these needs no pattern: a search for a word takes a tenth of the time.
_SUSPECT = (*_WORDS, *_ENDINGS, *_WHOLE, b"cst-", b"nfc", b"eyj", b"=", b";", b"//", b"#")
_ANY_SUSPECT = re.compile(b"|".join(map(re.escape, _SUSPECT)))
_SHORT = 200
"""Number of bytes from which searches for each word are faster than one pattern for all of them."""
# Every secret that is hidden stands behind one of these, or begins with the last one.
_MARK = re.compile(rb"[=:/\\%<,'\";#]|(?i:bearer|cst-)|eyJ")
_TICKET = re.compile(rb"/ticket/(?:[0-9A-Za-z-]{1,256}|\*\*\*)")
_SEPARATOR = re.compile(rb"([?&;#])")
# A percent-escape that may itself be escaped any number of times: %74, %2574, %252574.
_ESCAPE = re.compile(rb"%(?:25)*([0-9A-Fa-f]{2})")
# A parameter that some servers begin at a semicolon too, or at a second question mark.
_PARAMETER = re.compile(rb"(?:(?<=[;?])|\A)([^=;?]*+)=")
_STILL = re.compile(rb"(?i)%(?:[0-9a-f]{2}|u[0-9a-f]{4})")


def redact(target: bytes, secrets: Secrets = ()) -> str:
    """Return a request target or a URL for the log: ASCII only, with ``***`` in place of secrets.

    ``secrets`` are further places of secrets, besides those that are known by their names.

    A target that is longer than ``MAX_SHOWN`` is cut and ends with ``...``.  For a secret behind
    percent-encoding (``/tick%65t/...``) everything from the first ``%`` on is hidden.
    """
    if _TICKET.fullmatch(target):  # what a console asks for as a rule
        return "/ticket/" + HIDDEN
    if secrets:
        target = _without(target[: MAX_SHOWN + 1], secrets)
    if (known := _harmless.get(target)) is not None:
        return known
    shown = _shown(target[:MAX_SHOWN], whole=True)
    if len(target) > MAX_SHOWN:
        shown += _CUT
    text = shown.decode("ascii", "backslashreplace")
    if shown == target and len(target) <= _MAX_HARMLESS:  # no secret is kept
        if len(_harmless) >= _MOST_HARMLESS:
            _harmless.clear()
        _harmless[target] = text
    return text


def _without(target: bytes, secrets: Secrets) -> bytes:
    """Return a target without the secrets in these places, however they are written."""
    path, mark, query = target.partition(b"?")
    plain = _plain(path)
    for kind, name in secrets:
        if kind == "path" and plain.partition(_plain(name))[2]:
            path = name + _HIDDEN
        elif kind == "query" and query:
            query = b"&".join(_without_parameter(part, name) for part in query.split(b"&"))
    return path + mark + query


def _plain(path: bytes) -> bytes:
    """Return a path in lower case with single slashes, and without escapes, escaped ones included."""
    return _SLASHES.sub(b"/", _ESCAPE.sub(_decoded, path)).lower()


def _without_parameter(part: bytes, name: bytes) -> bytes:
    """Return a part of a query that ends where the value of this parameter begins, if it has one."""
    for match in _PARAMETER.finditer(part):
        if _ESCAPE.sub(_decoded, match[1]).lower() == name.lower():
            return part[: match.end()] + _HIDDEN
    return part


def redact_text(text: str) -> str:
    """Return a text with the secrets in it hidden, those in its targets and URLs included."""
    octets = text.encode("utf-8", "surrogateescape")
    if _MARK.search(octets) is None:
        return octets.decode("utf-8", "replace")
    octets = _FIELD.sub(lambda match: match[1] + _HIDDEN, octets)
    if _PERCENT in octets or _is_suspect(octets):
        octets = _BEARER.sub(rb"\1" + _HIDDEN, octets)
        octets = _without_quoted(octets)
        octets = _SPACED.sub(_spaced, octets)
        octets = _ELEMENT.sub(_element, octets)
        octets = _WORD.sub(lambda match: _shown(match[0]), octets)
    return octets.decode("utf-8", "replace")


def is_secret(name: str) -> bool:
    """Return whether the value of a parameter or a field with this name is hidden."""
    return _NAME.search(name.lower().encode("utf-8", "surrogateescape")) is not None


def _without_quoted(octets: bytes) -> bytes:
    """Return the text without the values in quotes that stand behind the name of a secret."""
    shown: list[bytes] = []
    place = 0
    while match := _QUOTED.search(octets, place):
        name, separator, value = match.groups()
        shown.append(octets[place : match.start(3)])
        place = match.start(3)
        plain = separator.lstrip().startswith(b":")
        if (_PLAINLY if plain else _NAME).search(name.lower()):
            shown.append(value[:1] + _HIDDEN + value[:1])
            place = match.end()
    return b"".join(shown) + octets[place:]


def _spaced(match: re.Match[bytes]) -> bytes:
    return match[1] + match[2] + _HIDDEN if _PLAINLY.search(match[1].lower()) else match[0]


def _element(match: re.Match[bytes]) -> bytes:
    return match[1] + _HIDDEN if _NAME.search(match[2].lower()) and match[3].strip() else match[0]


def _is_suspect(octets: bytes) -> bool:
    lowered = octets.lower()
    if len(lowered) < _SHORT:
        return _ANY_SUSPECT.search(lowered) is not None
    return any(word in lowered for word in _SUSPECT)


def _shown(octets: bytes, whole: bool = False) -> bytes:
    """Return the bytes with their secrets hidden, percent-encoded ones included.

    ``whole`` means that the bytes are a target or a URL and not a word of a text.
    """
    if _PERCENT in octets:
        plain = _ESCAPE.sub(_decoded, octets)
        if _STILL.search(plain) or (plain != octets and _hide(plain, whole) != plain):
            before = _hide(octets.partition(b"%")[0], whole)
            return before if before.endswith(_HIDDEN) else before + _HIDDEN
    return _hide(octets, whole)


def _decoded(match: re.Match[bytes]) -> bytes:
    return bytes((int(match[1], 16),))


def _hide(octets: bytes, whole: bool) -> bytes:
    """Return the bytes with their secrets hidden; percent-encoded bytes are taken as they are."""
    if not _is_suspect(octets):
        return octets
    octets = _SIGNED.sub(_HIDDEN, octets)
    if not whole and _FILE.fullmatch(octets) and not any(word in octets.lower() for word in _NEVER_FILE):
        return octets
    whole = whole or b"://" in octets or octets.startswith(b"/")
    octets = _PATH.sub(rb"\1" + _HIDDEN, _USER.sub(rb"\1//" + _HIDDEN + b"@", octets))
    parts = [b"", *_SEPARATOR.split(octets)]
    if len(parts) > 2 * _MOST or octets.count(b"=") > _MOST:
        return parts[1].partition(b"=")[0] + _HIDDEN
    bare = _PLACE.search(parts[1]) is not None
    shown: list[bytes] = []
    hiding = False
    for separator, part in zip(parts[::2], parts[1::2], strict=True):
        if separator == b"#" and whole:
            shown += [separator, _HIDDEN]
            break
        if hiding and separator != b"&":
            continue  # the value continues: a ticket may have a semicolon in it
        if bare and part and separator in (b"?", b"&") and b"=" not in part:
            visible = b""
        else:
            visible = _visible(part, separator != b"")
        hiding = visible is not part
        shown += [separator, visible + _HIDDEN if hiding else part]
    return b"".join(shown)


def _visible(part: bytes, in_query: bool) -> bytes:
    """Return the part of ``name=value`` in front of a secret value, or all of it."""
    place = 0
    for match in _ASSIGNED.finditer(part):
        if not in_query and match[0] == b":":
            continue
        name = part[place : match.start()].strip(_AROUND).lower()
        if _NAME.search(name):
            return part[: match.end()]
        place = match.end()
    return part
