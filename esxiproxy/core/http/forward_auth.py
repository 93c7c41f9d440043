"""Forward authentication: the fields for an HTTP service, and the user in its answer.

The fields are those of nginx's ``auth_request`` and of Traefik's ``forwardAuth``, so that one request fits
Authelia, authentik and oauth2-proxy.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import product

from esxiproxy.core.errors import AccessDenied
from esxiproxy.core.http.fields import without_cookies
from esxiproxy.core.http.head import Fields, RequestHead, by_name
from esxiproxy.core.http.paths import ambiguous
from esxiproxy.core.http.request import Request
from esxiproxy.core.redaction import Secrets, redact

MAX_NAME = 255
"""Maximum number of characters of a user's name and of a group's."""
MAX_SEPARATORS = 8
"""Maximum number of hyphens and underscores in the name of an identity header."""

_SEPARATORS = re.compile(rb"[-_]")
_GROUP_SEPARATORS = re.compile(rb"[,|]")
_ZERO = re.compile(rb"q\s*=\s*0(?:\.0{0,3})?")


@dataclass(frozen=True, slots=True)
class ServiceLogin:
    """The user that a service names in its answer."""

    name: str
    groups: frozenset[str]


def service_fields(request: Request, passed: Iterable[bytes]) -> Fields:
    """Return the fields of the request to the service.

    ``passed`` are the names of the client's fields that are copied.  No other field of the client is: a
    client cannot name itself.  Raises AccessDenied for a path whose resource the service could not know.
    """
    head = request.head
    target, scheme = _shown_target(head.target, request.secrets), b"https" if request.secure else b"http"
    chain = request.forwarded_for or (request.client.host,)
    nodes = ("unknown" if node == "unix" else node for node in chain)
    fields = [
        (b"X-Original-Method", head.method),
        (b"X-Forwarded-Method", head.method),
        (b"X-Forwarded-Proto", scheme),
        (b"X-Forwarded-Uri", target),
        (b"X-Forwarded-For", ", ".join(nodes).encode("ascii", "replace")),
    ]
    if host := request.public_host or head.value(b"host"):  # HTTP/1.0 may have none
        path = b"" if target == b"*" else target  # RFC 9112 3.2.4
        fields += [(b"X-Forwarded-Host", host), (b"X-Original-URL", b"%b://%b%b" % (scheme, host, path))]
    if request.client.host != "unix":
        fields.append((b"X-Real-IP", request.client.host.encode("ascii", "replace")))
    cookies = frozenset(name for kind, name in request.secrets if kind == "cookie")
    fields += without_cookies(
        [(name, value) for name in passed for value in head.values(name.lower())], cookies
    )
    return tuple(fields)


def _shown_target(target: bytes, secrets: Secrets) -> bytes:
    """Return the target without the ticket, the links and tokens of routers and other secrets.

    Where the path is not shown whole, the rest of it has to lie under the part that is shown for every
    server: else a service that allows ``/ticket/`` would allow ``/ticket/../ui``.
    """
    shown, path = redact(target, secrets).encode("ascii"), target.partition(b"?")[0]
    if shown.partition(b"?")[0] != path and ambiguous(path):
        raise AccessDenied("the path is ambiguous, and the login service is not shown all of it")
    return shown


def service_login(fields: Fields, users: Iterable[str], groups: Iterable[str]) -> ServiceLogin:
    """Return the user in an answer of the service, from the first of the headers that it has.

    Raises AccessDenied for an answer without a user, and for a name that cannot be used.
    """
    named, users = by_name(fields), tuple(users)
    found = _first(named, users)
    if found is None:
        headers = " or ".join(users)
        raise AccessDenied(f"the login service did not name the user: it has to send {headers}")
    header, values = found
    if len(values) > 1:
        raise AccessDenied(f"the login service sent {len(values)} users in {header}, not one")
    name = _name(header, values[0])
    header, values = _first(named, groups) or ("", [])
    parts = (part.strip(b" \t") for value in values for part in _GROUP_SEPARATORS.split(value))
    return ServiceLogin(name, frozenset(_name(header, part) for part in parts if part))


def _first(named: dict[bytes, list[bytes]], names: Iterable[str]) -> tuple[str, list[bytes]] | None:
    """Return the first of the headers that there is, with its values."""
    for name in names:
        if values := named.get(name.lower().encode("ascii")):
            return name, values
    return None


def _name(header: str, value: bytes) -> str:
    """Return a name.  Raises AccessDenied for one that could be shown or compared in two ways."""
    try:
        name = value.decode()
    except UnicodeDecodeError:
        raise AccessDenied(f"{header} of the login service is not UTF-8") from None
    if not name.strip():
        raise AccessDenied(f"{header} of the login service is empty")
    if not name.isprintable():
        raise AccessDenied(f"{header} of the login service has control characters")
    if name != name.strip():
        raise AccessDenied(f"{header} of the login service is surrounded by spaces")
    if len(name) > MAX_NAME:
        raise AccessDenied(f"{header} of the login service has more than {MAX_NAME} characters")
    return name


def spellings(names: Iterable[str]) -> frozenset[bytes]:
    """Return header names in lower case with every mixture of hyphens and underscores.

    CGI, WSGI and PHP read ``Remote_User`` as ``Remote-User``.  A name may have ``MAX_SEPARATORS`` of them.
    """
    return frozenset(spelling for name in names for spelling in _spellings(name.lower().encode("ascii")))


def _spellings(name: bytes) -> Iterator[bytes]:
    first, *parts = _SEPARATORS.split(name)
    if len(parts) > MAX_SEPARATORS:
        raise ValueError(f"a header name has more than {MAX_SEPARATORS} hyphens and underscores")
    for separators in product((b"-", b"_"), repeat=len(parts)):
        yield first + b"".join(map(b"".join, zip(separators, parts, strict=True)))


def wants_page(head: RequestHead) -> bool:
    """Return whether a request is a plain GET that accepts a page (``text/html``), as a browser sends it.

    An upgrade of any kind is none, since a script sees no redirect of it.
    """
    if head.method != b"GET" or head.values(b"upgrade") or head.values(b"sec-websocket-key"):
        return False
    for value in head.values(b"accept"):
        for element in value.lower().split(b","):
            media_type, *parameters = (part.strip() for part in element.split(b";"))
            if media_type == b"text/html":
                return not any(_ZERO.fullmatch(parameter) for parameter in parameters)
    return False
