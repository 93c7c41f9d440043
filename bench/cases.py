"""The cases of the benchmark.  A case measures the figures of one or more rows for one peer at a time."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from bench import usage
from bench.modes import COLD, MODES, RSA, TICKETS, WARM, Mode
from bench.peers import Peer
from bench.stage import Figures, Stage

PING_INTERVAL = 5
"""Seconds between pings while CPU per idle session is measured; the window is a multiple of it."""

SMALL, DOWNLOAD, UPLOAD = 612, 64 << 20, 4 << 20
"""Bytes of a small file, as nginx's own page has, and of a large download and upload."""

Measured = Iterator[tuple[Peer, Figures]]


@dataclass(frozen=True, slots=True)
class Row:
    """One row of the table.

    ``scale`` divides a figure to its unit.  ``goals`` has the ratio to nginx that each mode must reach.
    ``capacity`` says that the proxy's CPU limits the figure, which is then also given per CPU second.
    """

    name: str
    title: str
    unit: str
    more: bool = True
    scale: float = 1.0
    goals: Mapping[str, float] = field(default_factory=dict)
    capacity: bool = False


@dataclass(frozen=True, slots=True)
class Case:
    """A case for `--only`.  A ``once`` case is measured in one turn, because its figures hardly vary."""

    name: str
    rows: tuple[Row, ...]
    measure: Callable[[Stage, Mode, Sequence[Peer]], Measured]
    once: bool = False


def _goals(*ratios: float) -> dict[str, float]:
    return dict(zip(("ws-ws", "ws-wss", "wss-wss"), ratios, strict=True))


def _each(one: Callable[[Stage, Mode, Peer], Figures]) -> Callable[[Stage, Mode, Sequence[Peer]], Measured]:
    """Return a function that measures one peer after the other."""

    def measure(stage: Stage, mode: Mode, peers: Sequence[Peer]) -> Measured:
        for peer in peers:
            yield peer, one(stage, mode, peer)

    return measure


def _round_trip(stage: Stage, mode: Mode, peer: Peer) -> Figures:
    figures = stage.load("echo", peer, mode)
    return _latency("rtt", figures)


def _messages(stage: Stage, mode: Mode, peer: Peer) -> Figures:
    return _named("msgs", stage.load("echo", peer, mode, connections=50))


def _traffic(direction: str, kibibytes: int) -> Case:
    name = f"{direction}{kibibytes}k"

    def one(stage: Stage, mode: Mode, peer: Peer) -> Figures:
        return _named(name, stage.load(direction, peer, mode, connections=4, size=kibibytes * 1024))

    goals = _goals(1.0, 1.0, 1.0) if kibibytes == 64 else _goals(0.9, 0.9, 0.9)
    title = f"{direction}stream, {kibibytes} KiB frames"
    return Case(name, (Row(name, title, "MB/s", True, 1e6, goals, True),), _each(one))


def _opens(
    name: str,
    title: str,
    variant: str = TICKETS,
    goals: Mapping[str, float] | None = None,
    only: Callable[[Mode], bool] = lambda mode: True,
    **options: float,
) -> Case:
    """Return a case of new sessions in the modes of ``only``.

    A proxy resumes its upstream's TLS sessions.  Without a proxy, the load does that in the place of a proxy
    whose clients have no TLS.
    """

    def measure(stage: Stage, mode: Mode, peers: Sequence[Peer]) -> Measured:
        for peer in peers if only(mode) else ():
            resume = int(peer.name == "direct" and not mode.tls_down and variant != COLD)
            given = {"connections": 8, "resume": resume} | options
            chosen = variant if mode.tls_up else WARM
            figures = stage.load("open", peer, mode, chosen, **given)
            yield peer, _named(name, figures) | {"resumed": figures["resumed"]}

    return Case(name, (Row(name, title, "/s", goals=goals or {}, capacity=True),), measure)


def _http(name: str, title: str, load: str, goals: Mapping[str, float], **options: float) -> Case:
    """Return a case of plain HTTP, which websockify does not forward and only the load in C can do.

    A proxy keeps its upstream's connections.  So without a proxy, new connections have TLS if the proxy's
    clients have it.
    """

    def measure(stage: Stage, mode: Mode, peers: Sequence[Peer]) -> Measured:
        for peer in peers:
            if not peer.raw and stage.programs.has_http:
                plain = peer.name == "direct" and "fresh" in options and not mode.tls_down
                used = MODES["ws-ws"] if plain else mode
                yield peer, _named(name, stage.load(load, peer, used, **options))

    unit, scale = ("/s", 1.0) if load == "get" else ("MB/s", 1e6)
    return Case(name, (Row(name, title, unit, True, scale, goals, True),), measure)


def _http_cases() -> list[Case]:
    requests, bodies = _goals(0.2, 0.2, 0.2), _goals(0.95, 0.95, 0.95)
    kept = {"connections": 20, "size": SMALL}
    return [
        _http("get", "HTTP requests, 20 kept connections", "get", requests, **kept),
        _http("get_new", "HTTP requests, new connections", "get", {}, connections=8, size=SMALL, fresh=1),
        _http("download", "HTTP download, 64 MiB", "download", bodies, size=DOWNLOAD),
        _http(
            "download_chunked",
            "HTTP download, chunked",
            "download",
            _goals(0.6, 0.6, 0.6),
            size=DOWNLOAD,
            chunked=1,
        ),
        _http("upload", "HTTP uploads, 4 MiB", "upload", bodies, size=UPLOAD),
        _http("upload_chunked", "HTTP uploads, chunked", "upload", {}, size=UPLOAD, chunked=1),
    ]


