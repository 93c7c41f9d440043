"""The machine and the versions of the programs that were measured."""

from __future__ import annotations

import os
import platform
import re
import ssl
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from bench import cores
from bench.build import ROOT
from bench.peers import PATH

COMMANDS = {
    "nginx": (("nginx", "-v"), r"nginx/(\S+)"),
    "haproxy": (("haproxy", "-v"), r"version (\S+)"),
    "websockify": (("dpkg-query", "-W", "-f", "${Version}", "websockify"), r"(\S+)"),
}
PACKAGES = ("twisted", "autobahn", "pyopenssl")


def machine() -> dict[str, str]:
    """Return names and values that describe the machine and the programs."""
    found = {
        "cpu": _first(Path("/proc/cpuinfo").read_text(), r"model name\s*:\s*(.+)") or platform.processor(),
        "cores": f"{os.cpu_count()}; proxies on core {cores.PROXY}, load and upstream on core {cores.LOAD}",
        "kernel": platform.release(),
        "load average": " ".join(f"{load:.2f}" for load in os.getloadavg()),
        "python": f"{platform.python_version()} ({ssl.OPENSSL_VERSION})",
        "commit": _output(("git", "-C", str(ROOT), "describe", "--always", "--dirty")) or "",
    }
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    for name, (command, pattern) in COMMANDS.items():
        if text := _first(_output(command), pattern):
            found[name] = text
    return found


def _first(text: str, pattern: str) -> str:
    match = re.search(pattern, text)
    return match.group(1).strip() if match else ""


def _output(command: tuple[str, ...]) -> str:
    environment = os.environ | {"PATH": f"{os.environ.get('PATH', '')}:{PATH}"}
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, env=environment)
    except OSError:
        return ""
    return (done.stdout + done.stderr).strip() if done.returncode == 0 else ""
