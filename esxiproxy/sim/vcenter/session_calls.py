"""The calls on a simulated vCenter's services: sessions, views and properties."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import count
from typing import TypeAlias

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from esxiproxy.sim.vcenter import soap_faults
from esxiproxy.sim.vcenter.collector import CollectorObject, FilterObject, read_all
from esxiproxy.sim.vcenter.inventory import SimulatedInventory
from esxiproxy.sim.vcenter.objects import Entity, ManagedObject
from esxiproxy.sim.vcenter.options import VCenterOptions
from esxiproxy.sim.vcenter.selection import FilterSpec
from esxiproxy.sim.vcenter.sessions import SessionStore, VCenterSession
from esxiproxy.sim.vcenter.soap import (
    ReceivedCall,
    Ref,
    Several,
    SoapElement,
    Structure,
    Typed,
    Value,
    structure,
)
from esxiproxy.sim.vcenter.views import ViewObject

SERVICE, SESSIONS = Ref("ServiceInstance", "ServiceInstance"), Ref("SessionManager", "SessionManager")
VIEWS, COLLECTOR = Ref("ViewManager", "ViewManager"), Ref("PropertyCollector", "propertyCollector")

Result: TypeAlias = Value | Deferred[Structure | None]
Call: TypeAlias = Callable[[ReceivedCall, VCenterSession], Result]

NO_LIMIT = 1 << 31


@dataclass(slots=True)
class NewSession:
    """The session that a call has opened or ended, for the answer's cookie."""

    session: VCenterSession | None = None


