"""The operation ``list_workers``."""

from __future__ import annotations

from typing import Any

from esxiproxy.admin.call import Call
from esxiproxy.admin.live import Live


class WorkerReads:
    """Lists the processes of all machines."""

    def __init__(self, live: Live) -> None:
        self._live = live

    async def list_workers(self, call: Call) -> dict[str, Any]:
        """Return the processes by machine, worker and start."""
        reports = (await self._live.processes()).by_id.items()
        rows = [
            {
                "machine": report.machine,
                "worker": report.worker,
                "instance": instance,
                "pid": report.pid,
                "generation": report.generation,
                "version": report.version,
                "started": report.started,
                "sessions": report.sessions,
                "accepting": report.accepting,
                "lag": report.lag,
            }
            for instance, report in reports
        ]
        rows.sort(key=lambda row: (row["machine"], str(row["worker"]).zfill(9), row["started"]))
        return {"workers": rows}
