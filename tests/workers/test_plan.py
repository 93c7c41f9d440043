"""The plan: the settings of a configuration that the master needs, and how it is read."""

import grp
import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from twisted.internet.defer import ensureDeferred
from twisted.internet.task import Clock

from esxiproxy.app.preflight import load
from esxiproxy.core.config.model import ADMIN_MANHOLE, ADMIN_PROBE, ADMIN_SOCKET, MANHOLE
from esxiproxy.workers.master.plan_reader import read_plan
from esxiproxy.workers.plan import Plan, plan_of, state_of
from esxiproxy.workers.shared.messages import WorkerConfig
from tests.support.config import ini, listener, upstream


def test_a_system_that_starts_no_process_refuses_the_file():
    class Reactor(Clock):
        def spawnProcess(self, *_):
            raise OSError(11, "Resource temporarily unavailable")

    found = []
    reading = ensureDeferred(read_plan(Path("/proxy.ini"), Reactor()))
    reading.addErrback(lambda failure: found.extend(failure.value.lines))
    assert found == [f"/proxy.ini cannot be read: {sys.executable}: Resource temporarily unavailable"]


@pytest.fixture
def config(tmp_path):
    (tmp_path / "proxy.ini").write_text(
        ini(
            listener(listen=":80"),
            upstream("ws://192.0.2.1"),
            workers=3,
            manhole=2222,
            manhole_keys="keys",
            drain_timeout="7s",
            close_timeout="2s",
        )
    )
    (tmp_path / "keys").write_text("")
    return load(tmp_path / "proxy.ini")


def test_a_plan_has_the_settings_of_the_master(config):
    plan = plan_of(config)
    assert plan.workers == 3 and plan.drain == 9.0 and plan.state == ""
    assert plan.endpoints == (
        ("one", "tcp:port=80:interface=0.0.0.0:backlog=512"),
        (MANHOLE, "tcp:port=2222:interface=127.0.0.1:backlog=512"),
    )


def test_a_plan_has_the_file_as_it_was_read_for_later_workers(config, tmp_path):
    file = tmp_path / "proxy.ini"
    file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes() + "; schön\r\n".encode())
    plan = Plan.read(plan_of(load(file)).text())
    order = WorkerConfig(0, str(file), plan.endpoints, {}, "", 5, (6,), plan.content)
    wanted = load(file)
    file.write_text("[listener half")
    content = WorkerConfig.read(order.line()).content.encode()
    assert content == wanted.content and load(file, content) == wanted
    assert wanted.manhole == config.manhole


def test_the_children_have_the_redis_database_with_its_files(tmp_path):
    (tmp_path / "pw").write_text("pa55word\n")
    text = ini(listener(), upstream("ws://192.0.2.1"), state="redis://proxy@r1/2", state_password_file="pw")
    (tmp_path / "proxy.ini").write_text(text)
    config = load(tmp_path / "proxy.ini")
    plan = plan_of(config)
    assert plan.state == "redis://proxy@r1:6379/2" and "pa55word" not in plan.text()
    assert state_of(config, plan.state) == config.state
    assert config.state.password_file == tmp_path / "pw"
    assert state_of(replace(config, state=None), "/run/x") == Path("/run/x")


def test_a_plan_is_read_from_its_line(config):
    plan = plan_of(config)
    assert Plan.read(plan.text()) == plan
    assert Plan.read(json.dumps(json.loads(plan.text()) | {"of a later version": 1})) == plan


def test_a_plan_has_the_warnings_as_text_and_one_of_an_earlier_version_has_none(tmp_path):
    (tmp_path / "proxy.ini").write_text(
        listener(listen=":80", proxy_protocol=True) + upstream("ws://192.0.2.1")
    )
    plan = plan_of(load(tmp_path / "proxy.ini"))
    (warning,) = Plan.read(plan.text()).warnings
    assert warning.startswith(f"{tmp_path / 'proxy.ini'}:4: warning: [listener one] proxy_protocol: ")
    earlier = json.loads(plan.text())
    del earlier["warnings"]
    assert Plan.read(json.dumps(earlier)).warnings == ()


def test_a_plan_has_the_addresses_of_the_admin_process(tmp_path):
    text = (
        "[proxy]\nmachine = Here.example.com\n{proxy}"
        "[listener one]\nlisten = :80\nupstream = u\n[upstream u]\nurl = ws://192.0.2.1\n{admin}"
    )
    group = grp.getgrgid(0).gr_name

    def planned(proxy="", admin=""):
        (tmp_path / "proxy.ini").write_text(text.format(proxy=proxy, admin=admin))
        return Plan.read(plan_of(load(tmp_path / "proxy.ini")).text())

    without = planned()
    assert (without.needs_admin, without.admin_endpoints) == (False, ())
    assert without.machine.lower() == "here.example.com"
    services = planned(proxy="services = demo\n")
    assert (services.needs_admin, services.admin_endpoints) == (True, ())
    admin = planned(
        admin=f"[admin]\nsocket = a.sock\nsocket_group = {group}\nprobe_listen = 127.0.0.1:9000\n"
    )
    assert admin.needs_admin and admin.socket_group == group
    assert admin.admin_endpoints == (
        (ADMIN_SOCKET, f"unix:{tmp_path}/a.sock:mode=600"),
        (ADMIN_PROBE, "tcp:port=9000:interface=127.0.0.1:backlog=512"),
    )
    assert admin.endpoints == without.endpoints


def test_the_manhole_is_for_the_admin_process_if_there_is_one(tmp_path):
    (tmp_path / "keys").write_text("")
    path = tmp_path / "proxy.ini"
    rest = "[listener one]\nlisten = :80\nupstream = u\n[upstream u]\nurl = ws://192.0.2.1\n"

    def planned(proxy="", admin=""):
        path.write_text(f"[proxy]\nmanhole = 2222\nmanhole_keys = keys\n{proxy}{rest}{admin}")
        return Plan.read(plan_of(load(path)).text())

    ssh = (MANHOLE, "tcp:port=2222:interface=127.0.0.1:backlog=512")
    without = planned()
    assert ssh in without.endpoints and without.admin_endpoints == ()
    services = planned(proxy="services = demo\n")
    assert ssh not in services.endpoints and services.admin_endpoints == (ssh,)
    admin = planned(admin="[admin]\nsocket = a.sock\n")
    assert ssh not in admin.endpoints
    assert admin.admin_endpoints == (
        (ADMIN_SOCKET, f"unix:{tmp_path}/a.sock:mode=600"),
        (ADMIN_MANHOLE, f"unix:{tmp_path}/a.sock.manhole:mode=600"),
        ssh,
    )


def test_a_plan_of_an_earlier_version_needs_no_admin_process(config):
    earlier = json.loads(plan_of(config).text())
    for name in ("machine", "needs_admin", "admin_endpoints", "socket_group"):
        del earlier[name]
    plan = Plan.read(json.dumps(earlier))
    assert (plan.machine, plan.needs_admin, plan.admin_endpoints, plan.socket_group) == (
        "",
        False,
        (),
        "",
    )


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"workers": "two"}', "null"])
def test_an_invalid_plan_is_a_value_error(text):
    with pytest.raises(ValueError):
        Plan.read(text)


def test_a_worker_configuration_is_read_from_its_line():
    order = WorkerConfig(1, "/proxy.ini", (("one", "tcp:1"),), {"one": 5}, "/state", 6, (7, 8))
    assert WorkerConfig.read(order.line()) == order
