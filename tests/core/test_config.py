"""The configuration: what is read, and what is refused in which words."""

import shutil
from dataclasses import FrozenInstanceError, fields
from pathlib import Path
from types import MappingProxyType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from esxiproxy.core.config.key import DURATION, NAME, ROUTER, Key, SectionKind
from esxiproxy.core.config.loader import Config, ConfigError, Http, ListenerTLS, Severity, TLSVersion, load
from esxiproxy.core.config.plugin_type import BrokenType
from esxiproxy.core.config.reference import TOPICS, reference, topic_of
from esxiproxy.core.config.schema import KEYS, keys_of
from esxiproxy.core.proxy_protocol import ProxyVersion
from esxiproxy.core.routing import Subprotocol, Verify
from esxiproxy.core.session.connection_limits import ConnectionLimits
from esxiproxy.core.session_limits import SessionLimits
from esxiproxy.core.thumbprint import Pin
from tests.support.plugin_types import PluginType, types

CONF = Path(__file__).parents[2] / "conf"
CERTIFICATE = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
KEY = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"
SHA1, SHA256 = "5c" * 20, "5c" * 32

# A good listener and a good upstream: what is wrong in a case is the case's own.
A = "[listener a]\nlisten = :80\nupstream = u\n"
U = "[upstream u]\nurl = ws://192.0.2.10\n"
S = "[upstream u]\nurl = wss://192.0.2.10\n"
L = U + A


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty folder, which is the current one, with the files that the cases name."""
    monkeypatch.chdir(tmp_path)
    Path("crt.pem").write_text(CERTIFICATE)
    Path("key.pem").write_text(KEY)
    Path("both.pem").write_text(KEY + CERTIFICATE)
    Path("text").write_text("no certificate")
    Path("folder").mkdir()
    return tmp_path


def read(text, types=MappingProxyType({})):
    Path("x.ini").write_bytes(text if isinstance(text, bytes) else text.encode())
    return load("x.ini", types=types)


def problems(text, types=MappingProxyType({})):
    with pytest.raises(ConfigError) as caught:
        read(text, types)
    return [str(problem) for problem in caught.value.problems]


# --- what is read


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


def test_a_listener_overrides_the_proxy_and_an_upstream_only_what_it_says(folder):
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


def test_a_problem_that_somebody_else_finds_gets_its_line(folder):
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


def test_a_listener_says_what_it_lets_in(folder):
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


# --- the table


def test_every_limit_is_a_key_with_its_default():
    table = {key.name: key for key in KEYS}
    places = [(key.name, section) for key in KEYS for section in key.sections]
    assert len(set(places)) == len(places)
    for field in (*fields(SessionLimits), *fields(ConnectionLimits)):
        key = table[field.name]
        assert key.type.parse(key.default, Path()) == field.default
        alone = field.name == "drain_timeout"  # the proxy drains as a whole
        assert alone == (SectionKind.LISTENER not in key.sections)
        assert SectionKind.PROXY in key.sections


@pytest.mark.parametrize("key", [key for key in KEYS if key.default], ids=lambda key: key.name)
def test_every_default_can_be_written(folder, key):
    section = {SectionKind.PROXY: "[proxy]\n", SectionKind.LISTENER: A, SectionKind.UPSTREAM: U}[
        key.sections[0]
    ]
    refused = key.name in ("tls_minimum", "client_certificates")  # which need a certificate
    text = f"{L.replace(section, '')}{section}{key.name} = {key.default}\n"
    anonymous = types(authenticators=[PluginType("anonymous")])
    assert len(problems(text, anonymous)) == 1 if refused else read(text, anonymous)


def test_the_reference_has_a_row_for_every_key():
    rows = [line for line in reference({}).splitlines() if line.startswith("|")]
    names = [row.split(" | ")[0].strip("|` ") for row in rows if row.startswith("| `")]
    assert sorted(names) == sorted(key.name for key in KEYS)
    assert {row.count("|") for row in rows} == {6}
    assert "| `close_timeout` | duration | `5s` | `[proxy]`, `[listener]`, `[upstream]` |" in reference({})


def test_the_reference_has_a_table_for_every_topic():
    assert {topic_of(key) for key in KEYS} == set(TOPICS)
    headings = [line.removeprefix("### ") for line in reference({}).splitlines() if line.startswith("### ")]
    assert headings == list(TOPICS)


def test_the_reference_has_the_keys_of_types_after_the_topics():
    fleet = PluginType(
        "fleet",
        Key("file", ROUTER, NAME, None, "The list.", required=True),
        Key("interval", ROUTER, DURATION, "30s", "Time between two looks."),
    )
    installed = types([PluginType("zone"), fleet], [PluginType("anonymous")])
    assert reference(installed).removeprefix(reference({})) == (
        "\n### Router `fleet`\n\nA type of a test.\n\n"
        "| key | type | default | meaning |\n"
        "| --- | --- | --- | --- |\n"
        "| `file` | name | required | The list. |\n"
        "| `interval` | duration | `30s` | Time between two looks. |\n"
        "\n### Router `zone`\n\nA type of a test.\nThis type has no keys.\n"
        "\n### Authenticator `anonymous`\n\nA type of a test.\nThis type has no keys.\n"
    )


def test_the_reference_lacks_no_type_that_cannot_be_imported():
    with pytest.raises(ValueError, match="the router fleet cannot be documented: it is gone"):
        reference(types([BrokenType("fleet", "it is gone")]))


def test_an_upstream_has_the_limits_that_are_its_own():
    limits = {field.name for field in fields(SessionLimits)}
    assert limits - set(keys_of(SectionKind.UPSTREAM)) == {
        "head_timeout",
        "tls_handshake_timeout",
        "decision_timeout",
        "keepalive_timeout",
        "drain_timeout",
        "max_body",
        "min_body_rate",
    }


# --- what is refused

CHARS = "letters, digits, '.', '_' and '-', at most 64 of them"
WRITE = "write 0.0.0.0:82, :82, [::]:82, unix:/PATH or a Twisted endpoint"
IPV6 = r": the colons of an IPv6 address are written \:"
END = "end after the port, the client's own target is sent"
INDENTED = "indented, which would make it part of the line above: start in column 1"
TLS = A + "certificate = crt.pem\nprivate_key = key.pem\n"

BAD = {
    # the file and its lines
    "": ["1: no listener: without a [listener NAME] section there is nothing to bind"],
    U: ["1: no listener: without a [listener NAME] section there is nothing to bind"],
    b"\xff\xfe[\0": ["1: UTF-16: save it as UTF-8"],
    (L + "# caf\xe9\n").encode("latin-1"): ["6: [listener a]: not UTF-8: byte 0xe9 in column 6"],
    L + "http\n": ["6: [listener a] http: no '=' in this line"],
    L + "http: refuse\n": ["6: [listener a] http:: no '=' in this line"],
    L + "= refuse\n": ["6: [listener a]: no key before the '='"],
    L + "  http = refuse\n": [f"6: [listener a] http: {INDENTED}"],
    L + "\thttp = never\n": [
        f"6: [listener a] http: {INDENTED}",
        "6: [listener a] http: 'never' is not refuse or forward",
    ],
    L + "\n [proxy]\n": [f"7: [listener a]: {INDENTED}"],
    L + "router = st\x00atic\n": [
        "6: [listener a] router: invisible character: control character, U+0000 in column 12"
    ],
    L + "router =\u00a0static\n": [
        "6: [listener a] router: invisible character: no-break space, U+00A0 in column 9"
    ],
    "listen = :80\n" + L: ["1: listen: stands before the first section"],
    L + "listen = :81\n": ["6: [listener a] listen: given twice, first in line 4"],
    L + "[proxy\nfoo = 1\n": ["6: no section header: [proxy"],
    L + "[proxy] x\n": ["6: no section header: [proxy] x"],
    L + "[ ]\n": ["6: no section header: [ ]"],
    L + "[proxy]\n[proxy]\n": ["7: [proxy]: section given twice, first in line 6"],
    L + "[listener  a]\nlisten = :81\nupstream = u\n": [
        "6: [listener a]: section given twice, first in line 3"
    ],
    # sections
    L + "[DEFAULT]\nfoo = 1\n": [
        "6: [DEFAULT]: unknown section: there are [proxy], [listener NAME], [upstream NAME], "
        "[router NAME], [authenticator NAME] and [admin]"
    ],
    U + "[listner a]\n": ["3: [listner a]: unknown section: did you mean [listener a]?"],
    L + "[Upstream x]\n": ["6: [Upstream x]: unknown section: did you mean [upstream x]?"],
    L + "[prox]\n": ["6: [prox]: unknown section: did you mean [proxy]?"],
    L + "[proxy main]\n": ["6: [proxy main]: takes no name: write [proxy]"],
    L + "[upstream]\nurl = ws://h\n": ["6: [upstream]: has no name: write [upstream NAME]"],
    L + "[upstream a b]\nurl = ws://h\n": [f"6: [upstream a b]: 'a b' is no name: {CHARS}"],
    # keys
    L + "liten = :81\n": ["6: [listener a] liten: unknown key: did you mean listen?"],
    L + "Router = static\n": ["6: [listener a] Router: unknown key: did you mean router?"],
    L + "tls-minimum = 1.3\n": ["6: [listener a] tls-minimum: unknown key: did you mean tls_minimum?"],
    L + "colour = red\n": ["6: [listener a] colour: unknown key in [listener NAME]"],
    L + "url = ws://h\n": [
        "6: [listener a] url: not a key of [listener NAME]: it belongs in [upstream NAME]"
    ],
    U + "head_timeout = 1s\n" + A: [
        "3: [upstream u] head_timeout: not a key of [upstream NAME]: "
        "it belongs in [proxy] and [listener NAME]"
    ],
    L + "router =\n": ["6: [listener a] router: has no value"],
    L + "router = ; static\n": ["6: [listener a] router: has no value"],
    U + "[listener a]\nupstream = u\n": ["3: [listener a] listen: missing"],
    U + "[listener a]\nLISTEN = :80\nupstream = u\n": [
        "4: [listener a] LISTEN: unknown key: did you mean listen?"
    ],
    U + "[listener a]\nlisten :80\nupstream = u\n": ["4: [listener a] listen: no '=' in this line"],
    "[upstream u]\n" + A: ["1: [upstream u] url: missing"],
    U + "[listener a]\nlisten = :80\n": [
        "3: [listener a] upstream: missing: name an upstream, or a router that chooses one"
    ],
    # proxy: durations, sizes, state
    L + "[proxy]\nstate = sqlite:\n": ["7: [proxy] state: 'sqlite:' is not memory: or sqlite:PATH"],
    L + "[proxy]\nstate = sqlite:none/state.db\n": ["7: [proxy] state: no such folder: none"],
    L + "[proxy]\nworkers = 2\nstate = memory:\n": [
        "8: [proxy] state: memory: serves one process only: several workers need sqlite:PATH, or no such key"
    ],
    L + "[proxy]\nworkers = 0\n": ["7: [proxy] workers: '0' is no number of at least 1"],
    L + "[proxy]\nworkers = many\n": ["7: [proxy] workers: 'many' is no number of at least 1"],
    L + "[proxy]\nworkers = 1000\n": ["7: [proxy] workers: 1000 workers are too many: at most 256"],
    L + "[proxy]\nmax_sessions = -1\n": ["7: [proxy] max_sessions: '-1' is no number of at least 1"],
    L + "[proxy]\nsession_rate = 0.0\n": [
        "7: [proxy] session_rate: '0.0' is no number a second: write 10, 0.5, or off"
    ],
    L + "[proxy]\nkeepalive = yes\n": ["7: [proxy] keepalive: 'yes' is not console, lan or off"],
    U + "max_sessions = 5\n" + A: [
        "3: [upstream u] max_sessions: not a key of [upstream NAME]: "
        "it belongs in [proxy] and [listener NAME]"
    ],
    L + "[proxy]\nservices = demo,\n": [f"7: [proxy] services: '' is no name: {CHARS}"],
    L + "[proxy]\nclose_timeout = 5\n": [
        "7: [proxy] close_timeout: '5' is no duration: write 500ms, 30s, 10m, 1h or 2d"
    ],
    L + "[proxy]\nclose_timeout = 1.5s\n": [
        "7: [proxy] close_timeout: '1.5s' is no duration: write 500ms, 30s, 10m, 1h or 2d"
    ],
    L + "[proxy]\nclose_timeout = ٣s\n": [
        "7: [proxy] close_timeout: '٣s' is no duration: write 500ms, 30s, 10m, 1h or 2d"
    ],
    L + "[proxy]\nclose_timeout = -1s\n": [
        "7: [proxy] close_timeout: '-1s' is no duration: write 500ms, 30s, 10m, 1h or 2d"
    ],
    L + "[proxy]\nclose_timeout = 0s\n": ["7: [proxy] close_timeout: must be more than 0"],
    L + "[proxy]\nclose_timeout = off\n": ["7: [proxy] close_timeout: cannot be off"],
    L + "[proxy]\nidle_timeout = 0s\n": ["7: [proxy] idle_timeout: must be more than 0, or off"],
    L + "[proxy]\nidle_timeout = 366d\n": ["7: [proxy] idle_timeout: '366d' is too long: at most 365d"],
    L + "[proxy]\nidle_timeout = " + "9" * 400 + "s\n": [
        "7: [proxy] idle_timeout: '" + "9" * 57 + "...' is no duration: write 500ms, 30s, 10m, 1h or 2d"
    ],
    L + "[proxy]\nmax_frame = 64KB\n": [
        "7: [proxy] max_frame: '64KB' is no size: write 64KiB, 1MiB, a number of bytes, or off"
    ],
    L + "[proxy]\nmax_frame = 0KiB\n": ["7: [proxy] max_frame: must be more than 0, or off"],
    L + "[proxy]\nmax_frame = 9999999999GiB\n": [
        "7: [proxy] max_frame: '9999999999GiB' is too large: at most 9223372036854775807"
    ],
    # listeners
    **{
        U + f"[listener a]\nlisten = {value}\nupstream = u\n": [f"4: [listener a] listen: {text}"]
        for value, text in {
            "80": f"'80' is no address: {WRITE}",
            "localhost:80": f"'localhost:80' is no address: {WRITE}",
            "::1:80": f"'::1:80' is no address: {WRITE}",
            "0.0.0.0": f"'0.0.0.0' is no address: {WRITE}",
            "1.2.3:80": f"'1.2.3' is no IP address: {WRITE}",
            "1.2.3.256:80": f"'1.2.3.256' is no IP address: {WRITE}",
            "[1.2.3.4]:80": f"'[1.2.3.4]' is no IP address: {WRITE}",
            "[]:80": f"'[]' is no IP address: {WRITE}",
            ":65536": "'65536' is no port: a number from 0 to 65535",
            ":٨٠": f"':٨٠' is no address: {WRITE}",
            "tcp:http": "'http' is no port: a number from 0 to 65535",
            "tcp:interface=127.0.0.1": "tcp: takes a port",
            "tcp:80:interface=localhost": "'localhost' is no IP address, in interface=",
            "tcp6:80:interface=::": rf"one ':' too many for tcp6:{IPV6}",
            "tcp:80:127.0.0.1:50:60": "one ':' too many for tcp:",
            "tcp:80:iface=127.0.0.1": "'iface' is unknown to tcp: which takes port, interface, backlog",
            "tcp:80:backlog=many": "'many' is no backlog: a number",
            "tcp:80\\": "ends with a backslash",
            "ssl:443": "TLS comes from certificate and private_key: write tcp: for ssl:",
            "ssl:443:privateKey=x": "TLS comes from certificate and private_key: write tcp: for ssl:",
            "unix:mode=660": "unix: takes an address",
            "unix:/x:mode=rw": "'rw' is no mode: octal digits, as in mode=660",
            "unix:/" + "x" * 107: "the path of a unix socket has at most 107 bytes: /" + "x" * 107,
            "systemd:domain=INET": "systemd: takes either an index or a name",
        }.items()
    },
    L + "[listener b]\nlisten = 127.0.0.1:80\nupstream = u\n": [
        "7: [listener b] listen: 127.0.0.1:80 is taken by [listener a] in line 4: :80"
    ],
    L + "[listener b]\nlisten = [::]:80\nupstream = u\n": [
        "7: [listener b] listen: [::]:80 is taken by [listener a] in line 4: :80"
    ],
    L + "[listener b]\nlisten = unix:x\nupstream = u\n[listener c]\nlisten = unix:./x\nupstream = u\n": [
        "10: [listener c] listen: unix:./x is taken by [listener b] in line 7: unix:x"
    ],
    L + "certificate = crt.pem\n": ["6: [listener a] certificate: needs a private_key in the same section"],
    L + "private_key = key.pem\n": ["6: [listener a] private_key: needs a certificate in the same section"],
    L + "tls_minimum = 1.3\n": ["6: [listener a] tls_minimum: only with a certificate and a private_key"],
    L + "client_ca = crt.pem\n": ["6: [listener a] client_ca: only with a certificate and a private_key"],
    TLS + "tls_minimum = 1.1\n" + U: ["6: [listener a] tls_minimum: '1.1' is not 1.2 or 1.3"],
    TLS + "client_certificates = optional\n" + U: [
        "6: [listener a] client_certificates: needs a client_ca in the same section"
    ],
    TLS + "client_ca = ca.pem\n" + U: ["6: [listener a] client_ca: no such file: ca.pem"],
    L + "certificate = tls/x.crt\nprivate_key = tls/x.key\n": [
        "6: [listener a] certificate: no such file: tls/x.crt",
        "7: [listener a] private_key: no such file: tls/x.key",
    ],
    L + "certificate = folder\nprivate_key = text/x\n": [
        "6: [listener a] certificate: is a folder: folder",
        "7: [listener a] private_key: cannot be read (Not a directory): text/x",
    ],
    L + "certificate = text\nprivate_key = text\n": [
        "6: [listener a] certificate: no PEM file, nothing begins with -----BEGIN: text",
        "7: [listener a] private_key: no PEM file, nothing begins with -----BEGIN: text",
    ],
    L + "certificate = key.pem\nprivate_key = crt.pem\n": [
        "6: [listener a] certificate: has no CERTIFICATE, but PRIVATE KEY: key.pem",
        "7: [listener a] private_key: has no PRIVATE KEY, but CERTIFICATE: crt.pem",
    ],
    L + "paths = /ui/, ticket\n": [
        "6: [listener a] paths: 'ticket' is no path prefix: write /ticket/ or /ui/, percent-encoded"
    ],
    L + "health = readyz\n": ["6: [listener a] health: 'readyz' is no path: write /readyz"],
    L + "health = /readyz?x\n": ["6: [listener a] health: '/readyz?x' is no path: write /readyz"],
    L + "health = /a/../readyz\n": [
        "6: [listener a] health: '/a/../readyz' can be read in two ways: "
        "no //, no dot segments, no %2F and the like"
    ],
    L + "paths = /a?b\n": [
        "6: [listener a] paths: '/a?b' is no path prefix: write /ticket/ or /ui/, percent-encoded"
    ],
    L + "paths = /a/../b\n": [
        "6: [listener a] paths: '/a/../b' can be read in two ways: "
        "no //, no dot segments, no %2F and the like"
    ],
    L + "trusted_proxies = 10.0.0.1/8\n": [
        "6: [listener a] trusted_proxies: '10.0.0.1/8' has host bits set: "
        "write 10.0.0.0/8, 192.0.2.7, 2001:db8::/32 or unix"
    ],
    L + "trusted_proxies = lb\n": [
        "6: [listener a] trusted_proxies: 'lb' is no network: "
        "write 10.0.0.0/8, 192.0.2.7, 2001:db8::/32 or unix"
    ],
    L + "proxy_protocol = v2\n": ["6: [listener a] proxy_protocol: 'v2' is not yes or no"],
    A + U + "send_proxy_protocol = yes\n": [
        "6: [upstream u] send_proxy_protocol: 'yes' is not off, v1 or v2"
    ],
    L + "http = yes\n": ["6: [listener a] http: 'yes' is not refuse or forward"],
    L + "router = a/b\n": [f"6: [listener a] router: 'a/b' is no name: {CHARS}"],
    L + "authenticator = a b\n": [f"6: [listener a] authenticator: 'a b' is no name: {CHARS}"],
    S + A.replace("= u", "= v"): ["5: [listener a] upstream: no [upstream v]: there is u"],
    A: ["3: [listener a] upstream: no [upstream u]: there is none"],
    # upstreams
    **{
        A + f"[upstream u]\nurl = {value}\n": [f"5: [upstream u] url: {text}"]
        for value, text in {
            "192.0.2.10": "'192.0.2.10' has no scheme: write ws:// or wss://",
            "https://h": "'https://h' begins with https://: write wss://",
            "http://h": "'http://h' begins with http://: write ws://",
            "ftp://h": "'ftp://h' begins with ftp://: write ws:// or wss://",
            "ws://h/": f"'ws://h/' has a path: {END}",
            "ws://h/ticket": f"'ws://h/ticket' has a path: {END}",
            "ws://h?a=b": f"'ws://h?a=b' has a query: {END}",
            "ws://h#a": f"'ws://h#a' has a fragment: {END}",
            "ws://u:p@h": "has a user or a password: an upstream takes none",
            "ws://": "has no host",
            "ws://:80": "has no host",
            "ws://h:": "'' is no port: a number from 1 to 65535",
            "ws://h:0": "'0' is no port: a number from 1 to 65535",
            "ws://h:65536": "'65536' is no port: a number from 1 to 65535",
            "ws://h:http": "'http' is no port: a number from 1 to 65535",
            "ws://2001:db8::1": "'2001' is no IPv4 address",
            "ws://192.0.2.256": "'192.0.2.256' is no IPv4 address",
            "ws://[192.0.2.1]": "'[192.0.2.1]' is no IPv6 address",
            "ws://[::1": "'ws://[::1': an IPv6 address stands in brackets, as in ws://[2001:db8::1]",
            "ws://[fe80::1%eth0]": "'[fe80::1%eth0]' has a zone, which no URL can carry",
            "ws://-h": "'-h' is no host name",
            "ws://a..b": "'a..b' is no host name",
            "ws://h h": "'h h' is no host name",
            "ws://grün": "'grün': write the name in its ASCII form, xn--...",
            "ws://localhost:80": "is the proxy's own [listener a]: the proxy would connect to itself",
            "ws://127.0.0.1": "is the proxy's own [listener a]: the proxy would connect to itself",
            "ws://0.0.0.0:80": "is the proxy's own [listener a]: the proxy would connect to itself",
        }.items()
    },
    U.replace("192.0.2.10", "[::1]") + A.replace(":80", "[::]:80"): [
        "2: [upstream u] url: is the proxy's own [listener a]: the proxy would connect to itself"
    ],
    U + A.replace(":80", "192.0.2.10:80"): [
        "2: [upstream u] url: is the proxy's own [listener a]: the proxy would connect to itself"
    ],
    L.replace("ws:", "wss:").replace("[listener", "verify = maybe\n[listener"): [
        "3: [upstream u] verify: 'maybe' is not system, ca, pin or none"
    ],
    A + S + "verify = pin\n": ["6: [upstream u] verify: verify = pin needs a key named pin"],
    A + S + "verify = ca\n": ["6: [upstream u] verify: verify = ca needs a key named ca"],
    A + S + f"pin = sha1:{SHA1}\n": ["6: [upstream u] pin: only with verify = pin"],
    A + S + f"verify = ca\nca = crt.pem\npin = sha1:{SHA1}\n": [
        "8: [upstream u] pin: only with verify = pin"
    ],
    A + S + "ca = crt.pem\n": ["6: [upstream u] ca: only with verify = ca"],
    A + S + "verify = ca\nca = ca.pem\n": ["7: [upstream u] ca: no such file: ca.pem"],
    A + U + "verify = none\n": [
        "6: [upstream u] verify: only with wss://: a ws:// upstream has no certificate"
    ],
    A + S + "tls_profile = modern\n": ["6: [upstream u] tls_profile: 'modern' is not intermediate or old"],
    A + U + "tls_profile = old\n": [
        "6: [upstream u] tls_profile: only with wss://: a ws:// upstream speaks no TLS"
    ],
    A + U + f"verify = pin\npin = sha1:{SHA1}\n": [
        "6: [upstream u] verify: only with wss://: a ws:// upstream has no certificate",
        "7: [upstream u] pin: only with wss://: a ws:// upstream has no certificate",
    ],
    **{
        A + S + f"verify = pin\npin = {value}\n": [f"7: [upstream u] pin: {text}"]
        for value, text in {
            "sha1:5c5c": "a sha1 thumbprint has 40 hex digits, and this one has 4",
            f"sha256:{SHA1}": "a sha256 thumbprint has 64 hex digits, and this one has 40",
            f"sha256:{SHA256}, sha1:{SHA1}0": "a sha1 thumbprint has 40 hex digits, and this one has 41",
            "sha1:" + "5g" * 20: "'g' is no hex digit, in a sha1 thumbprint",
            SHA1: f"'{SHA1}' is no thumbprint: write sha256:HEX or sha1:HEX",
            "md5:5c": "'md5:5c' is no thumbprint: write sha256:HEX or sha1:HEX",
            f"sha1:{SHA1},": "'' is no thumbprint: write sha256:HEX or sha1:HEX",
        }.items()
    },
    A + U + "host = none\n": ["6: [upstream u] host: cannot be none: every request has a Host"],
    A + U + "host = https://vc\n": [
        "6: [upstream u] host: 'https://vc' is no Host: write upstream, client, or NAME[:PORT]"
    ],
    A + U + "host = Client\n": ["6: [upstream u] host: 'Client': write client"],
    A + U + "host = a b\n": [
        "6: [upstream u] host: 'a b' cannot be sent: no spaces and nothing but ASCII in a field's value"
    ],
    A + U + "origin = https://grün\n": [
        "6: [upstream u] origin: 'https://grün' cannot be sent: "
        "no spaces and nothing but ASCII in a field's value"
    ],
    A + U + "origin = None\n": ["6: [upstream u] origin: 'None': write none"],
    A + U + "subprotocol = binary\n": ["6: [upstream u] subprotocol: 'binary' is not bridge or pass"],
}


@pytest.mark.parametrize(("text", "expected"), BAD.items(), ids=[str(number) for number in range(len(BAD))])
def test_what_is_wrong_is_said_with_its_place(folder, text, expected):
    assert problems(text) == [f"x.ini:{line}" for line in expected]


def test_there_are_enough_cases():
    assert len(BAD) >= 60


def test_all_problems_come_in_one_go_in_the_order_of_the_lines(folder):
    text = (
        "[proxy]\nidle_timeout = never\n[upstream a]\nurl = http://h\npni = x\n[listener s]\n"
        "certificate = x\nupstream = b\n[listener t]\n  listen = :x\nlisten = :80\n"
    )
    assert problems(text) == [
        "x.ini:2: [proxy] idle_timeout: 'never' is no duration: write 500ms, 30s, 10m, 1h or 2d",
        "x.ini:4: [upstream a] url: 'http://h' begins with http://: write ws://",
        "x.ini:5: [upstream a] pni: unknown key: did you mean pin?",
        "x.ini:6: [listener s] listen: missing",
        "x.ini:7: [listener s] certificate: no such file: x",
        "x.ini:7: [listener s] certificate: needs a private_key in the same section",
        "x.ini:8: [listener s] upstream: no [upstream b]: there is a",
        "x.ini:9: [listener t] upstream: missing: name an upstream, or a router that chooses one",
        f"x.ini:10: [listener t] listen: {INDENTED}",
        f"x.ini:10: [listener t] listen: ':x' is no address: {WRITE}",
        "x.ini:11: [listener t] listen: given twice, first in line 10",
    ]


def test_an_error_shows_its_problems(folder):
    with pytest.raises(ConfigError) as caught:
        read(L + "a = 1\nb = 2\n")
    assert str(caught.value) == "\n".join(map(str, caught.value.problems))
    problem = caught.value.problems[0]
    assert (problem.file, problem.line, problem.section, problem.key) == ("x.ini", 6, "listener a", "a")


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("gone.ini", "no such file"),
        ("folder", "is a folder"),
        ("text/x.ini", "cannot be read: Not a directory"),
        ("a\0b", "cannot be read: embedded null byte"),
        ("/dev/zero", "more than 16 MiB: this is no configuration"),
    ],
)
def test_a_file_that_cannot_be_read_is_a_problem(folder, path, text):
    with pytest.raises(ConfigError) as caught:
        load(path)
    assert [str(problem) for problem in caught.value.problems] == [f"{path}:1: {text}"]


def test_a_listener_on_another_address_than_the_upstreams_is_no_loop(folder):
    """Nor is another port, and port 0 is nobody's."""
    for listen in ("192.0.2.1:80", "127.0.0.1:81", "127.0.0.1:0", "unix:x", "[::1]:80"):
        read(A.replace(":80", listen) + U.replace("192.0.2.10", "127.0.0.1"))


