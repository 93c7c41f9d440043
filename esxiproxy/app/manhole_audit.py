"""Writes shells of the terminal command and logins by SSH to the audit log."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from esxiproxy.app.control import ProcessControl
from esxiproxy.ops.manhole.messages import ShellRequest

_ACTION = "manhole"
_LOGIN = "manhole_login"


class ManholeAudit:
    """The audit log of the shells of one process, in the file of [admin]."""

    def __init__(self, path: Path | None, control: ProcessControl, reactor: Any) -> None:
        # Imported here, since a proxy without [admin] does not import the admin service.
        from esxiproxy.admin.audit import AuditLog

        self._audit_log = AuditLog(path, control.in_thread, reactor)

    async def begun(self, operator: str, request: ShellRequest) -> str:
        """Write that an operator opens a shell, and return an id.  Raises AuditFailed."""
        return await self._audit_log.begin(_ACTION, _actor(operator), _arguments(request))

    async def ended(self, identity: str, operator: str, request: ShellRequest) -> None:
        """Write that a shell has ended."""
        await self._audit_log.end(identity, _ACTION, _actor(operator), _arguments(request), "done")

    async def logged_in(self, operator: str, source: str) -> str:
        """Write that an operator logs in by SSH, and return an id.  Raises AuditFailed."""
        return await self._audit_log.begin(_LOGIN, _actor(operator, source), {})

    async def logged_out(self, identity: str, operator: str, source: str) -> None:
        """Write that an SSH connection has ended."""
        await self._audit_log.end(identity, _LOGIN, _actor(operator, source), {}, "done")


def _actor(operator: str, source: str = "unix") -> Any:
    from esxiproxy.admin.call import Actor
    from esxiproxy.admin.openapi.operations import Role

    return Actor(operator, Role.OPERATOR, source)


def _arguments(request: ShellRequest) -> dict[str, Any]:
    wanted = {"terminal": request.terminal, "worker": request.worker, "generation": request.generation}
    return {name: value for name, value in wanted.items() if value is not None}
