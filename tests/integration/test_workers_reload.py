"""Several workers: reloads, which replace them."""

from __future__ import annotations

import os
import re
import signal

from tests.support.crowd import (
    Crew,
    echoes,
    held,
    let_go,
    opened,
)
from tests.support.programs import TICKET, free_port, until
from tests.support.workers import Text, gone, refuses, reloaded


def test_a_reload_keeps_every_console_and_brings_new_workers(text: Text) -> None:
    """New ones serve from then on, as many as the file says now; old ones end with their last console."""
    with Crew(text(workers=2)) as crew:
        port, old = crew.ports["one"], crew.workers()
        clients = opened(port, 10)
        crew.path.write_text(text(workers=3))
        reloaded(crew)
        new = [pid for pid in crew.workers() if pid not in old]
        assert len(new) == 3
        fresh = opened(port, 30)
        assert sum(held(port, old)) == 10 and all(held(port, old))
        assert sum(held(port, new)) == 30 and max(held(port, new)) <= 12
        assert all(echoes(client) for client in clients + fresh)
        let_go(clients)
        until(lambda: all(map(gone, old)), "the old ones have ended")
        assert all(echoes(client) for client in fresh)
        let_go(fresh)
        assert crew.stop() == 0
        crew.assert_clean()


def test_old_workers_end_with_worker_shutdown_timeout(text: Text) -> None:
    """Consoles that are left in them get a Close 1001, and those of the new ones do not."""
    with Crew(text(more="worker_shutdown_timeout = 1s")) as crew:
        port, old = crew.ports["one"], crew.workers()
        clients = opened(port, 6)
        reloaded(crew)
        fresh = opened(port, 6)
        assert {client.recv_close() for client in clients} == {(1001, "the proxy is shutting down")}
        let_go(clients)
        until(lambda: all(map(gone, old)), "the old ones have ended", 5)
        assert all(echoes(client) for client in fresh)
        let_go(fresh)
        crew.assert_clean()


def test_listeners_come_and_go_with_a_reload(text: Text) -> None:
    """A new listener is bound. A removed one is closed when no worker accepts there any more."""
    two = "[listener two]\nlisten = 127.0.0.1:{}\nupstream = esxi1\n"
    more = free_port()
    with Crew(text()) as crew:
        port = crew.ports["one"]
        first = opened(port)
        crew.path.write_text(text(rest=two.format(more)))
        reloaded(crew)
        second = opened(more)
        crew.path.write_text(text())
        reloaded(crew)
        until(lambda: refuses(more), "the listener is closed")
        third = opened(port)
        assert all(echoes(client) for client in first + second + third)
        let_go(first + second + third)
        crew.assert_clean()


def test_a_bad_file_changes_nothing(text: Text) -> None:
    """The log has the problems of the file, and those of workers that cannot start. The old ones continue."""
    with Crew(text()) as crew:
        port, workers = crew.ports["one"], crew.workers()
        clients = opened(port, 4)
        os.mkfifo(crew.folder / "taken")  # a pipe without a reader
        crew.path.write_text(text(more="no_such_key = 1"))
        reloaded(crew, "everything stays as it was")
        assert re.search(r"proxy.ini:\d+: \[proxy\] no_such_key:", crew.log()), crew.log()
        crew.path.write_text(text(more="access_log = taken"))
        reloaded(crew, "everything stays as it was")
        assert "taken: No such device or address" in crew.log()
        until(lambda: crew.workers() == workers, "the new ones are gone")
        clients += opened(port, 4)
        assert all(echoes(client) for client in clients)
        crew.path.write_text(text())
        reloaded(crew)
        let_go(clients)
        assert TICKET not in crew.log()


def test_no_connect_is_refused_while_workers_are_exchanged(text: Text) -> None:
    """A steady stream of consoles over several reloads: each of them opens and echoes."""
    with Crew(text()) as crew:
        port = crew.ports["one"]
        for _ in range(3):
            before = crew.log().count("is in force")
            os.kill(crew.pid, signal.SIGHUP)
            while crew.log().count("is in force") == before:
                (client,) = opened(port)
                assert echoes(client)
                client.drop()
        crew.assert_clean()