WORDS = [
    *(
        "\n",
        "[",
        "]",
        "=",
        " = ",
        " ; ",
        "#",
        ",",
        ":",
        "proxy",
        "[proxy]\n",
        "[listener a]\n",
        "[upstream u]\n",
        "off",
    ),
    *(
        "0.0.0.0:80",
        "[::]:80",
        "tcp:",
        "unix:",
        "systemd:domain=",
        "\\",
        "ws://",
        "wss://",
        "sha1:",
        "1s",
        "\0",
        "é",
    ),
    *(f"{key.name} = " for key in KEYS),
]


@given(st.binary() | st.text() | st.lists(st.sampled_from(WORDS) | st.text(max_size=5)).map("".join))
def test_load_raises_nothing_but_config_error(tmp_path_factory, text):
    raw = text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass")
    path = tmp_path_factory.getbasetemp() / "arbitrary.ini"
    path.write_bytes(raw)
    try:
        config = load(path)
    except ConfigError as error:
        assert error.problems and all("\n" not in str(problem) for problem in error.problems)
    else:
        assert config.listeners


# --- what is only a warning


ACCEPTS_EVERY_CLIENT = (
    "x.ini:6: warning: [listener a] proxy_protocol: accepts a PROXY header from every client, which "
    "can claim any address: set trusted_proxies"
)


