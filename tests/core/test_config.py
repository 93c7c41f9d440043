"""The configuration: the values that are read from a file."""

import re
import shutil
from dataclasses import FrozenInstanceError, fields
from pathlib import Path

import pytest

from esxiproxy.core.config.loader import Config, Http, ListenerTLS, TLSVersion, load
from esxiproxy.core.config.state_url import RedisAddress, SentinelService, StateDown
from esxiproxy.core.proxy_protocol import ProxyVersion
from esxiproxy.core.routing import Subprotocol, Verify
from esxiproxy.core.session_limits import SessionLimits
from esxiproxy.core.thumbprint import Pin
from tests.core.config_text import CERTIFICATE, KEY, SHA1, SHA256, A, L, U, read
from tests.support.plugin_types import PluginType, types

CONF = Path(__file__).parents[2] / "conf"


def test_a_small_file_gets_every_default(folder):
    config = read(A + U)
    (listener,) = config.listeners
    assert (listener.name, listener.endpoint, listener.address) == (
        "a",
        "tcp:port=80:interface=0.0.0.0:backlog=512",
        ":80",
    )
    assert (listener.tls, listener.upstream, listener.routers) == (None, "u", ())
    assert (listener.authenticators, listener.http) == ((), Http.REFUSE)
    assert listener.limits == config.limits == SessionLimits()
    upstream = config.upstreams["u"]
    assert (upstream.host, upstream.port, upstream.secure) == ("192.0.2.10", 80, False)
    assert (upstream.verify, upstream.pins, upstream.ca) == (Verify.SYSTEM, (), None)
    assert (upstream.host_field, upstream.origin_field) == ("upstream", "upstream")
    assert (upstream.subprotocol, upstream.overrides) == (Subprotocol.BRIDGE, {})
    assert (config.source, config.services) == (Path("x.ini"), ())


def test_a_file_can_say_everything(folder):
    config = read(
        "[proxy]\nstate = memory:\nservices = demo, other\n"
        "[listener a]\nlisten = 127.0.0.1:0\ncertificate = crt.pem\nprivate_key = key.pem\n"
        "tls_minimum = 1.3\nclient_ca = both.pem\nrouter = own\nauthenticator = basic\nhttp = refuse\n"
        f"[upstream u]\nurl = wss://esxi:8443\nverify = pin\npin = sha1:{SHA1}, sha256:{SHA256}\n"
        "host = client\norigin = https://vc.example.com\nsubprotocol = pass\n"
        "[upstream v]\nurl = wss://esxi\nverify = ca\nca = crt.pem\nhost = vc.example.com:443\n"
        "origin = none\n",
        types([PluginType("own")], [PluginType("basic")]),
    )
    (listener,) = config.listeners
    assert listener.tls == ListenerTLS(
        folder / "crt.pem", folder / "key.pem", TLSVersion.V1_3, folder / "both.pem"
    )
    assert [router.section for router in listener.routers] == ["router own"]
    assert [authenticator.section for authenticator in listener.authenticators] == ["authenticator basic"]
    assert listener.upstream is None
    u, v = config.upstreams["u"], config.upstreams["v"]
    assert (u.verify, u.pins) == (Verify.PIN, (Pin("sha1", SHA1), Pin("sha256", SHA256)))
    assert (u.host_field, u.origin_field) == ("client", "https://vc.example.com")
    assert (u.subprotocol, u.port) == (Subprotocol.PASS, 8443)
    assert (v.verify, v.ca, v.host_field, v.origin_field) == (
        Verify.CA,
        folder / "crt.pem",
        "vc.example.com:443",
        "none",
    )
    assert config.services == ("demo", "other")


