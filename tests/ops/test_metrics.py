"""The metrics of one process equal what its sessions did."""

import re
import subprocess
import sys
from dataclasses import replace
from types import MappingProxyType

import pytest
from prometheus_client import REGISTRY
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics_families
from prometheus_client.parser import text_string_to_metric_families as text_families
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import capturedLogs
from zope.interface.verify import verifyObject

from esxiproxy.core.errors import (
    AccessDenied,
    Killed,
    LimitReached,
    MalformedRequest,
    OutOfDescriptors,
    ProxyLost,
    SessionError,
    StallTimeout,
    TLSHandshakeFailed,
    UpstreamRefused,
)
from esxiproxy.core.routing import Principal, Route
from esxiproxy.core.session.connection_limits import ConnectionLimits
from esxiproxy.core.session.entry import entry_of
from esxiproxy.core.session.lost_record import lost_record
from esxiproxy.core.session.record import Kind
from esxiproxy.core.startup import StartupError
from esxiproxy.interfaces import ISessionObserver
from esxiproxy.ops.metrics import metrics as metrics_module
from esxiproxy.ops.metrics.collectors import (
    BuildInfo,
    CertificateExpiry,
    DrainedTarget,
    HostStatus,
    build_info,
    certificate_expiry,
    draining,
    hosts,
    workers,
)
from esxiproxy.ops.metrics.exposition import expose
from esxiproxy.ops.metrics.files import process_metrics
from esxiproxy.ops.metrics.metrics import FAMILIES, MAX_LENGTH, Metrics
from esxiproxy.ops.metrics.observer import MetricsObserver
from esxiproxy.ops.metrics.running_count import COUNT_INTERVAL, MAX_AT_ONCE, RunningCount
from esxiproxy.ops.process.loop_lag import LoopLag
from esxiproxy.proxy import Proxy
from tests.ops.metrics_world import (
    UPSTREAM,
    Time,
    end,
    listed,
    live,
    new_session,
    opened_session,
    samples,
    total,
    unlisted,
)
from tests.support.programs import ROOT


@pytest.fixture
def observer():
    return MetricsObserver(Metrics())


@pytest.fixture
def shown(observer):
    return lambda extra=(): samples(observer.metrics, extra)


def test_it_is_a_session_observer(observer):
    assert verifyObject(ISessionObserver, observer)


def test_consoles_that_were_opened_are_open_or_have_ended(observer, shown):
    sessions = [opened_session(number, observer) for number in range(5)]
    assert shown()["sessions_open{host=esxi1,listener=secure,upstream=esxi1}"] == 5
    end(sessions[0], observer)
    end(sessions[1], observer, Killed("maintenance"))
    end(sessions[2], observer, code=1001)
    found = shown()
    assert found["sessions_opened_total{listener=secure,upstream=esxi1}"] == 5
    assert found["sessions_open{host=esxi1,listener=secure,upstream=esxi1}"] == 2
    assert total(observer.metrics, "sessions_closed_total", "reason") == {
        "normal": 1,
        "Killed": 1,
        "going_away": 1,
    }


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (1000, "normal"),
        (1001, "going_away"),
        (None, "no_code"),
        (1011, "error_code"),
        (2999, "error_code"),
        (3000, "application_code"),
        (4999, "application_code"),
    ],
)
def test_the_reason_of_a_regular_end_is_the_class_of_its_code(observer, code, reason):
    end(opened_session(1, observer), observer, code=code)
    assert total(observer.metrics, "sessions_closed_total", "reason") == {reason: 1}


def test_an_end_is_counted_once_and_only_if_the_opening_was(observer):
    session = opened_session(1, observer)
    end(session, observer)
    observer.closed(session.record())
    stranger = opened_session(2, MetricsObserver(Metrics()))
    end(stranger, observer)
    assert total(observer.metrics, "sessions_closed_total") == 1
    assert total(observer.metrics, "sessions_open") == 0
    assert total(observer.metrics, "handshakes_failed_total") == 0


def test_consoles_of_another_proxy_that_died_are_counted_apart(observer, shown):
    for number in range(2):
        entry = entry_of(opened_session(number, MetricsObserver(Metrics())), "holder", 5.0, "proxy-b")
        observer.closed(lost_record(entry, ProxyLost("the proxy on proxy-b died"), 9.0, "proxy-b"))
    assert total(observer.metrics, "sessions_lost_total") == 2
    assert not any(
        value for name, value in shown().items() if name.startswith(("sessions_open", "sessions_cl"))
    )


