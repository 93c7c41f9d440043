"""Made figures of a busy installation."""

from __future__ import annotations

import time

from tests.support.admin_figures import HOSTILE, Figures, failure, host, listener


def crowd(size: int) -> Figures:
    """Return a busy installation with so many open consoles."""
    now = time.time()
    found = Figures()
    for number in range(size):
        found.add(number)
    for number in range(60):
        busy = sum(row["host"] == f"esxi-{number:02}.example.com" for row in found.sessions.values())
        found.hosts.append(host(number, busy))
    found.failures = [failure(number, now) for number in range(300)]
    found.listeners = [listener("consoles", 9, now), listener("desk", 200, now), listener("old", -3, now)]
    found.listeners.append(listener("plain", None, now, address=":80", public_url=None))
    for name, addresses in (("esxi", []), ("lab", ["192.0.2.3:443", "192.0.2.6:443"])):
        found.upstreams.append(
            {
                "name": name,
                "addresses": addresses,
                "secure": True,
                "verify": "pin",
                "health": "up" if addresses else "unknown",
                "sessions": sum(row["upstream"] == name for row in found.sessions.values()),
                "connections": 12 if addresses else None,
                "limit": 100,
                "drained": False,
                "failures": 3,
                "last_failure": "The host refused the connection.",
            }
        )
    for number in range(8):
        machine, worker = ("pxy-a", "pxy-b")[number % 2], str(number // 2)
        busy = sum((row["machine"], row["worker"]) == (machine, worker) for row in found.sessions.values())
        found.workers.append(
            {
                "machine": machine,
                "worker": worker,
                "instance": f"{machine}-{worker}-1",
                "pid": 4000 + number,
                "generation": 2,
                "version": "0.1.0",
                "started": now - 7000 - number,
                "sessions": busy,
                "accepting": number != 7,
                "lag": 0.0013 * number if number else None,
            }
        )
    for number in range(9):
        busy = sum(row["link"] == f"lnk{number}" for row in found.sessions.values())
        users = ["user1", HOSTILE[number]]
        found.links.append(
            {
                "id": f"lnk{number}",
                "sessions": busy,
                "principals": users,
                "host": "esxi-01.example.com",
                "revoked": number == 8,
            }
        )
    found.drains.append(
        {
            "kind": "host",
            "name": "esxi-12.example.com",
            "machine": "",
            "since": now - 600,
            "end": now + 900,
            "by": "staff/ada",
            "reason": "new memory",
            "sessions": 4,
        }
    )
    place = {"file": "/etc/esxiproxy/proxy.ini", "line": 12, "section": "listener plain", "key": "listen"}
    found.problems.append(
        {**place, "text": "has no certificate: tickets pass in plain text", "severity": "warning"}
    )
    return found
