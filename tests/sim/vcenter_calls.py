"""A simulated vCenter in memory: SOAP requests in, the elements of answers out, on a clock of the test."""

from __future__ import annotations

from typing import Any, Self
from xml.etree import ElementTree
from xml.sax.saxutils import escape

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from esxiproxy.sim.vcenter.endpoint import SoapAnswer
from esxiproxy.sim.vcenter.objects import MachineObject
from esxiproxy.sim.vcenter.options import PASSWORD, USER, VCenterOptions
from esxiproxy.sim.vcenter.vcenter import SimulatedVCenter

ENVELOPE = (
    '<Envelope xmlns="http://schemas.xmlsoap.org/soap/envelope/"'
    ' xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"><Body>{}</Body></Envelope>'
)


class FaultAnswer(Exception):
    """The fault of an answer: its name, and the texts of its fields."""

    def __init__(self, detail: ElementTree.Element, message: str) -> None:
        self.name = detail.tag.removesuffix("Fault")
        self.fields = {field.tag: field.text for field in detail}
        super().__init__(f"{self.name}: {message}")


class Client:
    """A client of a vCenter without a network."""

    def __init__(self, version: str = "urn:vim25/8.0.3.0", **options: Any) -> None:
        self.clock = Clock()
        self.vcenter = SimulatedVCenter(VCenterOptions(**options), self.clock)
        self.version = version
        self.token: str | None = None

    def start(self, method: str, target: str, moid: str, arguments: str = "") -> Deferred[SoapAnswer]:
        """Send a call; the Deferred fires with the answer's octets."""
        this = f'<_this type="{target}">{escape(moid)}</_this>'
        body = ENVELOPE.format(f'<{method} xmlns="urn:vim25">{this}{arguments}</{method}>')
        return Deferred.fromCoroutine(self.vcenter.soap.answer(body.encode(), self.version, self.token))

    def call(self, method: str, target: str, moid: str, arguments: str = "") -> list[ElementTree.Element]:
        """Return the `returnval` elements of an answer that comes at once. Raises FaultAnswer."""
        return self.read(self.start(method, target, moid, arguments))

    def read(self, answer: Deferred[SoapAnswer]) -> list[ElementTree.Element]:
        """Return the `returnval` elements of an answer that has come. Raises FaultAnswer."""
        got: list[SoapAnswer] = []
        answer.addCallback(got.append)
        assert got, "there is no answer yet"
        if got[0].session is not None:
            self.token = got[0].session.token
        root = ElementTree.fromstring(got[0].body)
        for element in root.iter():
            element.tag = element.tag.rpartition("}")[2]
        content = root[0][0]
        if content.tag == "Fault":
            assert got[0].status == 500
            detail = content.find("detail")
            assert detail is not None
            raise FaultAnswer(detail[0], content.findtext("faultstring") or "")
        return list(content)

    def log_in(self, password: str = PASSWORD) -> None:
        """Open a session and keep its cookie."""
        self.call(
            "Login",
            "SessionManager",
            "SessionManager",
            f"<userName>{USER}</userName><password>{password}</password>",
        )

    def machine(self, name: str) -> MachineObject:
        """Return a machine of the inventory."""
        machine = self.vcenter.inventory.find_machine(name)
        assert machine is not None
        return machine

    def moid(self, name: str) -> str:
        """Return the moid of a machine."""
        return self.machine(name).ref.moid

    def on(self, name: str, method: str, arguments: str = "") -> list[ElementTree.Element]:
        """Call a method of the machine with this name."""
        return self.call(method, "VirtualMachine", self.moid(name), arguments)

    def watch(self, *paths: str) -> str:
        """Filter all machines by a container view; return the moid of the collector."""
        root = self.vcenter.inventory.root.ref.moid
        (view,) = self.call(
            "CreateContainerView",
            "ViewManager",
            "ViewManager",
            f'<container type="Folder">{root}</container><type>VirtualMachine</type>'
            "<recursive>true</recursive>",
        )
        asked = "".join(f"<pathSet>{path}</pathSet>" for path in paths)
        (collector,) = self.call("CreatePropertyCollector", "PropertyCollector", "propertyCollector")
        self.call(
            "CreateFilter",
            "PropertyCollector",
            collector.text or "",
            f"<spec><propSet><type>VirtualMachine</type>{asked}</propSet><objectSet>"
            f'<obj type="ContainerView">{view.text}</obj><skip>true</skip><selectSet><name>v</name>'
            "<type>ContainerView</type><path>view</path><skip>false</skip></selectSet></objectSet></spec>"
            "<partialUpdates>false</partialUpdates>",
        )
        return collector.text or ""

    def watched(self, *paths: str) -> tuple[str, ElementTree.Element]:
        """Filter all machines; return the moid of the collector and the first updates."""
        collector = self.watch(*paths)
        (updates,) = self.read(self.wait(collector, ""))
        return collector, updates

    def logged_in(self) -> Self:
        """Open a session, and return the client."""
        self.log_in()
        return self

    def wait(
        self, collector: str, version: str, seconds: int | None = 0, limit: int | None = None
    ) -> Deferred[SoapAnswer]:
        """Send a wait for updates."""
        options = "" if seconds is None else f"<maxWaitSeconds>{seconds}</maxWaitSeconds>"
        options += "" if limit is None else f"<maxObjectUpdates>{limit}</maxObjectUpdates>"
        arguments = f"<version>{version}</version><options>{options}</options>"
        return self.start("WaitForUpdatesEx", "PropertyCollector", collector, arguments)


def version_of(updates: ElementTree.Element) -> str:
    """Return the version of an UpdateSet."""
    return updates.findtext("version") or ""


def changes(updates: ElementTree.Element) -> list[tuple[str, str, dict[str, str | None]]]:
    """Return the kind, the moid and the new values of every object in an UpdateSet."""
    return [
        (
            each.findtext("kind") or "",
            each.findtext("obj") or "",
            {change.findtext("name") or "": change.findtext("val") for change in each.findall("changeSet")},
        )
        for each in updates.iter("objectSet")
    ]
