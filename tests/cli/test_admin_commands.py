"""The terminal commands against the admin service on a real unix socket, whose figures the tests set."""

from __future__ import annotations

import json
from typing import Any

import pytest

from esxiproxy.admin.call import ApiError
from esxiproxy.cli import sessions as sessions_command
from esxiproxy.cli import top as top_command
from esxiproxy.cli.main import main
from tests.support import admin_rows as rows
from tests.support.running_admin import RunningAdmin, check, paged

Capture = pytest.CaptureFixture[str]


def quiet(admin: RunningAdmin) -> None:
    """Set the answers of a proxy with two consoles where everything is in order."""
    admin.answers |= {
        "status": rows.status(),
        "list_workers": {"workers": [rows.worker(0), rows.worker(1)]},
        "list_listeners": {"listeners": [rows.listener()]},
        "list_sessions": paged("sessions", [rows.session(1), rows.session(2, principal="bob")]),
        "list_hosts": paged("hosts", [rows.host()]),
        "list_failures": paged("failures", []),
        "list_drains": {"drains": [rows.drain()]},
        "list_links": {"links": [rows.link()]},
        "kill": {"sessions": 2},
        "drain": rows.drain(sessions=1),
        "undrain": {"drains": [rows.drain()]},
        "revoke_link": {"sessions": 1},
    }


def run(admin: RunningAdmin, *arguments: str) -> int:
    return main([*arguments, "--socket", str(admin.path)])


REASON = ("--reason", "a test")
OUTPUTS = [
    (["sessions"], "2 open consoles"),
    (["hosts"], "1 host"),
    (["drain"], "memory is replaced"),
    (["links"], "3q2-7w"),
    (["kill", "0000000000000001", *REASON], "2 consoles ended"),
    (["kill", "--user", "alice", *REASON], "2 consoles ended"),
    (["kill", "--host", "esx1", *REASON], "2 consoles ended"),
    (["kill", "--link", "3q2-7w", *REASON], "2 consoles ended"),
    (
        ["drain", "host", "esx1.example.com", *REASON],
        "host esx1.example.com takes no new consoles; 1 open console there goes on",
    ),
    (
        ["drain", "host", "esx1.example.com", "--end", "10m", *REASON],
        "host esx1.example.com takes no new consoles; 1 open console there is closed in 10m 00s",
    ),
    (["undrain", "host", "esx1.example.com"], "host esx1.example.com takes new consoles again"),
    (
        ["links", "--revoke", "3q2-7w", *REASON],
        "link 3q2-7w opens no more consoles; 1 console ended",
    ),
]


@pytest.mark.parametrize(("arguments", "said"), OUTPUTS, ids=[" ".join(row[0][:3]) for row in OUTPUTS])
def test_what_a_command_prints(arguments: list[str], said: str, admin: RunningAdmin, capsys: Capture) -> None:
    """The last line is right, standard error is empty, and the exit status is 0."""
    quiet(admin)
    assert run(admin, *arguments) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert said in out.splitlines()[-1]


SCHEMAS = [
    (["status"], "Status"),
    (["sessions"], "Session"),
    (["top"], "Session"),
    (["hosts"], "Host"),
    (["links"], "Link"),
    (["drain"], "Drain"),
    (["drain", "host", "esx1", *REASON], "Drain"),
    (["undrain", "host", "esx1"], "Drain"),
    (["kill", "0000000000000001", *REASON], "Killed"),
    (["links", "--revoke", "3q2-7w", *REASON], "Killed"),
]