def failed(number, observer, error, route=None):
    session = new_session(number)
    if route is not None:
        session.authenticated(Principal("alice"))
        session.routed(route)
    session.status = error.status_code
    session.failed(error)
    observer.closed(session.record())


def test_failed_handshakes_are_counted_by_failure_and_host(observer, shown):
    failed(1, observer, AccessDenied("no"))
    failed(2, observer, UpstreamRefused("no"), listed("esxi7"))
    failed(3, observer, UpstreamRefused("no"), unlisted("esxi8"))
    found = shown()
    assert found["handshakes_failed_total{host=,listener=secure,reason=AccessDenied,upstream=}"] == 1
    assert (
        found["handshakes_failed_total{host=esxi7,listener=secure,reason=UpstreamRefused,upstream=esxi1}"]
        == 1
    )
    assert (
        found["handshakes_failed_total{host=other,listener=secure,reason=UpstreamRefused,upstream=esxi1}"]
        == 1
    )
    assert total(observer.metrics, "sessions_opened_total") == 0


def test_the_phases_of_a_handshake_are_durations(observer, shown):
    clock = Time()
    session = new_session(1, seconds=clock.seconds)
    for step, seconds in (("authenticated", 0.25), ("routed", 0.5), ("opened", 2)):
        clock.now += seconds
        session.mark(step)
    session.status = 101
    session.route = Route.to(UPSTREAM)
    observer.opened(session)
    end(session, observer)
    found = shown()
    for step, seconds in (("authenticated", 0.25), ("routed", 0.5), ("opened", 2)):
        labels = f"listener=secure,phase={step},upstream=esxi1"
        assert found[f"handshake_seconds_sum{{{labels}}}"] == seconds
        assert found[f"handshake_seconds_count{{{labels}}}"] == 1


def test_a_failed_handshake_has_the_phases_that_it_reached(observer):
    failed(1, observer, UpstreamRefused("no"), listed("esxi7"))
    assert total(observer.metrics, "handshake_seconds_count", "phase") == {"authenticated": 1, "routed": 1}


def test_plain_requests_are_counted_by_the_class_of_their_status(observer, shown):
    for number, status in enumerate((200, 204, 304, 404, 499, 502, 0)):
        session = new_session(number, kind=Kind.HTTP)
        session.routed(Route.to(UPSTREAM))
        if status in (200, 204):
            session.answered(status)
        session.status = status
        end(session, observer, up=10, down=100)
    assert total(observer.metrics, "http_requests_total", "code") == {
        "2xx": 2,
        "3xx": 1,
        "4xx": 2,
        "5xx": 1,
        "none": 1,
    }
    found = shown()
    assert found["http_response_seconds_count{listener=secure,upstream=esxi1}"] == 2
    assert found["bytes_total{direction=up,listener=secure,upstream=esxi1}"] == 70
    assert found["bytes_total{direction=down,listener=secure,upstream=esxi1}"] == 700


def test_a_failed_tls_handshake_is_no_request(observer, shown):
    session = new_session(1, kind=Kind.HTTP)
    end(session, observer, TLSHandshakeFailed("http request"))
    assert shown()["tls_handshakes_failed_total{listener=secure}"] == 1
    assert total(observer.metrics, "http_requests_total") == 0


def test_a_head_that_cannot_be_read_is_a_request(observer):
    session = new_session(1, kind=Kind.HTTP)
    session.status = 400
    end(session, observer, MalformedRequest("no"))
    assert total(observer.metrics, "http_requests_total", "code") == {"4xx": 1}


def test_stalls_are_counted(observer, shown):
    end(opened_session(1, observer), observer, StallTimeout("slow", timeout="stall_timeout"))
    end(opened_session(2, observer), observer)
    session = new_session(3, kind=Kind.HTTP)
    end(session, observer, SessionError("slow", timeout="stall_timeout"))
    found = shown()
    assert found["stalls_total{listener=secure,upstream=esxi1}"] == 1
    assert found["stalls_total{listener=secure,upstream=}"] == 1


# Bytes and round trips of consoles that run


