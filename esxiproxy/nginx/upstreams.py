"""The conversion of a location's ``proxy_pass`` to an upstream section, for a host or for many hosts."""

from __future__ import annotations

from collections.abc import Iterator

from esxiproxy.nginx.captures import PathPattern
from esxiproxy.nginx.fields import convert_fields
from esxiproxy.nginx.hosts_target import AnyTarget, HostsTarget
from esxiproxy.nginx.inventories import FoundInventory, InventoryFinder, LocationTarget
from esxiproxy.nginx.paths import absolute
from esxiproxy.nginx.quantities import LONGEST, duration, milliseconds
from esxiproxy.nginx.scope import Scope
from esxiproxy.nginx.sections import OutputEntry, OutputSection
from esxiproxy.nginx.source import Complaints, Directive
from esxiproxy.nginx.target import Blocks, NotConverted, Target, resolve_target

PLACEHOLDER = "FILL-IN-AS-SAID-ABOVE"
"""The value of ``pin`` until a thumbprint is filled in; ``esxiproxy check`` rejects it."""
_MARGIN = 5000
"""Milliseconds from connect_timeout to upstream_handshake_timeout, as between their defaults."""


class UpstreamWriter:
    """A writer of upstream sections; ``folder`` is the base of relative paths."""

    def __init__(
        self,
        folder: str,
        blocks: Blocks,
        inventories: InventoryFinder,
        keep_insecure: bool,
        complaints: Complaints,
    ) -> None:
        self.inventories = inventories
        self._folder = folder
        self._blocks = blocks
        self._keep_insecure = keep_insecure
        self._complaints = complaints

    def destination(
        self, passing: Directive, path: str, scope: Scope, pattern: PathPattern | None
    ) -> LocationTarget:
        """Return the destination of a location with this path prefix.  Raises NotConverted.

        ``pattern`` is that of the location's path if it is a regular expression.
        """
        hosts = self.inventories.find(passing, path, scope, pattern)
        if hosts is not None:
            return LocationTarget(self._template(passing, scope, *hosts), hosts[1])
        target = resolve_target(passing, path, scope, self._blocks, self._complaints)
        entries, comments = [self._url(target)], [passing.place, *target.comments]
        if target.secure:
            more, notes = self._verification(passing, scope, target)
            entries += more
            comments += notes
        name = target.block or (target.url.host if self._is_usual(target) else target.authority)
        return LocationTarget(self._section(passing, scope, target, name, entries, comments))

    def _template(
        self, passing: Directive, scope: Scope, target: HostsTarget, inventory: FoundInventory
    ) -> OutputSection:
        """Return the section with the settings that the hosts of an inventory share."""
        entries: list[OutputEntry] = []
        comments = [passing.place, "the settings that all hosts of the list share"]
        if inventory.secure:
            more, notes = self._verification_of_hosts(passing, scope, target)
            entries += more
            comments += notes
        return self._section(passing, scope, target, inventory.name, entries, comments)

    def _section(
        self,
        passing: Directive,
        scope: Scope,
        target: AnyTarget,
        name: str,
        entries: list[OutputEntry],
        comments: list[str],
    ) -> OutputSection:
        entries = [*entries, *convert_fields(scope, target, self._complaints), *self._times(scope)]
        for entry in entries:
            if not entry.writable:
                self._complaints.add(
                    passing, f"{entry.key}: {entry.value!r} cannot be written in an INI file"
                )
                raise NotConverted(entry.value)
        return OutputSection("upstream", name, tuple(entries), tuple(comments))

    def _url(self, target: Target) -> OutputEntry:
        return OutputEntry("url", f"{'wss' if target.url.secure else 'ws'}://{target.authority}")

    def _is_usual(self, target: Target) -> bool:
        return target.url.secure and target.url.port == 443

    def _verification(
        self, passing: Directive, scope: Scope, target: Target
    ) -> tuple[list[OutputEntry], list[str]]:
        """Return the entries for the upstream's verification, and comments on them."""
        if (verify := _verify(scope)) is not None:
            return self._verified(verify, scope, target), []
        if self._keep_insecure:
            return [OutputEntry("verify", "none", "as in nginx: the host's certificate is not verified")], []
        self._complaints.add(
            passing,
            f"nginx does not verify {target.authority} (proxy_ssl_verify): fill in its thumbprint, or use "
            "--keep-insecure",
        )
        return [OutputEntry("verify", "pin"), OutputEntry("pin", PLACEHOLDER)], [
            "nginx does not verify this host.  Fill in its thumbprint, which this command shows:",
            f"  esxiproxy doctor wss://{target.authority}/",
        ]

    def _verification_of_hosts(
        self, passing: Directive, scope: Scope, target: HostsTarget
    ) -> tuple[list[OutputEntry], list[str]]:
        """Return the entries for the verification of many hosts, and comments on them.

        A template has no thumbprint that could be filled in, so that hosts which nginx does not verify are
        not verified here either.
        """
        if (verify := _verify(scope)) is not None:
            return self._verified(verify, scope, target), []
        entry = OutputEntry("verify", "none", "as in nginx: the hosts' certificates are not verified")
        if self._keep_insecure:
            return [entry], []
        self._complaints.add(
            passing,
            f"nginx does not verify {target.shown} (proxy_ssl_verify), and verify = none does not "
            "either: write verify = pin and a column pins with the thumbprints, or use --keep-insecure",
        )
        return [entry], [
            "nginx does not verify these hosts, so that a ticket may go to any host that answers.  To verify",
            "them, write verify = pin, and their thumbprints into a column pins of the list.",
        ]

    def _verified(self, verify: Directive, scope: Scope, target: AnyTarget) -> list[OutputEntry]:
        trusted = scope.nearest("proxy_ssl_trusted_certificate")
        if trusted is None:
            self._complaints.add(
                verify, "on without proxy_ssl_trusted_certificate: nginx does not start with this"
            )
            raise NotConverted("no authorities")
        name = scope.nearest("proxy_ssl_name")
        wanted = name.args[0] if name and name.args else target.proxy_name
        if wanted != "$proxy_host" and not target.is_own_name(wanted):
            own = "the host in its address" if isinstance(target, HostsTarget) else target.url.host
            text = f"nginx requires a certificate for {wanted}, and esxiproxy one for {own}"
            self._complaints.add(name or verify, text)
        return [OutputEntry("verify", "ca"), OutputEntry("ca", absolute(trusted.args[0], self._folder))]

    def _times(self, scope: Scope) -> Iterator[OutputEntry]:
        connect = self._time(scope, "proxy_connect_timeout")
        if connect:
            yield OutputEntry("connect_timeout", duration(min(connect, LONGEST)))
            if connect > _MARGIN:
                whole = duration(min(connect + _MARGIN, LONGEST))
                yield OutputEntry("upstream_handshake_timeout", whole, "includes connect_timeout")
        read = self._time(scope, "proxy_read_timeout")
        if read:
            text = "proxy_read_timeout, for a console without data"
            yield OutputEntry("idle_timeout", "off" if read > LONGEST else duration(read), text)
            if read != 60_000:
                yield OutputEntry(
                    "response_timeout",
                    duration(min(read, LONGEST)),
                    "proxy_read_timeout, for an HTTP answer without data",
                )

    def _time(self, scope: Scope, name: str) -> int | None:
        directive = scope.nearest(name)
        if directive is None:
            return None
        time = milliseconds(" ".join(directive.args))
        if not time:
            text = (
                "the value must be above 0"
                if time == 0
                else f"{' '.join(directive.args)!r} is not a duration"
            )
            self._complaints.add(directive, text)
        return time


def _verify(scope: Scope) -> Directive | None:
    """Return the directive by which nginx verifies the upstream; None if it does not."""
    verify = scope.nearest("proxy_ssl_verify")
    return verify if verify is not None and verify.args == ("on",) else None