@pytest.mark.parametrize(("arguments", "schema"), SCHEMAS, ids=[" ".join(row[0][:3]) for row in SCHEMAS])
def test_json_is_a_list_of_objects_of_the_api(
    arguments: list[str], schema: str, admin: RunningAdmin, capsys: Capture
) -> None:
    quiet(admin)
    assert run(admin, *arguments, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert isinstance(found, list) and found
    for each in found:
        check(schema, each)


BODIES: list[tuple[list[str], str, dict[str, Any]]] = [
    (["kill", "0000000000000001"], "kill", {"kind": "session", "value": "0000000000000001"}),
    (["kill", "--principal", "sso/alice"], "kill", {"kind": "principal", "value": "sso/alice"}),
    (["kill", "--host", "esx1"], "kill", {"kind": "host", "value": "esx1"}),
    (["kill", "--link", "3q2"], "kill", {"kind": "link", "value": "3q2"}),
    (["drain", "proxy"], "drain", {"kind": "proxy"}),
    (["drain", "proxy", "--machine", "b"], "drain", {"kind": "proxy", "machine": "b"}),
    (["drain", "listener", "lab"], "drain", {"kind": "listener", "name": "lab"}),
    (["drain", "upstream", "esxi", "--end", "1h"], "drain",
     {"kind": "upstream", "name": "esxi", "end_after": 3600.0}),
    (["undrain", "listener", "lab", "--machine", "b"], "undrain",
     {"kind": "listener", "name": "lab", "machine": "b"}),
    (["links", "--revoke", "3q2"], "revoke_link", {"id": "3q2"}),
]  # fmt: skip


@pytest.mark.parametrize(("arguments", "name", "body"), BODIES, ids=[" ".join(row[0]) for row in BODIES])
def test_what_an_action_asks_for(
    arguments: list[str], name: str, body: dict[str, Any], admin: RunningAdmin
) -> None:
    """The reason is sent unchanged, and is in the audit log with the caller's user id."""
    quiet(admin)
    reason = "Speicher wird getauscht: 'ä' \\ \"x\""
    assert run(admin, *arguments, "--reason", reason) == 0
    (call,) = admin.calls(name)
    assert call.body == {**body, "reason": reason}
    begun, done = map(json.loads, (admin.path.parent / "audit.log").read_text().splitlines())
    assert (begun["outcome"], done["outcome"], done["reason"]) == ("begun", "done", reason)
    assert begun["action_id"] == done["action_id"]
    assert done["actor"].startswith("uid ") and done["source"] == "unix"


QUERIES: list[tuple[list[str], str, dict[str, Any]]] = [
    (["sessions"], "list_sessions", {"sort": "since", "order": "asc"}),
    (["sessions", "--sort", "idle", "--desc", "--filter", "host:esx1 bob"], "list_sessions",
     {"sort": "idle", "order": "desc", "filter": "host:esx1 bob"}),
    (["sessions", "--user", "a&b=c", "--link", "l"], "list_sessions", {"principal": "a&b=c", "link": "l"}),
    (["sessions", "--limit", "1"], "list_sessions", {"limit": 1}),
    (["top"], "list_sessions", {"sort": "rate_down", "order": "desc"}),
    (["top", "--sort", "host"], "list_sessions", {"sort": "host", "order": "asc"}),
    (["hosts"], "list_hosts", {"sort": "usage", "order": "desc"}),
    (["hosts", "--sort", "health", "--filter", "health:down"], "list_hosts",
     {"sort": "health", "order": "asc", "filter": "health:down"}),
]  # fmt: skip


@pytest.mark.parametrize(("arguments", "name", "asked"), QUERIES, ids=[" ".join(row[0]) for row in QUERIES])
def test_the_proxy_filters_and_sorts(
    arguments: list[str], name: str, asked: dict[str, Any], admin: RunningAdmin
) -> None:
    quiet(admin)
    assert run(admin, *arguments) == 0
    parameters = admin.calls(name)[-1].parameters
    assert {key: parameters.get(key) for key in asked} == asked


WRONG = [
    (["kill", *REASON], "one of the arguments ID --principal/--user --host --link is required"),
    (["kill", "a", "--user", "b", *REASON], "not allowed with argument"),
    (["kill", "a"], "--reason"),
    (["kill", "a", "--reason", " "], "it is empty"),
    (["kill", "--user", "", *REASON], "it is empty"),
    (["drain", "hosts", "a", *REASON], "invalid choice: 'hosts'"),
    (["drain", "host", *REASON], "a host needs its NAME"),
    (["drain", "upstream", *REASON], "an upstream needs its NAME"),
    (["drain", "proxy", "a", *REASON], "the proxy has no name"),
    (["drain", "host", "a"], "say why with --reason TEXT"),
    (["drain", "host", "a", "--machine", "b", *REASON], "is drained on all machines"),
    (["drain", "--end", "10m"], "say what is drained"),
    (["drain", "--end", "1x", "host", "a", *REASON], "is no duration"),
    (["undrain"], "say what, as in"),
    (["undrain", "listener"], "a listener needs its NAME"),
    (["links", "--revoke", "a"], "belong together"),
    (["links", *REASON], "belong together"),
    (["sessions", "--limit", "0"], "0 is no number above 0"),
    (["sessions", "--sort", "colour"], "invalid choice: 'colour'"),
    (["hosts", "--limit", "-4"], "-4 is no number above 0"),
    (["top", "--interval", "0"], "is no number of seconds"),
    (["top", "--interval", "nan"], "is no number of seconds"),
    (["top", "--count", "many"], "is no number above 0"),
    (["status", "--config", "a.ini"], "not allowed with argument"),
]


@pytest.mark.parametrize(("arguments", "said"), WRONG, ids=[" ".join(row[0]) for row in WRONG])
def test_wrong_usage_has_the_status_2_and_asks_for_nothing(
    arguments: list[str], said: str, admin: RunningAdmin, capsys: Capture
) -> None:
    try:
        status: Any = run(admin, *arguments)
    except SystemExit as error:
        status = error.code
    assert status == 2 and admin.seen == []
    out, err = capsys.readouterr()
    assert out == "" and said in err


REFUSALS = [
    ("kill", 404, ["kill", "abc", *REASON],
     "esxiproxy kill: no open console has the id abc; esxiproxy sessions lists all of them\n", 1),
    ("kill", 404, ["kill", "--user", "\x1b[1mbob", *REASON],
     "esxiproxy kill: no open console has the user \\x1b[1mbob; esxiproxy sessions lists all of them\n", 1),
    ("undrain", 404, ["undrain", "host", "esx1"],
     "esxiproxy undrain: host esx1 is not drained; esxiproxy drain lists what is\n", 1),
    ("undrain", 404, ["undrain", "proxy"],
     "esxiproxy undrain: proxy is not drained; esxiproxy drain lists what is\n", 1),
    ("drain", 404, ["drain", "listener", "x", *REASON], "esxiproxy drain: the text of the proxy\n", 1),
    ("drain", 400, ["drain", "host", "x y", *REASON], "esxiproxy drain: the text of the proxy\n", 2),
    ("kill", 503, ["kill", "abc", *REASON], "esxiproxy kill: the text of the proxy\n", 1),
    ("revoke_link", 409, ["links", "--revoke", "x", *REASON], "esxiproxy links: the text of the proxy\n", 1),
    ("status", 503, ["status"], "esxiproxy status: the text of the proxy\n", 1),
]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "answered", "arguments", "said", "status"), REFUSALS, ids=[" ".join(row[2]) for row in REFUSALS]
)
def test_a_refusal_is_a_sentence(
    name: str, answered: int, arguments: list[str], said: str, status: int,
    admin: RunningAdmin, capsys: Capture,
) -> None:  # fmt: skip
    quiet(admin)
    admin.answers[name] = ApiError(answered, "the text of the proxy")
    assert run(admin, *arguments) == status
    assert capsys.readouterr() == ("", said)