def test_bytes_of_a_running_console_are_counted_once(observer, shown):
    session = opened_session(1, observer)
    session.round_trip = 0.25
    up, down = (f"bytes_total{{direction={way},listener=secure,upstream=esxi1}}" for way in ("up", "down"))
    observer.count_running([live(session, 100, 1000)])
    observer.count_running([live(session, 100, 1000)])
    assert (shown()[up], shown()[down]) == (100, 1000)
    session.round_trip = 0.5
    observer.count_running([live(session, 150, 1000)])
    assert (shown()[up], shown()[down]) == (150, 1000)
    end(session, observer, up=160, down=4000)
    assert (shown()[up], shown()[down]) == (160, 4000)
    assert shown()["round_trip_seconds_count{listener=secure}"] == 2
    assert shown()["round_trip_seconds_sum{listener=secure}"] == 0.75


def test_bytes_are_counted_at_the_end_if_not_before(observer):
    end(opened_session(1, observer), observer, up=160, down=4000)
    assert total(observer.metrics, "bytes_total", "direction") == {"up": 160, "down": 4000}


def test_sessions_that_are_not_open_are_not_looked_at(observer):
    session = new_session(1)
    observer.count_running([live(session, 100, 1000)])
    assert total(observer.metrics, "bytes_total") == 0


def test_running_consoles_are_counted_only_while_watched(observer):
    clock, looked = Clock(), []

    def sessions():
        looked.append(clock.seconds())
        return []

    count = RunningCount(observer, sessions, clock)
    count.startService()
    clock.pump([COUNT_INTERVAL] * 3)
    assert looked == [] and clock.getDelayedCalls() == []
    count.watch(True)
    count.watch(True)
    clock.pump([COUNT_INTERVAL] * 2)
    assert looked == [3, 4, 5]
    count.watch(False)
    clock.pump([COUNT_INTERVAL] * 3)
    assert looked == [3, 4, 5] and clock.getDelayedCalls() == []
    count.watch(True)
    count.stopService()
    assert clock.getDelayedCalls() == []


def test_many_consoles_are_counted_in_several_turns(observer, monkeypatch):
    clock, number, turns = Clock(), 2 * MAX_AT_ONCE + 1, []
    running = [live(opened_session(each, observer), 10, 0) for each in range(number)]
    real = observer.count_running
    monkeypatch.setattr(observer, "count_running", lambda some: (turns.append(len(some)), real(some)))
    count = RunningCount(observer, lambda: running, clock)
    count.startService()
    count.watch(True)
    assert turns == [MAX_AT_ONCE]  # the others wait for the next turns
    end(running[-1].session, observer, up=10)
    clock.advance(0)
    assert turns == [MAX_AT_ONCE, MAX_AT_ONCE, 1]
    assert total(observer.metrics, "bytes_total") == 10 * number
    count.stopService()
    assert clock.getDelayedCalls() == []


def test_a_count_that_fails_is_logged_and_repeated(observer):
    clock, looked = Clock(), []

    def sessions():
        looked.append(None)
        raise OSError("disk full")

    count = RunningCount(observer, sessions, clock)
    count.startService()
    with capturedLogs() as events:
        count.watch(True)
        clock.advance(COUNT_INTERVAL)
    assert len(looked) == 2 and len(events) == 2
    assert "could not be counted" in events[0]["log_format"]
    count.stopService()


# Refusals and the event loop


def test_refusals_are_counted_by_limit(observer):
    proxy = Proxy(Clock(), [observer, RefusalBlind()], has_descriptors=lambda dials: False)
    limits = ConnectionLimits(max_handshakes=1)
    proxy.admission.take_handshake_slot("secure", limits)
    for _ in range(2):
        with pytest.raises(LimitReached):
            proxy.admission.take_handshake_slot("secure", limits)
    refused = Deferred.fromCoroutine(proxy.admission.take_arrival_slots(new_session(1), limits))
    refused.addErrback(lambda failure: failure.trap(OutOfDescriptors))
    assert refused.called
    assert total(observer.metrics, "refusals_total", "limit") == {"max_handshakes": 2, "descriptors": 1}
    assert proxy.admission.refusals == {"max_handshakes": 2, "descriptors": 1}


class RefusalBlind:
    """An observer without the method ``refused``."""


