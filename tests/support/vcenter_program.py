"""`python -m esxiproxy.sim --vcenter` as a process of its own, with its control port."""

from __future__ import annotations

import json
import subprocess
import urllib.request
from dataclasses import dataclass
from typing import Any

from tests.support import sim_program

PASSWORD = "simulated"


@dataclass
class VCenterProgram:
    """A running simulated vCenter and the line that it printed when it was ready."""

    process: subprocess.Popen[str]
    ready: dict[str, Any]

    @property
    def url(self) -> str:
        return str(self.ready["url"])

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    @property
    def user(self) -> str:
        return str(self.ready["user"])

    def control(self, method: str, path: str, /, **body: Any) -> Any:
        """Call the control port; a refusal is an HTTPError."""
        request = urllib.request.Request(
            self.ready["control"] + path, method=method, data=json.dumps(body).encode()
        )
        with urllib.request.urlopen(request, timeout=20) as answer:
            return json.load(answer)

    def state(self) -> dict[str, Any]:
        """Return the counters, hosts and machines."""
        state: dict[str, Any] = self.control("GET", "/state")
        return state

    def machine(self, name: str) -> dict[str, Any]:
        """Return the state of the machine with this name."""
        return next(each for each in self.state()["machines"] if each["name"] == name)


def start(*arguments: str) -> VCenterProgram:
    """Start a vCenter with these arguments, and wait until it is ready."""
    host = sim_program.start("--vcenter", *arguments)
    return VCenterProgram(host.process, host.ready)


def stop(vcenter: VCenterProgram) -> int:
    """End it and return its exit status."""
    return sim_program.stop(sim_program.Host(vcenter.process, vcenter.ready))
