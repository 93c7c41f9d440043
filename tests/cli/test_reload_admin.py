"""``esxiproxy reload`` over the unix socket of [admin], and when it sends a signal instead."""

from __future__ import annotations

from pathlib import Path

import pytest

from esxiproxy.admin.call import ApiError
from esxiproxy.cli.main import main
from tests.cli.test_reload import got, program
from tests.support import config
from tests.support.running_admin import RunningAdmin

Capture = pytest.CaptureFixture[str]
GOOD = config.listener("a") + config.upstream("ws://192.0.2.1")


@pytest.fixture
def file(admin: RunningAdmin, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Write the configuration of the running proxy to the working directory."""
    path = admin.path.parent / "proxy.ini"
    path.write_text("[admin]\nsocket = admin.sock\n" + GOOD)
    monkeypatch.chdir(path.parent)
    admin.answers |= {
        "configuration": {"path": str(path), "sections": [], "warnings": []},
        "reload": {"reloaded": True, "problems": []},
    }
    return path


def test_the_outcome_is_printed(file: Path, admin: RunningAdmin, capsys: Capture) -> None:
    assert main(["reload", "--config", "proxy.ini", "--reason", "new certificate"]) == 0
    assert capsys.readouterr() == ("proxy.ini: ok; it is in force\n", "")
    (call,) = admin.calls("reload")
    assert call.body == {"reason": "new certificate"}
    assert '"reason": "new certificate", "outcome": "done"' in (file.parent / "audit.log").read_text()


def test_problems_that_only_the_proxy_finds_are_printed(
    file: Path, admin: RunningAdmin, capsys: Capture
) -> None:
    """The problem is an address in use."""
    admin.answers["reload"] = {"reloaded": False, "problems": ["address in use\x1b[2J", "second"]}
    assert main(["reload", "--config", "proxy.ini"]) == 1
    assert capsys.readouterr() == (
        "",
        "address in use\\x1b[2J\nsecond\n"
        "esxiproxy reload: proxy.ini is not in force: everything stays as it was\n",
    )


def test_a_file_with_problems_is_not_sent(file: Path, admin: RunningAdmin, capsys: Capture) -> None:
    file.write_text(file.read_text() + "colour = blue\n")
    assert main(["reload", "--config", "proxy.ini"]) == 1
    assert "[upstream esxi1] colour: " in capsys.readouterr().err
    assert admin.seen == []


def test_a_socket_alone_reloads_the_file_of_its_proxy(
    file: Path, admin: RunningAdmin, capsys: Capture
) -> None:
    file.write_text("its proxy checks it")
    assert main(["reload", "--socket", "admin.sock"]) == 0
    assert capsys.readouterr() == (f"{file}: ok; it is in force\n", "")


def test_a_proxy_with_another_configuration_is_not_reloaded(
    file: Path, admin: RunningAdmin, capsys: Capture
) -> None:
    """Several proxies of one machine may name the same default socket."""
    other = file.rename("other.ini")
    assert main(["reload", "--config", "other.ini"]) == 3
    assert capsys.readouterr().err == (
        f"esxiproxy reload: the proxy with the socket {admin.path} runs with {file}, not with {other}\n"
    )
    assert admin.calls("reload") == []


def test_another_path_to_the_same_file_is_the_same_configuration(file: Path, admin: RunningAdmin) -> None:
    (file.parent / "link.ini").symlink_to("proxy.ini")
    assert main(["reload", "--config", "link.ini"]) == 0
    assert len(admin.calls("reload")) == 1


def test_a_pidfile_that_is_named_is_used(file: Path, admin: RunningAdmin, capsys: Capture) -> None:
    with program("esxiproxy") as running:
        (file.parent / "run.pid").write_text(str(running.pid))
        assert main(["reload", "--config", "proxy.ini", "--pidfile", "run.pid"]) == 0
        assert got(running) == "SIGHUP"
    assert admin.seen == []
    assert capsys.readouterr().out == f"proxy.ini: ok; process {running.pid} reloads it\n"


@pytest.mark.parametrize("begin", ["", "[admin]\nsocket = other.sock\n"], ids=["removed", "added"])
def test_a_proxy_that_cannot_be_asked_gets_the_signal(
    begin: str, file: Path, admin: RunningAdmin, capsys: Capture
) -> None:
    """The file has no [admin] any more, or the proxy has none yet."""
    file.write_text(begin + GOOD)
    with program("esxiproxy") as running:
        (file.parent / "twistd.pid").write_text(str(running.pid))
        assert main(["reload", "--config", "proxy.ini"]) == 0
        assert got(running) == "SIGHUP"
    assert admin.seen == []


def test_without_socket_and_pidfile_the_proxy_cannot_be_reached(file: Path, capsys: Capture) -> None:
    file.write_text("[admin]\nsocket = other.sock\n" + GOOD)
    assert main(["reload", "--config", "proxy.ini"]) == 3
    assert "other.sock does not exist: the proxy is not running" in capsys.readouterr().err


def test_a_reload_that_is_refused_sends_no_signal(file: Path, admin: RunningAdmin, capsys: Capture) -> None:
    """A reload must not happen twice."""
    admin.answers["reload"] = ApiError(503, "the audit log failed")
    with program("esxiproxy") as running:
        (file.parent / "twistd.pid").write_text(str(running.pid))
        assert main(["reload", "--config", "proxy.ini"]) == 1
        assert got(running) == "SIGTERM"
    assert capsys.readouterr().err == "esxiproxy reload: the audit log failed\n"


def test_socket_and_pidfile_exclude_each_other(capsys: Capture) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["reload", "--socket", "a", "--pidfile", "b"])
    assert ended.value.code == 2