def test_an_action_that_the_audit_log_cannot_take_is_refused(admin: RunningAdmin, capsys: Capture) -> None:
    quiet(admin)
    (admin.path.parent / "audit.log").mkdir()
    assert run(admin, "kill", "abc", *REASON) == 1
    assert "nothing was done, since the audit log failed: " in capsys.readouterr().err
    assert admin.calls("kill") == []


@pytest.mark.parametrize(
    ("arguments", "said", "status"),
    [
        (["sessions"], "0 open consoles\n", 0),
        (["sessions", "--user", "bob"], "0 open consoles\n", 1),
        (["sessions", "--filter", "bob", "--json"], "[]\n", 1),
        (["hosts"], "0 hosts\n", 0),
        (["hosts", "--filter", "bob"], "0 hosts\n", 1),
        (["drain"], "nothing is drained\n", 0),
        (["drain", "--json"], "[]\n", 0),
        (["links"], "no link has an open console, and no link is revoked\n", 0),
    ],
)
def test_nothing_of_that_kind(
    arguments: list[str], said: str, status: int, admin: RunningAdmin, capsys: Capture
) -> None:
    """A script sees in the status that nothing fits its filter."""
    admin.answers |= {
        "list_sessions": paged("sessions", []),
        "list_hosts": paged("hosts", []),
        "list_drains": {"drains": []},
        "list_links": {"links": []},
    }
    assert run(admin, *arguments) == status
    assert capsys.readouterr() == (said, "")


