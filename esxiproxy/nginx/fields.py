"""The conversion of ``proxy_set_header`` to the ``host`` and ``origin`` keys of an upstream."""

from __future__ import annotations

from collections.abc import Iterator

from esxiproxy.core.config.errors import BadValue
from esxiproxy.core.config.values import host_field, origin_field
from esxiproxy.nginx.hosts_target import AnyTarget
from esxiproxy.nginx.scope import Scope, expand, unknown_variables
from esxiproxy.nginx.sections import OutputEntry
from esxiproxy.nginx.source import Complaints, Directive

_CLIENTS_HOST = {"$http_host": "", "$host": "nginx sends it without the port", "$host:$server_port": ""}
_FORWARDED = {
    "x-forwarded-for": {"$proxy_add_x_forwarded_for", "$remote_addr"},
    "x-forwarded-proto": {"$scheme"},
    "x-forwarded-host": {"$host", "$http_host", "$host:$server_port"},
}
_OWN = ("upgrade", "connection")


def convert_fields(scope: Scope, target: AnyTarget, complaints: Complaints) -> Iterator[OutputEntry]:
    """Yield the entries ``host`` and ``origin``, and complain of fields that cannot be converted."""
    constants = scope.variables() | {"proxy_host": target.proxy_host, "proxy_port": target.port}
    given = _fields_set(scope)
    for name, directive in given.items():
        if name not in ("host", "origin", *_OWN):
            _check(name, directive, expand(directive.args[1], constants), complaints)
    yield from _host(given.get("host"), target, constants, complaints)
    yield from _origin(given.get("origin"), target, constants, complaints)


def forwards_upgrade(scope: Scope) -> bool:
    """Return whether nginx forwards the Upgrade field in this scope, and so WebSockets."""
    return "upgrade" in _fields_set(scope)


def sends_own_host(scope: Scope) -> bool:
    """Return whether nginx sends the name in ``proxy_pass`` as the Host field."""
    return "host" not in _fields_set(scope)


def _fields_set(scope: Scope) -> dict[str, Directive]:
    fields = [directive for directive in scope.every("proxy_set_header") if len(directive.args) == 2]
    return {directive.args[0].lower(): directive for directive in fields}


def _host(
    directive: Directive | None, target: AnyTarget, constants: dict[str, str], complaints: Complaints
) -> Iterator[OutputEntry]:
    value = expand(directive.args[1], constants) if directive else target.proxy_host
    if value in _CLIENTS_HOST:
        yield OutputEntry("host", "client", _CLIENTS_HOST[value])
    elif not target.is_own_host(value):
        comment = "" if directive else "nginx's default, the name in proxy_pass"
        yield from _constant("host", value, comment, directive, host_field, complaints)


def _origin(
    directive: Directive | None, target: AnyTarget, constants: dict[str, str], complaints: Complaints
) -> Iterator[OutputEntry]:
    if directive is None:
        yield OutputEntry("origin", "client", "as nginx forwards it")
        return
    value = expand(directive.args[1], constants)
    scheme, _, host = value.partition("://")
    if value == "$http_origin":
        yield OutputEntry("origin", "client")
    elif not value:
        yield OutputEntry("origin", "none")
    elif scheme.lower() != ("https" if target.secure else "http") or not target.is_own_host(host):
        yield from _constant("origin", value, "", directive, origin_field, complaints)


def _constant(
    key: str,
    value: str,
    comment: str,
    directive: Directive | None,
    parse: object,
    complaints: Complaints,
) -> Iterator[OutputEntry]:
    """Yield an entry with this value, or complain of a value that cannot be sent."""
    entry = OutputEntry(key, value, comment)
    try:
        if variables := unknown_variables(value):
            raise BadValue(
                f"the value of {', '.join(variables)} is known only at run time and cannot be converted"
            )
        if value in ("upstream", "client", "none"):
            raise BadValue(f"{value} is a keyword of this key and cannot be a value")
        if not value or not entry.writable:
            raise BadValue(
                "esxiproxy sends no request without a Host field" if not value else "cannot be written"
            )
        assert callable(parse)
        parse(value)
    except BadValue as error:
        if directive is not None:
            complaints.add(directive, f"{directive.args[0]}: {error}")
        return
    yield entry


def _check(name: str, directive: Directive, value: str, complaints: Complaints) -> None:
    """Complain of a field that is sent to the upstream in another way than by nginx."""
    own = "$http_" + name.replace("-", "_")
    if value == own or value in _FORWARDED.get(name, ()):
        return
    shown = directive.args[0]
    if name in _FORWARDED:
        text = f"{shown} always describes the client's connection, and no other value can be sent"
    elif not value:
        text = f"{shown} is not removed from the client's request"
    else:
        text = f"{shown} is not sent: only X-Forwarded-For, -Proto and -Host are added, and they always are"
    complaints.add(directive, text)
