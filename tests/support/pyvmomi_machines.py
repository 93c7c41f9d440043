"""The machines of a vCenter, read by pyVmomi."""

from __future__ import annotations

from typing import Any

from pyVmomi import vim


def machines(connected: Any) -> dict[str, Any]:
    """Return the machines of a session by name, through a container view."""
    content = connected.RetrieveContent()
    view = content.viewManager.CreateContainerView(content.rootFolder, [vim.VirtualMachine], True)
    return {machine.name: machine for machine in view.view}
