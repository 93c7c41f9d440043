"""The configurations and the commands of docs/first-hour.md: check, start, doctor and reload."""

from __future__ import annotations

import re
import subprocess
import sys
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.support.programs import ROOT, Proxy, environment, free_ports, until
from tests.support.sim_program import Host, start, stop

PAGE = (ROOT / "docs" / "first-hour.md").read_text(encoding="utf-8")


def configurations() -> list[str]:
    """Return the two parts of the configuration: the first version, and the listener that is added."""
    found = re.findall(r"(?:^    (?:\[|[a-z_]+ = ).*\n|^\n(?=    \[))+", PAGE, re.M)
    return [textwrap.dedent(block).strip() + "\n" for block in found if "    [" in block]


def esxiproxy(folder: Path, *arguments: str, given: str = "") -> subprocess.CompletedProcess[str]:
    """Run a command in the folder of the reader."""
    return subprocess.run(
        [
            sys.executable,
            "-c",
            "import sys; from esxiproxy.cli.main import main; sys.exit(main())",
            *arguments,
        ],
        input=given,
        cwd=folder,
        env=environment(PYTHONPATH=str(ROOT)),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


class Started(Proxy):
    """The proxy as the page starts it, with a pidfile."""

    def command(self) -> Sequence[str | Path]:
        twistd, *options = super().command()
        pidfile = f"--pidfile={self.folder / 'twistd.pid'}"
        return [twistd, *(pidfile if option == "--pidfile=" else option for option in options)]


@pytest.fixture
def host() -> Iterator[Host]:
    running = start("--port", "0", "--tls-port", "0")
    yield running
    stop(running)


def test_the_page_leads_to_a_console(host: Host) -> None:
    plain, secure = free_ports(2)
    ports = {":9443": host.tls_port, ":8080": plain, ":8443": secure}
    own = [
        re.sub(r":(?:9443|8080|8443)\b", lambda port: f":{ports[port[0]]}", text) for text in configurations()
    ]
    first, added = own
    found = esxiproxy(ROOT, "doctor", f"wss://127.0.0.1:{host.tls_port}/")
    assert found.returncode == 12
    pin = re.search(r"pin = (sha256:[0-9A-F:]{95})$", found.stdout, re.M)
    assert pin is not None, found.stdout
    with Started(re.sub(r"(?m)^pin = .*", f"pin = {pin[1]}", first)) as proxy:
        folder = proxy.folder
        ticket = host.target()
        opened = esxiproxy(folder, "doctor", "-", given=f"ws://127.0.0.1:{plain}{ticket}\n")
        assert (opened.returncode, "All steps succeeded" in opened.stdout) == (0, True), opened.stdout
        again = esxiproxy(folder, "doctor", "-", given=f"ws://127.0.0.1:{plain}{ticket}\n")
        assert (again.returncode, "403" in again.stdout) == (13, True), again.stdout
        assert esxiproxy(folder, "certificate", "tls/console.crt").returncode == 0
        with proxy.path.open("a") as file:
            file.write("\n" + added)
        reloaded = esxiproxy(folder, "reload", "--config", proxy.path.name, "--pidfile", "twistd.pid")
        assert reloaded.returncode == 0, reloaded.stderr
        until(lambda: "is in force" in proxy.log(), "the proxy has reloaded")
        target = f"wss://127.0.0.1:{secure}{host.target()}\n"
        opened = esxiproxy(folder, "doctor", "--ca", "tls/console.crt", "-", given=target)
        assert opened.returncode == 0, opened.stdout
