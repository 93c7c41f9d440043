"""The labels and the text of the metrics."""

import re
import subprocess
import sys
from dataclasses import replace
from types import MappingProxyType

import pytest
from prometheus_client import REGISTRY
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics_families
from prometheus_client.parser import text_string_to_metric_families as text_families
from twisted.internet.task import Clock

from esxiproxy.core.errors import (
    Killed,
    SessionError,
    UpstreamRefused,
)
from esxiproxy.core.routing import Principal, Route
from esxiproxy.core.startup import StartupError
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
from esxiproxy.proxy import Proxy
from tests.ops.metrics_world import (
    UPSTREAM,
    end,
    failed,
    listed,
    new_session,
    opened_session,
    total,
    unlisted,
)
from tests.support.programs import ROOT


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
