"""All operations that read, by the names of their operations."""

from __future__ import annotations

from esxiproxy.admin.api.configuration import ConfigurationReads
from esxiproxy.admin.api.drain_list import DrainReads
from esxiproxy.admin.api.failures import FailureReads
from esxiproxy.admin.api.hosts import HostReads
from esxiproxy.admin.api.listeners import ListenerReads
from esxiproxy.admin.api.overview import OverviewReads
from esxiproxy.admin.api.sessions import SessionReads
from esxiproxy.admin.api.workers import WorkerReads
from esxiproxy.admin.call import Handler, Handlers
from esxiproxy.admin.live import Live
from esxiproxy.admin.openapi.operations import OPERATIONS, Role


def read_operations(live: Live) -> Handlers:
    """Return the handlers of the operations that read."""
    topics = (
        OverviewReads(live),
        SessionReads(live),
        WorkerReads(live),
        ConfigurationReads(live),
        HostReads(live),
        ListenerReads(live),
        FailureReads(live),
        DrainReads(live),
    )
    names = [operation.name for operation in OPERATIONS if operation.role is Role.VIEWER]
    found: dict[str, Handler] = {}
    for topic in topics:
        found.update({name: getattr(topic, name) for name in names if hasattr(topic, name)})
    return found
