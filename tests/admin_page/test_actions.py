"""Actions of the page: their questions, their requests, and the users who see them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from esxiproxy.admin.openapi.operations import Role
from tests.admin_page.view import View, make_link
from tests.support.admin_crowd import crowd
from tests.support.admin_double import AdminDouble
from tests.support.admin_figures import SECRET
from tests.support.programs import until

Show = Callable[..., View]


def sent(double: AdminDouble, path: str) -> Any:
    """Return the body of the one action of this path."""
    (seen,) = double.asked(path, "POST")
    assert seen.fields["X-Esxiproxy"] == "1" and seen.fields["Content-Type"] == "application/json"
    assert seen.fields["Origin"] == double.url.rstrip("/")
    return seen.body


def act(view: View, reason: str, button: str) -> None:
    """Give the reason, and press the button of the dialog."""
    view.fill("dialog [name=reason]", reason)
    view.press(button)
    view.wait("!document.querySelector('dialog')")


def test_a_console_is_ended_with_a_reason(show: Show, double: AdminDouble) -> None:
    row = double.figures.add(1, principal="alice", link="")
    view = show()
    view.press(f"End the console of alice on {row['host']}")
    act(view, "maintenance at 4", "End 1 console")
    assert sent(double, "/kill") == {"kind": "session", "value": row["id"], "reason": "maintenance at 4"}
    view.wait("document.querySelector('.message').innerText.includes('1 console ended.')")
    view.wait("!document.querySelector('tbody tr')", 2.0)


@pytest.mark.parametrize(
    ("label", "kind", "value", "count"),
    [
        ("All consoles of the user alice", "principal", "staff/alice", 3),
        ("All consoles of the host esxi-a", "host", "esxi-a", 4),
        ("All consoles of the link lnk-1", "link", "lnk-1", 2),
    ],
)
def test_all_consoles_of_one_kind_are_ended(
    show: Show, double: AdminDouble, label: str, kind: str, value: str, count: int
) -> None:
    for number in range(3):
        link = "lnk-1" if number < 2 else ""
        double.figures.add(number, principal="alice", host="esxi-a", link=link, since=1000.0 + number)
    double.figures.add(3, principal="bob", host="esxi-a", link="", since=2.0)
    double.figures.add(4, principal="bob", host="esxi-b", link="", since=1.0)
    view = show("#sessions?sort=since&order=desc")
    view.click("tbody tr:nth-child(2) button")
    choice = f"[...document.querySelectorAll('.choice')].find(c => c.innerText.includes('{label}'))"
    view.wait(f"{choice}.innerText.includes('{count} consoles')")
    view.evaluate(f"{choice}.querySelector('input').click()")
    act(view, "it burns", f"End {count} consoles")
    assert sent(double, "/kill") == {"kind": kind, "value": value, "reason": "it burns"}
    view.wait(f"document.querySelectorAll('tbody tr').length === {5 - count}")


def test_nothing_is_sent_without_a_reason(show: Show, double: AdminDouble) -> None:
    double.figures.add(1)
    view = show()
    view.click("tbody button")
    for reason in ("", "   "):
        if reason:
            view.fill("dialog [name=reason]", reason)
        view.press("End 1 console")
        assert view.evaluate("document.querySelector('dialog [name=reason]').validity.valid") is False
    view.page.key("Escape")
    view.wait("!document.querySelector('dialog')")
    assert not double.asked("/kill", "POST")


def test_a_long_reason_says_how_much_of_it_users_see(show: Show, double: AdminDouble) -> None:
    double.figures.add(1)
    view = show()
    view.click("tbody button")
    view.fill("dialog [name=reason]", "ü" * 62)
    view.wait("document.querySelector('#reason-hint').innerText.includes('first 123 bytes of 124')")


def test_a_refusal_is_shown_and_the_dialog_stays(show: Show, double: AdminDouble) -> None:
    row = double.figures.add(1)
    view = show()
    view.click("tbody button")
    view.fill("dialog [name=reason]", "too late")
    double.figures.remove(row["id"])
    view.press("End 1 console")
    view.wait("document.querySelector('dialog [role=alert]').innerText.includes('it has ended')")
    assert "404" in view.faults()[0]


def test_with_the_keyboard_alone_a_console_is_ended(show: Show, double: AdminDouble) -> None:
    double.figures.add(1, principal="alice", host="esxi-a", since=1.0)
    row = double.figures.add(2, principal="bob", host="esxi-a", since=2.0)
    view = show()
    view.page.key("Tab")
    assert view.focused() == "a Skip to the list"
    view.page.key("Enter")
    view.tab_to("button End the console of bob")
    outline = view.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid", "the focus can be seen"
    view.page.key("Enter")
    view.wait("document.querySelector('dialog[open]')")
    assert view.focused() == "input reason"
    view.page.type("by keyboard")
    view.page.key("Tab")
    assert view.focused() == "button Cancel"
    view.page.key("Tab")
    assert view.focused() == "button End 1 console"
    view.page.key("Enter")
    view.wait("!document.querySelector('dialog')")
    assert sent(double, "/kill") == {"kind": "session", "value": row["id"], "reason": "by keyboard"}
    # The row with the button is gone: the focus is in the list, and Tab goes on from there.
    view.wait("document.querySelectorAll('tbody tr').length === 1")
    view.wait("document.activeElement.classList.contains('frame')")
    view.tab_to("button End the console of alice")


def test_escape_leaves_a_dialog_and_the_focus_returns(show: Show, double: AdminDouble) -> None:
    double.figures.add(1, principal="alice")
    view = show()
    view.tab_to("button End the console of alice")
    view.page.key(" ")
    view.wait("document.querySelector('dialog[open]')")
    view.page.key("Escape")
    view.wait("!document.querySelector('dialog')")
    until(lambda: view.focused().startswith("button End the console of alice"), "the focus returns")


def test_a_row_that_moves_keeps_the_focus(show: Show, double: AdminDouble) -> None:
    rows = [
        double.figures.add(number, principal=f"user{number}", idle=float(number)) for number in range(1, 9)
    ]
    view = show("#sessions?sort=idle&order=desc")
    view.evaluate("document.querySelector('tbody tr:first-child button').focus()")
    assert "user8" in view.focused()
    double.figures.sessions[rows[7]["id"]] = {**rows[7], "idle": 0.0}
    view.wait("document.querySelector('tbody tr:last-child').innerText.includes('user8')")
    assert "user8" in view.focused()


def test_a_host_is_drained_and_undrained(show: Show, double: AdminDouble) -> None:
    double.figures = crowd(600)
    double.figures.drains.clear()
    view = show("#hosts?filter=esxi-03")
    view.press("Drain the host esxi-03.example.com")
    view.wait("document.querySelector('dialog').innerText.includes('10 consoles run there now')")
    act(view, "new memory", "Drain")
    assert sent(double, "/drain") == {"kind": "host", "name": "esxi-03.example.com", "reason": "new memory"}
    view.wait("document.querySelector('tbody tr').innerText.includes('drained')")
    view.press("Undrain the host esxi-03.example.com")
    act(view, "memory is in", "Undrain")
    assert sent(double, "/undrain") == {
        "kind": "host",
        "name": "esxi-03.example.com",
        "reason": "memory is in",
    }
    view.wait("!document.querySelector('tbody tr').innerText.includes('drained')")


def test_a_drain_may_end_what_runs(show: Show, double: AdminDouble) -> None:
    double.figures = crowd(600)
    view = show("#upstreams")
    view.press("Drain the upstream lab")
    view.wait("document.querySelector('dialog').innerText.includes('200 consoles run there now')")
    view.click("dialog [type=checkbox]")
    view.fill("dialog [type=number]", "1.5")
    act(view, "move", "Drain, and end 200 consoles")
    wanted = {"kind": "upstream", "name": "lab", "end_after": 90, "reason": "move"}
    assert sent(double, "/drain") == wanted


def test_a_listener_and_the_proxy_are_drained_on_this_machine(show: Show, double: AdminDouble) -> None:
    double.figures = crowd(600)
    view = show("#listeners")
    view.press("Drain the listener desk")
    act(view, "certificate", "Drain")
    wanted = {"kind": "listener", "name": "desk", "machine": "pxy-a", "reason": "certificate"}
    assert sent(double, "/drain") == wanted
    double.seen.clear()
    view.click(".views a[href='#drains']")
    view.press("Drain the whole proxy…")
    view.wait("document.querySelector('dialog').innerText.includes('300 consoles run there now')")
    act(view, "kernel", "Drain")
    assert sent(double, "/drain") == {"kind": "proxy", "machine": "pxy-a", "reason": "kernel"}
    view.wait("document.querySelector('.top').innerText.includes('draining')")
    view.wait("document.querySelector('.attention').innerText.includes('pxy-a admits no new consoles')")
    view.press("Undrain the proxy on pxy-a")
    act(view, "rebooted", "Undrain")
    assert sent(double, "/undrain") == {"kind": "proxy", "machine": "pxy-a", "reason": "rebooted"}
    view.wait("document.querySelector('.top').innerText.includes('ready')")


def test_all_consoles_of_a_host_are_ended_in_the_list_of_hosts(show: Show, double: AdminDouble) -> None:
    double.figures = crowd(600)
    view = show("#hosts?filter=esxi-03")
    view.press("End all consoles of the host esxi-03.example.com")
    act(view, "fire", "End 10 consoles")
    assert sent(double, "/kill") == {"kind": "host", "value": "esxi-03.example.com", "reason": "fire"}


def test_a_link_is_revoked(show: Show, double: AdminDouble) -> None:
    double.figures = crowd(90)
    view = show("#links")
    view.press("Revoke the link lnk0")
    act(view, "leaked", "Revoke, and end 2 consoles")
    assert sent(double, "/links/revoke") == {"id": "lnk0", "reason": "leaked"}
    view.wait("document.querySelector('tbody tr').innerText.includes('revoked')")


def test_a_link_is_made_shown_once_and_copied(show: Show, double: AdminDouble) -> None:
    double.figures.routers["others"] = "links"
    view = show("#links", rows=False)
    make_link(view)
    view.wait(f"document.querySelector('dialog [name=url]')?.value.endsWith('{SECRET}')")
    wanted = {"router": "issued", "to": "esxi-03.example.com/ticket/abc", "ttl": 600, "many": False}
    assert sent(double, "/links") == {**wanted, "reason": "for a guest"}
    assert view.focused() == "button Copy"
    view.page.key("Enter")
    view.wait("document.querySelector('dialog [role=status]').innerText === 'Copied.'")
    view.press("Close")
    view.wait("document.querySelector('.message').innerText.includes('The link 9f2c was made.')")
    view.wait("!document.querySelector('dialog')")
    assert SECRET not in view.evaluate("document.documentElement.outerHTML")


def test_a_link_has_the_settings_of_the_form(show: Show, double: AdminDouble) -> None:
    double.figures.routers["others"] = "links"
    view = show("#links", rows=False)
    view.press("Make a link…")
    view.wait("document.querySelectorAll('dialog [name=router] option').length === 2")
    view.evaluate(
        "(s => { s.value = 'others'; s.dispatchEvent(new Event('change')) })"
        "(document.querySelector('dialog [name=router]'))"
    )
    view.fill("dialog [name=to]", "esxi-04.example.com")
    view.fill("dialog [name=subject]", "guest")
    view.click("dialog .choice:nth-of-type(2) input")
    view.fill("dialog [name=time]", "90")
    view.fill("dialog [name=reason]", "for a guest")
    view.press("Make the link")
    view.wait("document.querySelector('dialog [name=url]')")
    assert sent(double, "/links") == {
        **{"router": "others", "to": "esxi-04.example.com", "subject": "guest"},
        **{"ttl": 5400, "many": True, "reason": "for a guest"},
    }


def test_a_link_for_vmware_remote_console_is_shown_as_its_url(show: Show, double: AdminDouble) -> None:
    view = show("#links", rows=False)
    view.press("Make a link…")
    view.wait("document.querySelector('dialog [name=router]').value === 'issued'")
    view.fill("dialog [name=to]", "esxi-04.example.com/ticket/abc")
    view.click("dialog [name=vmrc]")
    view.fill("dialog [name=reason]", "for a guest")
    view.press("Make the link")
    view.wait("document.querySelector('dialog [name=url]')?.value.startsWith('vmrc://consoles.example.com')")
    assert sent(double, "/links") == {
        **{"router": "issued", "to": "esxi-04.example.com/ticket/abc", "vmrc": True},
        **{"ttl": 600, "many": False, "reason": "for a guest"},
    }


def test_a_link_that_is_refused_says_why_and_the_form_stays(show: Show, double: AdminDouble) -> None:
    view = show("#links", rows=False)
    make_link(view, "nowhere.example.com")
    view.wait("document.querySelector('dialog form [role=alert]').innerText.includes('not in the networks')")
    assert view.evaluate("document.querySelector('dialog [name=to]').value") == "nowhere.example.com"
    (fault,) = view.faults()
    assert "409" in fault


def test_without_a_router_no_link_is_made(show: Show, double: AdminDouble) -> None:
    del double.figures.routers["issued"]
    view = show("#links", rows=False)
    view.press("Make a link…")
    view.wait("document.querySelector('dialog').innerText.includes('no router of the type links')")
    assert view.evaluate("document.querySelector('dialog [type=submit]').ariaDisabled") == "true"


PROBLEM = {
    "file": "/etc/esxiproxy/proxy.ini",
    "line": 7,
    "section": "upstream esxi",
    "key": "pin",
    "text": "is no thumbprint: write sha256:HEX",
    "severity": "error",
}


def test_problems_of_the_file_are_shown_by_a_check(show: Show, double: AdminDouble) -> None:
    double.figures = crowd(3)
    double.figures.problems.append(PROBLEM)
    view = show("#configuration", rows=False)
    view.press("Check the file…")
    view.wait("document.querySelector('dialog').innerText.includes('The file has 1 error.')")
    said = view.text("dialog .problems")
    assert "/etc/esxiproxy/proxy.ini:7 [upstream esxi] pin" in said and "is no thumbprint" in said
    assert sent(double, "/check") == {}


def test_a_file_with_errors_is_not_reloaded(show: Show, double: AdminDouble) -> None:
    double.figures.problems.append(PROBLEM)
    view = show("#configuration", rows=False)
    view.press("Reload…")
    view.wait("document.querySelector('dialog').innerText.includes('A reload would change nothing.')")
    view.fill("dialog [name=reason]", "more hosts")
    view.press("Reload")
    assert view.evaluate("Boolean(document.querySelector('dialog'))")
    assert not double.asked("/reload", "POST")


def test_a_reload_that_is_refused_says_why(show: Show, double: AdminDouble) -> None:
    double.figures.reload_problems.append("listener desk: port 443 is in use.")
    view = show("#configuration", rows=False)
    view.press("Reload…")
    view.wait("document.querySelector('dialog').innerText.includes('The file can be put into force')")
    view.fill("dialog [name=reason]", "more hosts")
    view.press("Reload")
    view.wait("document.querySelector('dialog [role=alert]').innerText.includes('port 443 is in use.')")
    double.figures.reload_problems.clear()
    double.seen.clear()
    act(view, "more hosts", "Reload")
    assert sent(double, "/reload") == {"reason": "more hosts"}
    view.wait("document.querySelector('.message').innerText.includes('is in force')")


@pytest.mark.parametrize(
    "view_name", ["sessions", "hosts", "listeners", "upstreams", "drains", "links", "configuration"]
)
def test_a_viewer_sees_no_action(show: Show, double: AdminDouble, view_name: str) -> None:
    double.role = Role.VIEWER
    double.figures = crowd(30)
    view = show(f"#{view_name}", rows=view_name != "configuration")
    view.wait("document.querySelector('.who')?.innerText.includes('viewer')")
    buttons = set(
        view.evaluate("[...document.querySelectorAll('#content button')].map(b => b.innerText.trim())")
    )
    actions = "End", "Drain", "Undrain", "Revoke", "Make", "Reload", "Check"
    assert not {each for each in buttons if each.startswith(actions)}
    if view_name == "sessions":
        view.click("tbody button")
        view.wait("document.querySelector('dialog').innerText.includes('Session')")
        assert not view.evaluate("document.querySelector('dialog input')")
