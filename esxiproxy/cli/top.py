"""``esxiproxy top``: shows the busiest consoles, and repeats that."""

from __future__ import annotations

import argparse
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from esxiproxy.admin.openapi.operations import SESSION_COLUMNS
from esxiproxy.admin.openapi.schemas import MAX_PAGE
from esxiproxy.cli import admin_client
from esxiproxy.cli.admin_client import AdminClient, Refused, Unreachable
from esxiproxy.cli.columns import Column, bytes_or_dash, cut, fitted_table
from esxiproxy.cli.sessions import AGE, CLIENT, CONSOLE, HOST, ID, PING, STATE, USER, await_figures
from esxiproxy.cli.status import headline, summary
from esxiproxy.ops.manhole.table import plain

NAME = "top"
HELP = "show the busiest consoles, again and again"

_DESCRIPTION = """\
Shows the consoles with the most traffic, every two seconds, until Ctrl-C. Rates
are measured from the first screen on, and are there after about 8 seconds. Into
a file or a pipe it writes one screen with them and ends, unless --count says
otherwise.
"""
_UP = Column("up/s", lambda session: bytes_or_dash(session["rate_up"]), is_number=True)
_DOWN = Column("down/s", lambda session: bytes_or_dash(session["rate_down"]), is_number=True)
_COLUMNS = (ID, USER, CLIENT, HOST, CONSOLE, AGE, _UP, _DOWN, PING, STATE)
_DESCENDING = ("idle", "bytes_up", "bytes_down", "rate_up", "rate_down", "round_trip")
_HEADER_LINES = 4
"""Lines above the consoles."""
_ROWS = 50
"""Consoles of a screen that is written to a file or a pipe."""
_CLEAR = "\x1b[H\x1b[J"
_BEGIN, _END = "\x1b[?1049h\x1b[?25l", "\x1b[?1049l\x1b[?25h"
"""Take a screen of its own with a hidden cursor, and give it back."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    admin_client.add_arguments(parser, _DESCRIPTION, "print a list of JSON objects for each screen")
    admin_client.add_sort(parser, SESSION_COLUMNS, "rate_down")
    parser.add_argument("--filter", metavar="WORDS", help="only lines with these words")
    parser.add_argument(
        "--interval", type=_interval, default=2.0, metavar="SECONDS", help="between two screens (2)"
    )
    parser.add_argument("--count", type=admin_client.positive, metavar="N", help="end after N screens")


def run(arguments: argparse.Namespace) -> int:
    """Show screens; return the exit status."""
    is_live = sys.stdout.isatty() and not arguments.json
    order = "desc" if arguments.sort in _DESCENDING else "asc"
    query = {"sort": arguments.sort, "order": order, "filter": arguments.filter}

    def act(client: AdminClient) -> int:
        if is_live:
            return _live(client, query, arguments.interval, arguments.count)
        await_figures(client, query, "rate_up")
        for number in range(arguments.count or 1):
            if number:
                time.sleep(arguments.interval)
            if arguments.json:
                page = client.call("list_sessions", limit=_ROWS, **query)
                admin_client.print_json(page["sessions"])
            else:
                admin_client.say(*([""] if number else []), *_screen(client, query, _ROWS, None))
            sys.stdout.flush()
        return admin_client.DONE

    return admin_client.run(arguments, act)


def _live(client: AdminClient, query: dict[str, Any], interval: float, screens: int | None) -> int:
    """Show screens on a terminal until Ctrl-C, and leave the last one there.

    A proxy that cannot be reached for a while, as in a restart, does not end it after the first screen.
    """
    width, height = shutil.get_terminal_size()
    lines = _screen(client, query, height, width)
    try:
        with _own_screen():
            while True:
                _show(lines, *shutil.get_terminal_size())
                if screens is not None and (screens := screens - 1) <= 0:
                    break
                _wait(interval)
                width, height = shutil.get_terminal_size()
                try:
                    lines = _screen(client, query, height, width)
                except (Refused, Unreachable) as error:
                    lines = [str(error), *lines[1:]]
    except KeyboardInterrupt:
        pass
    admin_client.say(*lines)
    return admin_client.DONE


def _wait(seconds: float) -> None:
    """Wait until the size of the terminal changes, which it may have done since it was read.

    Ctrl-C is blocked before it is waited for, since one that came in between would be seen after the wait.
    Raises KeyboardInterrupt.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        received = signal.sigtimedwait([signal.SIGWINCH, signal.SIGINT], seconds)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    if received is not None and received.si_signo == signal.SIGINT:
        raise KeyboardInterrupt


@contextmanager
def _own_screen() -> Iterator[None]:
    """Use the other screen of the terminal, and keep changes of its size for ``sigtimedwait``."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGWINCH])
    print(_BEGIN, end="", flush=True)
    try:
        yield
    finally:
        print(_END, end="", flush=True)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _show(lines: list[str], width: int, height: int) -> None:
    text = "\n".join(cut(plain(line), width) for line in lines[:height])
    print(f"{_CLEAR}{text}", end="", flush=True)


def _screen(client: AdminClient, query: dict[str, Any], height: int, width: int | None) -> list[str]:
    """Return the lines of a screen with at most so many of them, or so many consoles without a width."""
    status = client.call("status")
    rows = height if width is None else max(1, height - _HEADER_LINES)
    sessions = client.call("list_sessions", limit=min(rows, MAX_PAGE), **query)["sessions"]
    return [headline(status), summary(status), "", *fitted_table(_COLUMNS, sessions, width)]


def _interval(text: str) -> float:
    """Return the value of --interval."""
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0.2 <= seconds <= 3600:
        raise argparse.ArgumentTypeError(f"{plain(text)} is no number of seconds from 0.2 to 3600")
    return seconds
