"""The parts of the admin service in a process."""

from __future__ import annotations

from functools import partial
from importlib.metadata import version
from typing import Any

from esxiproxy.admin.api.drain_list import DrainReads
from esxiproxy.admin.api.drains import DrainActions, Drainer
from esxiproxy.admin.api.kill import KillActions
from esxiproxy.admin.api.links import LinkOperations
from esxiproxy.admin.api.reads import read_operations
from esxiproxy.admin.api.reload import ReloadActions
from esxiproxy.admin.call import Call, Handler
from esxiproxy.admin.events import open_stream
from esxiproxy.admin.live import Live
from esxiproxy.admin.service import AdminParts
from esxiproxy.app.admin import secured
from esxiproxy.app.admin_metrics import AdminMetrics, Expose
from esxiproxy.app.control import ProcessControl
from esxiproxy.app.plugin_threads import PluginThreads


def admin_parts(control: ProcessControl, drainer: Drainer, expose: Expose, reactor: Any) -> AdminParts:
    """Return the parts of the admin service for the control of a process.

    ``drainer`` drains for this process.
    """
    live = Live(control, reactor, version("esxiproxy"))
    kill, links, reload = KillActions(control.state), LinkOperations(control, live), ReloadActions(control)
    drains = DrainActions(control, drainer, DrainReads(live).shown)
    actions = {
        "kill": kill.kill,
        "drain": drains.drain,
        "undrain": drains.undrain,
        "make_link": links.make_link,
        "revoke_link": links.revoke_link,
        "check": reload.check,
        "reload": reload.reload,
    }
    handlers = {
        **read_operations(live),
        "list_links": links.list_links,
        **{name: _acted(action, live) for name, action in actions.items()},
    }
    audit = PluginThreads("admin", reactor)
    return AdminParts(
        control,
        handlers,
        partial(open_stream, live),
        AdminMetrics(live, expose).metrics,
        partial(secured, reactor),
        audit.call,
        {"revoke_link": links.check_revocation},
        (live, audit),
    )


def _acted(action: Handler, live: Live) -> Handler:
    """Return an action after which everything is read again."""

    async def act(call: Call) -> Any:
        try:
            return await action(call)
        finally:
            live.forget()

    return act
