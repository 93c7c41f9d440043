"""The commands of the manhole in the admin process: sessions of all workers, and the way to each."""

import pytest
from twisted.internet.defer import Deferred, fail

from esxiproxy.core.errors import StateUnavailable
from esxiproxy.core.process_identity import ProcessIdentity
from esxiproxy.ops.manhole.command_error import CommandError
from esxiproxy.ops.manhole.commands import Commands
from esxiproxy.ops.manhole.directory import SessionDirectory
from esxiproxy.ops.manhole.line_shell import LineShell
from tests.ops.manhole_world import Cluster
from tests.support.outcome import result


@pytest.fixture
def cluster(tmp_path):
    cluster = Cluster(tmp_path)
    cluster.publish()
    return cluster


def run(cluster, text, make=None):
    """Return the output of lines, and the exit status, None while the shell waits."""
    written, ended = [], []
    shell = LineShell(make or cluster.commands, written.append, ended.append)
    shell.input_received(text.encode())
    shell.end_of_input()
    return b"".join(written).decode(), ended[0] if ended else None


def test_sessions_have_their_worker_its_generation_and_machine(cluster):
    text, status = run(cluster, "sessions()")
    header, *lines, total = text.splitlines()
    assert header.split()[:4] == ["id", "worker", "gen", "machine"] and total == "4 sessions" and status == 0
    assert [line.split()[:5] for line in lines] == [
        ["aa01", "0", "1", "here", "alice"],
        ["aa02", "1", "1", "here", "alice"],
        ["bb03", "0", "0", "here", "alice"],
        ["cc04", "0", "3", "there", "alice"],
    ]
    assert lines[0].split()[-1] == "36s"


def test_a_process_that_has_reported_nothing_is_shown_as_unknown(cluster):
    cluster.workers = cluster.workers[1:]
    assert run(cluster, "sessions()")[0].splitlines()[1].split()[:4] == ["aa01", "?", "0", "?"]
    text, status = run(cluster, "close('aa01')")
    assert status == 1 and "repeat the command in a few seconds" in text


def test_control_characters_of_a_name_are_escaped(tmp_path):
    cluster = Cluster(tmp_path)
    from tests.ops.manhole_world import entry

    state = cluster.others[0]
    result(state.publish(entry("aa01", state.instance_id, principal="\x1b]0;owned\x07")))
    for line in ("sessions()", "session('aa')"):
        text, _ = run(cluster, line)
        assert "\x1b" not in text and "\\x1b]0;owned" in text


def test_workers_are_listed_with_their_sessions_and_state(cluster):
    text, _ = run(cluster, "workers()")
    rows = [line.split(maxsplit=3) for line in text.splitlines()[1:-1]]
    assert [row[:3] for row in rows] == [
        ["0", "0", "4700"],
        ["0", "1", "4711"],
        ["1", "1", "4712"],
        ["1", "2", "4713"],
    ]
    assert [row[3].rsplit(maxsplit=2) for row in rows] == [
        ["retiring", "1", "1"],
        ["accepting", "1", "3"],
        ["no heartbeat for 20 s", "1", "0"],
        ["starting", "0", "0"],
    ]
    assert text.endswith("4 workers on here\n")


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ((0,), "worker 0 of generation 1"),
        (("0", 0), "worker 0 of generation 0"),
        (("1",), "worker 1 of generation 1"),  # the newest one is not ready
        ((1, 2), "worker 1 of generation 2"),
    ],
)
def test_a_worker_is_found_by_number_and_generation(cluster, arguments, name):
    assert cluster.commands().worker(*arguments).name == name


@pytest.mark.parametrize("arguments", [(7,), ("",), (None,), (0, 5), ("0; 1",)])
def test_a_worker_that_does_not_exist_is_a_command_error(cluster, arguments):
    with pytest.raises(CommandError, match=r"no worker .*: there are 0 \(generation 0\), 0 \(generation 1\)"):
        cluster.commands().worker(*arguments)


@pytest.mark.parametrize("command", ["close", "trace", "untrace"])
def test_a_command_for_a_session_of_a_worker_says_where_it_is(cluster, command):
    text, status = run(cluster, f"{command}('aa02')")
    assert status == 1 and text == (
        "session aa02 belongs to worker 1 of generation 1 on here: "
        "worker('1', generation=1) opens its shell\n"
    )
    text, _ = run(cluster, f"{command}('cc')")
    assert text == (
        "session cc04 belongs to worker 0 of generation 3 on there: run `esxiproxy manhole` on the machine "
        "there\n"
    )
    assert run(cluster, f"{command}('aa')") == ("2 sessions begin with 'aa'\n", 1)
    assert run(cluster, f"{command}('zz')") == ("no session 'zz'\n", 1)