def _named(name: str, figures: Figures) -> Figures:
    return {name: figures["rate"]} | {kind: figures[kind] for kind in ("cpu", "wanted", "load")}


def _quiet(stage: Stage, mode: Mode, peer: Peer) -> Figures:
    """Measure round trips while four other consoles transfer at full rate."""
    seconds = stage.seconds + 0.5
    with stage.loading("down", peer, mode, connections=4, size=65536, seconds=seconds):
        time.sleep(0.1)
        return _latency("quiet", stage.load("echo", peer, mode, pause=0.002, warm=0.1))


def _arrivals(stage: Stage, mode: Mode, peer: Peer) -> Figures:
    """Measure round trips while fifty sessions a second are opened and closed."""
    seconds = stage.seconds + 0.5
    with stage.loading("open", peer, mode, connections=8, rate=50, seconds=seconds):
        time.sleep(0.1)
        return _latency("arrivals", stage.load("echo", peer, mode, pause=0.002, warm=0.1))


def _latency(name: str, figures: Figures) -> Figures:
    return {f"{name}_p50": figures["p50"], f"{name}_p99": figures["p99"]}


def _idle(stage: Stage, mode: Mode, peers: Sequence[Peer]) -> Measured:
    """Measure the memory of each idle session, and the CPU of all peers in one window.

    Only the smallest number of sessions is open on all peers together, because the upstream needs a
    descriptor for each.
    """
    found: dict[str, Figures] = {}
    peers = [peer for peer in peers if peer.pids()]
    fewest, *more = stage.sessions
    with contextlib.ExitStack() as stack:
        for peer in peers:
            held = _held(stage, mode, peer, min(fewest, peer.most_sessions))
            found[peer.name] = {f"memory{fewest}": stack.enter_context(held)}
        for peer, spent in zip(peers, _window(peers), strict=True):
            found[peer.name]["idle_cpu"] = spent / min(fewest, peer.most_sessions)
    for peer in peers:
        for count in more:
            if count <= peer.most_sessions:
                with _held(stage, mode, peer, count) as memory:
                    found[peer.name][f"memory{count}"] = memory
        peer.stop()
        peer.start()
        yield peer, found[peer.name]


@contextlib.contextmanager
def _held(stage: Stage, mode: Mode, peer: Peer, count: int) -> Iterator[float]:
    """Restart a peer, open ``count`` idle sessions and return its bytes of memory for each."""
    peer.stop()
    peer.start(f"{PING_INTERVAL}s")
    before = usage.memory(peer.pids())
    with stage.hold(peer, mode, count):
        time.sleep(0.3)
        yield (usage.memory(peer.pids()) - before) / count


def _window(peers: Sequence[Peer]) -> list[float]:
    """Return the CPU seconds per second of each peer, over one ping interval."""
    before = [usage.times(peer.pids()) for peer in peers]
    time.sleep(PING_INTERVAL)
    return [usage.times(peer.pids()).share_since(then)[0] for peer, then in zip(peers, before, strict=True)]


def _latency_rows(name: str, title: str, goals: Mapping[str, float] | None = None) -> tuple[Row, ...]:
    p50 = Row(f"{name}_p50", f"{title}, p50", "µs", False, goals=goals or {})
    return p50, Row(f"{name}_p99", f"{title}, p99", "µs", False)


def cases(sessions: Sequence[int]) -> dict[str, Case]:
    """Return all cases by name; `sessions` are the numbers of idle sessions to measure."""
    sessions_goals = _goals(0.3, 0.3, 0.8)
    memory_goals = _goals(1.2, 1.0, 1.0)
    idle = [
        Row(f"memory{count}", f"memory a session, {count:,} idle", "KB", False, 1e3, memory_goals)
        for count in sessions
    ]
    idle.append(Row("idle_cpu", f"CPU an idle session, ping every {PING_INTERVAL} s", "µs/s", False, 1e-6))
    every = [
        Case("rtt", _latency_rows("rtt", "round trip, 64 bytes", _goals(1.6, 1.5, 1.4)), _each(_round_trip)),
        Case(
            "msgs",
            (Row("msgs", "messages, 50 connections", "/s", goals=_goals(0.8, 0.65, 0.6), capacity=True),),
            _each(_messages),
        ),
        *(_traffic(direction, size) for size in (4, 64) for direction in ("down", "up")),
        _opens("open", "new sessions", goals=sessions_goals),
        _opens("drop", "new sessions, end without a Close", goals=sessions_goals, closing=0),
        _opens("resume", "new sessions, TLS resumed", only=lambda mode: mode.tls_down, resume=1),
        _opens("rsa", "new sessions, RSA", RSA, only=lambda mode: mode.tls_down),
        _opens("cold", "new sessions, no TLS tickets", COLD, only=lambda mode: mode.tls_up),
        *_http_cases(),
        Case("quiet", _latency_rows("quiet", "round trip beside 4 at full rate"), _each(_quiet)),
        Case("arrivals", _latency_rows("arrivals", "round trip, 50 arrivals/s"), _each(_arrivals)),
        Case("idle", tuple(idle), _idle, once=True),
    ]
    return {case.name: case for case in every}
