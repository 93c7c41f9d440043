"""The listeners with their certificates, and the drains of all machines."""

from datetime import timedelta
from math import inf

import pytest

from esxiproxy.admin import certificates
from esxiproxy.app.preflight import load
from esxiproxy.core.routing import Upstream
from esxiproxy.core.session.drain import Drain, DrainKind, drain_key
from tests.admin.scene import Admin, Worker
from tests.state.world import MemoryWorld
from tests.support.certificates import self_signed
from tests.support.config import authenticator, ini, listener, upstream
from tests.support.logs import process_log
from tests.support.outcome import result

DAY = timedelta(days=1)


@pytest.fixture
def world(tmp_path):
    world = MemoryWorld(tmp_path)
    world.day = 0.0
    return world


@pytest.fixture
def certificate(tmp_path):
    return self_signed(
        tmp_path, "listener", ("console.example.com", "other.example"), ("192.0.2.1",), not_after=30 * DAY
    )


@pytest.fixture
def config(tmp_path, certificate):
    (tmp_path / "users").write_text("")
    path = tmp_path / "proxy.ini"
    path.write_text(
        ini(
            listener(
                "secure",
                tls=certificate,
                max_sessions=10,
                http="forward",
                public_url="https://c.example",
                authenticator="staff",
            ),
            listener("plain"),
            upstream("ws://192.0.2.10"),
            authenticator("staff", "htpasswd", file="users"),
        )
    )
    return load(path)


def drain(worker, *given, **more):
    made = Drain(*given, **more)
    result(worker.state.put("drains", drain_key(made), made.value, inf))


def listeners(admin):
    return {each["name"]: each for each in admin.call("list_listeners")["listeners"]}


def at(certificate, seconds_left):
    """Return the time of day at which a certificate has so much time left."""
    return certificate.certificate.not_valid_after_utc.timestamp() - seconds_left


def test_the_listeners_are_those_of_the_configuration(world, config, certificate):
    worker, admin = Worker(world), Admin(world, config=config)
    worker.open(listener="secure"), worker.open(listener="secure"), worker.open(listener="plain")
    found = listeners(admin)
    assert list(found) == ["secure", "plain"]
    secure = found["secure"]
    assert (secure["http"], secure["public_url"], secure["limit"]) == ("forward", "https://c.example", 10)
    assert secure["authenticators"] == ["authenticator staff"] and secure["routers"] == ["listener secure"]
    assert (secure["sessions"], found["plain"]["sessions"]) == (2, 1)
    assert secure["certificate"]["names"] == ["console.example.com", "other.example", "192.0.2.1"]
    assert secure["certificate"]["sha256"] == certificate.sha256.lower().replace(":", "")
    assert secure["certificate"]["subject"].startswith("CN=")
    assert found["plain"]["certificate"] is None and found["plain"]["limit"] is None


@pytest.mark.parametrize(
    ("seconds_left", "days"), [(86400 * 3 + 5, 3), (86399, 0), (-1, -1), (-86400 * 2, -2)]
)
def test_the_days_of_a_certificate_are_counted_to_its_end(world, config, certificate, seconds_left, days):
    admin = Admin(world, config=config)
    world.day = at(certificate, seconds_left) - world._now
    assert listeners(admin)["secure"]["certificate"]["days"] == days


def test_a_certificate_is_read_again_when_its_file_changes(world, config, certificate, tmp_path, monkeypatch):
    admin, parsed = Admin(world, config=config), []
    summary = certificates._summary
    monkeypatch.setattr(certificates, "_summary", lambda each: parsed.append(each) or summary(each))
    for _ in range(3):
        assert "console.example.com" in listeners(admin)["secure"]["certificate"]["names"]
    certificate.path.write_bytes(self_signed(tmp_path, "new", ("new.example",), ()).path.read_bytes())
    for _ in range(3):
        assert listeners(admin)["secure"]["certificate"]["names"] == ["new.example"]
    assert len(parsed) == 2


@pytest.mark.parametrize("content", [b"", b"no PEM", None])
def test_an_unreadable_certificate_is_none_and_logged_once(world, config, certificate, content):
    admin = Admin(world, config=config)
    if content is None:
        certificate.path.unlink()
    else:
        certificate.path.write_bytes(content)
    with process_log() as lines:
        assert listeners(admin)["secure"]["certificate"] is None
        assert listeners(admin)["secure"]["certificate"] is None
    (line,) = [each for each in lines if "certificate" in each]
    assert line.startswith(f"cannot read the certificate in {certificate.path}: ")


