"""The login at vCenter: one for all calls, again when it has ended, and never twice with a wrong password."""

import pytest
from twisted.internet.defer import CancelledError

from esxiproxy.core.errors import ServiceUnavailable, VSphereUnavailable
from tests.support.scripted_vcenter import PASSWORD, fault, result
from tests.vsphere.scene import Scene

TICKET = (
    "<ticket>5ec7e7</ticket><cfgFile>/vmfs/x.vmx</cfgFile><host>esx1.example</host><port>443</port>"
    f"<sslThumbprint>{':'.join(['AB'] * 20)}</sslThumbprint>"
)


@pytest.fixture
def scene(tmp_path):
    made = Scene(tmp_path)
    made.vcenter.answers["AcquireTicket"] = result("AcquireTicket", TICKET)
    return made


def test_the_first_login_sends_the_password_once_and_keeps_the_cookie_with_its_quotes(scene):
    assert scene.vcenter.logins == 1
    cookies = {cookie for name, cookie in scene.vcenter.calls[3:]}
    assert cookies == {b'vmware_soap_session="%032x"' % 1}
    assert set(scene.vcenter.versions[1:]) == {b"urn:vim25/8.0.2.0"}, "the newest version of the server"
    assert "<userName>svc</userName><password>pa55-&lt;&amp;&gt;-word</password>" in scene.vcenter.bodies[1]


def test_calls_that_wait_share_one_new_login(scene):
    scene.vcenter.hanging = {"WaitForUpdatesEx"}
    scene.vcenter.end_sessions()
    machine = scene.machine()
    asked = [scene.ask(scene.service.acquire_ticket(machine)) for _ in range(500)]
    scene.turn()
    assert [each.value.ticket for each in asked] == ["5ec7e7"] * 500
    assert scene.vcenter.logins == 2
    # Three calls run at a time: no more than those were sent in the login that had ended.
    assert 500 <= scene.vcenter.count("AcquireTicket") <= 503


def test_a_session_that_ends_in_the_middle_of_a_poll_is_replaced_with_its_filter(scene):
    scene.vcenter.end_sessions()
    scene.turn(0.1)
    assert (scene.vcenter.logins, scene.vcenter.count("CreateFilter")) == (2, 2)
    assert scene.inventory.problem is None and scene.vcenter.waits
    scene.vcenter.change("vm-1", runtime__powerState="poweredOff")
    scene.turn()
    assert scene.machine().power.value == "off"


def test_what_happened_while_there_was_no_session_is_found_after_the_new_login(scene):
    seen = []
    scene.inventory.subscribe(lambda old, new: seen.append((old and old.name, new and new.name)))
    del scene.vcenter.objects["VirtualMachine"]["vm-2"]
    scene.vcenter.objects["VirtualMachine"]["vm-1"]["name"] = "new"
    scene.vcenter.end_sessions()
    scene.turn(0.1)
    assert scene.names() == ["new", "web-3"]
    assert seen == [("web-1", "new"), ("web-2", None)]


@pytest.mark.parametrize("name", ["InvalidLogin", "PasswordExpired"])
def test_a_wrong_password_is_tried_once_until_the_file_changes(tmp_path, name):
    scene = Scene(tmp_path, start=False)
    scene.vcenter.faults["Login"] = [fault(name)] * 9
    scene.service.start()
    for _ in range(30):
        scene.turn(60)
    with pytest.raises(VSphereUnavailable, match="no further login before the password in password_file"):
        _ = scene.ask(scene.service.acquire_ticket(_any_machine())).value
    assert scene.vcenter.count("Login") == 1
    assert f"refuses user and password ({name})" in scene.inventory.problem
    scene.vcenter.faults.clear()
    scene.write(PASSWORD)  # the same one again
    scene.turn(120)
    assert scene.vcenter.count("Login") == 1
    scene.vcenter.password = "corrected"
    scene.write("corrected")
    scene.turn(120)
    assert scene.vcenter.count("Login") == 2
    assert (scene.inventory.problem, len(scene.inventory.machines)) == (None, 3)


def test_another_fault_of_the_login_is_tried_again_after_five_minutes(tmp_path):
    scene = Scene(tmp_path, start=False)
    scene.vcenter.faults["Login"] = [fault("NoPermission", "<privilegeId>System.View</privilegeId>")]
    scene.service.start()
    scene.turn(steps=4)
    for _ in range(4):
        scene.turn(60)
    assert scene.vcenter.count("Login") == 1
    assert "NoPermission: System.View is missing" in scene.inventory.problem
    for _ in range(3):
        scene.turn(60)
    assert scene.vcenter.count("Login") == 2 and scene.inventory.problem is None


def test_a_login_without_an_answer_is_not_repeated_for_a_minute(tmp_path):
    scene = Scene(tmp_path, start=False)
    scene.vcenter.faults["Login"] = [ServiceUnavailable("https://vc.example did not answer within 10 s")]
    scene.service.start()
    for _ in range(9):
        scene.turn(5)
    assert scene.vcenter.count("Login") == 1
    for _ in range(4):
        scene.turn(30)
    assert scene.vcenter.count("Login") == 2


