"""The target of a ``proxy_pass`` whose host is in a variable, such as ``https://$h.example:443$rest``."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from esxiproxy.nginx.captures import PathPattern
from esxiproxy.nginx.scope import Piece, pieces
from esxiproxy.nginx.target import Target, without_port

_SCHEME = re.compile(r"(?i)(https?)://")
_PORT = re.compile(r":([0-9]{1,5})\Z")
_URI_START = re.compile(r"[/?#]")
_URI_VARIABLES = frozenset({"request_uri", "uri", "document_uri", "is_args", "args", "query_string"})
_QUERIES = ("${is_args}${args}", "${is_args}${query_string}", "?${args}", "?${query_string}")
_UNCHANGED = frozenset({"", "${request_uri}", *("${uri}" + query for query in _QUERIES)})
"""The texts behind the host with which nginx sends the client's path and query."""


@dataclass(frozen=True, slots=True)
class HostsTarget:
    """A target with one variable in its host and port; ``scheme`` is empty if the variable has it.

    ``uri`` is the text behind the port, with ``${NAME}`` for variables.
    """

    scheme: str
    authority: tuple[Piece, ...]
    uri: str

    @property
    def variable(self) -> str:
        """The variable with the host."""
        return next(piece.text for piece in self.authority if piece.is_variable)

    @property
    def secure(self) -> bool:
        """Whether nginx connects with TLS, or may do so."""
        return self.scheme != "http"

    @property
    def port(self) -> str:
        """The port, nginx's ``$proxy_port``, or the variable itself if it is not known."""
        found = _PORT.search(self.authority[-1].text)
        return found[1] if found else "$proxy_port"

    @property
    def proxy_host(self) -> str:
        """The text of nginx's ``$proxy_host``."""
        return "".join(map(str, self.authority))

    @property
    def proxy_name(self) -> str:
        """The ``$proxy_host`` without its port, for which nginx requires a certificate."""
        return without_port(self.proxy_host)

    @property
    def shown(self) -> str:
        """The host and the port as they are written in nginx."""
        return _shown(self.proxy_host)

    def is_own_name(self, value: str) -> bool:
        """Return whether this is the name for which the proxy requires a certificate."""
        return self.is_own_host(value)

    def is_own_host(self, value: str) -> bool:
        """Return whether a Host field is that of the host itself, which the proxy sends by default."""
        return "".join(map(str, pieces(value))).lower() in (self.proxy_host.lower(), self.proxy_name.lower())

    def url(self, value: str) -> str:
        """Return the URL for this value of the variable, without a scheme if the value has it."""
        host = "".join(value if piece.is_variable else piece.text for piece in self.authority)
        return f"{self.scheme}://{host}" if self.scheme else host


AnyTarget = Target | HostsTarget


def hosts_target(text: str, pattern: PathPattern | None) -> HostsTarget | None:
    """Return the target with one variable in its host; None for any other.

    ``pattern`` is that of the location's path.
    """
    if found := _SCHEME.match(text):
        text = text[found.end() :]
    authority, uri = _split(pieces(text), pattern)
    if sum(piece.is_variable for piece in authority) != 1:
        return None
    if found is None and not authority[0].is_variable:
        return None
    return HostsTarget(found[1].lower() if found else "", authority, "".join(map(str, uri)))


def _split(text: Sequence[Piece], pattern: PathPattern | None) -> tuple[tuple[Piece, ...], list[Piece]]:
    """Return the part with host and port, and the rest."""
    rests = pattern.rests if pattern else frozenset[str]()
    for index, piece in enumerate(text):
        if piece.is_variable:
            if piece.text in _URI_VARIABLES or str(piece) in rests:
                return tuple(text[:index]), list(text[index:])
        elif start := _URI_START.search(piece.text):
            before, behind = piece.text[: start.start()], piece.text[start.start() :]
            whole = [Piece(part) for part in (before,) if part]
            return (*text[:index], *whole), [Piece(behind), *text[index + 1 :]]
    return tuple(text), []


def uri_problem(target: HostsTarget, path: str, pattern: PathPattern | None) -> str | None:
    """Return why esxiproxy would send another path or query than nginx; None if it does not.

    ``pattern`` is that of the location's path if the path has the host's name.
    """
    uri = target.uri
    if pattern is None:
        if uri in _UNCHANGED:
            return None
        if uri in ("${uri}", "${document_uri}"):
            return "nginx sends no query to the host, and esxiproxy does: write $request_uri if that is meant"
        return f"{path} is replaced by {_shown(uri)}: esxiproxy forwards the client's path byte for byte"
    if uri in pattern.rests:
        return "nginx sends no query to the host, and esxiproxy does: add $is_args$args if that is meant"
    if any(uri == rest + query for rest in pattern.rests for query in _QUERIES):
        return None
    if uri in _UNCHANGED:
        return f"nginx sends the path with {pattern.prefix}NAME to the host, and a router removes this part"
    return f"the path is replaced by {_shown(uri)}: esxiproxy forwards the part behind the host"


def _shown(text: str) -> str:
    """Return the text with ``$NAME`` for variables where no braces are needed."""
    return re.sub(r"\$\{(\w+)\}(?!\w)", r"$\1", text)
