"""``esxiproxy certificate``: creates self-signed certificates for a first try and for tests."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from esxiproxy.sim.certificate import load_or_make

NAME = "certificate"
HELP = "create a self-signed certificate for localhost, for a first try"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument(
        "file", nargs="+", type=Path, help="the certificate's file; its key is written next to it as .key"
    )


def run(arguments: argparse.Namespace) -> int:
    """Create the missing files; return 1 if a file cannot be written or read."""
    for path in arguments.file:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            certificate = load_or_make(path)
        except OSError as error:
            print(f"esxiproxy: {error}", file=sys.stderr)
            return 1
        print(f"{path}: sha256:{certificate.sha256}")
    return 0
