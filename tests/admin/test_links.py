"""The list of links: those of open consoles and the revoked ones, at a cost that readers share."""

from twisted.internet.defer import Deferred

from esxiproxy.admin.api.links import LinkOperations
from esxiproxy.admin.call import Call
from esxiproxy.core.sealing import key_of
from esxiproxy.routers.links import REVOKED_SPACE
from tests.admin.scene import OPERATOR, Admin, Worker, check
from tests.state.world import MemoryWorld
from tests.support.outcome import result


class Scene:
    """A worker with consoles, and the operations on links of the admin service beside it."""

    def __init__(self, folder):
        self.world = MemoryWorld(folder)
        self.worker, self.admin = Worker(self.world), Admin(self.world)
        self.operations = LinkOperations(self.admin.control, self.admin.live)
        self.reads = 0
        sessions = self.admin.state.sessions

        def counted(*arguments, **named):
            self.reads += 1
            return sessions(*arguments, **named)

        self.admin.state.sessions = counted

    def call(self, name, **body):
        return result(Deferred.fromCoroutine(getattr(self.operations, name)(Call(OPERATOR, body=body))))

    def listed(self):
        found = self.call("list_links")
        check("Links", found)
        return [(row["id"], row["sessions"], row["principals"], row["revoked"]) for row in found["links"]]


def test_links_of_open_consoles_and_revoked_ones_are_listed(tmp_path):
    scene = Scene(tmp_path)
    for principal, link in (("bob", "l2"), ("alice", "l1"), ("carol", "l1"), ("alice", "l1"), ("dan", "")):
        scene.worker.open(principal, link=link)
    result(scene.worker.state.put(REVOKED_SPACE, key_of("l3"), "l3", float("inf")))
    assert scene.listed() == [
        ("l1", 3, ["alice", "carol"], False),
        ("l2", 1, ["bob"], False),
        ("l3", 0, [], True),
    ]


def test_readers_share_what_is_read_and_a_revocation_is_seen_at_once(tmp_path):
    scene = Scene(tmp_path)
    scene.worker.open(link="l1")
    for _ in range(20):
        scene.listed()
    assert scene.reads == 1
    assert scene.call("revoke_link", id="l1", reason="lost") == {"sessions": 1}
    ((identity, _sessions, _principals, is_revoked),) = scene.listed()
    assert (identity, is_revoked) == ("l1", True)


def test_a_link_of_thousands_of_users_is_listed_in_linear_time(tmp_path):
    scene = Scene(tmp_path)
    for number in range(2000):
        scene.worker.open(f"user{number}", link="l1")

    class Name(str):
        compared = 0

        def __eq__(self, other):
            Name.compared += 1
            return str.__eq__(self, other)

        __hash__ = str.__hash__

    entries = scene.admin.live.entries

    async def named():
        found = await entries()
        for entry in found:
            object.__setattr__(entry, "principal", Name(entry.principal))
        return found

    scene.admin.live.entries = named
    ((_identity, sessions, principals, _revoked),) = scene.listed()
    assert sessions == len(principals) == 2000
    assert Name.compared < 10_000
