"""`esxiproxy` commands in processes of their own, also as another user and on a terminal."""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Sequence

import pytest

from esxiproxy.cli import import_nginx
from tests.support.programs import ROOT, environment
from tests.support.terminal import OnTerminal

_MAIN = "from esxiproxy.cli.main import main, subcommand\nimport os, sys\n"
_END = "sys.exit(main())"
ESXIPROXY = [sys.executable, "-c", _MAIN + _END]
"""The command line before the arguments."""
NOBODY = 65534
"""The user id of `nobody`."""


def command(*arguments: object, code: str = "") -> subprocess.CompletedProcess[str]:
    """Run a command to its end; `code` runs when everything is imported."""
    return subprocess.run(
        [sys.executable, "-c", _MAIN + code + _END, *map(str, arguments)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env=environment(PYTHONPATH=str(ROOT)),
    )


def as_user(user: int, groups: Sequence[int], *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run a command as a user with these groups.  It is loaded before, since the user may not read it."""
    drop = f"os.setgroups({list(groups)}); os.setresgid({user}, {user}, {user}); "
    done = command(*arguments, code=f"subcommand(sys.argv[1]); {drop}os.setresuid({user}, {user}, {user})\n")
    if "ModuleNotFoundError" in done.stderr or "ImportError" in done.stderr:
        pytest.skip("the user may not read this Python, which loads a module late")
    return done


class CommandOnTerminal(OnTerminal):
    """A command that runs on a terminal of this width and height, until the end of the block."""

    variables = {"TERM": "xterm", "COLUMNS": "", "LINES": ""}

    def __init__(self, *arguments: object, width: int = 80, height: int = 24) -> None:
        super().__init__([*ESXIPROXY, *map(str, arguments)], height, width)


def import_nginx_command(*arguments: str) -> int:
    """Run `esxiproxy import-nginx` in this process, and return its exit status."""
    parser = argparse.ArgumentParser()
    import_nginx.add_arguments(parser)
    return import_nginx.run(parser.parse_args(arguments))
