"""The measurement of the shared state: the calls of its consoles, and its table.  The states are real."""

import json
import subprocess
import sys

import pytest

from bench.state import KINDS, rows
from tests.support.programs import ROOT, environment, need


@pytest.mark.parametrize("kind", KINDS)
def test_it_counts_the_calls_and_the_time_of_a_console(kind):
    if kind == "redis":
        need("redis-server", "redis-server")
    options = "--kind", kind, "--consoles", "20", "--seconds", "0.2", "--idle", "0"
    run = [sys.executable, "-m", "bench.state", *options]
    output = subprocess.check_output(run, cwd=ROOT, env=environment(PYTHONPATH=str(ROOT)), timeout=60)
    found = json.loads(output)
    assert all(found[phase]["process"] > 0 for phase in ("open", "end"))
    if kind == "redis":
        assert found["open"]["calls"] >= 3 * 20, "a limit at each of three steps"
        assert found["arrivals"]["calls"] >= 4 * found["arrivals"]["consoles"] == 40
        assert found["registered"]["calls"] >= 2, "a registration, and a call after it"
        assert found["open"]["bytes"] > 20 * 500


def test_its_table_has_a_column_for_each_kind_of_state():
    phase = {"process": 1.0, "server": 0.5, "script": 0.25, "calls": 300.0, "bytes": 1e6, "seconds": 10.0}
    one = {name: {**phase, "consoles": 50} for name in ("open", "idle", "arrivals", "registered", "end")}
    table = {first: cells for first, *cells in rows(dict.fromkeys(KINDS, one), 1000)}
    assert table["calls to Redis, a console from its begin to its end"] == ["–", "–", "6.0"]
    assert table["CPU of the proxy, a console begins"] == ["1,000 µs"] * 3
    assert table["memory of Redis, a console"] == ["–", "–", "1,000 bytes"]
    assert table["1,000 consoles: calls to Redis a second"] == ["–", "–", "30.0"]
    assert table["1,000 consoles, 50 begin and 50 end a second: CPU of the proxy"] == ["10.0 %"] * 3
    assert table["registration of 1,000 consoles: time in Redis"] == ["–", "–", "250 ms"]
