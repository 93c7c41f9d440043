"""The hosts of a configuration: its upstreams with a URL, vCenters, and the hosts that its routers list."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from esxiproxy.core.config.model import Config
from esxiproxy.core.config.plugin_type import PluginSection
from esxiproxy.core.routing import Destination
from esxiproxy.doctor.configuration.result import CheckKind, CheckResult, CheckVerdict


@dataclass(frozen=True, slots=True)
class HostTarget:
    """A host that sessions may be sent to, and the section that it stands in, without brackets."""

    section: str
    destination: Destination


def hosts_of(config: Config) -> tuple[list[HostTarget], list[CheckResult]]:
    """Return the hosts in the order of the file, and a result for each router that cannot list its own."""
    hosts = [
        HostTarget(f"upstream {name}", Destination.of(upstream))
        for name, upstream in config.upstreams.items()
        if upstream.host
    ]
    hosts += [
        HostTarget(f"vsphere {name}", Destination.of(vsphere.upstream))
        for name, vsphere in config.vspheres.items()
    ]
    failed = []
    for router in config.routers.values():
        try:
            hosts.extend(_listed(router, config))
        except Exception as error:  # a type of another package may raise any error
            failed.append(
                CheckResult(
                    CheckKind.CONFIGURATION,
                    CheckVerdict.ERROR,
                    router.section,
                    "type",
                    "",
                    f"the hosts cannot be listed: {error or type(error).__name__}",
                )
            )
    return hosts, failed


def _listed(router: PluginSection, config: Config) -> Iterator[HostTarget]:
    destinations = getattr(router.type, "destinations", None)
    if destinations is not None:
        for destination in destinations(router.settings, config.upstreams):
            yield HostTarget(router.section, destination)
