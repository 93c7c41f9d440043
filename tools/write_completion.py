"""The completion of the command `esxiproxy` for shells: `python -m tools.write_completion` writes it."""

from __future__ import annotations

import argparse
from pathlib import Path

import shtab

from esxiproxy.cli.completion import FILES
from esxiproxy.cli.main import argument_parser

FOLDER = Path(__file__).parents[1] / "esxiproxy" / "cli" / "completions"


def script(shell: str) -> str:
    """Return the script for a shell."""
    parser = argument_parser()
    _complete_files(parser)
    return shtab.complete(parser, shell=shell)


def _complete_files(parser: argparse.ArgumentParser) -> None:
    """Let options and arguments that are called FILE or PATH be completed by the names of files."""
    for action in parser._actions:
        if action.metavar in ("FILE", "PATH"):
            action.complete = shtab.FILE
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                _complete_files(command)


if __name__ == "__main__":
    for shell, name in FILES.items():
        (FOLDER / name).write_text(script(shell), encoding="utf-8")