def test_the_lag_of_the_event_loop_is_observed(observer, shown):
    clock = Clock()
    lag = LoopLag(clock, observer.lagged)
    lag.startService()
    clock.advance(0.05)
    clock.advance(0.45)
    lag.stopService()
    found = shown()
    assert found["event_loop_lag_seconds_count"] == 2
    assert found["event_loop_lag_seconds_sum"] == pytest.approx(0.4)


# Labels


def test_only_listed_hosts_have_a_name(observer):
    for number, route in enumerate((listed("esxi7"), unlisted("esxi8"), Route.to(UPSTREAM))):
        opened_session(number, observer, route)
    assert total(observer.metrics, "sessions_open", "host") == {"esxi7": 1, "other": 1, "esxi1": 1}


def test_a_label_has_a_bounded_number_of_values(monkeypatch):
    monkeypatch.setattr(
        metrics_module, "MAX_VALUES", MappingProxyType({"listener": 2, "upstream": 3, "host": 4})
    )
    observer = MetricsObserver(Metrics())
    sessions = []
    for number in range(100):
        upstream = replace(UPSTREAM, name=f"upstream{number}")
        route = listed(f"host{number}", upstream)
        sessions.append(opened_session(number, observer, route, listener=f"listener{number}"))
    named = total(observer.metrics, "sessions_open", "host")
    assert len(named) == 5 and named["other"] == 96
    for session in sessions:
        end(session, observer)
    for label, most in (("listener", 2), ("upstream", 3)):
        values = total(observer.metrics, "sessions_opened_total", label)
        assert len(values) == most + 1 and values["other"] == 100 - most
        assert sum(total(observer.metrics, "sessions_closed_total", label).values()) == 100


def test_a_failure_of_a_plugin_has_no_reason_of_its_own(observer):
    for number in range(50):
        plugins = type(f"Mine{number}", (SessionError,), {})
        end(opened_session(number, observer), observer, plugins("no"))
    assert total(observer.metrics, "sessions_closed_total", "reason") == {"other": 50}


HOSTILE = [
    'quote"} 1\nesxiproxy_sessions_open 99\n#',
    "line\nbreak\r\n",
    "back\\slash\\",
    "\udc80 alone",
    "nul\0",
    "long" * 1000,
    "{}=,",
    "\u2028\u202e",
]


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("accept", ["", "application/openmetrics-text; version=1.0.0"])
def test_hostile_names_are_escaped(observer, name, accept):
    end(opened_session(1, observer, listed(name), listener=name), observer)
    opened_session(2, observer, listed(name), listener=name)
    _, text = expose(observer.metrics, accept)
    parse = openmetrics_families if accept else text_families
    found = [
        sample
        for family in parse(text.decode())
        for sample in family.samples
        if sample.name == "esxiproxy_sessions_open"
    ]
    expected = name[:MAX_LENGTH].encode("utf-8", "replace").decode()
    assert [(sample.labels["host"], sample.value) for sample in found] == [(expected, 1)]
    assert found[0].labels["listener"] == expected


def test_no_ticket_stands_in_a_metric(observer):
    secret = "cst-VCT-52f6a1c0-1234"
    route = listed(f"esxi7/ticket/{secret}", replace(UPSTREAM, name=f"https://a/ticket/{secret}"))
    failed(1, observer, UpstreamRefused(f"/ticket/{secret} failed"), route)
    end(opened_session(2, observer, route), observer, Killed(f"ticket={secret}"))
    for accept in ("", "application/openmetrics-text"):
        assert secret not in expose(observer.metrics, accept)[1].decode()


# Exposition


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        ("", "text/plain; version=0.0.4; charset=utf-8"),
        ("*/*", "text/plain; version=0.0.4; charset=utf-8"),
        ("text/plain;version=0.0.4;q=0.5,*/*;q=0.1", "text/plain; version=0.0.4; charset=utf-8"),
        ("application/openmetrics-text; version=1.0.0", "application/openmetrics-text; version=1.0.0"),
        (
            "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.2",
            "application/openmetrics-text; version=1.0.0",
        ),
        ("application/openmetrics-text; version=abc", "text/plain; version=0.0.4; charset=utf-8"),
        ("text/plain;version=...;;=,=", "text/plain; version=0.0.4; charset=utf-8"),
        ("\udc80" * 100 + "," * 1000, "text/plain; version=0.0.4; charset=utf-8"),
    ],
)
def test_the_format_follows_the_accept_field(observer, accept, content_type):
    end(opened_session(1, observer), observer)
    found, text = expose(observer.metrics, accept)
    assert found.startswith(content_type)
    assert text.endswith(b"# EOF\n") == ("openmetrics" in content_type)


