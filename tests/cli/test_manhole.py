"""``esxiproxy manhole`` without a terminal, against sockets of the test."""

import os
import socket
import threading

import pytest

from esxiproxy.cli import manhole
from esxiproxy.cli.main import main
from esxiproxy.ops.manhole.messages import MessageKind, MessageReader, ShellRequest, ShellStatus, encode


@pytest.fixture
def run(tmp_path, monkeypatch, capfd):
    """Run the command with this input, and return its status, output and errors."""

    def run(*arguments, typed=b""):
        with (tmp_path / "input").open("w+b") as source:
            source.write(typed)
            source.seek(0)
            monkeypatch.setattr("sys.stdin", source)
            status = main(["manhole", "--socket", str(tmp_path / "admin.sock"), *arguments])
        return status, *capfd.readouterr()

    return run


@pytest.fixture
def serve(tmp_path):
    """Serve one connection on the socket of the manhole by a function in a thread."""
    threads, listening = [], socket.socket(socket.AF_UNIX)

    def serve(answer):
        listening.bind(str(tmp_path / "manhole.sock"))
        listening.listen()
        threads.append(threading.Thread(target=_serve, args=(listening, answer)))
        threads[0].start()

    yield serve
    listening.close()
    for thread in threads:
        thread.join(20)


def _serve(listening, answer):
    connection, _ = listening.accept()
    with connection:
        connection.settimeout(20)
        answer(connection)


def received(connection):
    """Yield the messages of a client."""
    reader = MessageReader()
    while octets := connection.recv(4096):
        yield from reader.feed(octets)


def test_lines_are_sent_and_output_and_status_come_back(run, serve):
    found = []

    def answer(connection):
        connection.sendall(encode(MessageKind.READY))
        for kind, content in received(connection):
            found.append((kind, content))
            if kind is MessageKind.END_OF_INPUT:
                connection.sendall(encode(MessageKind.OUTPUT, b"x" * 100_000 + b"\n"))
                connection.sendall(ShellStatus(1, "worker 0 \x1b[2J").encode())
                return

    serve(answer)
    status, output, errors = run("--worker", "0", "--generation", "3", typed=b"1 / 0\n")
    assert (status, output) == (1, "x" * 100_000 + "\n")
    assert errors == "esxiproxy manhole: worker 0 \\x1b[2J\n"
    (kind, content), *rest = found
    assert kind is MessageKind.REQUEST
    assert ShellRequest.decode(content) == ShellRequest(False, 24, 80, "0", 3)
    assert rest == [(MessageKind.INPUT, b"1 / 0\n"), (MessageKind.END_OF_INPUT, b"")]


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (lambda connection: None, "the process of the shell has exited"),
        (lambda connection: connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n"), "does not speak the protocol"),
        (lambda connection: connection.sendall(encode(MessageKind.STATUS, b"[]")), "without an object"),
    ],
)
def test_a_peer_that_is_no_shell_cannot_be_reached(run, serve, answer, says):
    serve(answer)
    status, output, errors = run()
    assert status == 3 and not output and says in errors


def test_a_proxy_that_hangs_is_left(run, serve, monkeypatch):
    monkeypatch.setattr(manhole, "PING_INTERVAL", 0.05)
    found = []
    serve(lambda connection: found.extend(kind for kind, _ in received(connection)))
    status, _, errors = run()
    assert status == 3 and "its event loop is blocked" in errors


def test_a_proxy_that_does_not_run_is_a_sentence(run, tmp_path):
    status, _, errors = run()
    assert status == 3 and "manhole.sock does not exist: the proxy is not running" in errors
    (tmp_path / "admin.sock").touch()
    status, _, errors = run()
    assert status == 3 and "set manhole and manhole_keys in [proxy]" in errors
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(tmp_path / "manhole.sock"))
    status, _, errors = run()
    assert status == 3 and "belongs to no running process: start the proxy" in errors


def test_the_socket_is_found_by_the_configuration(tmp_path, capfd):
    config = tmp_path / "proxy.ini"
    config.write_text("[admin]\nsocket = run.sock\n")
    assert main(["manhole", "--config", str(config)]) == 3
    assert f"{tmp_path}/run.sock.manhole does not exist" in capfd.readouterr().err
    config.write_text("[proxy]\n")
    assert main(["manhole", "--config", str(config)]) == 3
    assert "has no section [admin]" in capfd.readouterr().err


def test_a_generation_needs_a_worker(run):
    status, _, errors = run("--generation", "1")
    assert (status, errors) == (
        2,
        "esxiproxy manhole: --generation needs --worker (esxiproxy manhole --help has all options)\n",
    )


def test_a_reader_that_ends_is_no_error(run, serve, monkeypatch):
    def answer(connection):
        connection.sendall(encode(MessageKind.READY) + encode(MessageKind.OUTPUT, b"lines\n"))
        list(received(connection))

    reading, writing = os.pipe()
    os.close(reading)
    serve(answer)
    with os.fdopen(writing, "w") as output:
        monkeypatch.setattr("sys.stdout", output)
        status, *_ = run()
    assert status == 0
