"""The vCenter simulator of govmomi as a process, and a client of govmomi, from the Go programs in `govmomi/`.

The programs are compiled once, with Debian's package of govmomi, into `.cache`.
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


def build(source: Path) -> Path:
    """Return the compiled program; it is compiled if its source has changed."""
    go = need("go", "golang-go")
    if not (LIBRARY / "src/github.com/vmware/govmomi/simulator").is_dir():
        skip("install Debian package golang-github-vmware-govmomi-dev")
    program = CACHE / hashlib.sha256(source.read_bytes()).hexdigest()[:16] / source.parent.name
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
    """The simulator. The hosts of its inventory are these hosts in turn, which have the consoles."""

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
        self._program = build(SOURCE / "main.go")
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


def ask_tickets(
    port: int, authority: Path, user: str, password: str, *machines: str
) -> list[dict[str, object]]:
    """Return the tickets that the client of govmomi gets for the machines with these names.

    The server on the port has to show a certificate of the authority.
    """
    done = subprocess.run(
        [build(SOURCE / "ask_tickets" / "main.go"), *machines],
        env=environment(
            GOVC_URL=f"https://localhost:{port}/sdk",
            GOVC_TLS_CA_CERTS=str(authority),
            GOVC_USERNAME=user,
            GOVC_PASSWORD=password,
        ),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def _describe(host: Host) -> dict[str, object]:
    return {
        "tickets": f"http://127.0.0.1:{host.port}/sim/ticket",
        "host": "127.0.0.1",
        "port": host.tls_port,
        "thumbprint": host.ready["sha1"],
    }
