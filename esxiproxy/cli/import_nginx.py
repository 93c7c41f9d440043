"""``esxiproxy import-nginx``: an nginx configuration as one of ours."""

from __future__ import annotations

import argparse
import sys

from esxiproxy.core.redaction import redact_text
from esxiproxy.nginx.source import SourceError
from esxiproxy.nginx.translation import translate

NAME = "import-nginx"
HELP = "print the configuration that an nginx.conf amounts to"

_DESCRIPTION = """\
Reads an nginx configuration with its includes and prints the equivalent INI. What
cannot be carried over is named on standard error, with its file and line, and is not
guessed: a server that would let more through than nginx did is left out.
"""
_EPILOG = """\
exit status: 0 everything is carried over, 1 something is not, or a thumbprint has to be
filled in, 2 wrong usage, or no nginx configuration
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description, parser.epilog = _DESCRIPTION, _EPILOG
    parser.add_argument("file", metavar="FILE", help="nginx.conf, or a file with server blocks")
    parser.add_argument(
        "--keep-insecure",
        action="store_true",
        help="verify = none for upstreams that nginx did not verify, in place of verify = pin",
    )


def run(arguments: argparse.Namespace) -> int:
    """Print it; the exit status says whether it is everything."""
    try:
        translation = translate(arguments.file, arguments.keep_insecure)
    except SourceError as error:
        print(redact_text(str(error)), file=sys.stderr)
        return 2
    for complaint in translation.complaints:
        print(redact_text(str(complaint)), file=sys.stderr)
    print(translation.text, end="")
    return 1 if translation.complaints else 0
