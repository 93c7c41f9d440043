"""`python -m esxiproxy.sim` as a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
from dataclasses import dataclass
from typing import Any

from tests.support.programs import ROOT, environment


@dataclass
class Host:
    """A running `python -m esxiproxy.sim` and what it said when it was ready."""

    process: subprocess.Popen[str]
    ready: dict[str, Any]

    @property
    def port(self) -> int:
        return int(self.ready["ws"].rpartition(":")[2])

    @property
    def tls_port(self) -> int:
        return int(self.ready["wss"].rpartition(":")[2])

    def get(self, path: str) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=20) as answer:
            return str(answer.read().decode())

    def target(self, query: str = "") -> str:
        return f"/ticket/{self.get('/sim/ticket')}{query}"

    def stats(self) -> dict[str, int]:
        stats: dict[str, int] = json.loads(self.get("/sim/stats"))
        return stats


def start(*arguments: str) -> Host:
    process = subprocess.Popen(
        [sys.executable, "-m", "esxiproxy.sim", *arguments],
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env=environment(),
    )
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        process.wait(10)
        raise AssertionError(f"the host did not start: {process.returncode}")
    return Host(process, json.loads(line))


def stop(host: Host) -> int:
    host.process.terminate()
    assert host.process.stdout is not None
    try:
        return host.process.wait(30)
    finally:
        host.process.kill()
        host.process.stdout.close()
