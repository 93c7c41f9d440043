"""A vCenter in memory behind the interface of the HTTP client: it answers SOAP, and keeps what it was asked.

It has a session table, one collector, objects with properties, and a fault or an error for each method on
demand.  A call that waits for updates hangs until `publish`.
"""

from __future__ import annotations

import re
from typing import Any
from xml.sax.saxutils import escape

from twisted.internet.defer import Deferred, maybeDeferred, succeed

from esxiproxy.core.errors import ServiceUnavailable
from esxiproxy.interfaces import Answer

PASSWORD = "pa55-<&>-word"
ENVELOPE = (
    '<?xml version="1.0" encoding="UTF-8"?><soapenv:Envelope '
    'xmlns:soapenv="http://schemas.xmlsoap.org/soap/envelope/" xmlns:xsd="http://www.w3.org/2001/XMLSchema" '
    'xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"><soapenv:Body>{}</soapenv:Body></soapenv:Envelope>'
)
CONTENT = (
    '<rootFolder type="Folder">group-d1</rootFolder>'
    '<propertyCollector type="PropertyCollector">propertyCollector</propertyCollector>'
    '<viewManager type="ViewManager">ViewManager</viewManager>'
    "<about><apiType>{}</apiType><apiVersion>7.0.3.0</apiVersion></about>"
    '<sessionManager type="SessionManager">SessionManager</sessionManager>'
)
VERSIONS = (
    '<?xml version="1.0"?><namespaces version="1.0"><namespace><name>urn:vim25</name>'
    "<version>8.0.2.0</version></namespace></namespaces>"
)


def uuid_of(number: int) -> str:
    return f"5000{number:04x}-0000-4000-8000-{number:012x}"


def envelope(content: str, status: int = 200, fields: Any = ()) -> Answer:
    return Answer(status, tuple(fields), ENVELOPE.format(content).encode())


def fault(name: str, detail: str = "") -> Answer:
    """Return an answer with a fault, whose text must not be shown."""
    content = (
        "<soapenv:Fault><faultcode>ServerFaultCode</faultcode><faultstring>secret text</faultstring>"
        f'<detail><{name}Fault xmlns="urn:vim25" xsi:type="{name}">{detail}</{name}Fault></detail>'
        "</soapenv:Fault>"
    )
    return envelope(content, 500)


def result(method: str, content: str = "", returned: bool = True) -> Answer:
    inner = f"<returnval>{content}</returnval>" if returned else content
    return envelope(f'<{method}Response xmlns="urn:vim25">{inner}</{method}Response>')


def machine(number: int, **changed: str | None) -> dict[str, str]:
    """Return the properties of a machine."""
    found: dict[str, str | None] = {
        "name": f"web-{number}",
        "parent": "group-v10",
        "runtime.powerState": "poweredOn",
        "runtime.host": "host-1",
        "runtime.connectionState": "connected",
        "config.template": "false",
        "config.instanceUuid": uuid_of(number),
        "config.maxMksConnections": "40",
    }
    found |= {name.replace("__", "."): value for name, value in changed.items()}
    return {name: value for name, value in found.items() if value is not None}


def world(machines: int = 3) -> dict[str, dict[str, dict[str, str]]]:
    """Return a datacenter with nested folders, a host, and machines."""
    return {
        "Datacenter": {"datacenter-2": {"name": "DC", "parent": "group-d1"}},
        "Folder": {
            "group-v3": {"name": "vm", "parent": "datacenter-2"},
            "group-v9": {"name": "Prod", "parent": "group-v3"},
            "group-v10": {"name": "Web", "parent": "group-v9"},
        },
        "HostSystem": {"host-1": {"name": "esx1.example"}, "host-2": {"name": "esx2.example"}},
        "VirtualMachine": {f"vm-{number}": machine(number) for number in range(1, machines + 1)},
    }


