"""``esxiproxy completion``: prints the completion of this command for a shell."""

from __future__ import annotations

import argparse
from importlib.resources import files

NAME = "completion"
HELP = "print the completion of this command for bash or zsh"
FILES = {"bash": "esxiproxy.bash", "zsh": "_esxiproxy"}
"""The files by their shells, beside this one.  `python -m tools.write_completion` writes them."""

_DESCRIPTION = """\
Prints a script that completes the commands and options of esxiproxy. For all users:

  esxiproxy completion bash > /usr/share/bash-completion/completions/esxiproxy
  esxiproxy completion zsh > /usr/local/share/zsh/site-functions/_esxiproxy
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description = _DESCRIPTION
    parser.add_argument("shell", choices=tuple(FILES))


def run(arguments: argparse.Namespace) -> int:
    """Print the script; return 0."""
    script = files("esxiproxy.cli").joinpath("completions").joinpath(FILES[arguments.shell])
    print(script.read_text(encoding="utf-8"), end="")
    return 0