def test_a_listener_overrides_the_proxy_and_an_upstream_its_own_keys(folder):
    config = read(
        "[proxy]\nidle_timeout = 10m\nping_interval = off\nmax_frame = 1MiB\n"
        + A
        + "idle_timeout = off\nclose_timeout = 500ms\n"
        + U
        + "connect_timeout = 2s\nmax_lifetime = off\n"
    )
    assert (config.limits.idle_timeout, config.limits.ping_interval, config.limits.max_frame) == (
        600,
        None,
        1 << 20,
    )
    limits = config.listeners[0].limits
    assert (limits.idle_timeout, limits.close_timeout, limits.ping_interval) == (None, 0.5, None)
    overrides = config.upstreams["u"].overrides
    assert overrides == {"connect_timeout": 2.0, "max_lifetime": None}
    with pytest.raises(TypeError):
        overrides["connect_timeout"] = 3.0


def test_a_keepalive_profile_is_a_word_for_four_keys_and_each_of_them_goes_first(folder):
    def keepalive(limits):
        return (limits.ping_interval, limits.upstream_ping_interval, limits.tcp_keepalive)

    assert keepalive(read(L).limits) == keepalive(read(L + "[proxy]\nkeepalive = console\n").limits)
    assert keepalive(read(L + "[proxy]\nkeepalive = lan\n").limits) == (None, None, 60)
    assert keepalive(read(L + "[proxy]\nkeepalive = off\n").limits) == (None, None, None)
    own = read(L + "[proxy]\nping_interval = 5s\nkeepalive = lan\ntcp_keepalive = 30s\n").limits
    assert keepalive(own) == (5, None, 30)
    nearer = read("[proxy]\nping_interval = 5s\n" + A + "keepalive = off\n" + U + "keepalive = console\n")
    assert keepalive(nearer.listeners[0].limits) == (None, None, None)
    assert keepalive(SessionLimits().overridden_by(nearer.upstreams["u"].overrides)) == (25, None, 60)


def test_quotas_go_from_the_proxy_to_the_listener_to_the_upstream(folder):
    config = read(
        "[proxy]\nmax_sessions = 100\nqueue_timeout = 5s\nsession_rate = 0.5\n"
        + A
        + "max_sessions = off\nmax_sessions_per_client = 3\n"
        + U
        + "max_connections = 12\n"
    )
    assert (
        config.connection_limits.max_sessions,
        config.connection_limits.queue_timeout,
        config.connection_limits.session_rate,
    ) == (
        100,
        5,
        0.5,
    )
    connection_limits = config.listeners[0].connection_limits
    assert (
        connection_limits.max_sessions,
        connection_limits.max_sessions_per_client,
        connection_limits.queue_timeout,
    ) == (None, 3, 5)
    assert connection_limits.overridden_by(config.upstreams["u"].connection_limits).max_connections == 12


def test_the_state_is_a_file_that_several_workers_may_share(folder):
    assert read(L).state is None
    assert read(L + "[proxy]\nstate = sqlite:state.db\nworkers = 4\n").state == folder / "state.db"
    assert (
        read(L + "[proxy]\nworkers = 4\nworker_shutdown_timeout = 8h\n").worker_shutdown_timeout == 8 * 3600
    )
    assert read(L + "[proxy]\nworkers = auto\n").workers >= 1


def test_the_state_is_a_redis_database_that_machines_share(folder):
    assert read(L + "[proxy]\nstate = redis://R1.example\nworkers = 4\n").state == RedisAddress("r1.example")
    (folder / "redis.pw").write_text("pa55word\n")
    found = read(
        L
        + "[proxy]\nstate = rediss://proxy@[2001:db8::1]:7000/3\nstate_password_file = redis.pw\n"
        + "state_prefix = lab\n"
    ).state
    expected = RedisAddress("2001:db8::1", 7000, 3, "proxy", True, folder / "redis.pw", None, "lab")
    assert found == expected
    assert str(found) == "rediss://proxy@[2001:db8::1]:7000/3" and "pa55word" not in repr(found)
    assert found.when_down is StateDown.REFUSE
    (folder / "sentinel.pw").write_text("s3ntinel\n")
    found = read(
        L
        + "[proxy]\nstate = rediss+sentinel://proxy@S1,[2001:db8::2]:7001/lab-1/3\n"
        + "state_password_file = redis.pw\nstate_sentinel_password_file = sentinel.pw\n"
    ).state
    service = SentinelService("lab-1", (("s1", 26379), ("2001:db8::2", 7001)), folder / "sentinel.pw")
    assert found == RedisAddress("", 0, 3, "proxy", True, folder / "redis.pw", service=service)
    assert str(found) == "rediss+sentinel://proxy@s1:26379,[2001:db8::2]:7001/lab-1/3"
    assert not re.search("pa55word|s3ntinel", repr(found))
    admits = read(L + "[proxy]\nstate = redis://r1\nstate_down = admit\n").state
    assert admits == RedisAddress("r1", when_down=StateDown.ADMIT)