def test_extra_families_are_computed_by_the_caller(shown):
    extra = [
        *certificate_expiry([CertificateExpiry("secure", 1_900_000_000.0)]),
        *hosts([HostStatus("esxi", "esxi7", True, 3, 64), HostStatus("esxi", "esxi8", None, 0, None)]),
        *draining([DrainedTarget("host", "esxi7")]),
        *workers(4, 3),
        *build_info(BuildInfo("0.1.0", "3.11", "26.10")),
    ]
    found = shown(extra)
    assert {name: value for name, value in found.items() if not name.startswith("event_loop")} == {
        "certificate_expiry_timestamp_seconds{listener=secure}": 1_900_000_000.0,
        "upstream_up{host=esxi7,upstream=esxi}": 1,
        "upstream_connections{host=esxi7,upstream=esxi}": 3,
        "upstream_connections{host=esxi8,upstream=esxi}": 0,
        "upstream_connections_limit{host=esxi7,upstream=esxi}": 64,
        "draining{kind=host,name=esxi7}": 1,
        "workers{state=configured}": 4,
        "workers{state=running}": 3,
        "build_info{python=3.11,twisted=26.10,version=0.1.0}": 1,
    }


def test_listeners_with_the_same_label_have_one_value():
    """Prometheus takes no sample twice.  A listener may be called ``admin``, as the label of [admin] is."""
    certificates = [("admin", 9.0), ("admin", 5.0), ("x" * 200 + "a", 7.0), ("x" * 200 + "b", 8.0)]
    (family,) = certificate_expiry(CertificateExpiry(*each) for each in certificates)
    assert [(sample.labels["listener"], sample.value) for sample in family.samples] == [
        ("admin", 5.0),
        ("x" * 128, 7.0),
    ]


def test_the_registry_is_not_the_global_one(observer):
    opened_session(1, observer)
    assert not [family for family in REGISTRY.collect() if family.name.startswith("esxiproxy")]
    assert {family.name for family in observer.metrics.registry.collect()} == {
        f"esxiproxy_{family.name.removesuffix('_total')}" for family in FAMILIES
    }
    MetricsObserver(Metrics())  # a second one has no conflict with the first


def test_an_embedded_proxy_counts_its_sessions(observer):
    proxy = Proxy(Clock(), [observer])
    session = new_session(1)
    session.authenticated(Principal("alice"))
    session.routed(Route.to(UPSTREAM))
    proxy.sessions.opened(session)
    session.ended("client", 1000)
    assert total(observer.metrics, "sessions_open") == 1
    proxy.sessions.closed(session)
    assert total(observer.metrics, "sessions_open") == 0
    assert total(observer.metrics, "sessions_closed_total", "reason") == {"normal": 1}


def test_the_metrics_of_a_process_have_no_times_of_creation():
    program = (
        "from esxiproxy.ops.metrics.files import process_metrics\n"
        "from esxiproxy.ops.metrics.exposition import expose\n"
        "print(expose(process_metrics({}))[1].decode())"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, check=True, timeout=60, capture_output=True, text=True
    )
    assert "esxiproxy_event_loop_lag_seconds_count 0.0" in done.stdout and "_created" not in done.stdout


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    with pytest.raises(StartupError, match=r"prometheus-client .*: pip install 'esxiproxy\[metrics\]'"):
        process_metrics({})


def test_the_documented_embedding_works():
    text = (ROOT / "docs" / "metrics.md").read_text().partition("## Embedding")[2]
    (block,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    names = {"Proxy": Proxy, "reactor": Clock()}
    exec(block, names)
    assert names["proxy"].sessions._observers[0].metrics is names["metrics"]
    assert names["content_type"].startswith("text/plain") and b"esxiproxy_sessions_open" in names["text"]


def test_a_proxy_without_metrics_does_not_import_prometheus_client():
    program = (
        "import sys, esxiproxy\n"
        "for name in esxiproxy.__all__: getattr(esxiproxy, name)\n"
        "import esxiproxy.ops.metrics.files, esxiproxy.workers.worker.worker\n"
        "sys.exit('prometheus_client' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True, timeout=60)
