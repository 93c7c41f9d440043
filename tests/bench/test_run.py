"""The benchmark itself, as short as it gets: it measures something, and nothing in it fails."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.support.programs import need

ROOT = Path(__file__).resolve().parents[2]
DEADLINE = 120
"""Seconds for one run, which takes about five, and a compiler's start."""
SHORT = (
    "--only",
    "rtt,open,get,upload_chunked",
    "--modes",
    "ws-ws",
    "--peers",
    "esxiproxy,nginx",
    "--turns",
    "1",
    "--seconds",
    "0.2",
)


@pytest.mark.skipif(
    not hasattr(os, "sched_getaffinity") or len(os.sched_getaffinity(0)) < 2, reason="needs two cores"
)
@pytest.mark.parametrize("load", ["C", "Python"])
def test_a_short_run_has_figures_and_no_failure(tmp_path: Path, load: str) -> None:
    need("nginx", "nginx-light")
    options = [*SHORT, "--results", str(tmp_path)]
    if load == "Python":
        options.append("--pure")
    done = subprocess.run(
        [sys.executable, "-m", "bench", *options],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=DEADLINE,
        check=False,
    )
    if "no C load" in done.stderr and os.environ.get("ESXIPROXY_REQUIRE_ALL") != "1":
        pytest.skip("install Debian packages gcc and libssl-dev")
    assert done.returncode == 0, done.stderr
    kept = json.loads((tmp_path / "bench.json").read_text())
    assert kept["failures"] == []
    assert kept["settings"]["load"] == f"in {load}", done.stderr
    cells = {(cell["row"], cell["peer"]): cell for cell in kept["cells"]}
    rows = {"rtt_p50", "rtt_p99", "open"} | ({"get", "upload_chunked"} if load == "C" else set())
    assert set(cells) == {(row, peer) for row in rows for peer in ("esxiproxy", "nginx")}
    for cell in cells.values():
        assert len(cell["values"]) == 1
        assert cell["median"] > 0
        assert cell["ratio"] > 0
    text = (tmp_path / "bench.txt").read_text()
    assert text in done.stdout
    assert "round trip, 64 bytes, p50" in text
    ElementTree.parse(tmp_path / "bench.svg")
