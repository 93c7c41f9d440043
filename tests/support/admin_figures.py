"""Invented figures of a proxy, in the form of the admin API."""

from __future__ import annotations

import math
import threading
import time
from dataclasses import dataclass, field
from typing import Any

Row = dict[str, Any]

HOSTILE = (
    "<img src=x onerror=document.title='owned'>",
    "</td><script>document.title='owned'</script>",
    "\u202egnp.exe\u202c left",
    "a\u0000b\u0007\u001b[31mred\n\ttab",
    "\u05d0\u05d1\u05d2 123 \u0645\u0631\u062d\u0628\u0627",
    "x" * 250,
    "Z\u0351\u036b\u0343\u036a\u0302\u036b\u033d\u034f\u0334\u0319\u0324\u031e" * 12,
    "zero\u200bwidth\u2066isolate \u00a0",
    "javascript:alert(1)//\"'`&amp;{}${1}",
    "\U0001f5a5 " + "long words in a name " * 10,
)
"""Names that break pages which do not escape them."""
SECRET = "eyJhbGciOiJFZERTQSJ9.a-secret-link"
"""The secret part of the link that is made."""
_DAY = 86400


def session(number: int, now: float, **changes: Any) -> Row:
    """Return an open console."""
    name = HOSTILE[number % len(HOSTILE)] if number % 7 == 3 else f"web-{number:04}.prod"
    found = {
        "id": f"{number:016x}",
        "principal": HOSTILE[number // 7 % len(HOSTILE)] if number % 11 == 5 else f"user{number % 400}",
        "authenticator": "authenticator staff",
        "client": f"198.51.100.{number % 250}:{40000 + number % 20000}",
        "listener": ("consoles", "desk")[number % 2],
        "upstream": ("esxi", "lab")[number % 3 == 0],
        "host": f"esxi-{number % 60:02}.example.com",
        "console": name,
        "console_name": changes.get("console", name),
        "link": f"lnk{number % 9}" if number % 5 == 0 else "",
        "since": now - 5 - (number * 37) % 90000,
        "idle": (number * 13) % 700 if number % 4 else 0.4,
        "bytes_up": number * 1733,
        "bytes_down": number * 913_337,
        "rate_up": (number % 5) * 41.0,
        "rate_down": (number % 17) * 20_480.5,
        "round_trip": None if number % 19 == 0 else 0.004 + number % 50 / 900,
        "state": "stalled" if number % 97 == 13 else "open",
        "machine": ("pxy-a", "pxy-b")[number % 2],
        "worker": str(number % 4),
        **changes,
    }
    return {**found, "age": max(0.0, now - found["since"])}


def host(number: int, sessions: int, **changes: Any) -> Row:
    """Return a host; the first ones are near their limit, or down."""
    return {
        "host": f"esxi-{number:02}.example.com",
        "address": f"192.0.2.{number}:443",
        "upstream": "lab" if number % 3 == 0 else "esxi",
        "router": "" if number % 3 == 0 else "fleet",
        "sessions": sessions,
        "connections": min(100, sessions + 3) if number != 5 else None,
        "limit": None if number == 5 else 100,
        "health": "down" if number in (7, 8) else "up" if number % 4 else "unknown",
        "drained": number == 12,
        "failures": 17 if number == 7 else number % 3,
        "last_failure": "The host refused the connection: port 443 is closed." if number == 7 else None,
        **changes,
    }


def failure(number: int, now: float, **changes: Any) -> Row:
    """Return a failure, which is older if the number is greater."""
    error, detail, help_, status, code = (
        (
            "UpstreamRefused",
            "The host refused the connection.",
            "Check that the host runs and listens.",
            502,
            None,
        ),
        ("AccessDenied", "The user may not open this console.", "Check the rules of the router.", 403, None),
        ("StallTimeout", "The client took no data for 60 s.", "Look at the client's network.", 101, 1008),
        (
            "UpstreamUntrusted",
            "The certificate is not the pinned one.",
            "Compare the thumbprints.",
            502,
            None,
        ),
    )[number % 4]
    return {
        "time": now - 20 - 9 * number,
        "session": f"{0xF000000 + number:016x}",
        "error": error,
        "detail": f"{detail} {HOSTILE[number % len(HOSTILE)] if number % 6 == 5 else ''}".strip(),
        "help": help_,
        "status": status,
        "close_code": code,
        "client": f"203.0.113.{number % 250}:5{number:04}"[:20],
        "principal": f"user{number % 31}",
        "listener": "consoles",
        "upstream": "esxi",
        "host": f"esxi-{number % 60:02}.example.com",
        "machine": "pxy-a",
        "worker": str(number % 4),
        **changes,
    }


def listener(name: str, days: int | None, now: float, **changes: Any) -> Row:
    """Return a listener, with a certificate unless ``days`` is None."""
    certificate = days is not None and {
        "subject": f"CN={name}.example.com",
        "names": [f"{name}.example.com", "consoles.example.net"],
        "expires": now + days * _DAY,
        "days": days,
        "sha256": "3f9a" * 16,
    }
    return {
        "name": name,
        "address": ":443",
        "routers": ["issued", "fleet"],
        "authenticators": ["staff"],
        "http": "refuse",
        "public_url": f"https://{name}.example.com",
        "certificate": certificate or None,
        "sessions": 12,
        "limit": None,
        "drained": False,
        **changes,
    }


@dataclass
class Page:
    """A window of a list."""

    rows: list[Row]
    total: int
    matching: int


@dataclass
class Figures:
    """The figures of the stand-in, which tests change. ``sessions`` is by id."""

    sessions: dict[str, Row] = field(default_factory=dict)
    hosts: list[Row] = field(default_factory=list)
    failures: list[Row] = field(default_factory=list)
    listeners: list[Row] = field(default_factory=list)
    upstreams: list[Row] = field(default_factory=list)
    workers: list[Row] = field(default_factory=list)
    drains: list[Row] = field(default_factory=list)
    links: list[Row] = field(default_factory=list)
    routers: dict[str, str] = field(default_factory=lambda: {"fleet": "inventory", "issued": "links"})
    """The types of the routers."""
    problems: list[Row] = field(default_factory=list)
    reload_problems: list[str] = field(default_factory=list)
    started: float = field(default_factory=lambda: time.time() - 4 * _DAY - 4000)
    lock: threading.RLock = field(default_factory=threading.RLock)

    def add(self, number: int, **changes: Any) -> Row:
        """Open a console."""
        with self.lock:
            row = session(number, time.time(), **changes)
            self.sessions[row["id"]] = row
            return row

    def remove(self, identity: str) -> None:
        """End a console."""
        with self.lock:
            self.sessions.pop(identity, None)

    # --- the operations

    def call(self, name: str, parameters: dict[str, Any], body: dict[str, Any]) -> tuple[int, Any]:
        """Return the status and the answer of an operation."""
        with self.lock:
            if name.startswith("list_"):
                view = name.removeprefix("list_")
                if view in ("sessions", "hosts", "failures"):
                    page = self.window({"view": view, **parameters})
                    head = {"total": page.total, "matching": page.matching, "offset": parameters["offset"]}
                    return 200, {view: page.rows, **head}
                return 200, {view: getattr(self, view)}
            found: tuple[int, Any] = getattr(self, f"_{name}")(parameters, body)
            return found

    def window(self, wanted: dict[str, Any]) -> Page:
        """Return the rows that a window of a list asks for."""
        with self.lock:
            view = wanted["view"]
            rows = list(self.sessions.values()) if view == "sessions" else list(getattr(self, view))
        found = [row for row in rows if _fits(row, wanted)]
        sort = wanted.get("sort") or {"sessions": "since", "hosts": "usage", "failures": "time"}[view]
        found.sort(key=lambda row: _rank(row, sort), reverse=wanted.get("order") == "desc")
        first = wanted.get("offset", 0)
        return Page(found[first : first + wanted["limit"]], len(rows), len(found))

    def _status(self, *_: Any) -> tuple[int, Row]:
        draining = any(each["kind"] == "proxy" for each in self.drains)
        return 200, {
            "version": "0.1.0",
            "machine": "pxy-a",
            "now": time.time(),
            "started": self.started,
            "ready": not draining,
            "reasons": ["The proxy is drained."] if draining else [],
            "draining": draining,
            "drains": len(self.drains),
            "sessions": len(self.sessions),
            "opened": len(self.sessions) + 8123,
            "failed": len(self.failures),
            "rate_up": 812.0 * len(self.sessions),
            "rate_down": 16_500.0 * len(self.sessions),
            "round_trip": 0.021 if self.sessions else None,
            "workers": len(self.workers),
            "machines": sorted({each["machine"] for each in self.workers}) or ["pxy-a"],
        }

    def _history(self, *_: Any) -> tuple[int, Row]:
        now = time.time()
        points = []
        for ago in range(3600, 0, -10):
            wave = 1 + 0.2 * math.sin(ago / 300) + 0.05 * math.sin(ago / 23)
            size = max(0, round(len(self.sessions) * wave * (1 - ago / 9000)))
            trip = None if 1500 < ago < 1800 else 0.02 * wave
            points.append([now - ago, size, size * 800.0 * wave, size * 16_000.0 * wave * wave, trip])
        return 200, {"interval": 10, "points": points}

    def _show_session(self, parameters: dict[str, Any], _: Any) -> tuple[int, Row]:
        row = self.sessions.get(parameters["id"])
        return (404, {"error": "There is no such session."}) if row is None else (200, row)

    def _kill(self, _: Any, body: Row) -> tuple[int, Row]:
        kind, value = body["kind"], body["value"]
        column = {"session": "id"}.get(kind, kind)
        doomed = [row["id"] for row in self.sessions.values() if _is(row, column, value)]
        if kind == "session" and not doomed:
            return 404, {"error": f"There is no session {value}: it has ended."}
        for identity in doomed:
            self.remove(identity)
        return 200, {"sessions": len(doomed)}

    def _drain(self, _: Any, body: Row) -> tuple[int, Row]:
        now = time.time()
        name = body.get("name", "")
        rows = self.sessions.values()
        column = body["kind"] if body["kind"] != "proxy" else ""
        drain = {
            "kind": body["kind"],
            "name": name,
            "machine": body.get("machine", ""),
            "since": now,
            "end": now + body["end_after"] if "end_after" in body else None,
            "by": "staff/ada",
            "reason": body["reason"],
            "sessions": sum(not column or row[column] == name for row in rows),
        }
        self.drains.append(drain)
        self._mark(body["kind"], name, True)
        return 200, drain

    def _undrain(self, _: Any, body: Row) -> tuple[int, Row]:
        wanted = (body["kind"], body.get("name", ""))
        if all((each["kind"], each["name"]) != wanted for each in self.drains):
            return 404, {"error": "That is not drained."}
        self.drains = [each for each in self.drains if (each["kind"], each["name"]) != wanted]
        self._mark(*wanted, False)
        return 200, {"drains": self.drains}

    def _mark(self, kind: str, name: str, drained: bool) -> None:
        rows, column = {
            "host": (self.hosts, "host"),
            "listener": (self.listeners, "name"),
            "upstream": (self.upstreams, "name"),
            "proxy": ([], ""),
        }[kind]
        for row in rows:
            if row[column] == name:
                row["drained"] = drained

    def _configuration(self, *_: Any) -> tuple[int, Row]:
        keys = {"listen": ":443", "router": "issued, fleet", "private_key": "(secret)", "origins": "same"}
        sections = [{"header": f"listener {each['name']}", "keys": keys} for each in self.listeners]
        proxy = {
            "workers": "4",
            "state": "redis://127.0.0.1:6379/0",
            "drain_timeout": "30s",
            "x" * 40: "y" * 300,
        }
        routers = [
            {"header": f"router {name}", "keys": {"type": kind}} for name, kind in self.routers.items()
        ]
        return 200, {
            "path": "/etc/esxiproxy/proxy.ini",
            "sections": [{"header": "proxy", "keys": proxy}, *sections, *routers],
            "warnings": [each for each in self.problems if each["severity"] == "warning"],
        }

    def _check(self, *_: Any) -> tuple[int, Row]:
        valid = all(each["severity"] != "error" for each in self.problems)
        return 200, {"valid": valid, "problems": self.problems}

    def _reload(self, *_: Any) -> tuple[int, Row]:
        return 200, {"reloaded": not self.reload_problems, "problems": self.reload_problems}

    def _make_link(self, _: Any, body: Row) -> tuple[int, Row]:
        if body["to"].startswith("nowhere"):
            return 409, {"error": "nowhere is not in the networks of the router."}
        return 200, {
            "url": f"https://consoles.example.com/c/{SECRET}",
            "id": "9f2c",
            "expires": time.time() + body["ttl"],
            "field": None,
            "vmrc": f"vmrc://consoles.example.com:443/?mksticket={SECRET}" if body.get("vmrc") else None,
        }

    def _revoke_link(self, _: Any, body: Row) -> tuple[int, Row]:
        for link in self.links:
            if link["id"] == body["id"]:
                link["revoked"] = True
        return self._kill(None, {"kind": "link", "value": body["id"]})


def key_of(view: str, row: Row) -> str:
    """Return the key of a row in the event stream."""
    if view == "hosts":
        return f"{row['upstream']} {row['host']}"
    key: str = row["id" if view == "sessions" else "session"]
    return key


def _fits(row: Row, wanted: dict[str, Any]) -> bool:
    for column in ("principal", "host", "upstream", "listener", "link"):
        if column in wanted and not _is(row, column, wanted[column]):
            return False
    return all(_has(row, word) for word in wanted.get("filter", "").lower().split())


def _is(row: Row, column: str, value: str) -> bool:
    if column == "principal" and value == f"{row['authenticator'].split()[1]}/{row['principal']}":
        return True
    return bool(row[column] == value)


def _has(row: Row, word: str) -> bool:
    column, colon, rest = word.partition(":")
    if colon and column in row:
        return rest in str(row[column]).lower()
    return any(word in value.lower() for value in row.values() if isinstance(value, str))


def _rank(row: Row, column: str) -> Any:
    if column == "usage":
        return (row["connections"] or 0) / row["limit"] if row["limit"] else 0.0
    value = row[column]
    return (value is not None, value) if not isinstance(value, str) else (True, value)
