"""Tags over REST: read once a minute in a login of their own, with bounded requests."""

import json
from base64 import b64encode

import pytest
from twisted.internet.defer import CancelledError, Deferred, succeed

from esxiproxy.core.errors import ServiceUnavailable
from esxiproxy.interfaces import Answer
from tests.support.scripted_vcenter import PASSWORD, machine
from tests.vsphere.scene import Scene

ASSOCIATION = "/api/cis/tagging/tag-association?action=list-attached-objects-on-tags"
TOKEN = "rest-t0ken"


def as_json(value, status=200):
    return Answer(status, (), json.dumps(value).encode())


class Rest:
    """The REST of a vCenter, in front of its SOAP."""

    def __init__(self, soap):
        self.soap = soap
        self.tags = {"urn:tag:1": "console", "urn:tag:2": "old"}
        self.attached = {"urn:tag:1": ["vm-1", "vm-2"], "urn:tag:2": ["vm-2"]}
        self.asked = []
        self.answers = {}
        self.tokens = set()
        self.logins = 0

    def request(self, method, url, **how):
        path = url.removeprefix("https://vc.example")
        if not path.startswith("/api/"):
            return self.soap(method, url, **how)
        self.asked.append((method, path))
        fields = dict(how["fields"])
        planned = self.answers.get((method, path))
        if isinstance(planned, Exception):
            raise planned
        if planned is not None:
            return planned if isinstance(planned, Deferred) else succeed(planned)
        if (method, path) == ("POST", "/api/session"):
            self.logins += 1
            expected = b"Basic " + b64encode(f"svc:{PASSWORD}".encode())
            if fields[b"Authorization"] != expected:
                return succeed(as_json({}, 401))
            self.tokens = {TOKEN.encode()}
            return succeed(as_json(TOKEN, 201))
        if fields.get(b"vmware-api-session-id") not in self.tokens:
            return succeed(as_json({}, 401))
        if method == "DELETE":
            self.tokens.clear()
            return succeed(Answer(204, (), b""))
        if path == "/api/cis/tagging/tag":
            return succeed(as_json(list(self.tags)))
        if path == ASSOCIATION:
            wanted = json.loads(how["body"])["tag_ids"]
            objects = [
                {
                    "tag_id": tag,
                    "object_ids": [{"id": moid, "type": "VirtualMachine"} for moid in self.attached[tag]]
                    + [{"id": "host-1", "type": "HostSystem"}],
                }
                for tag in wanted
            ]
            return succeed(as_json(objects))
        return succeed(as_json({"name": self.tags[path.rpartition("/")[2]], "category_id": "c"}))


@pytest.fixture
def scene(tmp_path):
    made = Scene(tmp_path, tags=True, start=False)
    made.rest = Rest(made.vcenter.request)
    made.vcenter.request = made.rest.request
    made.service.start()
    made.turn()
    return made


def tags(scene):
    return [sorted(scene.machine(number).tags) for number in (1, 2, 3)]


def test_machines_have_the_names_of_their_tags(scene):
    assert tags(scene) == [["console"], ["console", "old"], []]
    assert scene.vcenter.logins == 1 and scene.rest.logins == 1


def test_tags_that_change_are_seen_within_a_minute_and_only_their_machines_change(scene):
    seen = []
    scene.inventory.subscribe(lambda old, new: seen.append(new.name))
    scene.rest.attached["urn:tag:1"] = ["vm-3", "vm-2"]
    scene.rest.tags["urn:tag:2"] = "new"
    scene.turn(60)
    assert tags(scene) == [[], ["console", "new"], ["console"]]
    assert sorted(seen) == ["web-1", "web-2", "web-3"] and scene.rest.logins == 1
    scene.turn(60)
    assert len(seen) == 3


def test_a_tag_is_shown_on_a_machine_that_comes_later(scene):
    scene.vcenter.leave("vm-1")
    scene.turn(1)
    scene.vcenter.enter("vm-1", machine(1))
    scene.turn(1)
    assert tags(scene)[0] == ["console"]


def test_an_ended_login_is_replaced_and_the_tags_stay(scene):
    scene.rest.tokens.clear()
    scene.turn(60)
    assert tags(scene)[0] == ["console"]
    scene.turn(60)
    assert scene.rest.logins == 2 and tags(scene)[0] == ["console"]


def test_a_refused_password_is_tried_once(tmp_path):
    scene = Scene(tmp_path, tags=True, start=False)
    rest = Rest(scene.vcenter.request)
    rest.answers["POST", "/api/session"] = as_json({}, 401)
    scene.vcenter.request = rest.request
    scene.service.start()
    for _ in range(5):
        scene.turn(60)
    assert rest.asked == [("POST", "/api/session")]
    assert scene.inventory.problem is None and tags(scene) == [[], [], []]