# Drains


def test_a_listener_is_drained_by_itself_or_with_the_proxy_of_this_run(world, config):
    worker, admin = Worker(world), Admin(world, config=config)
    drain(worker, DrainKind.LISTENER, "plain", "left", "run-1")
    drain(worker, DrainKind.LISTENER, "secure", "right", "run-2")
    drain(worker, DrainKind.LISTENER, "secure", "left", "an earlier run")
    assert {name: each["drained"] for name, each in listeners(admin).items()} == {
        "secure": False,
        "plain": True,
    }
    assert admin.call("status")["draining"] is False and admin.call("status")["drains"] == 3
    drain(worker, DrainKind.PROXY, "", "left", "run-1")
    world.advance(2)
    assert all(each["drained"] for each in listeners(admin).values())
    assert admin.call("status")["draining"] is True


def test_a_drain_is_shown_when_the_machine_has_got_another_name(world, config):
    worker, admin = Worker(world), Admin(world, config=config)
    worker.open()
    drain(worker, DrainKind.PROXY, "", "old-name", "run-1")
    world.advance(6)
    assert all(each["drained"] for each in listeners(admin).values())
    assert admin.call("status")["draining"] is True
    assert [each["sessions"] for each in admin.call("list_drains")["drains"]] == [1]
    assert [each["state"] for each in admin.rows()] == ["draining"]


def test_drains_are_listed_with_the_consoles_that_still_run_there(world, config):
    fleet = Upstream("fleet", "", 0, secure=True)
    left, right = Worker(world, "left"), Worker(world, "right", run="run-2")
    admin = Admin(world, config=config)
    left.open(listener="secure"), left.open(listener="plain"), right.open(listener="plain")
    right.open(upstream=fleet, host="ESX-7.example", address="192.0.2.77")
    drain(left, DrainKind.PROXY, "", "right", "run-2", since=5.0, end=99.0, by="sso/olga", reason="memory")
    drain(left, DrainKind.LISTENER, "plain", "left", "run-1")
    drain(left, DrainKind.UPSTREAM, "fleet")
    drain(left, DrainKind.HOST, "esx-7.example")
    drain(left, DrainKind.HOST, "192.0.2.10")
    result(left.state.put("drains", "junk", "[", inf))
    found = admin.call("list_drains")["drains"]
    assert [(each["kind"], each["name"], each["machine"], each["sessions"]) for each in found] == [
        ("proxy", "", "right", 2),
        ("listener", "plain", "left", 1),
        ("upstream", "fleet", "", 1),
        ("host", "192.0.2.10", "", 3),
        ("host", "esx-7.example", "", 1),
    ]
    assert (found[0]["since"], found[0]["end"], found[0]["by"], found[0]["reason"]) == (
        *(5.0, 99.0),
        *("sso/olga", "memory"),
    )
    assert found[1]["end"] is None
    assert {row["state"] for row in admin.rows()} == {"draining"}


@pytest.mark.parametrize(
    ("given", "states"),
    [
        ((DrainKind.PROXY, "", "left", "run-1"), ["draining", "open"]),
        ((DrainKind.LISTENER, "plain", "right", "run-2"), ["open", "draining"]),
        ((DrainKind.LISTENER, "secure", "right", "run-2"), ["open", "open"]),
        ((DrainKind.LISTENER, "plain", "right", "an earlier run"), ["open", "open"]),
        ((DrainKind.UPSTREAM, "esxi1"), ["draining", "draining"]),
        ((DrainKind.UPSTREAM, "esxi2"), ["open", "open"]),
        ((DrainKind.HOST, "ESXI1"), ["draining", "draining"]),
        ((DrainKind.HOST, "192.0.2.11"), ["open", "draining"]),
    ],
)
def test_a_console_is_draining_while_a_drain_covers_it(world, given, states):
    left, right, admin = Worker(world, "left"), Worker(world, "right", run="run-2"), Admin(world)
    left.open(listener="plain"), right.open(listener="plain", address="192.0.2.11")
    drain(left, *given)
    assert [row["state"] for row in admin.rows()] == states
