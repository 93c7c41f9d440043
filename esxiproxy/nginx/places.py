"""The part of a request that a variable of nginx comes from, as the key ``locate`` names it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from esxiproxy.nginx.captures import NameRule, PathPattern, server_name_pattern
from esxiproxy.nginx.scope import Scope

_REQUEST = re.compile(r"(arg|cookie)_([A-Za-z0-9_]{1,64})")
_KINDS = {"arg": "query", "cookie": "cookie"}
HOST_VARIABLES = frozenset({"host", "http_host"})
"""Variables with the whole Host field, of which a router reads the first label."""


@dataclass(frozen=True, slots=True)
class Place:
    """A value of ``locate``, and the rule for the names there if there is one."""

    locate: str
    rule: NameRule | None = None

    @property
    def in_path(self) -> bool:
        """Whether the name is in the path."""
        return self.locate.startswith("path:")

    @property
    def in_host(self) -> bool:
        """Whether the name is in the Host field."""
        return self.locate.startswith("host:")


def find_place(variable: str, scope: Scope, pattern: PathPattern | None) -> Place | None:
    """Return the place of a variable's value in a request; None if no router can read it.

    ``pattern`` is that of the location's path.
    """
    if pattern is not None and variable in pattern.variables:
        return Place(f"path:{pattern.prefix}{{host}}/", pattern.rule)
    if found := _REQUEST.fullmatch(variable):
        return Place(f"{_KINDS[found[1]]}:{found[2]}")
    for directive in scope.every("server_name"):
        for name in directive.args:
            server = server_name_pattern(name)
            if server is not None and variable in server.variables:
                return Place(f"host:{{host}}.{server.suffix}", server.rule)
    return None


def frequent_domain(hosts: Iterable[str]) -> str:
    """Return the domain of most of these hosts, which is empty if no host has one."""
    suffixes = Counter(host.partition(".")[2] for host in hosts)
    del suffixes[""]
    return suffixes.most_common(1)[0][0] if suffixes else ""