def test_a_command_in_another_worker_says_how_to_leave_it(cluster):
    directory = SessionDirectory(cluster.state, ProcessIdentity("there", "run-2", "1", 3), tuple)

    def make(show, idle):
        return Commands("somebody", (), tuple, cluster.reactor, show, idle, directory)

    text, status = run(cluster, "close('cc04')", make)
    assert status == 1 and text == (
        "session cc04 belongs to worker 0 of generation 3 on there: leave this shell, and call worker('0', "
        "generation=3) in that of the admin process, or run `esxiproxy manhole --worker 0 --generation 3`\n"
    )


def test_session_shows_what_the_state_has_and_the_way(cluster):
    lines = run(cluster, "session('bb')")[0].splitlines()
    for line in (
        "session     bb03",
        "worker      0 (generation 0)",
        "machine     here",
        "target      /ticket/***",
        "more        worker('0', generation=0) opens its shell",
    ):
        assert line in lines


def test_upstreams_count_the_sessions_of_all(cluster):
    assert run(cluster, "upstreams()")[0].splitlines()[1].split() == [
        *("esxi1", "wss://192.0.2.10:443", "system", "4")
    ]


def test_a_state_that_cannot_be_read_is_a_sentence(cluster):
    cluster.state.sessions = lambda *_: fail(StateUnavailable("the shared state is unavailable"))
    assert run(cluster, "sessions()") == ("the shared state is unavailable\n", 1)


def test_lines_wait_for_the_result_before_them(cluster):
    waiting = Deferred()
    cluster.state.sessions = lambda *_: waiting
    written, ended = [], []
    shell = LineShell(cluster.commands, written.append, ended.append)
    shell.input_received(b"sessions()\nprint('next')\n")
    shell.end_of_input()
    assert not written and not ended
    waiting.callback([])
    assert b"".join(written) == b"no sessions\nnext\n" and ended == [0]


def test_a_shell_that_is_closed_cancels_what_it_waits_for(cluster):
    cancelled = []
    cluster.state.sessions = lambda *_: Deferred(cancelled.append)
    written, ended = [], []
    shell = LineShell(cluster.commands, written.append, ended.append)
    shell.input_received(b"sessions()\nprint('next')\n")
    shell.closed()
    assert len(cancelled) == 1 and not written and not ended


def test_a_worker_needs_a_terminal(cluster):
    assert run(cluster, "worker(0)") == (
        "the shell of worker 0 of generation 1 needs a terminal: pass the lines to "
        "`esxiproxy manhole --worker 0 --generation 1`\n",
        1,
    )


def test_help_has_a_line_for_every_command(cluster):
    commands = cluster.commands()
    for name in commands.names():
        assert f"\n{name}(" in f"\n{commands.help()}"


@pytest.mark.parametrize(
    ("text", "output", "status"),
    [
        ("1\n2\n", "1\n2\n", 0),
        ("1; 2", "1\n2\n", 0),
        ("x = 5\r\nx\r\n", "5\n", 0),
        ("for n in range(2):\n    print('n', n)", "n 0\nn 1\n", 0),
        ("for n in range(2):\n    print('n', n)\n\n7\n", "n 0\nn 1\n7\n", 0),
        ("exit()\n1\n", "", 0),
        ("raise SystemExit\n1\n", "", 0),
        ("(1,", "the command is incomplete Python\n", 1),
        ("", "", 0),
    ],
)
def test_lines_of_a_script(cluster, text, output, status):
    assert run(cluster, text) == (output, status)


def test_a_failed_line_does_not_end_a_script(cluster):
    text, status = run(cluster, "1 / 0\n3\n")
    assert "ZeroDivisionError" in text and text.endswith("\n3\n") and status == 1


def test_bytes_that_are_no_text_are_refused(cluster):
    written, ended = [], []
    shell = LineShell(cluster.commands, written.append, ended.append)
    shell.input_received(b"'\xff'\n4\n")
    shell.end_of_input()
    assert b"".join(written) == b"a line is not UTF-8\n4\n" and ended == [1]


def test_a_line_without_end_is_refused(cluster, monkeypatch):
    monkeypatch.setattr("esxiproxy.ops.manhole.line_shell.MAX_LINE", 1000)
    written, ended = [], []
    shell = LineShell(cluster.commands, written.append, ended.append)
    for _ in range(11):
        shell.input_received(b"#" * 100)
    assert b"".join(written) == b"a line is longer than 1000 bytes\n" and ended == [1]
