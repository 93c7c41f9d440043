"""Sessions and processes for the tests of the metrics."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from collections import Counter
from types import SimpleNamespace

from prometheus_client.parser import text_string_to_metric_families

from esxiproxy.core.http.head import RequestHead
from esxiproxy.core.http.request import Request
from esxiproxy.core.peer_address import PeerAddress
from esxiproxy.core.routing import Destination, Identity, Principal, Route, TCPAddress, Upstream
from esxiproxy.core.session.record import Kind
from esxiproxy.core.session.session import Session
from esxiproxy.core.session_limits import SessionLimits
from esxiproxy.ops.metrics.exposition import expose
from tests.support.programs import ROOT, environment

UPSTREAM = Upstream("esxi1", "192.0.2.10", 443, secure=True)
PEER = PeerAddress("192.0.2.77", 50123)


class Time:
    """A clock that a test sets."""

    def __init__(self):
        self.now = 0.0

    def seconds(self):
        return self.now


def listed(name, template=UPSTREAM):
    """Return the route to a host of an inventory."""
    destination = Destination((TCPAddress(name, 443),), True, Identity(), name, template, is_listed=True)
    return Route(destination)


def unlisted(name, template=UPSTREAM):
    """Return the route to a host that a request has named."""
    return Route(Destination((TCPAddress(name, 443),), True, Identity(), name, template))


def new_session(number, listener="secure", kind=Kind.CONSOLE, fields=(), seconds=lambda: 0.0):
    """Return a session that has just begun."""
    head = RequestHead(b"", b"GET", b"/ticket/cst-VCT-secret", (1, 1), tuple(fields))
    return Session(Request(f"{number:016x}", listener, PEER, True, head), SessionLimits(), seconds, kind)


def opened_session(number, observer, route=None, **settings):
    """Return a console that is open, whose opening is counted."""
    session = new_session(number, **settings)
    session.authenticated(Principal("alice"))
    session.routed(route or Route.to(UPSTREAM))
    session.opened()
    observer.opened(session)
    return session


def end(session, observer, error=None, code=1000, up=0, down=0):
    """End a session; its end is counted."""
    session.octets_up, session.octets_down = up, down
    if error is not None:
        session.failed(error)
    else:
        session.ended("client", code)
    observer.closed(session.record())


def live(session, up, down):
    """Return an open console that has relayed so many bytes."""
    session.traffic = SimpleNamespace(octets_up=up, octets_down=down)
    return SimpleNamespace(session=session)


def samples(source, extra=()):
    """Return all values of an exposition but those of buckets, by their names and labels."""
    _, text = expose(source, "", extra)
    found = {}
    for family in text_string_to_metric_families(text.decode()):
        for sample in family.samples:
            labels = ",".join(f"{name}={value}" for name, value in sorted(sample.labels.items()))
            name = f"{sample.name}{{{labels}}}".removesuffix("{}").removeprefix("esxiproxy_")
            assert name not in found, f"{name} stands there twice"
            found[name] = sample.value
    return {name: value for name, value in found.items() if "_bucket" not in name}


def total(source, name, label=None):
    """Return the sum of a metric, or the sums by the values of a label."""
    sums = Counter()
    _, text = expose(source)
    for family in text_string_to_metric_families(text.decode()):
        for sample in family.samples:
            if sample.name == f"esxiproxy_{name}":
                sums[sample.labels[label] if label else ""] += sample.value
    return {value: number for value, number in sums.items() if number} if label else sums[""]


def run(folder, program):
    """Run a program in a process that stores its metrics in this folder; it is started, not awaited."""
    return subprocess.Popen(
        [sys.executable, "-c", program],
        env=environment(PYTHONPATH=str(ROOT), ESXIPROXY_METRICS_FOLDER=str(folder)),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )


COUNTING = """
import sys
from esxiproxy.core.errors import UpstreamLost, UpstreamRefused
from esxiproxy.ops.metrics.files import process_metrics
from esxiproxy.ops.metrics.observer import MetricsObserver
from tests.ops.metrics_world import end, listed, new_session, opened_session

observer = MetricsObserver(process_metrics())
number = iter(range(10**6))
"""
"""The beginning of a program for ``run``."""


def ended(process):
    """Wait for the end of a process that was asked to end, and return its exit status."""
    process.communicate(timeout=60)
    return process.returncode


def disk_full(*_arguments):
    """Fail as a call does that needs room on a full disk."""
    raise OSError(errno.ENOSPC, "No space left on device")


def failed(number, observer, error, route=None):
    session = new_session(number)
    if route is not None:
        session.authenticated(Principal("alice"))
        session.routed(route)
    session.status = error.status_code
    session.failed(error)
    observer.closed(session.record())


def kill(process):
    """Kill a process, and wait for its end."""
    os.kill(process.pid, signal.SIGKILL)
    assert ended(process) == -signal.SIGKILL