def test_a_warning_is_no_error(folder):
    config = read(L + "proxy_protocol = yes\n")
    assert [str(warning) for warning in config.warnings] == [ACCEPTS_EVERY_CLIENT]
    assert [warning.severity for warning in config.warnings] == [Severity.WARNING]
    assert config.listeners[0].proxy_protocol


@pytest.mark.parametrize(
    "more", ["proxy_protocol = no\n", "proxy_protocol = yes\ntrusted_proxies = 10.0.0.0/8\n", ""]
)
def test_what_is_as_it_seems_is_no_warning(folder, more):
    assert read(L + more).warnings == ()


@pytest.mark.parametrize(
    ("old", "new", "value", "read_value"),
    [
        ("beside", "services", "demo", lambda config: config.services),
        ("upgrade_timeout", "worker_shutdown_timeout", "8h", lambda config: config.worker_shutdown_timeout),
        ("queue", "queue_timeout", "5s", lambda config: config.connection_limits.queue_timeout),
    ],
)
def test_the_old_name_of_a_key_works_with_a_warning(folder, old, new, value, read_value):
    config = read(f"{L}[proxy]\n{old} = {value}\n")
    assert read_value(config) == read_value(read(f"{L}[proxy]\n{new} = {value}\n"))
    said = f"old name of {new}: write {new}, the next version does not know {old}"
    assert [str(warning) for warning in config.warnings] == [f"x.ini:7: warning: [proxy] {old}: {said}"]
    assert config.warnings[0].severity is Severity.WARNING
    assert config.problem("proxy", new, "x").line == 7
    assert read(f"{L}[proxy]\n{new} = {value}\n").warnings == ()


