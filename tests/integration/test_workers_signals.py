"""Signals to the processes of several workers, some of which only begin, and to what a worker starts."""

from __future__ import annotations

import contextlib
import os
import re
import signal
from pathlib import Path

import pytest
from twisted.application.service import Service
from twisted.internet.protocol import ProcessProtocol
from twisted.logger import Logger

from tests.support import config
from tests.support.crowd import Crew, EchoUpstream, children, echoes, let_go, opened
from tests.support.probe import Offering
from tests.support.programs import accepts, until

HARMLESS = (signal.SIGUSR1, signal.SIGHUP)


def text_of(upstream: EchoUpstream, **proxy: object) -> str:
    """Return a listener of two workers."""
    sections = config.listener() + config.upstream(upstream.port)
    return config.ini(sections, workers=2, close_timeout="1s", **proxy)


@pytest.fixture
def text(upstream: EchoUpstream) -> str:
    return text_of(upstream)


def disturbed(pid: int) -> None:
    """Send harmless signals to every process that was started, also to the newest one."""
    for child in children(pid):
        for number in HARMLESS:
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, number)


class Disturbed(Crew):
    """A proxy whose workers get signals repeatedly until they are ready."""

    def is_ready(self) -> bool:
        disturbed(self.pid)
        return super().is_ready()


def test_a_log_rotation_ends_no_worker_that_starts(text: str) -> None:
    """The signal ends no worker of a start or a reload, and not the process that reads the configuration."""
    with Disturbed(text) as crew:
        clients = opened(crew.ports["one"], 4)
        os.kill(crew.pid, signal.SIGHUP)

        def in_force() -> bool:
            disturbed(crew.pid)
            os.kill(crew.pid, signal.SIGUSR1)
            return "is in force" in crew.log()

        until(in_force, "the reload is over", 40)
        assert all(echoes(client) for client in clients)
        let_go(clients)
        assert crew.stop() == 0
        assert not re.search("killed|everything stays|started again|Traceback", crew.log()), crew.log()


class Hasty(Crew):
    """A proxy that gets SIGTERM with all its children as soon as there is a child."""

    def is_ready(self) -> bool:
        if len(children(self.pid)) < 2:
            return False
        for pid in [self.pid, *children(self.pid)]:
            os.kill(pid, signal.SIGTERM)
        return True


def test_a_sigterm_to_all_processes_during_the_start_is_one_signal(text: str) -> None:
    """The processes handle the signal when they can: the status is 0, and none was killed."""
    with Hasty(text) as crew:
        assert crew._process is not None and crew._process.wait(20) == 0
        assert not re.search("killed|Traceback|KeyboardInterrupt", crew.log()), crew.log()
        assert not accepts(crew.ports.get("one", 1))


class Starter(Service):
    """A plugin that starts a process as soon as it is started itself, and says how that ended."""

    def __init__(self, _config: object, reactor: object) -> None:
        self._reactor = reactor

    def startService(self) -> None:
        super().startService()
        command = ["sh", "-c", "exec sleep 60"]
        started = self._reactor.spawnProcess(Ended(), "/bin/sh", command, {}, childFDs={})
        Logger().info("started {pid}", pid=started.pid)


class Ended(ProcessProtocol):
    """A service that logs its end."""

    def processEnded(self, reason: object) -> None:
        Logger().info("ended: {reason}", reason=reason.getErrorMessage())


class Starting(Offering, Crew):
    """Workers with the plugin."""

    plugins = {"esxiproxy.services": {"starter": f"{__name__}:Starter"}}


def test_a_worker_reaps_the_processes_of_a_plugin(upstream: EchoUpstream) -> None:
    """No zombie is left, and the plugin's process gets SIGTERM."""
    with Starting(text_of(upstream, services="starter")) as crew:
        found = re.search(r"started (\d+)", crew.log())
        assert found, crew.log()
        os.kill(int(found[1]), signal.SIGTERM)
        until(lambda: "process ended by signal 15" in crew.log(), "the plugin knows")
        assert not Path(f"/proc/{found[1]}").exists()
