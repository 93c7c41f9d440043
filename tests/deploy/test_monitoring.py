"""The page, the dashboard and the alerts name metrics that exist, and promtool accepts them."""

import json
import re
import subprocess

import pytest
from prometheus_client import Counter, Histogram

from esxiproxy.ops.metrics.collectors import (
    COMPUTED,
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
from esxiproxy.ops.metrics.metrics import FAMILIES, PREFIX, Metrics
from esxiproxy.ops.metrics.observer import MetricsObserver
from tests.ops.metrics_world import end, opened_session
from tests.support.programs import ROOT, need
from tools.document_metrics import PATH, document

RULES = ROOT / "deploy" / "prometheus"
DASHBOARD = ROOT / "deploy" / "grafana" / "esxiproxy.json"
DECLARED = {PREFIX + family.name: family for family in (*FAMILIES, *COMPUTED)}
SERIES = {
    name + suffix: family
    for name, family in DECLARED.items()
    for suffix in (("_bucket", "_sum", "_count") if family.kind is Histogram else ("",))
}
TARGET_LABELS = {"job", "instance"}


def promtool(*arguments, text=None):
    done = subprocess.run(
        [need("promtool", "prometheus"), *map(str, arguments)],
        input=text,
        capture_output=True,
        timeout=120,
        cwd=RULES,
        check=False,
    )
    output = (done.stdout + done.stderr).decode()
    assert done.returncode == 0, output
    return output


def whole_exposition(accept=""):
    """Return an exposition in which each metric has a value."""
    observer = MetricsObserver(Metrics())
    end(opened_session(1, observer), observer, up=1, down=1)
    observer.refused("max_sessions")
    observer.lagged(0.1)
    extra = [
        *certificate_expiry([CertificateExpiry("secure", 1.9e9)]),
        *hosts([HostStatus("esxi", "esxi7", True, 3, 64)]),
        *draining([DrainedTarget("host", "esxi7")]),
        *workers(2, 2),
        *build_info(BuildInfo("0.1.0", "3.11.2", "26.10.0")),
    ]
    return expose(observer.metrics, accept, extra)[1], extra


def test_the_page_has_every_metric():
    """`python -m tools.document_metrics` writes it."""
    assert PATH.read_text(encoding="utf-8") == document()
    assert document().count(f"| `{PREFIX}") == len(DECLARED)


def test_the_declarations_are_those_of_the_exposition():
    text, extra = whole_exposition()
    kinds = dict(re.findall(r"^# TYPE (\S+) (\S+)$", text.decode(), re.MULTILINE))
    found = {name: kind for name, kind in kinds.items() if not name.endswith("_created")}
    assert found == {name: family.kind.__name__.lower() for name, family in DECLARED.items()}
    assert {family.name: tuple(family._labelnames) for family in extra} == {
        PREFIX + family.name: family.labels for family in COMPUTED
    }
    assert all(
        name.endswith("_total") == (family.kind is Counter) and family.help.endswith(".")
        for name, family in DECLARED.items()
    )


def test_promtool_accepts_the_exposition():
    text = b"\n".join(line for line in whole_exposition()[0].split(b"\n") if b"_created" not in line)
    assert promtool("check", "metrics", text=text) == ""


def test_promtool_accepts_the_alerts_and_their_tests_pass():
    assert "SUCCESS: 16 rules found" in promtool("check", "rules", "alerts.yml")
    assert "SUCCESS" in promtool("test", "rules", "alerts_test.yml")


def test_every_alert_has_a_test_in_which_it_fires():
    alerts = re.findall(r"- alert: (\w+)", (RULES / "alerts.yml").read_text())
    fired = re.findall(r"alertname: (\w+)\n +exp_alerts:", (RULES / "alerts_test.yml").read_text())
    assert len(alerts) == len(set(alerts)) == 16 and set(fired) == set(alerts)


def panels():
    board = json.loads(DASHBOARD.read_text(encoding="utf-8"))
    return [panel for panel in board["panels"] if panel["type"] != "row"]


def expressions():
    found = [
        (panel["title"], target["expr"].replace("$__rate_interval", "5m"))
        for panel in panels()
        for target in panel["targets"]
    ]
    alerts = (RULES / "alerts.yml").read_text()
    for name, block in re.findall(r"- alert: (\w+)\n(.*?)(?=\n +labels:)", alerts, re.DOTALL):
        expression = block.partition("expr:")[2].partition(" for:")[0].replace(">-", "", 1)
        found.append((name, re.sub(r"\s+", " ", expression).strip()))
    text = PATH.read_text(encoding="utf-8").partition("## Useful queries")[2].partition("## Traces")[0]
    found += [
        ("query", line.strip()) for line in text.split("\n") if line.startswith("    ") and "#" not in line
    ]
    return found


EXPRESSIONS = expressions()


def test_all_expressions_were_found():
    assert len(EXPRESSIONS) > 40


@pytest.mark.parametrize(("title", "expression"), EXPRESSIONS, ids=[title for title, _ in EXPRESSIONS])
def test_an_expression_names_metrics_and_labels_that_exist(title, expression):
    names = re.findall(r"\b(esxiproxy_\w+)", expression)
    assert names or "up{" in expression
    assert set(names) <= set(SERIES), title
    known = {label for name in names for label in SERIES[name].labels} | TARGET_LABELS | {"le"}
    grouped = [
        part for group in re.findall(r"(?:by|ignoring) \(([^)]*)\)", expression) for part in group.split(",")
    ]
    for label in grouped:
        assert label.strip() in known, (title, label)
    for name, matchers in re.findall(r"\b(esxiproxy_\w+)\{([^}]*)\}", expression):
        own = {*SERIES[name].labels, *TARGET_LABELS, *(["le"] if name.endswith("_bucket") else [])}
        used = set(re.findall(r"(\w+)(?:=~|!=|!~|=)", re.sub(r'"[^"]*"', "", matchers)))
        assert used <= own, (title, name, used - own)


def test_promtool_accepts_the_expressions_of_the_dashboard(tmp_path):
    rules = [
        f"      - record: panel{number}\n        expr: {json.dumps(expression)}"
        for number, (_, expression) in enumerate(EXPRESSIONS)
    ]
    path = tmp_path / "rules.yml"
    path.write_text("groups:\n  - name: dashboard\n    rules:\n" + "\n".join(rules) + "\n")
    assert f"SUCCESS: {len(rules)} rules found" in promtool("check", "rules", path)


def test_the_panels_are_described_and_do_not_overlap():
    cells = set()
    for panel in panels():
        assert panel["title"] and panel["description"], panel
        place = panel["gridPos"]
        own = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not own & cells and max(x for x, _ in own) < 24, panel["title"]
        cells |= own
    assert len({panel["id"] for panel in panels()}) == len(panels()) > 20


def test_every_metric_is_on_the_dashboard():
    text = DASHBOARD.read_text(encoding="utf-8")
    assert [name for name in DECLARED if name not in text] == []