def test_an_old_name_beside_the_new_one_is_an_error(folder):
    assert problems(L + "[proxy]\nqueue = 5s\nqueue_timeout = 6s\n") == [
        "x.ini:7: [proxy] queue: given twice: this is the old name of queue_timeout, remove it"
    ]


def test_a_bad_value_is_reported_under_the_name_that_the_file_has(folder):
    assert [
        problem.split(":")[2:4] for problem in problems(U + "queue = soon\n" + A) if "warning" not in problem
    ] == [[" [upstream u] queue", " 'soon' is no duration"]]


def test_an_old_name_is_known_in_its_own_sections_only(folder):
    assert "unknown key" in problems(U + "beside = demo\n" + A)[0]


NO_CONSOLE = "leaves no connection for consoles: plain HTTP may take {} of the {} to each upstream host; "


@pytest.mark.parametrize(
    ("proxy", "upstream", "where", "part", "connections"),
    [
        ("max_connections = 1\n", "", "[proxy] max_connections", 1, 1),
        ("max_http_connections = 64\n", "", "[proxy] max_http_connections", 64, 64),
        ("max_http_connections = 9\n", "max_connections = 8\n", "[upstream u] max_connections", 9, 8),
        ("max_connections = 8\n", "max_http_connections = 8\n", "[upstream u] max_http_connections", 8, 8),
    ],
)
def test_plain_http_that_may_take_every_connection_is_a_warning(
    folder, proxy, upstream, where, part, connections
):
    text = f"[proxy]\n{proxy}{U}{upstream}{A}http = "
    [warning] = read(text + "forward\n").warnings
    said = f": warning: {where}: {NO_CONSOLE.format(part, connections)}"
    assert said in str(warning)
    assert read(text + "refuse\n").warnings == ()


@pytest.mark.parametrize(
    "upstream",
    [
        *("max_connections = 2\n", "max_http_connections = 63\n", "max_connections = off\n"),
        *("max_connections = 1\nmax_http_connections = off\n", ""),
    ],
)
def test_connections_that_are_left_for_consoles_are_no_warning(folder, upstream):
    assert read(U + upstream + A + "http = forward\n").warnings == ()


def test_a_warning_stands_among_the_errors_in_line_order(folder):
    assert problems(L + "colour = blue\nproxy_protocol = yes\nhttp = perhaps\n") == [
        "x.ini:6: [listener a] colour: unknown key in [listener NAME]",
        ACCEPTS_EVERY_CLIENT.replace("x.ini:6", "x.ini:7"),
        "x.ini:8: [listener a] http: 'perhaps' is not refuse or forward",
    ]
    assert problems(L + "proxy_protocol = yes\ntrusted_proxies = nobody\n")[0].startswith(
        "x.ini:7: [listener a] t"
    )
