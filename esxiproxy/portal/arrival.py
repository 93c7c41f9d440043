"""A request to the portal, and the answer to it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl

from esxiproxy.core.errors import SessionError
from esxiproxy.core.http.portal import Visitor
from esxiproxy.core.http.rewriting import with_port
from esxiproxy.core.routing import Principal
from esxiproxy.core.strict_json import strict_json
from esxiproxy.portal.settings import PortalListener

Fields = tuple[tuple[bytes, bytes], ...]
_MAX_FIELDS = 20
_FORM = b"application/x-www-form-urlencoded"


class PortalError(Exception):
    """A request that is refused with this status; the text says what failed and what to do."""

    def __init__(self, status: int, text: str, fields: Fields = ()) -> None:
        super().__init__(text)
        self.status = status
        self.fields = fields

    @classmethod
    def of(cls, error: SessionError) -> PortalError:
        """Return the refusal for a failure of a service."""
        fields = error.fields
        if error.retry_after is not None:
            fields = (*fields, (b"Retry-After", b"%d" % error.retry_after))
        return cls(error.status_code, error.public_message, fields)


@dataclass(frozen=True, slots=True)
class PortalAnswer:
    """An answer, with further fields."""

    status: int
    content_type: str
    body: bytes = field(repr=False)
    fields: Fields = field(default=(), repr=False)

    @classmethod
    def of(cls, value: Any, status: int = 200, fields: Fields = ()) -> PortalAnswer:
        """Return an answer in JSON."""
        return cls(status, "application/json", json.dumps(value).encode("ascii") + b"\n", fields)

    @classmethod
    def redirect(cls, path: str, fields: Fields = ()) -> PortalAnswer:
        """Return a redirect to a path of the portal, which is read with GET."""
        location = (b"Location", path.encode("ascii"))
        return cls(303, "text/plain; charset=utf-8", b"", (location, *fields))


@dataclass(frozen=True, slots=True)
class PortalArrival:
    """A request as it arrived: its fields by name in lower case, and the one who sends it."""

    method: bytes
    path: str
    query: str = field(repr=False)
    fields: Fields = field(repr=False)
    body: bytes = field(repr=False)
    visitor: Visitor
    listener: PortalListener

    def values(self, name: bytes) -> list[bytes]:
        """Return the values of all fields of this name (lower case)."""
        return [value for key, value in self.fields if key == name]

    @property
    def principal(self) -> Principal:
        """The principal.  Raises PortalError for a client that no authenticator knows."""
        if self.visitor.principal is None:
            raise PortalError(401, "nobody is logged in, or the login has ended: log in again")
        return self.visitor.principal

    def parameters(self) -> Mapping[str, str]:
        """Return the parameters of the query, each of which is there once.  Raises PortalError."""
        return _single(self.query)

    def form(self) -> Mapping[str, str]:
        """Return the fields of a form.  Raises PortalError."""
        if [_media_type(value) for value in self.values(b"content-type")] != [_FORM]:
            raise PortalError(415, "a login is sent as a form")
        try:
            return _single(self.body.decode("ascii"))
        except UnicodeDecodeError:
            raise PortalError(400, "the form cannot be read") from None

    def json(self) -> Mapping[str, Any]:
        """Return the JSON object of the body.  Raises PortalError.

        A page of another site cannot send this type without asking before, which is never allowed.
        """
        if [_media_type(value) for value in self.values(b"content-type")] != [b"application/json"]:
            raise PortalError(415, "the body has to be JSON: send Content-Type: application/json")
        try:
            found = strict_json(self.body)
        except ValueError as error:
            raise PortalError(400, f"the body cannot be read: {error}") from None
        if not isinstance(found, dict):
            raise PortalError(400, "the body is no JSON object")
        return found

    def check_own_page(self) -> None:
        """Raise PortalError for a request that a page of another site may have sent."""
        sites, origins = self.values(b"sec-fetch-site"), self.values(b"origin")
        if any(site.lower() not in (b"same-origin", b"none") for site in sites) or (
            origins and not (len(origins) == 1 and self._is_own(origins[0]))
        ):
            raise PortalError(403, "the request comes from a page of another site: nothing was done")

    def cookie(self, wanted: bytes) -> str | None:
        """Return the value of a cookie; None without exactly one."""
        pairs = (pair.partition(b"=") for value in self.values(b"cookie") for pair in value.split(b";"))
        found = {value.strip() for name, _, value in pairs if name.strip() == wanted}
        return found.pop().decode("latin-1") if len(found) == 1 else None

    def _is_own(self, origin: bytes) -> bool:
        """Return whether an Origin is that of the public URL, or of the URL that the client uses."""
        scheme, separator, authority = origin.lower().partition(b"://")
        if not separator or scheme not in (b"http", b"https"):
            return False
        own = [self.listener.public_url.encode("ascii")]
        protocols, hosts = self.values(b"x-forwarded-proto"), self.values(b"x-forwarded-host")
        own += [proto + b"://" + host for proto, host in zip(protocols, hosts, strict=False)]
        parts = (each.lower().partition(b"://") for each in own)
        urls = ((name, with_port(rest, name)) for name, _, rest in parts)
        return (scheme, with_port(authority, scheme)) in urls


def _media_type(value: bytes) -> bytes:
    return value.partition(b";")[0].strip().lower()


def _single(text: str) -> Mapping[str, str]:
    try:
        pairs = parse_qsl(text, keep_blank_values=True, max_num_fields=_MAX_FIELDS, errors="strict")
    except ValueError:
        raise PortalError(400, "the parameters cannot be read") from None
    found = dict(pairs)
    if len(found) != len(pairs):
        raise PortalError(400, "a parameter is there twice")
    return found