class ScriptedVCenter:
    """An IHttpClient whose server is a vCenter.

    `faults` has answers or errors by method, one for each next call.  `calls` are pairs of a method and the
    session.  `hanging` are methods that do not answer, whose Deferreds are in `held`.
    """

    def __init__(self, objects: Any = None, password: str = PASSWORD) -> None:
        self.objects = world() if objects is None else objects
        self.password = password
        self.api_type = "VirtualCenter"
        self.calls: list[tuple[str, bytes]] = []
        self.bodies: list[str] = []
        self.versions: list[bytes] = []
        self.sessions: set[bytes] = set()
        self.logins = 0
        self.faults: dict[str, list[Any]] = {}
        self.answers: dict[str, Any] = {}
        self.hanging: set[str] = set()
        self.held: list[tuple[str, Deferred[Any]]] = []
        self.down: str | None = None
        self.page = 500
        self._version = 0
        self._updates: list[str] = []
        self._waiting: tuple[Deferred[Any], bytes] | None = None
        self._collectors: dict[str, bytes] = {}
        self.made: list[str] = []
        """The views and collectors that exist."""

    # --- the client

    def request(self, method: str, url: str, **how: Any) -> Deferred[Answer]:
        assert url.startswith("https://vc.example/"), url
        if self.down is not None:
            return maybeDeferred(self._raise, ServiceUnavailable(self.down))
        path = url.removeprefix("https://vc.example")
        if method == "GET":
            return self._get(path, how)
        fields = dict(how["fields"])
        body = how["body"].decode()
        name = re.search(r"<Body><(\w+) ", body)[1]  # type: ignore[index]
        cookie = fields.get(b"Cookie", b"")
        self.calls.append((name, cookie))
        self.bodies.append(body)
        self.versions.append(fields[b"SOAPAction"])
        if name in self.hanging:
            held: Deferred[Any] = Deferred()
            self.held.append((name, held))
            return held
        if planned := self.faults.get(name):
            answer = planned.pop(0)
            if isinstance(answer, Exception):
                return maybeDeferred(self._raise, answer)
            return succeed(answer)
        return self._answer(name, cookie, body)

    def count(self, name: str) -> int:
        return sum(called == name for called, _ in self.calls)

    # --- what happens at the server

    def publish(self, *updates: str) -> None:
        """Report changes to the call that waits, or to the next one."""
        self._updates += updates
        if self._waiting is not None and self._updates:
            waiting, _cookie = self._waiting
            self._waiting = None
            waiting.callback(self._next())

    def change(self, moid: str, kind: str = "VirtualMachine", **changed: str | None) -> None:
        """Change properties of an object; None removes one."""
        values = {name.replace("__", "."): value for name, value in changed.items()}
        held = self.objects[kind].setdefault(moid, {})
        for name, value in values.items():
            held.pop(name, None) if value is None else held.update({name: value})
        self.publish(update("modify", kind, moid, values))

    def enter(self, moid: str, properties: dict[str, str], kind: str = "VirtualMachine") -> None:
        self.objects[kind][moid] = properties
        self.publish(update("enter", kind, moid, properties))

    def leave(self, moid: str, kind: str = "VirtualMachine") -> None:
        del self.objects[kind][moid]
        self.publish(update("leave", kind, moid, {}))

    def time_out(self) -> None:
        """Answer the call that waits without changes."""
        waiting, _cookie = self._take_waiting()
        waiting.callback(result("WaitForUpdatesEx", returned=False))

    def fail_wait(self, answer: Any) -> None:
        waiting, _cookie = self._take_waiting()
        waiting.errback(answer) if isinstance(answer, Exception) else waiting.callback(answer)

    def end_sessions(self) -> None:
        """End all sessions with their collectors, as a restart or an idle time-out does."""
        self.sessions.clear()
        self._collectors.clear()
        self.made.clear()
        if self._waiting is not None:
            self.fail_wait(fault("NotAuthenticated"))

    @property
    def waits(self) -> bool:
        return self._waiting is not None

    def _take_waiting(self) -> tuple[Deferred[Any], bytes]:
        assert self._waiting is not None, "no call waits for updates"
        waiting, self._waiting = self._waiting, None
        return waiting

    @staticmethod
    def _raise(error: Exception) -> Any:
        raise error

    def _get(self, path: str, how: Any) -> Deferred[Answer]:
        self.calls.append((f"GET {path}", dict(how["fields"]).get(b"Cookie", b"")))
        if path == "/sdk/vimServiceVersions.xml":
            return succeed(Answer(200, (), VERSIONS.encode()))
        return succeed(self.answers.get(path, Answer(404, (), b"")))

    def _answer(self, name: str, cookie: bytes, body: str) -> Deferred[Answer]:
        if name == "RetrieveServiceContent":
            return succeed(result(name, CONTENT.format(self.api_type)))
        if name == "Login":
            return succeed(self._log_in(body))
        if cookie not in self.sessions:
            return succeed(fault("NotAuthenticated"))
        if name == "Logout":
            self.sessions.discard(cookie)
            return succeed(result(name, returned=False))
        if name == "CreatePropertyCollector":
            moid = f"session[{self.logins}]collector"
            self._collectors[moid] = cookie
            self.made.append("collector")
            return succeed(envelope(_created(name, "PropertyCollector", moid)))
        if name == "CreateContainerView":
            self.made.append("view")
            return succeed(envelope(_created(name, "ContainerView", "session-view")))
        if name in ("DestroyView", "DestroyPropertyCollector"):
            self.made.remove("view" if name == "DestroyView" else "collector")
            return succeed(result(name, returned=False))
        if name == "CreateFilter":
            return succeed(envelope(_created(name, "PropertyFilter", "session-filter")))
        if name == "WaitForUpdatesEx":
            return self._wait(cookie, body)
        if name == "CancelWaitForUpdates":
            return succeed(result(name, returned=False))
        return succeed(self.answers.get(name) or result(name, returned=False))

    def _log_in(self, body: str) -> Answer:
        self.logins += 1
        if f"<password>{escape(self.password)}</password>" not in body:
            return fault("InvalidLogin")
        value = f'vmware_soap_session="{self.logins:032x}"'
        self.sessions.add(value.encode())
        fields = ((b"set-cookie", f"{value}; Path=/; HttpOnly; Secure; ".encode()),)
        content = '<LoginResponse xmlns="urn:vim25"><returnval><key>k</key></returnval></LoginResponse>'
        return envelope(content, fields=fields)

    def _wait(self, cookie: bytes, body: str) -> Deferred[Answer]:
        collector = re.search(r'type="PropertyCollector">([^<]+)<', body)[1]  # type: ignore[index]
        if collector not in self._collectors:
            return succeed(fault("ManagedObjectNotFound"))
        version = re.search("<version>([^<]*)</version>", body)[1]  # type: ignore[index]
        if version == "":
            self._version = 0
            self._updates = [
                update("enter", kind, moid, properties)
                for kind, objects in self.objects.items()
                for moid, properties in objects.items()
            ]
        elif version != str(self._version):
            return succeed(fault("InvalidCollectorVersion"))
        if self._updates:
            return succeed(self._next())
        if "<maxWaitSeconds>0<" in body:
            return succeed(result("WaitForUpdatesEx", returned=False))
        assert self._waiting is None, "a collector has one waiting call"
        waiting: Deferred[Any] = Deferred(lambda _: setattr(self, "_waiting", None))
        self._waiting = (waiting, cookie)
        return waiting

    def _next(self) -> Answer:
        page, self._updates = self._updates[: self.page], self._updates[self.page :]
        self._version += 1
        truncated = "<truncated>true</truncated>" if self._updates else ""
        content = (
            f"<version>{self._version}</version><filterSet>"
            f'<filter type="PropertyFilter">session-filter</filter>{"".join(page)}</filterSet>{truncated}'
        )
        return result("WaitForUpdatesEx", content)


def update(kind: str, type_name: str, moid: str, properties: dict[str, Any]) -> str:
    """Return the XML of the change of one object."""
    changes = []
    for name, value in properties.items():
        if value is None:
            changes.append(f"<changeSet><name>{name}</name><op>indirectRemove</op></changeSet>")
            continue
        kinds = {"parent": "Folder", "runtime.host": "HostSystem"}
        attribute = f'type="{kinds[name]}"' if name in kinds else 'xsi:type="xsd:string"'
        changes.append(
            f"<changeSet><name>{name}</name><op>assign</op><val {attribute}>{escape(value)}</val></changeSet>"
        )
    return f'<objectSet><kind>{kind}</kind><obj type="{type_name}">{moid}</obj>{"".join(changes)}</objectSet>'


def _created(name: str, type_name: str, moid: str) -> str:
    inner = f'<returnval type="{type_name}">{moid}</returnval>'
    return f'<{name}Response xmlns="urn:vim25">{inner}</{name}Response>'
