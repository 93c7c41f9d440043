"""The watch that keeps the machines of one server current."""

from __future__ import annotations

from collections.abc import Callable
from random import random
from typing import Any
from xml.etree.ElementTree import Element

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import deferLater
from twisted.logger import Logger

from esxiproxy.core.errors import SessionError
from esxiproxy.vsphere import calls
from esxiproxy.vsphere.answers import created, update_set
from esxiproxy.vsphere.machine_index import MachineIndex
from esxiproxy.vsphere.session import SoapLogin, VSphereSession
from esxiproxy.vsphere.soap import ObjectRef, SoapCall, SoapFault
from esxiproxy.vsphere.watched_objects import WatchedObjects
from esxiproxy.vsphere.xml_tree import InvalidAnswer

WAIT = 30
"""Seconds that the server waits for a change."""
WAIT_TIMEOUT = 60.0
MAX_OBJECTS = 500
"""Maximum number of objects in one answer."""
MAX_ANSWER = 8 << 20
PAUSE = 0.25
"""Seconds between an answer and the next request, so that many small changes become one."""
EMPTY_PAUSE = 1.0
"""Seconds after an answer without changes, which a server may give at once."""
MAX_DELAY = 60.0


class InventoryWatch:
    """Reads all machines of a server, and then each change.

    When the login or the collector has ended at the server, both are made again and all machines are read
    again.  The inventory keeps its machines meanwhile.
    """

    _log = Logger()

    def __init__(
        self,
        session: VSphereSession,
        index: MachineIndex,
        clock: Any,
        jitter: Callable[[], float] = random,
    ) -> None:
        self._session = session
        self._index = index
        self._clock = clock
        self._jitter = jitter
        self._login: SoapLogin | None = None
        self._collector: ObjectRef | None = None
        self._made: list[SoapCall] = []
        """The calls that remove what the login has at the server for the watch."""
        self._version = ""
        self._objects = WatchedObjects()
        self._changed: set[str] | None = set()
        """The machines that changed since the inventory was current, None for any."""
        self._interrupted = False
        """Whether the server may still wait for changes on behalf of a request that has ended."""
        self._failures = 0
        self._running: Deferred[None] | None = None

    def start(self) -> None:
        """Begin to watch."""
        self._running = Deferred.fromCoroutine(self._run())
        self._running.addErrback(lambda failure: failure.trap(CancelledError))

    def stop(self) -> None:
        """End the watch, and the request that waits."""
        running, self._running = self._running, None
        if running is not None:
            running.cancel()

    async def _run(self) -> None:
        while True:
            try:
                await self._follow()
            except (SoapFault, InvalidAnswer, SessionError) as error:
                delay = self._delay(error)
                self._report(str(error))
            except CancelledError:
                raise
            except Exception:
                self._log.failure("[vsphere {name}] the watch failed", name=self._name)
                self._collector = None
                delay = self._delay(None)
                self._report("an error of the proxy, whose traceback is in the log")
            await deferLater(self._clock, delay)

    @property
    def _name(self) -> str:
        return self._index.inventory.name

    def _delay(self, error: Exception | None) -> float:
        """Return the seconds until the next try, and forget what the error ended."""
        if isinstance(error, SoapFault) and error.name == "NotAuthenticated" and self._login is not None:
            self._session.end(self._login)
        if isinstance(error, InvalidAnswer) or (
            isinstance(error, SoapFault) and error.name != "RequestCanceled"
        ):
            self._collector = None
        self._failures += 1
        if self._failures == 1 and isinstance(error, SoapFault):
            return 0.0  # the login or the collector has ended, and both are made again
        delay = float(min(MAX_DELAY, 2.0 ** min(self._failures - 1, 6)))
        return delay * (0.75 + 0.5 * self._jitter())

    def _report(self, reason: str) -> None:
        """Say why the machines are not current, in the log once until they are current again."""
        if self._failures == 1 and self._index.inventory.ready:
            return  # a login that has ended, or one lost connection
        prefix = f"[vsphere {self._name}] "
        text = f"the machines cannot be read and may have changed: {reason.removeprefix(prefix)}"
        if self._index.inventory.problem != text:
            self._log.warn("{prefix}{text}", prefix=prefix, text=text)
        self._index.inventory.problem = text

    async def _follow(self) -> None:
        """Apply the changes to the inventory as they come.  Ends with an error."""
        login = await self._session.login()
        if login is not self._login:
            self._login, self._collector = login, None
            self._made.clear()  # they have ended with the login before
        if self._collector is None:
            await self._destroy(login)
            self._collector = await self._create(login)
            self._begin()
        elif self._interrupted:
            await self._cancel(login, self._collector)
        while True:
            # After a failure the answer comes at once, which shows that the machines are current again.
            wait = 0 if self._failures else WAIT
            call = calls.wait_for_updates(self._collector, self._version, wait, MAX_OBJECTS)
            started = self._clock.seconds()
            self._interrupted = True
            try:
                answer = await self._session.send(login, call, WAIT_TIMEOUT, MAX_ANSWER)
            except SoapFault as fault:
                self._interrupted = False
                if fault.name != "InvalidCollectorVersion" or not self._version:
                    raise
                self._begin()
                continue
            self._interrupted = False
            await deferLater(self._clock, self._apply(answer, started))

    def _begin(self) -> None:
        """Begin with all objects, as if there had been none."""
        self._version, self._objects, self._changed = "", WatchedObjects(), None

    def _apply(self, answer: Element, started: float) -> float:
        """Apply an answer, and return the seconds until the next request."""
        updates = update_set(answer)
        if updates is None:
            self._current()
            return EMPTY_PAUSE if self._clock.seconds() - started < EMPTY_PAUSE else 0.0
        changed = self._objects.apply(updates.objects)
        if changed is None or self._changed is None:
            self._changed = None
        else:
            self._changed |= changed
        self._version = updates.version
        if updates.truncated:
            return 0.0
        self._current()
        return PAUSE if updates.objects else EMPTY_PAUSE

    def _current(self) -> None:
        """Show the objects, which are complete."""
        changed, self._changed = self._changed, set()
        duplicates = self._index.duplicates
        self._index.show(self._objects, changed)
        if self._index.duplicates > duplicates:
            self._log.warn(
                "[vsphere {name}] {count} machines have the instance UUID of another one and are not listed: "
                "give each its own",
                name=self._name,
                count=self._index.duplicates,
            )
        inventory = self._index.inventory
        if not inventory.ready or inventory.problem is not None:
            self._log.info(
                "[vsphere {name}] {count} machines", name=self._name, count=len(inventory.machines)
            )
        inventory.ready, inventory.problem, self._failures = True, None, 0

    async def _create(self, login: SoapLogin) -> ObjectRef:
        """Return a collector of our own that watches everything below the root."""
        content = login.content

        async def create(call: SoapCall) -> ObjectRef:
            return created(await self._session.send(login, call))

        view = await create(calls.create_container_view(content.view_manager, content.root))
        self._made.append(calls.destroy_view(view))
        collector = await create(calls.create_property_collector(content.property_collector))
        self._made.append(calls.destroy_property_collector(collector))
        await create(calls.create_filter(collector, view))
        return collector

    async def _destroy(self, login: SoapLogin) -> None:
        """Remove what an earlier attempt has made at the server, which keeps it as long as the login."""
        while self._made:
            try:
                await self._session.send(login, self._made[-1])
            except (SoapFault, InvalidAnswer) as error:
                if isinstance(error, SoapFault) and error.name == "NotAuthenticated":
                    raise
            self._made.pop()

    async def _cancel(self, login: SoapLogin, collector: ObjectRef) -> None:
        """End the request that the server may still answer: a collector has one at a time."""
        try:
            await self._session.send(login, calls.cancel_wait_for_updates(collector))
        except SoapFault as fault:
            if fault.name in ("NotAuthenticated", "ManagedObjectNotFound"):
                raise
        self._interrupted = False
