"""The control of a proxy with a master, in its admin process."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from twisted.internet.defer import Deferred

from esxiproxy.app.control import SHUTTING_DOWN, ProcessControl
from esxiproxy.core.config.loader import Config
from esxiproxy.core.reload_outcome import ReloadOutcome
from esxiproxy.interfaces import IState
from esxiproxy.workers.shared.admin_messages import AdminConfig, Facts, WorkerFacts
from esxiproxy.workers.shared.reactor import IProcessReactor

FACTS_TIMEOUT = 10.0
"""Seconds after the last facts when the master no longer counts as alive."""
HEARTBEAT_TIMEOUT = 10.0
"""Seconds after its last heartbeat when a worker no longer counts as alive."""
_NO_MASTER = "the master process gives no sign of life"


class MasterControl(ProcessControl):
    """The control of the proxy by messages to its master.

    ``send`` sends a report to the master.  ``workers`` are the processes that serve consoles, by the latest
    facts.
    """

    def __init__(
        self,
        admin_config: AdminConfig,
        config: Config,
        state: IState,
        send: Callable[..., None],
        reactor: IProcessReactor,
    ) -> None:
        super().__init__(admin_config.identity, state, admin_config.started, reactor)
        self._path = Path(admin_config.config)
        self._config = config
        self._send = send
        self._clock = reactor
        self._facts = Facts()
        self._facts_at = reactor.seconds()
        self._last_request = 0
        self._requests: dict[int, Deferred[ReloadOutcome]] = {}
        self._lost = False

    @property
    def config(self) -> Config:
        return self._config

    @property
    def path(self) -> Path:
        return self._path

    @property
    def workers(self) -> Sequence[WorkerFacts]:
        """The workers of all generations."""
        return self._facts.workers

    def reload(self) -> Deferred[ReloadOutcome]:
        outcome: Deferred[ReloadOutcome] = Deferred()
        if self._lost:
            outcome.callback(_LOST)
            return outcome
        self._last_request += 1
        self._requests[self._last_request] = outcome
        self._send("reload", self._last_request)
        return outcome

    def is_alive(self) -> bool:
        return self._master_lives() and any(self._lives(worker) for worker in self._facts.workers)

    def refusals(self) -> Sequence[str]:
        if not self._master_lives():
            return (_NO_MASTER,)
        if self._facts.ending:
            return (SHUTTING_DOWN,)
        if not any(worker.accepting and self._lives(worker) for worker in self._facts.workers):
            return ("no worker accepts connections",)
        return ()

    # Commands of the master

    def facts_received(self, facts: Facts) -> None:
        """Use these facts, which the master has just sent."""
        self._facts, self._facts_at = facts, self._clock.seconds()

    def reload_ended(self, request: int, outcome: ReloadOutcome) -> None:
        """Pass the outcome of a reload to its caller."""
        waiting = self._requests.pop(request, None)
        if waiting is not None and not waiting.called:
            waiting.callback(outcome)

    def master_lost(self) -> None:
        """End all waiting reloads: the master has exited."""
        self._lost = True
        for request in list(self._requests):
            self.reload_ended(request, _LOST)

    def _master_lives(self) -> bool:
        return not self._lost and self._age() <= FACTS_TIMEOUT

    def _lives(self, worker: WorkerFacts) -> bool:
        return worker.heartbeat_age is not None and worker.heartbeat_age + self._age() <= HEARTBEAT_TIMEOUT

    def _age(self) -> float:
        age: float = self._clock.seconds() - self._facts_at
        return age


_LOST = ReloadOutcome(False, ("the master process has exited",))
