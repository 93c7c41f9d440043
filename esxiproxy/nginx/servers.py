"""The conversion of a ``server`` block to a listener for each of its addresses."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from esxiproxy.nginx.inventories import LocationTarget
from esxiproxy.nginx.listening import Listen, parse_listens
from esxiproxy.nginx.locations import ForwardedLocations, convert_locations, find_locations
from esxiproxy.nginx.paths import absolute
from esxiproxy.nginx.quantities import LONGEST, duration, milliseconds, size
from esxiproxy.nginx.scope import Scope
from esxiproxy.nginx.sections import OutputEntry, OutputSection
from esxiproxy.nginx.source import Complaints, Directive
from esxiproxy.nginx.upstreams import UpstreamWriter
from esxiproxy.nginx.vocabulary import restriction


@dataclass(frozen=True, slots=True)
class ServedAddress:
    """One address of a server that can be converted, with its listener and its destination."""

    server: Directive
    listen: Listen
    listener: OutputSection
    destination: LocationTarget


class ServerWriter:
    """A writer of listener sections; ``folder`` is the base of relative paths."""

    def __init__(self, folder: str, upstreams: UpstreamWriter, complaints: Complaints) -> None:
        self._folder = folder
        self._upstreams = upstreams
        self._complaints = complaints

    def served(self, server: Directive, outer: Scope) -> list[ServedAddress]:
        """Return the server's addresses; none, and a complaint, if the server has to be omitted."""
        scope = Scope(server.block or (), outer)
        for block in scope.chain():
            for directive in block.directives:
                why = restriction(directive)
                if why and not self._is_answered(directive, scope):
                    self._complaints.add(directive, f"{why}: the server in line {server.line} is omitted")
                    return []
        what = convert_locations(server, scope, self._upstreams, self._complaints)
        if what is None:
            return []
        always = scope.value("ssl") == "on"
        found = []
        for listen in parse_listens(server, always, self._complaints):
            if (listener := self._listener(server, scope, listen, what)) is not None:
                found.append(ServedAddress(server, listen, listener, what.destination))
        return found

    def _is_answered(self, directive: Directive, scope: Scope) -> bool:
        """Return whether the router of some location refuses the same requests as this directive.

        Each location is checked again, with its own router.
        """
        if directive.name != "if":
            return False
        finder = self._upstreams.inventories
        return any(
            finder.is_answered(directive, finder.variables(passing.args[0], location.scope))
            for location in find_locations(scope)
            for passing in location.scope.own("proxy_pass")
        )

    def _listener(
        self, server: Directive, scope: Scope, listen: Listen, what: ForwardedLocations
    ) -> OutputSection | None:
        """Return the section of one address of a server, or None with complaints if that fails."""
        tls = self._tls(scope, listen) if listen.secure else []
        if tls is None:
            return None
        names = [name for directive in scope.own("server_name") for name in directive.args]
        usual = [name for name in names if name != "_" and not name.startswith(("~", "*", ".")) and name]
        entries = [OutputEntry("listen", listen.text, listen.comment), *tls]
        if listen.proxy_protocol:
            entries.append(OutputEntry("proxy_protocol", "yes"))
        entries.append(OutputEntry("http", "forward"))
        if what.prefixes:
            entries.append(OutputEntry("paths", ", ".join(what.prefixes)))
        entries += self._limits(scope)
        for entry in entries:
            if not entry.writable:
                self._complaints.add(listen.directive, f"{entry.key}: {entry.value!r} cannot be written")
                return None
        suffix = f"-{listen.port}" if listen.port else ""
        comments = [listen.directive.place, *what.comments]
        if names and names != ["_"]:
            inventory = what.destination.inventory
            rest = "requests for other names get a 404"
            if inventory is None or not inventory.place.in_host:
                rest = "a listener accepts every name"
            comments.append(f"server_name {' '.join(names)}: {rest}")
        name = f"{usual[0]}{suffix}" if usual else listen.name
        return OutputSection("listener", name, tuple(entries), tuple(comments))

    def _tls(self, scope: Scope, listen: Listen) -> list[OutputEntry] | None:
        """Return the listener's TLS entries; None, and a complaint, if there can be no listener."""
        entries = []
        for key, name in (("certificate", "ssl_certificate"), ("private_key", "ssl_certificate_key")):
            found = scope.every(name)
            if not found:
                self._complaints.add(listen.directive, f"ssl without {name}: the listener is omitted")
                return None
            for another in found[1:]:
                self._complaints.add(another, f"a listener has one certificate, which is {found[0].args[0]}")
            path = found[0].args[0]
            if "$" in path or path.startswith(("data:", "engine:", "store:")):
                self._complaints.add(found[0], f"{path} is not a file: the listener is omitted")
                return None
            entries.append(OutputEntry(key, absolute(path, self._folder)))
        entries += self._tls_minimum(scope)
        return self._clients(scope, entries)

    def _tls_minimum(self, scope: Scope) -> Iterator[OutputEntry]:
        protocols = scope.nearest("ssl_protocols")
        if protocols is None:
            return
        given = set(protocols.args)
        if older := given - {"TLSv1.2", "TLSv1.3"}:
            text = f"clients that support only {', '.join(sorted(older))} are refused"
            self._complaints.add(protocols, text)
        if "TLSv1.3" not in given:
            self._complaints.add(protocols, "esxiproxy always supports TLS 1.3")
        if given == {"TLSv1.3"}:
            yield OutputEntry("tls_minimum", "1.3")

    def _clients(self, scope: Scope, entries: list[OutputEntry]) -> list[OutputEntry] | None:
        authorities, verify = scope.nearest("ssl_client_certificate"), scope.nearest("ssl_verify_client")
        if verify is None or verify.args == ("off",):
            return entries
        if verify.args not in (("on",), ("optional",)):
            text = f"{' '.join(verify.args)}: esxiproxy has no equivalent; no certificate is requested"
            self._complaints.add(verify, text)
            return entries
        if authorities is None:
            text = f"{verify.args[0]} without ssl_client_certificate: the listener is omitted"
            self._complaints.add(verify, text)
            return None
        if (depth := scope.nearest("ssl_verify_depth")) is not None:
            self._complaints.add(
                depth,
                f"client certificates with a chain longer than {' '.join(depth.args)} are accepted: "
                "esxiproxy does not limit its length",
            )
        entries = [*entries, OutputEntry("client_ca", absolute(authorities.args[0], self._folder))]
        if verify.args == ("optional",):
            entries.append(OutputEntry("client_certificates", "optional"))
        return entries

    def _limits(self, scope: Scope) -> Iterator[OutputEntry]:
        for key, name in (
            ("head_timeout", "client_header_timeout"),
            ("keepalive_timeout", "keepalive_timeout"),
        ):
            directive = scope.nearest(name)
            if directive is not None and directive.args:
                time = milliseconds(directive.args[0])
                if time:
                    yield OutputEntry(key, duration(min(time, LONGEST)))
                else:
                    self._complaints.add(directive, f"{directive.args[0]} cannot be converted")
        body = scope.nearest("client_max_body_size")
        if body is not None and body.args:
            largest = size(body.args[0])
            if largest is None:
                self._complaints.add(body, f"{body.args[0]} is not a size")
            else:
                yield OutputEntry("max_body", largest)
