"""The key ``locate``: the part of a request that names a host, or has a link or a token."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from functools import partial
from urllib.parse import quote, unquote_to_bytes

from esxiproxy.core.config.errors import BadValue, shown
from esxiproxy.core.config.key import Type, plain
from esxiproxy.core.errors import RouteNotFound
from esxiproxy.core.http.paths import ambiguous
from esxiproxy.core.http.request import Request

Secrets = tuple[tuple[str, bytes], ...]
"""Places of secrets in a request: ``path``, ``query`` or ``cookie``, with the prefix or the name."""

_QUERY_NAME = re.compile(r"[A-Za-z0-9._~-]{1,64}")
_COOKIE_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,64}")
_HOST_LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?")
_PATH = re.compile(r"/[!-~]*")
_BROKEN_ESCAPE = re.compile(rb"%(?![0-9A-Fa-f]{2})")


class LocateKind(Enum):
    """The part of a request that a value is read from."""

    PATH = "path"
    """A segment of the path behind a prefix."""
    QUERY = "query"
    """A parameter of the query."""
    HOST = "host"
    """The first label of the host in the client's URL."""
    COOKIE = "cookie"
    """A cookie."""


@dataclass(frozen=True, slots=True)
class Locate:
    """The place of a value in a request.

    ``name`` is the path in front of the value with its final slash, the name of the parameter or of the
    cookie, or the host behind the first label with its dot.  ``is_folder`` is whether a path has to continue
    with a slash behind the value.
    """

    kind: LocateKind
    name: bytes
    is_folder: bool = False

    @property
    def ambient(self) -> bool:
        """Whether a browser adds the value to every request."""
        return self.kind is LocateKind.COOKIE

    @property
    def cookies(self) -> frozenset[bytes]:
        """The names of the cookies that are not sent to the upstream."""
        return frozenset({self.name}) if self.kind is LocateKind.COOKIE else frozenset()

    @property
    def secrets(self) -> Secrets:
        """The place of the value, for a value that is a secret.  A host name is in no target."""
        return () if self.kind is LocateKind.HOST else ((self.kind.value, self.name),)

    def find(self, request: Request) -> str | None:
        """Return the value that is located in a request, or None if there is none.

        Of several parameters or cookies with the name, the first one that is not empty counts.  The value is
        percent-decoded once.  Raise RouteNotFound if it is not percent-encoded UTF-8, or if the path is
        ambiguous and the value is in the path.
        """
        if self.kind is LocateKind.HOST:
            label, _dot, rest = request.host.partition(".")
            return label if label and rest.encode("latin-1", "replace") == self.name[1:] else None
        if self.kind is LocateKind.PATH:
            found = self._split(request.head.target)
            return None if found is None else self._decode(found[0])
        if self.kind is LocateKind.QUERY:
            return self._parameter(request.head.target)
        return self._cookie(request.head.values(b"cookie"))

    def target(self, request: Request) -> bytes:
        """Return the request target without the value.

        All parameters with the name are removed, and the rest of the query keeps its bytes.
        """
        target = request.head.target
        if self.kind is LocateKind.PATH:
            found = self._split(target)
            return target if found is None else found[1]
        if self.kind is not LocateKind.QUERY:
            return target
        path, mark, query = target.partition(b"?")
        parameters = query.split(b"&")
        kept = [parameter for parameter in parameters if _name(parameter) != self.name]
        if len(kept) == len(parameters):
            return target
        return path + mark + b"&".join(kept) if kept else path

    def prefix(self, value: str) -> bytes:
        """Return the path that stands in front of the targets of this value, without a final slash.

        It is empty for a value that is not in the path.
        """
        return self.name + quote(value, safe="").encode() if self.kind is LocateKind.PATH else b""

    def _split(self, target: bytes) -> tuple[bytes, bytes] | None:
        """Return the encoded value in a path, and the target without it and the prefix."""
        path, mark, query = target.partition(b"?")
        if ambiguous(path):
            raise RouteNotFound("the path is ambiguous, and the host depends on it")
        if not path.startswith(self.name):
            return None
        value, slash, rest = path[len(self.name) :].partition(b"/")
        if not value or (self.is_folder and not slash):
            return None
        return value, b"/" + rest + mark + query

    def _parameter(self, target: bytes) -> str | None:
        for parameter in target.partition(b"?")[2].split(b"&"):
            if _name(parameter) == self.name and (value := parameter.partition(b"=")[2]):
                return self._decode(value.replace(b"+", b" "))
        return None

    def _cookie(self, fields: list[bytes]) -> str | None:
        for field in fields:
            for pair in field.split(b";"):
                name, _equals, value = pair.strip(b" \t").partition(b"=")
                if name == self.name and (value := _unquoted(value)):
                    return self._decode(value)
        return None

    def _decode(self, octets: bytes) -> str:
        if _BROKEN_ESCAPE.search(octets) is None:
            try:
                return unquote_to_bytes(octets).decode("utf-8")
            except UnicodeDecodeError:
                pass
        part = {LocateKind.PATH: "path", LocateKind.QUERY: "query"}.get(self.kind, "cookie")
        raise RouteNotFound(f"the {part} has a value that is not percent-encoded UTF-8")


