"""``esxiproxy import-nginx``: converts an nginx configuration."""

from __future__ import annotations

import argparse
import sys

from esxiproxy.core.redaction import redact_text
from esxiproxy.nginx.source import SourceError
from esxiproxy.nginx.translation import translate

NAME = "import-nginx"
HELP = "convert an nginx configuration"

_DESCRIPTION = """\
Reads an nginx configuration with its includes and prints the equivalent INI file.
Directives that cannot be converted are listed on standard error with file and line.
A server that would allow more than it does in nginx is omitted.
"""
_EPILOG = """\
exit status: 0 everything is converted, 1 a directive is not, or a thumbprint has to be
filled in, 2 wrong usage, or the file is not an nginx configuration
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description, parser.epilog = _DESCRIPTION, _EPILOG
    parser.add_argument("file", metavar="FILE", help="nginx.conf, or a file with server blocks")
    parser.add_argument(
        "--keep-insecure",
        action="store_true",
        help="write verify = none instead of verify = pin for upstreams that nginx does not verify",
    )


def run(arguments: argparse.Namespace) -> int:
    """Print the converted configuration; return 1 if it is incomplete, 2 if there is none."""
    try:
        translation = translate(arguments.file, arguments.keep_insecure)
    except SourceError as error:
        print(redact_text(str(error)), file=sys.stderr)
        return 2
    for complaint in translation.complaints:
        print(redact_text(str(complaint)), file=sys.stderr)
    print(translation.text, end="")
    return 1 if translation.complaints else 0
