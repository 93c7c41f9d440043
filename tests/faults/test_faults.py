"""Each row of the table on the real process: the answer, the record, and that nothing is left open."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from esxiproxy.core import errors
from esxiproxy.core.config.schema import SESSION_LIMIT_KEYS
from esxiproxy.core.errors import PolicyViolation, SessionError, UpstreamError
from esxiproxy.doctor.finding import Step
from tests.faults.fault import Fault, Stage
from tests.faults.scene import Scene
from tests.faults.scene import scene as running
from tests.faults.table import FAULTS
from tests.support.certificates import Authority
from tools.document_faults import DOCTOR, PATH, document, named_errors


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    authority = Authority(tmp_path_factory.mktemp("certificates"))
    with running(authority.server("upstream"), authority.server("listener")) as scene:
        yield scene


@pytest.mark.parametrize("fault", FAULTS, ids=[f"{fault.stage.name}: {fault.how}" for fault in FAULTS])
def test_a_fault_has_its_answer_and_its_name_and_leaves_nothing_open(fault: Fault, scene: Scene) -> None:
    """The answer, the close codes and the record of each fault are those of the table."""
    seen = scene.play(fault)
    assert (seen.status, seen.close, seen.upstream_close) == (fault.status, fault.close, fault.upstream_close)
    assert fault.proxy_status is None or seen.proxy_status == f"esxiproxy; error={fault.proxy_status}"
    assert len(seen.records) == int(fault.recorded) + fault.beside
    failed = [record for record in seen.records if fault.error is None or record["error"]]
    assert len(failed) == int(fault.recorded)
    for record in failed:
        status = fault.status if fault.recorded_status is None else fault.recorded_status
        assert (record["kind"], record["status"], record["error"], record["ended_by"]) == (
            fault.kind,
            status,
            fault.error,
            fault.ended_by,
        )
        assert record["timeout"] == fault.timeout
        assert re.search(fault.detail, record["detail"] or "")


def test_the_document_is_the_table() -> None:
    """`python -m tools.document_faults` writes it."""
    assert PATH.read_text() == document()


def test_the_document_says_what_to_do_about_every_error() -> None:
    """Every class of the table is a row, except those that are only the base of others."""
    bases = {SessionError, UpstreamError, PolicyViolation}
    named = {
        each for each in vars(errors).values() if isinstance(each, type) and issubclass(each, SessionError)
    }
    assert set(named_errors()) == named - bases
    rows = dict(re.findall(r"^\| `(\w+)` \| [^|]+\. \| ([^|]+\.) \|$", PATH.read_text(), re.M))
    assert rows.keys() == {each.__name__ for each in named - bases}
    assert len(set(rows.values())) == len(rows), "two errors have the same advice"


def test_the_document_has_every_error_of_the_table_of_faults() -> None:
    names = {each.__name__ for each in named_errors()}
    assert {fault.error for fault in FAULTS} - {None} <= names


def test_the_document_says_what_to_do_about_every_step_of_the_doctor() -> None:
    assert set(DOCTOR) == {step for step in Step if step.exit_status}
    assert all(meaning and action for meaning, action in DOCTOR.values())


def test_the_table_shows_every_timeout() -> None:
    """All that a session can fail of; a drain's is among the mishaps, a kept connection's is no failure."""
    keys = {name for name in SESSION_LIMIT_KEYS if name.endswith("_timeout")} | {"max_lifetime"}
    assert {fault.timeout for fault in FAULTS} - {None} == keys - {"drain_timeout", "keepalive_timeout"}


def test_the_table_is_long_enough_and_names_nothing_twice() -> None:
    """Forty ways at least, and every stage has some."""
    ways = [fault.how for fault in FAULTS]
    assert len(ways) >= 40 and len({(fault.stage, fault.how) for fault in FAULTS}) == len(ways)
    assert {fault.stage for fault in FAULTS} == set(Stage)