@pytest.mark.parametrize(("status", "soap"), [(401, 1), (403, 2)])
def test_a_password_that_rest_refuses_is_not_tried_over_soap(scene, status, soap):
    scene.rest.answers["POST", "/api/session"] = as_json({}, status)
    scene.rest.tokens.clear()
    scene.turn(60)  # the login over REST is found ended
    scene.turn(60)  # and another one is refused
    assert scene.inventory.problem is None and tags(scene)[0] == ["console"]
    scene.vcenter.end_sessions()
    for _ in range(5):
        scene.turn(60)
    assert scene.rest.asked.count(("POST", "/api/session")) == 2 and scene.vcenter.logins == soap
    if status == 401:
        assert "no further login, also for consoles, before the password" in scene.inventory.problem
        scene.rest.answers.clear()
        scene.vcenter.password = "new"
        scene.write("new")
        scene.turn(60)
        scene.turn(60)
        assert scene.vcenter.logins == 2 and scene.inventory.problem is None


def test_many_tags_are_read_in_bounded_requests(scene):
    scene.rest.tags = {f"urn:tag:{number}": f"t{number}" for number in range(3000)}
    scene.rest.attached = {tag: ["vm-1"] for tag in scene.rest.tags}
    scene.rest.asked.clear()
    scene.turn(60, steps=10)
    assert len(scene.machine().tags) == 202
    # The list, the names of 200 new tags and of the 2 known ones, and 2,000 tags in requests for 20 of them.
    assert len(scene.rest.asked) == 1 + 200 + 2 + 100
    scene.rest.asked.clear()
    scene.turn(60, steps=10)
    assert len(scene.machine().tags) == 402 and len(scene.rest.asked) == 1 + 200 + 20 + 100


@pytest.mark.parametrize(
    ("where", "answer"),
    [
        (("GET", "/api/cis/tagging/tag"), as_json({"value": []})),
        (("GET", "/api/cis/tagging/tag"), Answer(200, (), b"[" * 100)),
        (("GET", "/api/cis/tagging/tag"), as_json([], 503)),
        (("POST", ASSOCIATION), Answer(200, (), b"no JSON")),
        (("POST", ASSOCIATION), ServiceUnavailable("https://vc.example did not answer within 20 s")),
        (("GET", "/api/cis/tagging/tag/urn:tag:1"), as_json([], 500)),
    ],
)
def test_an_answer_that_cannot_be_used_keeps_the_tags(scene, where, answer):
    scene.rest.answers[where] = answer
    scene.turn(60)
    assert tags(scene) == [["console"], ["console", "old"], []]
    scene.rest.answers.clear()
    scene.rest.attached["urn:tag:1"] = []
    scene.turn(60)
    assert tags(scene) == [[], ["old"], []]


@pytest.mark.parametrize(
    "objects",
    [
        None,
        [None],
        [{"tag_id": "urn:tag:1"}],
        [{"tag_id": "x", "object_ids": [{"id": "vm-1"}, 5, {"type": 1}]}],
    ],
)
def test_odd_associations_are_left_out(scene, objects):
    scene.rest.answers["POST", ASSOCIATION] = as_json(objects)
    scene.turn(60)
    assert tags(scene) == [[], [], []]


def test_a_tag_whose_id_could_be_another_path_is_left_out(scene):
    scene.rest.tags |= {"../../session": "x", "a/b": "y", "a?b": "z"}
    scene.rest.asked.clear()
    scene.turn(60)
    assert all(path.startswith("/api/cis/tagging/tag") and ".." not in path for _, path in scene.rest.asked)


def test_the_stop_ends_both_logins(scene):
    scene.ask(scene.service.stop())
    scene.turn()
    assert scene.rest.asked[-1] == ("DELETE", "/api/session") and not scene.rest.tokens
    assert not scene.vcenter.sessions


def test_a_stop_that_is_cancelled_ends_both_logouts(scene):
    """The stop has the error of a cancellation.  The guard of the suite finds unhandled errors."""
    scene.vcenter.hanging = {"Logout"}
    scene.rest.answers["DELETE", "/api/session"] = Deferred()
    stopping = scene.ask(scene.service.stop())
    assert stopping.waits
    stopping.deferred.cancel()
    # The first cancellation ends the wait for a login, and the second one the logout.
    stopping.deferred.cancel()
    assert isinstance(stopping.error, CancelledError) and scene.vcenter.calls[-1][0] == "Logout"


@pytest.mark.parametrize("answers", [True, False])
def test_the_stop_in_the_middle_of_a_login_leaves_no_session(scene, answers):
    scene.rest.tokens.clear()
    scene.turn(60)
    login = scene.rest.answers["POST", "/api/session"] = Deferred()
    scene.turn(60)
    stopping = scene.ask(scene.service.stop())
    assert scene.rest.asked[-1] == ("POST", "/api/session") and stopping.waits
    if answers:
        scene.rest.tokens = {TOKEN.encode()}
        login.callback(as_json(TOKEN, 201))
        assert scene.rest.asked[-1] == ("DELETE", "/api/session")
    scene.turn(1)
    assert not stopping.waits and stopping.value is None and not scene.rest.tokens
    assert not scene.vcenter.sessions and not scene.clock.getDelayedCalls()


def test_an_esxi_host_has_no_tags(tmp_path):
    scene = Scene(tmp_path, tags=True, start=False)
    rest = Rest(scene.vcenter.request)
    scene.vcenter.request = rest.request
    scene.vcenter.api_type = "HostAgent"
    scene.service.start()
    scene.turn(60)
    assert rest.asked == [] and scene.names() == ["web-1", "web-2", "web-3"]
