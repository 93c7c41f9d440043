"""The demo of `make run` as a process on free ports, and a client of its portal."""

from __future__ import annotations

import contextlib
import http.client
import json
import re
import shutil
import subprocess
import sys
import urllib.parse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.support.programs import ROOT, Program, accepts, free_ports

BIN = Path(sys.executable).parent


class Demo(Program):
    """`conf/demo.ini` on free ports, in a folder of its own, its certificates made as `make run` does."""

    name = "demo"

    def __init__(self, viewer: Path) -> None:
        super().__init__()
        shutil.copytree(ROOT / "conf", self.folder / "conf")
        path = self.folder / "conf" / "demo.ini"
        text = path.read_text()
        old = sorted(set(re.findall(r"(?:127\.0\.0\.1|localhost):(\d+)", text)))
        self.page, *new = free_ports(len(old) + 1)
        moved = {before: str(after) for before, after in zip(old, new, strict=True)}
        path.write_text(re.sub(r"(?<=0\.1:|ost:)\d+", lambda found: moved[found[0]], text))
        self.tls, self.portal, self.vcenter = (int(moved[port]) for port in ("8083", "8084", "8085"))
        self._ports = new
        self._environment = {"ESXIPROXY_DEMO_PORT": str(self.page), "ESXIPROXY_NOVNC": str(viewer)}

    def start(self, seconds: float = 20.0) -> Demo:
        certificates = [f"var/demo/{name}.crt" for name in ("listener", "host", "vcenter")]
        subprocess.run(
            [BIN / "esxiproxy", "certificate", *certificates], cwd=self.folder, check=True, timeout=60
        )
        password = self.folder / "var/demo/vcenter.password"
        password.touch(0o600)
        password.write_text("simulated\n")
        with pytest.MonkeyPatch.context() as patch:
            for key, value in self._environment.items():
                patch.setenv(key, value)
            return super().start(seconds)

    def command(self) -> Sequence[str | Path]:
        return [BIN / "twistd", "-n", "--pidfile=", "esxiproxy", "--config", "conf/demo.ini"]

    def is_ready(self) -> bool:
        return "the demo is ready" in self.log() and all(map(accepts, [self.page, *self._ports]))


class Visitor:
    """A client of the portal that keeps its cookie as a browser does for localhost."""

    def __init__(self, port: int) -> None:
        self.cookie = ""
        self._port = port

    def _request(self, method: str, path: str, body: str | None, kind: str) -> tuple[int, str]:
        connection = http.client.HTTPConnection("localhost", self._port, timeout=20)
        with contextlib.closing(connection):
            origin = f"http://localhost:{self._port}"
            fields = {"Cookie": self.cookie, "Origin": origin, "Content-Type": kind}
            connection.request(method, path, body, fields)
            answer = connection.getresponse()
            for value in answer.headers.get_all("Set-Cookie") or ():
                name, _, rest = value.partition(";")[0].partition("=")
                if rest:
                    self.cookie = f"{name}={rest}"
            return answer.status, answer.read().decode()

    def log_in(self, name: str, password: str) -> None:
        """Fill the form in and send it."""
        _, form = self._request("GET", "/login", None, "")
        token = re.findall(r'name="token" value="(.*?)"', form)[0]
        body = urllib.parse.urlencode({"name": name, "password": password, "token": token, "next": "/"})
        assert self._request("POST", "/login", body, "application/x-www-form-urlencoded")[0] == 303

    def ask(self, method: str, path: str, **body: str) -> Any:
        """Call the API."""
        status, text = self._request(method, path, json.dumps(body) if body else None, "application/json")
        assert status < 300, text
        return json.loads(text)
