"""``esxiproxy watch``: makes the running proxy reload its configuration whenever its files change."""

from __future__ import annotations

import argparse
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from esxiproxy.cli.admin_client import EPILOG, AdminClient, Refused, Unreachable
from esxiproxy.core.config.admin import RUNTIME_FOLDER, SOCKET_NAME
from esxiproxy.ops.manhole.table import count, plain

NAME = "watch"
HELP = "make the running proxy reload whenever its files change"

_DESCRIPTION = """\
Looks at files, and at all files of folders, every two seconds. When they have changed,
and stay the same for one look, the proxy reloads. A file with an error changes nothing,
and the error is printed. The command runs until SIGTERM. In Kubernetes, a sidecar runs
it for the volumes of config maps and secrets.
"""
_INTERVAL = 2.0
Signature = frozenset[tuple[str, int, int, int]]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description, parser.epilog = _DESCRIPTION, EPILOG
    socket = RUNTIME_FOLDER / SOCKET_NAME
    parser.add_argument(
        "--socket", type=Path, default=socket, metavar="PATH", help=f"the unix socket of the proxy ({socket})"
    )
    parser.add_argument("paths", type=Path, nargs="+", metavar="FILE", help="a file, or a folder of files")


def run(arguments: argparse.Namespace) -> int:
    """Watch until SIGTERM or SIGINT; return 0."""
    stopped = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):  # as PID 1 of a container it has no default action
        signal.signal(number, lambda *_: stopped.set())
    client = AdminClient(arguments.socket)
    first = signature(arguments.paths)
    print(f"esxiproxy watch: {count(len(first), 'file')} at the start", flush=True)
    watch(arguments.paths, first, lambda: _reload(client), stopped.wait)
    return 0


def watch(
    paths: Sequence[Path], first: Signature, reload: Callable[[], bool], wait: Callable[[float], bool]
) -> None:
    """Call ``reload`` after each change of the ``first`` signature, until ``wait`` returns True.

    ``reload`` returns False when the proxy could not be asked, and is then called again at the next look.
    """
    in_force = before = first
    while not wait(_INTERVAL):
        now = signature(paths)
        if now == before != in_force and reload():
            in_force = now
        before = now


def signature(paths: Sequence[Path]) -> Signature:
    """Return what changes with the content of files: their inodes, sizes and times, behind symbolic links."""
    return frozenset(_signatures(paths))


def _signatures(paths: Sequence[Path]) -> Iterator[tuple[str, int, int, int]]:
    for path in paths:
        for file in sorted(path.iterdir()) if path.is_dir() else (path,):
            try:
                found = file.stat()
            except OSError:  # it has just been replaced
                continue
            yield str(file), found.st_ino, found.st_size, found.st_mtime_ns


def _reload(client: AdminClient) -> bool:
    """Make the proxy reload and print the outcome; return whether the proxy has answered."""
    try:
        outcome = client.call("reload", {"reason": "files have changed"})
    except Refused as error:
        print(
            f"esxiproxy watch: the proxy refused to reload: {plain(str(error))}", file=sys.stderr, flush=True
        )
        return True
    except Unreachable as error:
        print(f"esxiproxy watch: {plain(str(error))}; trying again", file=sys.stderr, flush=True)
        return False
    if outcome["reloaded"]:
        print("esxiproxy watch: files have changed; the proxy has reloaded them", flush=True)
    for problem in outcome["problems"]:
        print(f"esxiproxy watch: {plain(str(problem))}", file=sys.stderr, flush=True)
    return True
