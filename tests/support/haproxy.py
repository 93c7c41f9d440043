"""HAProxy in front of two proxies, with the configuration that docs/several-machines.md shows."""

from __future__ import annotations

import re
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.support.programs import ROOT, Program, accepts, free_port, need

PAGE = ROOT / "docs" / "several-machines.md"


def documented() -> str:
    """Return the configuration in the documentation."""
    blocks = re.findall(r"(?:^(?: {4}.*)?\n)+", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    (found,) = [block for block in blocks if "send-proxy-v2" in block]
    return re.sub(r"^ {4}", "", found, flags=re.MULTILINE)


def replaced(pattern: str, by: str, text: str) -> str:
    """Replace what a pattern matches, which has to be there once."""
    changed, count = re.subn(pattern, by, text, flags=re.MULTILINE)
    assert count == 1, pattern
    return changed


class HAProxy(Program):
    """HAProxy; ``servers`` has the ports of a proxy by its name: that of the consoles, and of the probes."""

    name = "haproxy"
    ours = False

    def __init__(self, servers: Mapping[str, tuple[int, int]]) -> None:
        self._path = need("haproxy", "haproxy")
        super().__init__()
        self.port = free_port()
        self._servers = servers
        text = replaced(r"stats socket \S+", f"stats socket {self.folder}/admin.sock", documented())
        text = replaced(r"bind :443$", f"bind 127.0.0.1:{self.port}", text)
        for server, (consoles, probes) in servers.items():
            text = replaced(rf"server {server} \S+", f"server {server} 127.0.0.1:{consoles}", text)
            text = replaced(rf"(server {server} .*check port )8080", rf"\g<1>{probes}", text)
        (self.folder / "haproxy.cfg").write_text(text)

    def command(self) -> Sequence[str | Path]:
        return [self._path, "-db", "-f", self.folder / "haproxy.cfg"]

    def is_ready(self) -> bool:
        return accepts(self.port) and all(self.state_of(server) == "UP" for server in self._servers)

    def tell(self, command: str) -> str:
        """Return the answer to a command on its socket."""
        with socket.socket(socket.AF_UNIX) as line:
            line.settimeout(10)
            line.connect(str(self.folder / "admin.sock"))
            line.sendall(f"{command}\n".encode())
            answer = b""
            while octets := line.recv(65536):
                answer += octets
        return answer.decode()

    def state_of(self, server: str) -> str:
        """Return the first word of the status of a server, such as UP, DOWN or DRAIN."""
        for row in self.tell("show stat").splitlines():
            cells = row.split(",")
            if cells[:2] == ["proxies", server]:
                return cells[17].partition(" ")[0]
        return ""
