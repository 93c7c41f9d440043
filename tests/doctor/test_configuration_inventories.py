"""Every host of a router is checked, many at once, each with its own settings."""

from __future__ import annotations

import ssl
import time
import warnings
from pathlib import Path

import pytest

from tests.doctor.configured_hosts import DAY, OTHER_PIN, Places
from tests.support.at_once import AtOnce
from tests.support.certificates import self_signed
from tests.support.config import ini, listener, router, template
from tests.support.examined_config import Examined, Row, examine_config
from tests.support.scripts import refuse
from tests.support.sim_program import Host
from tests.support.websocket_peers import Connection


def inventory(folder: Path, *rows: str, template_keys: dict[str, object], **keys: object) -> Examined:
    (folder / "hosts.csv").write_text("\n".join(["name,address,pins,tls_profile", *rows, ""]))
    file = folder / "proxy.ini"
    fleet = router(
        "fleet",
        "inventory",
        file="hosts.csv",
        template="esxi",
        locate="path:/h/{host}/",
        **{"allow": "127.0.0.0/8", **keys},
    )
    file.write_text(ini(listener(upstream=None, router="fleet"), fleet, template(**template_keys)))
    return examine_config(file, "--timeout", "5")


def by_name(examined: Examined) -> dict[str, Row]:
    return {row["name"]: row for row in examined.of("host")}


def test_the_hosts_of_an_inventory_have_their_own_pins_and_columns(places: Places) -> None:
    """A pin of the row, the rule of the template, and a profile of one row decide as in the proxy."""
    good, port = places.good, places.server(certificate=places.good)
    old = places.start(refuse("200 OK"), places.good)
    assert old.tls is not None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        old.tls.minimum_version = old.tls.maximum_version = ssl.TLSVersion.TLSv1_1
    old.tls.set_ciphers("ALL:@SECLEVEL=0")
    examined = inventory(
        places.folder,
        f"pinned,127.0.0.1:{port},sha256:{good.sha256},",
        f"wrong,127.0.0.1:{port},{OTHER_PIN},",
        f"chain,localhost:{port},,",
        f"elsewhere,127.0.0.3:{port},,",
        f"modern,127.0.0.1:{old.port},sha256:{good.sha256},",
        f"old,127.0.0.1:{old.port},sha256:{good.sha256},old",
        template_keys={"verify": "ca", "ca": places.authority.path},
    )
    rows = by_name(examined)
    found = {name: row["finding"] for name, row in rows.items()}
    assert "the pinned certificate" in found["pinned"]
    assert "but the configuration pins sha256:AB" in found["wrong"]
    assert any(
        row["name"] == "chain" and "chain and name verified" in row["finding"] for row in examined.of("host")
    )
    assert "refused the connection" in found["elsewhere"]
    assert "write tls_profile = old" in found["modern"]
    assert "TLSv1.1, the pinned certificate" in found["old"]
    assert {row["section"] for row in rows.values()} == {"router fleet"}
    assert examined.status == 1


def test_an_address_that_the_networks_forbid_is_not_dialled(places: Places) -> None:
    """The proxy would refuse every console of this host, so no connection is made."""
    server = places.start(refuse("200 OK"))
    rows = by_name(
        inventory(
            places.folder,
            f"denied,ws://127.0.0.1:{server.port},,",
            f"metadata,ws://localhost:{server.port},,",
            template_keys={"max_connections": 8},
            allow="10.0.0.0/8",
        )
    )
    assert "the address 127.0.0.1 may not be dialled" in rows["denied"]["finding"]
    assert "correct the address, or allow and deny in [router fleet]" in rows["denied"]["finding"].lower()
    assert " of localhost may not be dialled" in rows["metadata"]["finding"]
    assert server.connections == []


def test_a_router_that_cannot_list_its_hosts(places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file was replaced after the check of the configuration: a finding, and no traceback."""
    from esxiproxy.routers.inventory import InventoryType

    def broken(*_: object) -> object:
        raise OSError("the file is gone")

    monkeypatch.setattr(InventoryType, "destinations", broken)
    examined = inventory(places.folder, "a,10.0.0.1,,", template_keys={"verify": "none"})
    (row,) = examined.of("configuration")
    assert (row["section"], row["verdict"]) == ("router fleet", "error")
    assert row["finding"] == "the hosts cannot be listed: the file is gone"


def test_five_hundred_hosts_are_checked_at_once(host: Host, tmp_path: Path) -> None:
    """Hosts that answer after a moment are waited for together, and each host has its result."""
    rows = [f"esx{number:03},127.0.0.1:{host.tls_port},," for number in range(500)]
    started = time.monotonic()
    examined = inventory(tmp_path, *rows, template_keys={"verify": "none"})
    seconds = time.monotonic() - started
    assert len(by_name(examined)) == 500
    assert {row["verdict"] for row in examined.of("host")} == {"ok"}
    assert all(row["milliseconds"] > 0 for row in examined.of("host"))
    assert [row["name"] for row in examined.of("host")] == sorted(by_name(examined))
    assert seconds < 60


def test_an_address_gets_a_few_connections_at_a_time(places: Places) -> None:
    """Many names of one host do not fill the host's connections."""
    asking = AtOnce()

    def script(connection: Connection) -> None:
        with asking:
            connection.read_request()
        connection.send_head("200 OK", [("Content-Length", "0")])

    port = places.server(script)
    rows = [f"esx{number},ws://127.0.0.1:{port},," for number in range(100)]
    examined = inventory(places.folder, *rows, template_keys={"max_connections": 8})
    assert {row["verdict"] for row in examined.of("host")} == {"ok"}
    assert 1 <= asking.most <= 8


def test_threads_do_not_mix_up_their_verdicts(places: Places) -> None:
    """pyOpenSSL stores the error of a verify callback in the context, which threads must not share."""
    good = places.server(certificate=places.leaf(not_after=90 * DAY))
    bad = places.server(certificate=self_signed(places.folder, not_after=90 * DAY))
    rows = [f"esx{number},127.0.0.1:{[good, bad][number % 2]},," for number in range(200)]
    examined = inventory(places.folder, *rows, template_keys={"verify": "ca", "ca": places.authority.path})
    verdicts = {name: row["verdict"] for name, row in by_name(examined).items()}
    assert verdicts == {f"esx{number}": ["ok", "error"][number % 2] for number in range(200)}