def test_long_lists_are_read_in_pages(admin: RunningAdmin, capsys: Capture) -> None:
    """A console that moves to the next page in between is listed once."""
    many = [rows.session(number) for number in range(1, 1301)]

    def page(call: Any) -> Any:
        found = paged("sessions", many)(call)
        if call.parameters["offset"] == 500:
            found["sessions"][0] = many[499]
        return found

    admin.answers["list_sessions"] = page
    assert run(admin, "sessions", "--json", "--now") == 0
    listed = [each["id"] for each in json.loads(capsys.readouterr().out)]
    assert len(listed) == len(set(listed)) == 1299
    assert [call.parameters["offset"] for call in admin.calls("list_sessions")] == [0, 500, 1000]
    assert run(admin, "sessions", "--limit", "3", "--now") == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 6 and lines[-1] == "1300 open consoles, 3 of them shown"


def test_the_first_reader_waits_until_figures_are_measured(
    admin: RunningAdmin, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Processes measure while someone reads, so the first answers have no figures."""
    monkeypatch.setattr(sessions_command, "_RETRY_INTERVAL", 0.01)
    unmeasured = dict.fromkeys(("idle", "bytes_up", "bytes_down", "rate_up", "rate_down"))
    answers = iter([rows.session(**unmeasured)] * 3)
    admin.answers["list_sessions"] = lambda call: paged("sessions", [next(answers, rows.session())])(call)
    assert run(admin, "sessions") == 0
    assert "5.0 MiB" in capsys.readouterr().out
    assert len(admin.calls("list_sessions")) == 5


def test_a_process_that_measures_nothing_is_not_waited_for_long(
    admin: RunningAdmin, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sessions_command, "_RETRY_INTERVAL", 0.01)
    monkeypatch.setattr(sessions_command, "_MEASURED_WITHIN", 0.1)
    admin.answers["list_sessions"] = paged("sessions", [rows.session(bytes_up=None, bytes_down=None)])
    assert run(admin, "sessions") == 0
    assert capsys.readouterr().out.splitlines()[1].split()[-6:] == ["3s", "-", "-", "12", "ms", "open"]
    asked = len(admin.calls("list_sessions"))
    assert run(admin, "sessions", "--now") == 0
    assert len(admin.calls("list_sessions")) == asked + 1


def test_the_table_of_consoles(admin: RunningAdmin, capsys: Capture) -> None:
    quiet(admin)
    admin.answers["list_sessions"] = paged(
        "sessions",
        [
            rows.session(1, console="dc1/5012a4ab", console_name="web-01", state="stalled"),
            rows.session(2, principal="\x1b]0;x\x07bob", idle=None, round_trip=None, bytes_up=0),
        ],
    )
    assert run(admin, "sessions") == 0
    assert capsys.readouterr().out.splitlines() == [
        "session           user             client              listener  host              console"
        "     age  idle       up     down   ping  state",
        "0000000000000001  alice            198.51.100.7:40001  public    esx1.example.com  web-01 "
        "  1m 40s    3s  2.0 KiB  5.0 MiB  12 ms  stalled",
        r"0000000000000002  \x1b]0;x\x07bob  198.51.100.7:40002  public    esx1.example.com  -      "
        "  1m 40s     -        0  5.0 MiB      -  open",
        "",
        "2 open consoles",
    ]


def test_a_host_of_no_known_name_is_drained_with_a_note(admin: RunningAdmin, capsys: Capture) -> None:
    """A router may name it later, or the name is misspelt."""
    quiet(admin)
    admin.answers["drain"] = rows.drain(name="esx11")
    assert run(admin, "drain", "host", "esx11", *REASON) == 0
    assert capsys.readouterr().out.splitlines() == [
        "host esx11 takes no new consoles; no console is open there",
        "note: no host esx11 is known now: check the spelling",
    ]
    admin.answers["list_hosts"] = paged("hosts", [rows.host("esx11", drained=True)])
    assert run(admin, "drain", "host", "esx11", *REASON) == 0
    assert len(capsys.readouterr().out.splitlines()) == 1


def test_drains_are_listed_with_their_end(
    admin: RunningAdmin, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("esxiproxy.cli.drain.time.time", lambda: rows.NOW + 60)
    admin.answers["list_drains"] = {
        "drains": [
            rows.drain("proxy", "", machine="gate1", reason=""),
            rows.drain(end=rows.NOW + 600, sessions=3, reason="two\nlines"),
            rows.drain("upstream", "lab", end=rows.NOW + 30, reason="closed"),
        ]
    }
    assert run(admin, "drain") == 0
    assert capsys.readouterr().out.splitlines() == [
        "what      name              machine  since       end        consoles  by            reason",
        "proxy     -                 gate1    1m 00s ago  -                 0  uid 0 (root)  -",
        r"host      esx1.example.com  all      1m 00s ago  in 9m 00s         3  uid 0 (root)  two\nlines",
        "upstream  lab               all      1m 00s ago  over              0  uid 0 (root)  closed",
    ]


def test_top_writes_the_given_number_of_screens_into_a_pipe(
    admin: RunningAdmin, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    quiet(admin)
    waited: list[float] = []
    monkeypatch.setattr(top_command.time, "sleep", waited.append)
    assert run(admin, "top", "--count", "2", "--interval", "7") == 0
    lines = capsys.readouterr().out.splitlines()
    assert waited == [7.0]
    assert lines[:2] == [
        "esxiproxy 9.9 on gate1, up 2h 05m, ready",
        "2 open consoles, 512/s up, 20 KiB/s down, ping 12.4 ms",
    ]
    assert lines[3].split() == ["session", "user", "client", "host", "console", "age", "up/s", "down/s",
                                "ping", "state"]  # fmt: skip
    assert lines[:6] == lines[7:]


@pytest.mark.parametrize("name", ["status", "sessions", "top", "hosts", "kill", "drain", "undrain", "links"])
def test_the_help_fits_a_terminal_and_has_the_exit_statuses(
    name: str, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit) as ended:
        main([name, "--help"])
    assert ended.value.code == 0
    text = capsys.readouterr().out
    assert max(map(len, text.splitlines())) <= 80
    words = " ".join(text.split())
    assert "exit status: 0 " in words and "2 wrong usage, 3 the proxy cannot be reached" in words
    assert "--json" in text and "--socket PATH" in text and "--config FILE" in text
