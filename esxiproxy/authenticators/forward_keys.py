"""The keys of the authenticator ``forward``."""

from __future__ import annotations

import re

from esxiproxy.authenticators.keys import REAUTHENTICATION
from esxiproxy.core.config.errors import shown
from esxiproxy.core.config.key import CERTIFICATES
from esxiproxy.core.config.url import service_url
from esxiproxy.core.http.fields import FORWARDED, HOP_BY_HOP, NOT_IN_TRAILERS
from esxiproxy.core.http.forward_auth import MAX_SEPARATORS
from esxiproxy.plugins import AUTHENTICATOR, DURATION, BadValue, Key, path, plain

_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_HEADER = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
_MAX_HEADERS = 16
"""Maximum number of headers in one key."""
_OWN_TO_SERVICE = HOP_BY_HOP | FORWARDED | {b"host", b"content-length", b"expect"}
_OWN_PREFIXES = (b"x-forwarded-", b"x-original-")
_NO_IDENTITY = NOT_IN_TRAILERS | {b"origin"}


def _url(text: str) -> str:
    """Return an http or https URL.  Raises BadValue."""
    if "{" in text:
        raise BadValue(f"{shown(text)} has a brace: it is no template, every request has the same URL")
    return service_url(text, ("http", "https"), "http://HOST/PATH or https://HOST/PATH")


def _names(text: str) -> tuple[str, ...]:
    """Return header names, each once.  Raises BadValue."""
    found: dict[str, str] = {}
    for name in (part.strip() for part in text.split(",")):
        if not _HEADER.fullmatch(name):
            raise BadValue(f"{shown(name)} is no name of a header: letters, digits, '-' and '_', at most 64")
        found.setdefault(name.lower(), name)
    if len(found) > _MAX_HEADERS:
        raise BadValue(f"has {len(found)} headers: {_MAX_HEADERS} are the most")
    return tuple(found.values())


def _identity_headers(text: str) -> tuple[str, ...]:
    """Return names of headers that no client needs to send.  Raises BadValue."""
    names = _names(text)
    for name in names:
        key = name.lower().replace("_", "-")
        if key.encode("ascii") in _NO_IDENTITY or key.startswith("sec-"):
            raise BadValue(f"{name} is a header of HTTP itself: it cannot name users or groups")
        if key.count("-") > MAX_SEPARATORS:
            raise BadValue(f"{shown(name)} has more than {MAX_SEPARATORS} hyphens and underscores")
    return names


def _passed_headers(text: str) -> tuple[bytes, ...]:
    """Return names of headers that the proxy does not set itself.  Raises BadValue."""
    names = tuple(name.encode("ascii") for name in _names(text))
    for name in names:
        key = name.lower().replace(b"_", b"-")
        if key in _OWN_TO_SERVICE or key.startswith(_OWN_PREFIXES):
            raise BadValue(f"{name.decode()} is not passed from the client: the proxy sends its own, or none")
    return names


def _cookies(text: str) -> frozenset[bytes]:
    """Return names of cookies.  Raises BadValue."""
    names = [part.strip() for part in text.split(",")]
    for name in names:
        if not _TOKEN.fullmatch(name):
            raise BadValue(f"{shown(name)} is no name of a cookie (RFC 6265 4.1.1)")
    return frozenset(name.encode("ascii") for name in names)


_HEADERS = "header names, separated by commas"
KEYS = (
    Key(
        "url",
        AUTHENTICATOR,
        plain("http or https URL", _url),
        None,
        "The URL of the service, which is asked with GET. 2xx allows a request, 401 or a redirect means that "
        "the client has no login, 403 refuses it. The service gets the URL without its ticket.",
        required=True,
    ),
    Key(
        "ca",
        AUTHENTICATOR,
        CERTIFICATES,
        None,
        "PEM file with the authorities of the service's certificate, instead of those of the machine.",
    ),
    Key(
        "socket",
        AUTHENTICATOR,
        path("path of a unix socket"),
        None,
        "The unix socket of the service. The host in `url` is then sent as Host only.",
    ),
    Key(
        "user",
        AUTHENTICATOR,
        plain(_HEADERS, _identity_headers),
        "Remote-User, X-authentik-username, X-Auth-Request-User",
        "Headers of the service's answer with the user. The first one that is there has the name. A client "
        "cannot send them.",
    ),
    Key(
        "groups",
        AUTHENTICATOR,
        plain(_HEADERS, _identity_headers),
        "Remote-Groups, X-authentik-groups, X-Auth-Request-Groups",
        "Headers of the service's answer with the user's groups, separated by commas or `|`. The first one "
        "that is there counts. A client cannot send them.",
    ),
    Key(
        "headers",
        AUTHENTICATOR,
        plain(_HEADERS, _passed_headers),
        "Cookie, Authorization",
        "Headers of the client that the service gets. With Authorization among them, the upstream does not "
        "get it.",
    ),
    Key(
        "consume_cookies",
        AUTHENTICATOR,
        plain("names of cookies, separated by commas", _cookies),
        None,
        "Cookies of the service, which the upstream does not get.",
    ),
    Key("timeout", AUTHENTICATOR, DURATION, "5s", "Time within which the service has to answer."),
    Key(
        "login",
        AUTHENTICATOR,
        plain("http or https URL", _url),
        None,
        "The URL to which a page is redirected whose client has no login. An upgrade is never redirected.",
    ),
    *REAUTHENTICATION,
)