class SessionCalls:
    """The calls of the session, view and property services."""

    def __init__(
        self,
        options: VCenterOptions,
        instance_uuid: str,
        inventory: SimulatedInventory,
        sessions: SessionStore,
        clock: IReactorTime,
    ) -> None:
        self._options = options
        self._instance_uuid = instance_uuid
        self._inventory = inventory
        self._sessions = sessions
        self._clock = clock
        self._numbers = count(1)
        self.calls: Mapping[tuple[str, str], Call] = {
            ("ServiceInstance", "CurrentTime"): lambda call, session: sessions.now(),
            ("SessionManager", "Logout"): self._log_out,
            ("SessionManager", "SessionIsActive"): self._is_active,
            ("SessionManager", "AcquireCloneTicket"): lambda call, session: sessions.clone_ticket(session),
            ("ViewManager", "CreateContainerView"): self._create_view,
            ("ContainerView", "DestroyView"): self._destroy,
            ("PropertyCollector", "CreatePropertyCollector"): self._create_collector,
            ("PropertyCollector", "DestroyPropertyCollector"): self._destroy,
            ("PropertyCollector", "CreateFilter"): self._create_filter,
            ("PropertyFilter", "DestroyPropertyFilter"): self._destroy,
            ("PropertyCollector", "RetrieveProperties"): self._retrieve_all,
            ("PropertyCollector", "RetrievePropertiesEx"): self._retrieve,
            ("PropertyCollector", "ContinueRetrievePropertiesEx"): self._continue,
            ("PropertyCollector", "CancelRetrievePropertiesEx"): self._cancel_retrieve,
            ("PropertyCollector", "WaitForUpdatesEx"): self._wait_ex,
            ("PropertyCollector", "WaitForUpdates"): self._wait,
            ("PropertyCollector", "CancelWaitForUpdates"): self._cancel_wait,
        }
        inventory.listeners.add(self._changed)

    def opened(self, session: VCenterSession) -> None:
        """Give a new session its default property collector."""
        session.objects[COLLECTOR] = CollectorObject(COLLECTOR, self._clock, self._inventory)

    def log_in(self, call: ReceivedCall, made: NewSession) -> Structure:
        """Open a session. Raises VimFault."""
        user, password = call.arguments.text("userName"), call.arguments.text("password")
        made.session = self._sessions.log_in(user or "", password or "")
        return made.session.describe(self._sessions.now())

    def clone(self, call: ReceivedCall, made: NewSession) -> Structure:
        """Open another session of the user who has acquired a ticket for it. Raises VimFault."""
        made.session = self._sessions.clone(call.arguments.text("cloneTicket") or "")
        return made.session.describe(self._sessions.now())

    def content(self) -> Structure:
        """Return the references of the services, and what this vCenter is."""
        number, build = self._options.version.rpartition(".")[0], "24000000"
        about = structure(
            "AboutInfo",
            name="VMware vCenter Server",
            fullName=f"VMware vCenter Server {number} build-{build} (simulated)",
            vendor="VMware, Inc.",
            version=number,
            build=build,
            localeVersion="INTL",
            localeBuild="000",
            osType="linux-x64",
            productLineId="vpx",
            apiType="VirtualCenter",
            apiVersion=self._options.version,
            instanceUuid=self._instance_uuid,
            licenseProductName="VMware VirtualCenter Server",
            licenseProductVersion=number,
        )
        return structure(
            "ServiceContent",
            rootFolder=self._inventory.root.ref,
            propertyCollector=COLLECTOR,
            viewManager=VIEWS,
            about=about,
            sessionManager=SESSIONS,
        )

    def resolve(self, ref: Ref, session: VCenterSession) -> ManagedObject | None:
        """Return the object of a reference, which may be one of the session's own."""
        if ref == SERVICE:
            return _Service(SERVICE, {"content": self.content, "serverClock": self._sessions.now})
        if ref == SESSIONS:
            return _Service(SESSIONS, {"currentSession": lambda: session.describe(self._sessions.now())})
        if ref == VIEWS:
            return _Service(VIEWS, {})
        return session.objects.get(ref) or self._inventory.objects.get(ref)

    def fetch(self, call: ReceivedCall, session: VCenterSession) -> Value:
        """Return one property of an object."""
        managed = self.resolve(call.target, session)
        assert managed is not None
        values, missing = read_all(managed, (call.arguments.text("prop") or "",))
        if missing:
            raise soap_faults.no_permission(call.target, "System.Read")
        value = next(iter(values.values()), None)
        return None if value is None else Typed(value)

    def _changed(self, ref: Ref) -> None:
        for session in self._sessions.all:
            for collector in session.collectors:
                collector.mark(ref)

    def _own_ref(self, type_name: str, session: VCenterSession) -> Ref:
        return Ref(type_name, f"session[{session.key}]{next(self._numbers)}")

    def _log_out(self, call: ReceivedCall, session: VCenterSession) -> None:
        self._sessions.log_out(session)

    def _is_active(self, call: ReceivedCall, session: VCenterSession) -> bool:
        key = call.arguments.text("sessionID")
        return any(each.key == key for each in self._sessions.all)

    def _create_view(self, call: ReceivedCall, session: VCenterSession) -> Ref:
        wanted = call.arguments.child("container")
        container = None if wanted is None else self._inventory.objects.get(wanted.ref)
        if not isinstance(container, Entity):
            raise soap_faults.invalid_argument("container")
        types = tuple(each.value for each in call.arguments.children("type"))
        ref = self._own_ref("ContainerView", session)
        recursive = call.arguments.flag("recursive")
        session.objects[ref] = ViewObject(ref, self._inventory, container, types, recursive)
        return ref

    def _create_collector(self, call: ReceivedCall, session: VCenterSession) -> Ref:
        ref = self._own_ref("PropertyCollector", session)
        session.objects[ref] = CollectorObject(ref, self._clock, self._inventory)
        return ref

    def _create_filter(self, call: ReceivedCall, session: VCenterSession) -> Ref:
        collector = self._collector(call, session)
        spec = call.arguments.child("spec")
        if spec is None:
            raise soap_faults.invalid_argument("spec")
        ref = self._own_ref("PropertyFilter", session)
        made = FilterObject(ref, self._spec(spec, session), lambda each: self.resolve(each, session))
        collector.filters[ref] = made
        session.objects[ref] = made
        collector.wake()
        return ref

    def _destroy(self, call: ReceivedCall, session: VCenterSession) -> None:
        gone = session.objects.pop(call.target)
        if isinstance(gone, CollectorObject):
            gone.cancel()
            for ref in gone.filters:
                session.objects.pop(ref, None)
        for collector in session.collectors:
            collector.filters.pop(call.target, None)

    def _spec(self, spec: SoapElement, session: VCenterSession) -> FilterSpec:
        made = FilterSpec(spec)
        for root in made.roots:
            if self.resolve(root, session) is None:
                raise soap_faults.not_found(root)
        return made

    def _contents(self, call: ReceivedCall, session: VCenterSession) -> list[Structure]:
        found = []
        for each in call.arguments.children("specSet"):
            selected = self._spec(each, session).select(lambda ref: self.resolve(ref, session))
            for ref, paths in selected.items():
                managed = self.resolve(ref, session)
                assert managed is not None
                values, missing = read_all(managed, paths)
                properties = tuple(
                    structure("DynamicProperty", name=path, val=Typed(value))
                    for path, value in values.items()
                )
                found.append(
                    structure(
                        "ObjectContent",
                        obj=ref,
                        propSet=Several("DynamicProperty", properties),
                        missingSet=Several("MissingProperty", missing),
                    )
                )
        return found

    def _retrieve_all(self, call: ReceivedCall, session: VCenterSession) -> Several:
        return Several("ObjectContent", tuple(self._contents(call, session)))

    def _retrieve(self, call: ReceivedCall, session: VCenterSession) -> Structure | None:
        options = call.arguments.child("options")
        limit = None if options is None else options.number("maxObjects")
        return self._page(self._contents(call, session), limit or NO_LIMIT, session)

    def _continue(self, call: ReceivedCall, session: VCenterSession) -> Structure | None:
        left = session.continuations.pop(call.arguments.text("token") or "", None)
        if left is None:
            raise soap_faults.invalid_argument("token")
        return self._page(left, len(left), session)

    def _cancel_retrieve(self, call: ReceivedCall, session: VCenterSession) -> None:
        session.continuations.pop(call.arguments.text("token") or "", None)

    def _page(self, found: list[Structure], limit: int, session: VCenterSession) -> Structure | None:
        if not found:
            return None
        token = None
        if len(found) > limit:
            token = secrets.token_hex(8)
            session.continuations[token] = found[limit:]
        return structure(
            "RetrieveResult", token=token, objects=Several("ObjectContent", tuple(found[:limit]))
        )

    def _wait_ex(self, call: ReceivedCall, session: VCenterSession) -> Deferred[Structure | None]:
        options = call.arguments.child("options")
        seconds = None if options is None else options.number("maxWaitSeconds")
        limit = None if options is None else options.number("maxObjectUpdates")
        version = call.arguments.text("version") or ""
        return self._collector(call, session).wait(version, limit or NO_LIMIT, seconds)

    def _wait(self, call: ReceivedCall, session: VCenterSession) -> Deferred[Structure | None]:
        return self._collector(call, session).wait(call.arguments.text("version") or "", NO_LIMIT, None)

    def _cancel_wait(self, call: ReceivedCall, session: VCenterSession) -> None:
        self._collector(call, session).cancel()

    def _collector(self, call: ReceivedCall, session: VCenterSession) -> CollectorObject:
        collector = session.objects[call.target]
        assert isinstance(collector, CollectorObject)
        return collector


class _Service(ManagedObject):
    """A service with properties of its own."""

    def __init__(self, ref: Ref, properties: Mapping[str, Callable[[], Value]]) -> None:
        super().__init__(ref)
        self._properties = properties

    def properties(self) -> Mapping[str, Callable[[], Value]]:
        return self._properties
