"""A ``proxy_pass`` with a variable host becomes a router, its template and its list of hosts."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest

from esxiproxy.app.preflight import load_checked
from esxiproxy.nginx.captures import path_pattern
from esxiproxy.nginx.translation import Translation, translate
from tests.nginx.inventory_cases import CASES, MAP, NO_VERIFY, PATH, REST, server
from tests.nginx.reading import read
from tests.support.growth import grows


def imported(text: str, hosts: str | None = ".", keep_insecure: bool = False) -> Translation:
    Path("nginx.conf").write_text(text)
    return translate("nginx.conf", keep_insecure, hosts)


def complaints(translation: Translation) -> list[str]:
    """Return the complaints without the one about hosts that are not verified."""
    lines = map(str, translation.complaints)
    return [line.removeprefix("nginx.conf:") for line in lines if NO_VERIFY not in line]


@pytest.mark.parametrize("name", CASES)
def test_each_variable_host_has_its_sections_or_its_complaint(name: str, folder: Path) -> None:
    case = CASES[name]
    for path, text in case.files.items():
        (folder / path).write_text(text)
    translation = imported(case.text)
    sections = {}
    if case.locate:
        file = f"{folder}/{case.name}.csv"
        router = {"type": "inventory", "file": file, "template": case.name, "locate": case.locate}
        listener = {"listen": "0.0.0.0:80", "http": "forward", **case.listener, "router": case.name}
        template = {"origin": "client", **case.template}
        sections = {
            f"listener {case.listener_name}": listener,
            f"router {case.name}": router,
            f"upstream {case.name}": {
                key: value.replace("FOLDER", str(folder)) for key, value in template.items() if value
            },
        }
        (hosts,) = translation.lists
        assert (hosts.path, hosts.content.splitlines()) == (file, ["name,address", *case.hosts])
    assert read(translation.text) == sections
    assert complaints(translation) == [line.replace("FOLDER", str(folder)) for line in case.complaints]
    if case.locate:
        is_said = any(NO_VERIFY in str(line) for line in translation.complaints)
        assert is_said == (case.template.get("verify") == "none")


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.locate])
def test_the_translation_passes_check(name: str, folder: Path) -> None:
    case = CASES[name]
    for path, text in case.files.items():
        (folder / path).write_text(text)
    translation = imported(case.text)
    for hosts in translation.lists:
        Path(hosts.path).write_text(hosts.content)
    Path("x.ini").write_text(translation.text)
    load_checked("x.ini")


def test_there_are_enough_cases() -> None:
    assert len(CASES) >= 80


def test_without_a_folder_the_list_is_a_comment_that_can_be_cut_out(folder: Path) -> None:
    translation = imported(f"{MAP}\n{server()}", None)
    assert translation.text == (
        "; From nginx.conf, by esxiproxy import-nginx.\n\n[listener port-80]\n; nginx.conf:2\nlisten = "
        "0.0.0.0:80\nhttp = forward\nrouter = esx\n\n[router esx]\n; nginx.conf:2\ntype = inventory\nfile = "
        "esx.csv\ntemplate = esx\nlocate = query:host  ; the host does not get this part of the query\n; "
        "Write "
        "these lines, without '; ', to esx.csv in the folder of this file:\n; name,address\n; "
        "esx01,10.0.0.1:443\n; esx02,esx02.internal:8443\n\n[upstream esx]\n; nginx.conf:2\n; the settings "
        "that "
        "all hosts of the list share\n; nginx does not verify these hosts, so that a ticket may go to any "
        "host "
        "that answers.  To verify\n; them, write verify = pin, and their thumbprints into a column pins of "
        "the "
        "list.\nverify = none  ; as in nginx: the hosts' certificates are not verified\norigin = client  ; "
        "as "
        "nginx forwards it\n"
    )
    assert translation.lists == ()
    assert complaints(translation) == [
        "2: proxy_pass: the list of 2 hosts is in comments: write it to esx.csv, or use --hosts FOLDER"
    ]
    lines = translation.text.splitlines()
    begin = lines.index("; name,address")
    Path("esx.csv").write_text("".join(line[2:] + "\n" for line in lines[begin : begin + 3]))
    Path("x.ini").write_text(translation.text)
    load_checked("x.ini")


def test_a_list_that_has_to_be_written_is_said_so_in_a_comment(folder: Path) -> None:
    text = imported(server(path=PATH, target=f"https://$h.internal{REST}"), None).text
    assert (
        "[router hosts]\n; nginx.conf:1\n; nginx accepts every name that matches [a-z0-9-]+, and a router "
        "only "
        "the hosts of its list.\n; Write the list hosts.csv, with this line first and a line like the "
        "second one "
        "for each host:\n;   name,address\n;   NAME,NAME.internal\ntype = inventory\n" in text
    )


def test_kept_insecure_nothing_is_said_of_verification(folder: Path) -> None:
    translation = imported(MAP + server(), keep_insecure=True)
    assert translation.complaints == ()
    assert "verify = none  ; as in nginx" in translation.text


def test_one_map_in_two_servers_is_one_router(folder: Path) -> None:
    translation = imported(MAP + server() + server(before="listen 81;"))
    assert [key for key in read(translation.text) if key.startswith("router")] == ["router esx"]
    assert len(translation.lists) == 1


def test_one_map_with_different_settings_is_two_routers_with_one_list(folder: Path) -> None:
    translation = imported(MAP + server() + server("proxy_read_timeout 1h;", before="listen 81;"), None)
    sections = read(translation.text)
    assert [sections[f"router {name}"]["file"] for name in ("esx", "esx-2")] == ["esx.csv", "esx.csv"]
    assert [sections[f"router {name}"]["template"] for name in ("esx", "esx-2")] == ["esx", "esx-2"]
    assert translation.text.count("name,address") == 1


def test_two_lists_that_have_to_be_written_have_two_files(folder: Path) -> None:
    first = server(path=PATH, target=f"https://$h.a.internal{REST}")
    second = server(path=PATH, target=f"https://$h.b.internal{REST}", before="listen 81;")
    assert [Path(hosts.path).name for hosts in imported(first + second).lists] == ["hosts.csv", "hosts-2.csv"]


def test_names_of_other_requests_get_a_404_where_the_host_names_the_host(folder: Path) -> None:
    before = r"listen 80; server_name ~^(?<h>[^.]+)\.console\.example$;"
    text = imported(server(before=before, target="https://$h.internal")).text
    assert r"; server_name ~^(?<h>[^.]+)\.console\.example$: requests for other names get a 404" in text


def test_a_cookie_is_said_to_change_the_rule_of_origins(folder: Path) -> None:
    text = imported(MAP.replace("$arg_host", "$cookie_esx") + server()).text
    assert "cookie:esx  ; the host does not get this cookie, and origins is same by default\n" in text


def test_a_variable_that_doubles_its_value_is_left_alone(folder: Path) -> None:
    doubling = "set $a xxxxxxxx; " + "set $a $a$a; " * 60
    translation = imported(server(doubling, target="https://$a"))
    assert "depends on $a at run time" in str(translation.complaints[0])


@pytest.mark.parametrize("unit", ["a", "[a]", "a|", "(", "(a)", "/", "\\.", "[a]*", "a{1}"])
def test_the_reading_of_an_expression_is_linear(unit: str) -> None:
    def call(run: str) -> None:
        with suppress(ValueError):
            path_pattern(f"^/h/(?<h>{run})(?<rest>/.*)$")

    assert not grows(call, lambda number: unit * number, 1000)


def test_a_map_of_many_hosts_is_read_at_once(folder: Path) -> None:
    """Each location that uses a map uses the list that was made for the first one."""
    entries = " ".join(f"esx{number} 10.1.{number // 250}.{number % 250 + 1};" for number in range(2000))
    servers = "".join(server(before=f"listen {port};") for port in range(1000, 1040))
    translation = imported(f"map $arg_host $esx {{ {entries} }}{servers}")
    assert len(translation.lists[0].content.splitlines()) == 2001
