"""The Debian packages that the tests use, and what to install so that none of them is skipped."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterable

from tests.support.programs import ROOT

LIST = ROOT / ".ci" / "packages"
"""One package a line; `.ci/run` installs them."""
NO_COMPILER = "install Debian packages gcc, libc6-dev, libssl-dev and python3-dev, and call make clean"
"""Why a test of the compiled part is skipped."""

_NAMED = re.compile(r"install Debian packages? (\S+?)(?=,|\s|$)")


def listed() -> list[str]:
    """Return the names in the list."""
    return LIST.read_text(encoding="utf-8").split()


def missing() -> list[str]:
    """Return the packages of the list that are not installed; all of them where dpkg does not exist."""
    return [package for package in listed() if not _is_installed(package)]


def advice(reasons: Iterable[str], absent: Iterable[str]) -> str | None:
    """Return the line that says what to install, for the reasons of all skipped tests.

    None if no test was skipped for a missing package.
    """
    named = [found[1] for reason in reasons if (found := _NAMED.search(reason))]
    if not named:
        return None
    packages = " ".join(dict.fromkeys([*absent, *named]))
    again = "make clean test" if NO_COMPILER in reasons else "make test"
    count = f"{len(named)} tests were" if len(named) > 1 else "1 test was"
    return f"{count} skipped; to run every test: apt-get install {packages} && {again}"


def _is_installed(package: str) -> bool:
    if package == "npm" and shutil.which("npm"):
        return True  # npm often comes from somewhere else
    if shutil.which("dpkg-query") is None:
        return False
    command = ["dpkg-query", "-W", "-f", "${Status}", package]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    return "ok installed" in done.stdout
