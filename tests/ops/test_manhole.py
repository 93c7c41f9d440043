"""The manhole's service: its address, its key files, and errors at the start."""

import stat
import sys

import pytest
from twisted.conch.interfaces import IConchUser
from twisted.cred.error import UnauthorizedLogin
from twisted.internet.testing import MemoryReactorClock
from twisted.logger import capturedLogs, formatEvent

from esxiproxy.core.config.errors import BadValue
from esxiproxy.core.config.listen_address import manhole_address
from esxiproxy.net.sessions import Sessions
from esxiproxy.ops.manhole.commands import commands_of
from esxiproxy.ops.manhole.service import ManholeError, ManholeService

PUBLIC = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJcX9ZSxZRsGzzoyLAeJs7S2m4K6m5XlnkYFbWE+vqyX somebody\n"


class Site:
    """A folder with the files of a manhole, and a reactor in memory."""

    def __init__(self, folder, keys=PUBLIC):
        self.reactor = MemoryReactorClock()
        self.keys, self.host_key = folder / "authorized_keys", folder / "host_key"
        if keys is not None:
            self.keys.write_text(keys)
            self.keys.chmod(0o600)

    def service(self, address="tcp:2222:interface=127.0.0.1"):
        commands = commands_of(Sessions([], self.reactor), tuple, self.reactor)
        return ManholeService(address, self.keys, self.host_key, commands, self.reactor)

    def problem(self):
        with pytest.raises(ManholeError) as caught:
            self.service().privilegedStartService()
        assert not self.reactor.tcpServers
        return str(caught.value)


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("2222", "127.0.0.1", 2222),
        (":2222", "127.0.0.1", 2222),
        ("127.0.0.1:2222", "127.0.0.1", 2222),
        ("[::1]:2222", "::1", 2222),
        ("192.0.2.7:22", "192.0.2.7", 22),
    ],
)
def test_a_bare_port_means_loopback(text, host, port, tmp_path):
    address = manhole_address(text, tmp_path)
    assert (str(address.ip), address.port) == (host, port)


@pytest.mark.parametrize("text", ["", "localhost", "70000", "ssh"])
def test_an_invalid_address_is_a_bad_value(text, tmp_path):
    with pytest.raises(BadValue):
        manhole_address(text, tmp_path)


def test_the_port_is_bound_once_together_with_the_listeners(tmp_path):
    site = Site(tmp_path)
    service = site.service()
    service.privilegedStartService()
    service.startService()
    ((port, _, _, interface),) = site.reactor.tcpServers
    assert (port, interface) == (2222, "127.0.0.1")
    assert service.stopService().called and service.port is None


def test_the_port_is_bound_at_the_start_when_embedded(tmp_path):
    site = Site(tmp_path)
    site.service().startService()
    assert len(site.reactor.tcpServers) == 1


def test_the_host_key_is_created_once_with_mode_0600(tmp_path):
    site = Site(tmp_path)
    site.service().startService()
    first = site.host_key.read_bytes()
    assert first.startswith(b"-----BEGIN OPENSSH PRIVATE KEY-----")
    assert stat.S_IMODE(site.host_key.stat().st_mode) == 0o600
    site.service().startService()
    assert site.host_key.read_bytes() == first
    assert sorted(path.name for path in tmp_path.iterdir()) == ["authorized_keys", "host_key"]


def test_a_host_key_that_others_can_read_is_refused(tmp_path):
    site = Site(tmp_path)
    site.service().startService()
    site.host_key.chmod(0o640)
    site.reactor = MemoryReactorClock()
    assert "users other than its owner can read it" in site.problem()


@pytest.mark.parametrize(
    "content", [b"", b"nonsense", b"-----BEGIN OPENSSH PRIVATE KEY-----\n", PUBLIC.encode()]
)
def test_an_invalid_host_key_is_refused(content, tmp_path):
    site = Site(tmp_path)
    site.host_key.write_bytes(content)
    site.host_key.chmod(0o600)
    assert str(site.host_key) in site.problem()


@pytest.mark.parametrize(
    ("keys", "says"),
    [
        (None, "No such file"),
        ("", "no valid public key"),
        ("# nobody\n", "no valid public key"),
        ("nonsense\n", "no valid public key"),
        (f'from="192.0.2.1" {PUBLIC}', "no valid public key"),
    ],
)
def test_without_a_key_nothing_is_bound(keys, says, tmp_path):
    assert says in Site(tmp_path, keys).problem()


def test_a_keys_file_that_others_can_write_to_is_refused(tmp_path):
    site = Site(tmp_path)
    site.keys.chmod(0o620)
    assert "users other than its owner can write to it" in site.problem()


def test_without_conch_the_error_names_the_extra_to_install(tmp_path, monkeypatch):
    for name in [name for name in sys.modules if name.startswith("esxiproxy.ops.manhole.ss")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "twisted.conch.ssh.keys", None)
    for name in [name for name in sys.modules if name.startswith("twisted.conch.")]:
        monkeypatch.setitem(sys.modules, name, None)
    assert "pip install 'esxiproxy[manhole]'" in Site(tmp_path).problem()


def test_a_connection_without_login_is_aborted_after_the_timeout(tmp_path):
    site = Site(tmp_path)
    site.service().startService()
    factory = site.reactor.tcpServers[0][1]
    from twisted.internet.testing import StringTransportWithDisconnection

    transport = StringTransportWithDisconnection()
    transport.abortConnection = transport.loseConnection
    connection = transport.protocol = factory.buildProtocol(None)
    connection.makeConnection(transport)
    assert transport.value().startswith(b"SSH-2.0-esxiproxy\r\n")
    site.reactor.advance(29)
    assert transport.connected
    site.reactor.advance(2)
    assert not transport.connected and not site.reactor.getDelayedCalls() and not factory.connections


class Audit:
    """An audit log that is full, or not."""

    def __init__(self, is_full=False):
        self.is_full, self.lines = is_full, []

    async def logged_in(self, operator, source):
        if self.is_full:
            raise OSError("no space left")
        self.lines.append(("in", operator, source))
        return "id"

    async def logged_out(self, *parts):
        self.lines.append(("out", *parts))


def login(audit):
    """Return the Deferred of an operator's login."""
    from esxiproxy.ops.manhole.ssh import Realm

    return Realm(None, MemoryReactorClock(), audit, "192.0.2.7").requestAvatar(b"ann", None, IConchUser)


def test_a_login_and_its_end_are_written_to_the_audit_log():
    audit = Audit()
    _interface, avatar, log_out = login(audit).result
    assert avatar.channelLookup and audit.lines == [("in", "ann", "192.0.2.7")]
    log_out()
    assert audit.lines[1:] == [("out", "id", "ann", "192.0.2.7")]


def test_a_login_that_cannot_be_written_to_the_audit_log_is_refused():
    with capturedLogs() as events:
        refused = login(Audit(is_full=True))
    assert refused.result.check(UnauthorizedLogin) and refused.addErrback(lambda _: None)
    assert [formatEvent(event) for event in events if event["log_level"].name == "error"] == [
        "manhole: login of ann refused, since it cannot be written to the audit log: no space left"
    ]