def test_paths_are_relative_to_the_file_and_come_out_absolute(folder):
    Path("folder/x.ini").write_text(
        "[listener a]\nlisten = unix:x.sock\ncertificate = ../crt.pem\nprivate_key = ../key.pem\n"
        "upstream = u\n" + U
    )
    listener = load("folder/x.ini").listeners[0]
    assert listener.tls.certificate == folder / "folder" / ".." / "crt.pem"
    assert listener.endpoint == f"unix:{folder}/folder/x.sock:backlog=512"


def test_a_path_can_be_a_path(folder):
    read(A + U)
    assert load(folder / "x.ini").source == folder / "x.ini"


def test_a_configuration_is_frozen(folder):
    config = read(A + U)
    for frozen in (config, config.listeners[0], config.limits, config.upstreams["u"]):
        with pytest.raises(FrozenInstanceError):
            setattr(frozen, fields(frozen)[0].name, None)
    with pytest.raises(TypeError):
        config.upstreams["v"] = None


def test_a_problem_from_outside_gets_its_line(folder):
    config = read(A + U)
    assert str(config.problem("listener a", "listen", "taken")) == "x.ini:2: [listener a] listen: taken"
    assert str(config.problem("listener a", "router", "gone")) == "x.ini:1: [listener a] router: gone"
    assert str(config.problem("upstream u", None, "dead")) == "x.ini:4: [upstream u]: dead"
    assert Config(Path("y"), (), {}).problem("proxy", "state", "?").line == 1


def test_the_first_example_is_the_three_listeners(tmp_path):
    shutil.copytree(CONF, tmp_path / "conf")
    (tmp_path / "conf/tls").mkdir(exist_ok=True)
    (tmp_path / "conf/tls/9-rui.crt").write_text(CERTIFICATE)
    (tmp_path / "conf/tls/9-rui.key").write_text(KEY)
    config = load(tmp_path / "conf/proxy.ini")
    story = [
        (listener.address, listener.tls is not None, config.upstreams[listener.upstream].secure)
        for listener in config.listeners
    ]
    assert story == [("0.0.0.0:80", False, False), ("0.0.0.0:81", False, True), ("0.0.0.0:82", True, True)]
    # It forwards the API, whose clients wait minutes for an answer (WaitForUpdatesEx).
    assert {listener.policy.http for listener in config.listeners} == {Http.FORWARD}
    assert {listener.limits.response_timeout for listener in config.listeners} == {600.0}


def test_a_listener_has_its_policy(folder):
    config = read(
        L + "http = forward\npaths = /ticket/, /ui\ntrusted_proxies = 10.0.0.0/8, ::1, unix\n"
        "proxy_protocol = yes\n[upstream w]\nurl = ws://w\nsend_proxy_protocol = v2\n"
    )
    policy = config.listeners[0].policy
    assert (policy.http, policy.paths, policy.proxy_protocol) == (Http.FORWARD, (b"/ticket/", b"/ui"), True)
    assert [policy.trust.contains(host) for host in ("10.1.2.3", "::1", "unix", "11.0.0.1")] == [
        *(True, True, True),
        False,
    ]
    assert config.upstreams["w"].send_proxy_protocol is ProxyVersion.V2
    assert read(L + "health = /readyz\n").listeners[0].policy.health == b"/readyz"
    plain = read(L).listeners[0].policy
    assert plain.health is None
    assert (plain.http, plain.paths, plain.proxy_protocol) == (Http.REFUSE, (), False)
    assert not plain.trust.contains("127.0.0.1")