def test_a_changed_certificate_is_a_sentence_and_no_login(tmp_path):
    scene = Scene(tmp_path, start=False)
    scene.vcenter.down = (
        "https://vc.example cannot be asked: its certificate is sha256:AA:BB, not the expected one"
    )
    scene.service.start()
    for _ in range(5):
        scene.turn(60)
    assert scene.vcenter.calls == [], "nothing was sent"
    assert scene.inventory.problem.endswith("its certificate is sha256:AA:BB, not the expected one")
    scene.vcenter.down = None
    scene.turn(120)
    assert scene.inventory.problem is None and "web-1" in scene.names()


def test_an_outage_keeps_the_machines_and_the_session(scene):
    scene.vcenter.fail_wait(ServiceUnavailable("https://vc.example cannot be asked: Connection lost"))
    scene.vcenter.down = "https://vc.example cannot be asked: Connection refused"
    scene.turn(30)
    scene.turn(30)
    assert "cannot be read and may have changed: https://vc.example" in scene.inventory.problem
    assert scene.names() == ["web-1", "web-2", "web-3"]
    asked = scene.ask(scene.service.acquire_ticket(scene.machine()))
    assert isinstance(asked.error, VSphereUnavailable) and "Connection refused" in str(asked.error)
    scene.vcenter.down = None
    scene.turn(120)
    assert scene.inventory.problem is None
    assert scene.vcenter.logins == 1
    assert scene.vcenter.count("CancelWaitForUpdates") == 1, "the server may still have waited"


def test_a_ticket_is_never_acquired_twice_for_one_console(scene):
    lost = ServiceUnavailable("https://vc.example cannot be asked: Connection lost")
    scene.vcenter.faults["AcquireTicket"] = [lost]
    asked = scene.ask(scene.service.acquire_ticket(scene.machine()))
    scene.turn(10)
    assert isinstance(asked.error, VSphereUnavailable)
    assert scene.vcenter.count("AcquireTicket") == 1


def test_a_client_that_leaves_cancels_its_call_and_not_the_login_of_others(scene):
    scene.vcenter.hanging = {"Login", "WaitForUpdatesEx"}
    scene.vcenter.end_sessions()
    gone = scene.ask(scene.service.acquire_ticket(scene.machine()))
    stays = scene.ask(scene.service.acquire_ticket(scene.machine(2)))
    scene.turn()
    gone.deferred.cancel()
    assert isinstance(gone.error, CancelledError)
    (_, login), *_ = [each for each in scene.vcenter.held if each[0] == "Login"]
    scene.vcenter.hanging.clear()
    login.callback(scene.vcenter._log_in(scene.vcenter.bodies[1]))
    scene.turn()
    assert stays.value.ticket == "5ec7e7"
    assert scene.vcenter.count("AcquireTicket") == 1, "none for the client that has left"


def test_a_server_that_forgets_each_login_is_not_stormed(tmp_path):
    scene = Scene(tmp_path, start=False)
    scene.vcenter.faults["CreateContainerView"] = [fault("NotAuthenticated")] * 1000
    scene.service.start()
    for _ in range(10):
        scene.turn(60)
    assert scene.vcenter.logins <= 18
    assert "NotAuthenticated" in scene.inventory.problem


def test_the_stop_logs_out_and_sends_nothing_more(scene):
    stopping = scene.ask(scene.service.stop())
    scene.turn()
    assert not stopping.waits and scene.vcenter.calls[-1][0] == "Logout"
    assert scene.vcenter.sessions == set()
    before = len(scene.vcenter.calls)
    scene.turn(600)
    asked = scene.ask(scene.service.acquire_ticket(_any_machine()))
    assert isinstance(asked.error, VSphereUnavailable) and len(scene.vcenter.calls) == before


def test_the_stop_in_the_middle_of_a_login_leaves_no_session(scene):
    scene.vcenter.hanging = {"Login"}
    scene.vcenter.end_sessions()
    scene.turn()
    stopping = scene.ask(scene.service.stop())
    (_, login) = scene.vcenter.held[-1]
    scene.vcenter.hanging.clear()
    login.callback(scene.vcenter._log_in(scene.vcenter.bodies[1]))
    scene.turn()
    assert not stopping.waits and scene.vcenter.sessions == set()


def test_the_stop_does_not_wait_for_a_server_that_does_not_answer(scene):
    scene.vcenter.hanging = {"Login"}
    scene.vcenter.end_sessions()
    scene.turn()
    stopping = scene.ask(scene.service.stop())
    scene.turn(2)
    assert not stopping.waits


def test_a_password_file_that_is_missing_is_a_sentence(tmp_path):
    scene = Scene(tmp_path, start=False)
    scene.file.unlink()
    scene.service.start()
    scene.turn()
    assert "password_file no such file" in scene.inventory.problem and scene.vcenter.count("Login") == 0


def _any_machine():
    from esxiproxy.vsphere.machine import Machine, Power

    return Machine("dc1", "u", "vm-1", "web", "/", Power.ON, "")
