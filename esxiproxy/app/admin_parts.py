"""The parts of the admin service in a process."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from esxiproxy.admin.api.kill import KillActions
from esxiproxy.admin.api.links import LinkOperations
from esxiproxy.admin.api.reload import ReloadActions
from esxiproxy.admin.call import ApiError
from esxiproxy.admin.probes import Metrics
from esxiproxy.admin.service import AdminParts
from esxiproxy.admin.site import Stream
from esxiproxy.app.admin import secured
from esxiproxy.app.control import ProcessControl


def admin_parts(control: ProcessControl, metrics: Metrics, reactor: Any) -> AdminParts:
    """Return the parts of the admin service for the control of a process.

    ``metrics`` returns the metrics of all processes.
    """
    kill, links, reload = KillActions(control.state), LinkOperations(control), ReloadActions(control)
    handlers = {
        "kill": kill.kill,
        "list_links": links.list_links,
        "make_link": links.make_link,
        "revoke_link": links.revoke_link,
        "check": reload.check,
        "reload": reload.reload,
    }
    return AdminParts(control, handlers, _no_stream, metrics, partial(secured, reactor))


def _no_stream(arguments: Mapping[str, Any]) -> Stream:
    raise ApiError(404, "this process has no event stream")
