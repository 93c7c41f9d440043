"""``esxiproxy import-nginx``: converts an nginx configuration."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from esxiproxy.core.redaction import redact_text
from esxiproxy.nginx.routers import HostList
from esxiproxy.nginx.sections import OutputEntry
from esxiproxy.nginx.source import SourceError
from esxiproxy.nginx.translation import translate

NAME = "import-nginx"
HELP = "convert an nginx configuration"

_DESCRIPTION = """\
Reads an nginx configuration with its includes and prints the equivalent INI file.
Directives that cannot be converted are listed on standard error with file and line.
A server that would allow more than it does in nginx is omitted.
A proxy_pass with a variable host becomes a router with a list of hosts.
"""
_EPILOG = """\
exit status: 0 everything is converted, 1 a directive is not, or a thumbprint or a list of
hosts has to be filled in, 2 wrong usage, the file is not an nginx configuration, or a list
of hosts cannot be written
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
    parser.add_argument(
        "--hosts",
        metavar="FOLDER",
        help="write the lists of hosts into this folder; without it they are comments in the INI file",
    )


def run(arguments: argparse.Namespace) -> int:
    """Print the converted configuration; return 1 if it is incomplete, 2 if there is none."""
    try:
        _check_folder(arguments.hosts)
        translation = translate(arguments.file, arguments.keep_insecure, arguments.hosts)
        _write(translation.lists)
    except (SourceError, _ListError) as error:
        print(redact_text(str(error)), file=sys.stderr)
        return 2
    for complaint in translation.complaints:
        print(redact_text(str(complaint)), file=sys.stderr)
    print(translation.text, end="")
    return 1 if translation.complaints else 0


class _ListError(Exception):
    """Raised if a list of hosts cannot be written."""


def _check_folder(folder: str | None) -> None:
    """Raise _ListError if lists cannot be written into this folder."""
    if folder is None:
        return
    if not os.path.isdir(folder):
        raise _ListError(f"{folder}: no such folder for the lists of hosts: create it, or name another")
    if not OutputEntry("file", os.path.abspath(folder)).writable:
        raise _ListError(f"{folder!r}: this path cannot be written in an INI file: name another folder")


def _write(lists: Sequence[HostList]) -> None:
    """Write new files, or none if one is there already.  Raises _ListError."""
    there = [hosts.path for hosts in lists if os.path.lexists(hosts.path)]
    if there:
        raise _ListError(f"{there[0]}: there is such a file already: remove it, or name another folder")
    for hosts in lists:
        try:
            with open(hosts.path, "x", encoding="utf-8") as file:
                file.write(hosts.content)
        except OSError as error:
            raise _ListError(f"{hosts.path}: cannot be written: {error.strerror}") from error
