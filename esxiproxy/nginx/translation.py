"""The conversion of a whole nginx configuration, with complaints about what is lost."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from esxiproxy.nginx.inventories import InventoryFinder
from esxiproxy.nginx.listening import Listen, parse_listens
from esxiproxy.nginx.maps import host_maps
from esxiproxy.nginx.routers import HostList, RouterWriter
from esxiproxy.nginx.scope import Scope
from esxiproxy.nginx.sections import OutputEntry, OutputSection, SectionNames, deduplicate, render
from esxiproxy.nginx.servers import ServedAddress, ServerWriter
from esxiproxy.nginx.source import Complaint, Complaints, Directive, read
from esxiproxy.nginx.upstreams import UpstreamWriter
from esxiproxy.nginx.vocabulary import is_unknown, loss

_NOT_OPENED = frozenset(
    {
        *("events", "types", "map", "geo", "geoip2", "split_clients"),
        *("upstream", "stream", "mail", "match", "charset_map"),
    }
)
"""Blocks whose directives are not complained of one by one."""


@dataclass(frozen=True, slots=True)
class Translation:
    """The text of the INI file, the complaints about what is not in it, and the lists of hosts to write."""

    text: str
    complaints: tuple[Complaint, ...]
    lists: tuple[HostList, ...] = ()


def translate(path: str, keep_insecure: bool = False, hosts_folder: str | None = None) -> Translation:
    """Convert an nginx configuration file.  Raises SourceError.

    Without a folder for the lists of hosts, they are comments in the text.
    """
    tree, missing = read(path)
    complaints = Complaints()
    complaints.take(missing)
    folder = os.path.dirname(os.path.abspath(path))
    top = Scope(tree)
    found: list[ServedAddress] = []
    seen: list[Directive] = []
    omitted: list[Listen] = []
    for scope in [top, *(Scope(http.block or ()) for http in top.own("http"))]:
        blocks = {block.args[0]: block for block in scope.own("upstream") if block.args}
        finder = InventoryFinder(host_maps(scope), blocks, complaints)
        upstreams = UpstreamWriter(folder, blocks, finder, keep_insecure, complaints)
        writer = ServerWriter(folder, upstreams, complaints)
        for server in scope.own("server"):
            served = writer.served(server, scope)
            found += served
            seen += [server] if served else []
            omitted += [] if served else parse_listens(server, always_secure=False, complaints=Complaints())
    for directive in _directives(tree, seen):
        if complaints.are_about(directive) and (
            is_unknown(directive) or directive.name == "ssl_verify_depth"
        ):
            continue
        if (lost := loss(directive)) is not None:
            complaints.add(directive, lost)
    bindable = _bindable(found, complaints)
    _complain_of_omitted(omitted, [served for served, on in bindable if on], complaints)
    routers = RouterWriter(hosts_folder, complaints)
    sections = _sections(bindable, routers)
    text = render(path, sections) if sections else ""
    return Translation(text, tuple(complaints.sorted()), tuple(routers.lists))


def _directives(directives: Sequence[Directive], kept: Sequence[Directive]) -> Iterator[Directive]:
    """Yield every directive, except those of omitted servers, which have a complaint already."""
    for directive in directives:
        if directive.name == "server" and directive not in kept:
            continue
        yield directive
        closed = directive.name in _NOT_OPENED or is_unknown(directive)
        if directive.block is not None and not closed:
            yield from _directives(directive.block, kept)


def _bindable(found: Sequence[ServedAddress], complaints: Complaints) -> list[tuple[ServedAddress, bool]]:
    """Return each address, and whether its listener can be bound together with the others."""
    order = sorted(found, key=lambda one: (not one.listen.default, one.listen.host not in ("*", "[::]")))
    bound: list[ServedAddress] = []
    for served in order:
        taken = next((other for other in bound if _collide(served, other)), None)
        if taken is None:
            bound.append(served)
        elif not _same(served, taken):
            complaints.add(
                served.listen.directive,
                f"{served.listen.text} is also the address of the server in {taken.server.place}: nginx "
                "selects by server_name, and here only that listener can have the address",
            )
    return [
        (served, served in bound)
        for served in found
        if served in bound or not any(_collide(served, one) and _same(served, one) for one in bound)
    ]


def _complain_of_omitted(
    omitted: Sequence[Listen], bound: Sequence[ServedAddress], complaints: Complaints
) -> None:
    """Complain of each address of an omitted server whose requests another server's listener accepts."""
    for listen in omitted:
        taken = next((one for one in bound if one.listen.address.overlaps(listen.address)), None)
        if taken is not None:
            complaints.add(
                listen.directive,
                f"{listen.text} is also the address of the server in {taken.server.place}, whose listener "
                "accepts every name: requests that this server refuses or restricts are forwarded to "
                f"{taken.destination.text}",
            )


def _collide(one: ServedAddress, other: ServedAddress) -> bool:
    return one.listen.address.overlaps(other.listen.address)


def _same(one: ServedAddress, other: ServedAddress) -> bool:
    """Return whether the other listener treats the requests of this one in the same way."""
    ours, theirs = one.listen.address, other.listen.address
    covered = ours.path == theirs.path if ours.ip is None else theirs.accepts(ours.ip)
    means = [(_without_address(served.listener), served.destination.meaning) for served in (one, other)]
    return covered and means[0] == means[1]


def _without_address(listener: OutputSection) -> list[tuple[str, str]]:
    return [entry for entry in listener.meaning if entry[0] != "listen"]


def _sections(served: Sequence[tuple[ServedAddress, bool]], routers: RouterWriter) -> list[OutputSection]:
    upstreams = deduplicate([one.destination.upstream for one, _ in served], SectionNames())
    names, sections = SectionNames(), []
    for one, on in served:
        upstream, inventory = upstreams[one.destination.upstream.meaning], one.destination.inventory
        entry = OutputEntry("upstream", upstream.name)
        if inventory is not None:
            entry = OutputEntry("router", routers.router(inventory, upstream.name))
        name = names.new(one.listener.name)
        sections.append(replace(one.listener, name=name, entries=(*one.listener.entries, entry), off=not on))
    return [*sections, *routers.sections, *upstreams.values()]
