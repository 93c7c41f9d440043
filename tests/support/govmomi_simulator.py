"""The vCenter simulator of govmomi as a process, with AcquireTicket added by the program in `govmomi/`.

The program is compiled once, from Debian's package of govmomi, into `.cache`.
"""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tests.support.certificates import Certificate
from tests.support.programs import ROOT, Program, environment, need, skip
from tests.support.sim_program import Host

SOURCE = Path(__file__).parent / "govmomi"
LIBRARY = Path("/usr/share/gocode")
CACHE = ROOT / ".cache" / "govmomi"
USER, PASSWORD = "user", "secret"


def build() -> Path:
    """Return the compiled program; it is compiled if its source has changed."""
    go = need("go", "golang-go")
    if not (LIBRARY / "src/github.com/vmware/govmomi/simulator").is_dir():
        skip("install Debian package golang-github-vmware-govmomi-dev")
    source = SOURCE / "main.go"
    program = CACHE / hashlib.sha256(source.read_bytes()).hexdigest()[:16] / "govmomi"
    if not program.exists():
        program.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=program.parent) as folder:
            made = Path(folder) / program.name
            subprocess.run(
                [go, "build", "-o", made, source],
                env=environment(GO111MODULE="off", GOPATH=str(LIBRARY), GOFLAGS="-p=1"),
                check=True,
                timeout=280,
            )
            made.replace(program)
    return program


class Govmomi(Program):
    """The simulator; the hosts of its inventory take turns with these hosts, which have the consoles."""

    name = "govmomi"
    ours = False

    def __init__(
        self,
        certificate: Certificate,
        consoles: Sequence[Host],
        machines: int = 1000,
        hosts: int = 3,
        idle: float = 1800.0,
        standalone: bool = False,
    ) -> None:
        self._program = build()
        super().__init__()
        self.url = ""
        self._arguments = [
            f"-machines={machines}",
            f"-hosts={hosts}",
            f"-idle={round(idle * 1000)}ms",
            f"-user={USER}",
            f"-certificate={certificate.path}",
            f"-key={certificate.key_path}",
            f"-esx={str(standalone).lower()}",
            *(f"-console={json.dumps(_describe(host))}" for host in consoles),
        ]

    def command(self) -> Sequence[str | Path]:
        return ["env", f"SIMULATOR_PASSWORD={PASSWORD}", self._program, *self._arguments]

    def is_ready(self) -> bool:
        found = re.search(r'"url": "(.*?)"', self.log())
        self.url = found[1] if found else ""
        return bool(found)

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])


def _describe(host: Host) -> dict[str, object]:
    return {
        "tickets": f"http://127.0.0.1:{host.port}/sim/ticket",
        "host": "127.0.0.1",
        "port": host.tls_port,
        "thumbprint": host.ready["sha1"],
    }
