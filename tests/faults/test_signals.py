"""Signals to the process at different times: consoles end as they should."""

from __future__ import annotations

import json
import os
import signal
import socket

import pytest

from tests.faults.acts import GET, OPENING
from tests.faults.steps import REASON, carries, closes, drains, echoes, ended, opened, sentence, text
from tests.support.probe import ProbedProxy
from tests.support.scripts import silent
from tests.support.websocket import CLOSE
from tests.support.websocket_peers import Client, ScriptedUpstream


def test_sigterm_while_opening(upstream: ScriptedUpstream) -> None:
    upstream.script = silent
    with ProbedProxy(text(upstream, drain_timeout="1s")) as proxy:
        with Client(proxy.ports["one"]) as client:
            client.send_raw(OPENING)
            upstream.connection()
            drains(proxy)
            head = client.recv_head()
            assert head.status == 503 and head.one("Retry-After")
        ended(proxy)
        assert f"Draining: {REASON}" in proxy.log()
        proxy.assert_clean()


def test_sigterm_while_open(upstream: ScriptedUpstream) -> None:
    with ProbedProxy(text(upstream, drain_timeout="1s")) as proxy:
        client = opened(proxy)
        drains(proxy)
        echoes(client)
        assert client.recv_close() == (1001, REASON)
        client.send_close(1001)
        client.recv_eof()
        ended(proxy)
        got = upstream.connection().frames[-1]
        assert (got.opcode, got.payload[:2]) == (CLOSE, (1001).to_bytes(2, "big"))
        record = json.loads((proxy.folder / "access.log").read_text())
        assert (record["error"], record["close_code"], record["ended_by"]) == ("Draining", 1001, "proxy")
        assert record["timeout"] == "drain_timeout"
        proxy.assert_clean()


def test_sigterm_between_requests(upstream: ScriptedUpstream) -> None:
    upstream.script = lambda connection: (
        connection.read_request(),
        connection.send_raw(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
        connection.recv_eof(30),
    )
    with ProbedProxy(text(upstream, drain_timeout="1h")) as proxy:
        with Client(proxy.ports["one"]) as client:
            client.send_raw(GET)
            assert client.recv_head().status == 200
            os.kill(proxy.pid, signal.SIGTERM)
            client.recv_eof()
        ended(proxy)
        proxy.assert_clean()


def test_second_sigterm(upstream: ScriptedUpstream) -> None:
    with ProbedProxy(text(upstream, drain_timeout="1h")) as proxy:
        client = opened(proxy)
        drains(proxy)
        echoes(client)
        os.kill(proxy.pid, signal.SIGTERM)
        client.recv_eof()
        assert upstream.connection().finished.wait(10)
        ended(proxy)
        assert proxy.stop() == 0
        record = json.loads((proxy.folder / "access.log").read_text())
        assert (record["error"], record["ended_by"]) == ("Draining", "proxy")
        proxy.assert_clean()


def test_sighup_with_a_bad_file(upstream: ScriptedUpstream) -> None:
    with ProbedProxy(text(upstream)) as proxy:
        client = opened(proxy)
        good = proxy.path.read_text()
        proxy.path.write_text(good.replace("upstream = esxi1", "upstream = nobody\ncolour = blue"))
        os.kill(proxy.pid, signal.SIGHUP)
        sentence(proxy, "[listener one] upstream")
        sentence(proxy, "[listener one] colour")
        echoes(client)
        carries(proxy)
        closes(client)
        proxy.assert_clean()


def test_sigkill(upstream: ScriptedUpstream) -> None:
    with ProbedProxy(text(upstream)) as proxy:
        client = opened(proxy)
        os.kill(proxy.pid, signal.SIGKILL)
        client.recv_eof()
        assert upstream.connection().finished.wait(10)
        ended(proxy)  # the kernel closes the listener last
        with pytest.raises(OSError), socket.create_connection(("127.0.0.1", proxy.ports["one"]), 1):
            pass
