"""Rows of the admin API for tests: each function returns one, with the given fields changed."""

from __future__ import annotations

from typing import Any

NOW = 1_800_000_000.0
Row = dict[str, Any]


def status(**changed: Any) -> Row:
    """Return a status of a proxy with two consoles."""
    found: Row = {"version": "9.9", "user": "uid 0 (root)", "role": "operator", "machine": "gate1"}
    found |= {"now": NOW, "started": NOW - 7500, "ready": True, "reasons": [], "draining": False, "drains": 0}
    found |= {"sessions": 2, "opened": 7, "failed": 1, "rate_up": 512.0, "rate_down": 20480.0}
    return found | {"round_trip": 0.0124, "workers": 2, "machines": ["gate1"]} | changed


def session(number: int = 1, **changed: Any) -> Row:
    """Return a console."""
    found: Row = {"id": f"{number:016x}", "principal": "alice", "authenticator": "authenticator staff"}
    found |= {"client": f"198.51.100.7:{40000 + number}", "listener": "public", "upstream": "esxi1"}
    found |= {"host": "esx1.example.com", "console": "", "link": "", "since": NOW - 100, "age": 100.0}
    found |= {"idle": 3.0, "bytes_up": 2048, "bytes_down": 5 << 20, "rate_up": 10.0, "rate_down": 2048.0}
    found |= {"round_trip": 0.012, "state": "open", "machine": "gate1", "worker": "0"}
    return found | {"console_name": changed.get("console", "")} | changed


def host(name: str = "esx1.example.com", **changed: Any) -> Row:
    """Return a host."""
    found: Row = {"host": name, "address": "", "upstream": "esxi1", "router": "", "sessions": 2}
    found |= {"connections": 3, "limit": 64, "health": "up", "drained": False, "failures": 0}
    return found | {"last_failure": None} | changed


def listener(name: str = "public", days: int | None = 200, **changed: Any) -> Row:
    """Return a listener, with a certificate that is valid for so many days."""
    certificate = None if days is None else {
        "subject": "CN=consoles", "names": ["consoles.example.com"], "expires": max(0.0, NOW + days * 86400),
        "days": days, "sha256": "00" * 32,
    }  # fmt: skip
    found: Row = {"name": name, "address": ":443", "routers": [], "authenticators": [], "http": "refuse"}
    found |= {"public_url": None, "certificate": certificate, "sessions": 2, "limit": None, "drained": False}
    return found | changed


def worker(number: int = 0, **changed: Any) -> Row:
    """Return a worker."""
    found: Row = {"machine": "gate1", "worker": str(number), "instance": f"i{number}", "pid": 4000 + number}
    found |= {"generation": 1, "version": "9.9", "started": NOW - 3700, "sessions": 1, "accepting": True}
    return found | {"lag": 0.002} | changed


def failure(error: str = "UpstreamRefused", seconds_ago: float = 5.0, **changed: Any) -> Row:
    """Return a failure."""
    found: Row = {"time": NOW - seconds_ago, "session": "00000000000000ff", "error": error}
    found |= {"detail": "192.0.2.10:443 refused the connection", "help": "See whether the host runs."}
    found |= {"status": 502, "close_code": None, "client": "198.51.100.7:4", "principal": "bob"}
    found |= {"listener": "public", "upstream": "esxi1", "host": "esx1", "machine": "gate1", "worker": "0"}
    return found | changed


def drain(kind: str = "host", name: str = "esx1.example.com", **changed: Any) -> Row:
    """Return a drain."""
    found: Row = {"kind": kind, "name": name, "machine": "", "since": NOW, "end": None, "sessions": 0}
    return found | {"by": "uid 0 (root)", "reason": "memory is replaced"} | changed


def link(identity: str = "3q2-7w", **changed: Any) -> Row:
    """Return a link."""
    found: Row = {"id": identity, "sessions": 1, "principals": ["alice"], "host": "esx1", "revoked": False}
    return found | changed
