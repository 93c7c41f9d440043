"""People and requests for the tests of the admin sites."""

from pathlib import Path

from esxiproxy.admin.access import Unauthenticated
from esxiproxy.admin.openapi.operations import OPERATIONS, Role
from esxiproxy.core.config.model import Admin
from esxiproxy.core.routing import Principal
from tests.support.admin_site import ACTION

BASE = "/api/v1"
KILL = {"kind": "session", "value": "00112233aabbccdd", "reason": "maintenance"}
BODIES = {
    "kill": KILL,
    "drain": {"kind": "host", "name": "esx1", "reason": "memory"},
    "undrain": {"kind": "host", "name": "esx1"},
    "check": {},
    "reload": {},
    "make_link": {"router": "links", "to": "esx1/ticket/abc"},
    "revoke_link": {"id": "abc", "reason": "lost"},
}
ACTIONS = [operation for operation in OPERATIONS if operation.role is Role.OPERATOR]
READS = [operation for operation in OPERATIONS if operation.role is Role.VIEWER]


def person(name, *groups):
    async def authenticate(arrival):
        return Principal(name, authenticator="authenticator sso", groups=frozenset(groups))

    return authenticate


async def stranger(arrival):
    raise Unauthenticated(401, "no authenticator knows the client", ((b"WWW-Authenticate", b"Basic"),))


STAFF = Admin(
    Path("x"), viewers=frozenset({"@staff"}), operators=frozenset({"root"}), names=frozenset({"127.0.0.1"})
)


def act(address, operation, fields=ACTION, **more):
    return address.request("POST", BASE + operation.path, fields, BODIES[operation.name], **more)


def read(address, operation, **more):
    path = operation.path.replace("{id}", "00112233aabbccdd")
    return address.request("GET", BASE + path, **more)