def _name(parameter: bytes) -> bytes:
    """Return the decoded name of a query's parameter."""
    return unquote_to_bytes(parameter.partition(b"=")[0].replace(b"+", b" "))


def _unquoted(value: bytes) -> bytes:
    return value[1:-1] if len(value) >= 2 and value[:1] == value[-1:] == b'"' else value


def locate(text: str, placeholder: str) -> Locate:
    """Return the place in ``path:/h/{host}/``, ``query:NAME``, ``host:{host}.NAME`` or ``cookie:NAME``.

    ``placeholder`` is the name in braces.  Raise BadValue.
    """
    kind, _colon, value = text.partition(":")
    read = {"path": _path, "query": _query, "host": _host, "cookie": _cookie}.get(kind)
    if read is None:
        raise BadValue(f"{shown(text)} is no place: write {_examples(placeholder)}")
    return read(value, "{" + placeholder + "}")


def locate_type(placeholder: str) -> Type:
    """Return the type of a key ``locate`` whose place has this name in braces."""
    parse: Callable[[str], Locate] = partial(locate, placeholder=placeholder)
    return plain("`path:`, `query:`, `host:` or `cookie:` with a place", parse)


def _examples(name: str) -> str:
    return f"path:/PREFIX/{{{name}}}/, query:NAME, host:{{{name}}}.consoles.example.com or cookie:NAME"


def _path(text: str, placeholder: str) -> Locate:
    before, found, after = text.partition(placeholder)
    if not found or after not in ("", "/") or not before.endswith("/"):
        raise BadValue(
            f"{shown('path:' + text)} is no place in a path: write path:/PREFIX/{placeholder}/, "
            f"where {placeholder} is a whole segment and the last one"
        )
    if not _PATH.fullmatch(before) or any(mark in before for mark in "?#{}"):
        raise BadValue(f"{shown('path:' + text)} is no path: begin it with a slash, percent-encoded")
    if ambiguous(before.encode()):
        raise BadValue(
            f"{shown('path:' + text)} can be read in two ways: no //, no dot segments, no %2F and the like"
        )
    return Locate(LocateKind.PATH, before.encode(), is_folder=after == "/")


def _query(text: str, _placeholder: str) -> Locate:
    if not _QUERY_NAME.fullmatch(text):
        raise BadValue(f"{shown('query:' + text)} is no parameter: write query:NAME, with letters and digits")
    return Locate(LocateKind.QUERY, text.encode())


def _host(text: str, placeholder: str) -> Locate:
    before, found, rest = text.partition(placeholder + ".")
    labels = rest.lower().removesuffix(".").split(".")
    if before or not found or not all(map(_HOST_LABEL.fullmatch, labels)):
        raise BadValue(
            f"{shown('host:' + text)} is no place in a host: write host:{placeholder}.consoles.example.com, "
            f"where {placeholder} is the first label"
        )
    return Locate(LocateKind.HOST, b"." + ".".join(labels).encode())


def _cookie(text: str, _placeholder: str) -> Locate:
    if not _COOKIE_NAME.fullmatch(text):
        raise BadValue(f"{shown('cookie:' + text)} is no cookie: write cookie:NAME")
    return Locate(LocateKind.COOKIE, text.encode())
