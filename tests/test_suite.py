"""Rules of the test suite itself: children flush, no test hangs, and the run says what to install."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.support import packages
from tests.support.packages import NO_COMPILER, advice
from tests.support.programs import ROOT, environment

FILES = [path for folder in ("tests", "bench") for path in sorted((ROOT / folder).rglob("*.py"))]
TABLES = {"tests/faults/table.py", "tests/nginx/cases.py", "tests/nginx/inventory_cases.py"}
"""Files that hold a table and nothing else."""


def popens(path: Path) -> list[ast.Call]:
    """Return every call of `subprocess.Popen` in a file."""
    calls = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
    return [call for call in calls if ast.unparse(call.func) in ("subprocess.Popen", "Popen")]


def test_only_tables_are_longer_than_400_lines() -> None:
    long = {str(path.relative_to(ROOT)) for path in FILES if len(path.read_text().splitlines()) > 400}
    assert long == TABLES


VAGUE = re.compile(
    r"\b(whoever|somebody|anybody|everybody)\b|^(What|Who|Whoever|Where|One that|It|Nor)\b", re.IGNORECASE
)


def test_docstrings_name_their_subject() -> None:
    """CONTRIBUTING.md has the rules.  The user named nobody is allowed."""
    kinds = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
    found = [
        f"{path.relative_to(ROOT)}: {text}"
        for path in FILES
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, kinds) and VAGUE.search(text := ast.get_docstring(node) or "")
    ]
    assert found == []


def test_every_child_of_a_test_is_given_its_environment() -> None:
    """A child whose lines a test waits for has to flush them: see `programs.environment`."""
    found = [
        f"{path.relative_to(ROOT)}:{call.lineno}"
        for path in FILES
        if path.is_relative_to(ROOT / "tests")
        for call in popens(path)
        if not {"env", None} & {keyword.arg for keyword in call.keywords}
    ]
    assert found == []


def test_a_child_writes_its_lines_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The child has no terminal, and this process's environment does not matter."""
    monkeypatch.delenv("PYTHONUNBUFFERED", raising=False)
    code = "import sys; print('ready'); sys.stdin.readline()"
    with subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment(ESXIPROXY_X="1"),
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        child.communicate("\n", timeout=60)
    assert environment(ESXIPROXY_X="1") == os.environ | {"PYTHONUNBUFFERED": "1", "ESXIPROXY_X": "1"}


def test_ctrl_c_ends_the_programs_of_a_run_in_the_background() -> None:
    child = "import signal; print(signal.getsignal(signal.SIGINT) is signal.default_int_handler)"
    run = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}], check=True)"
    ignored = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN); "
    for accept, expected in (
        ("", "False\n"),
        ("from tests.conftest import accept_ctrl_c; accept_ctrl_c(); ", "True\n"),
    ):
        done = subprocess.run(
            [sys.executable, "-c", ignored + accept + run],
            capture_output=True,
            text=True,
            check=True,
            cwd=ROOT,
            env=environment(),
        )
        assert done.stdout == expected


def test_a_test_that_hangs_is_ended_and_named(tmp_path: Path, pytestconfig: pytest.Config) -> None:
    assert float(pytestconfig.getini("timeout")) > 0
    hangs = "import threading\n\ndef test_for_ever():\n    threading.Event().wait()\n"
    said = run(tmp_path, hangs + "\ndef test_next():\n    pass\n", "-o", "timeout=1")
    assert "FAILED test_it.py::test_for_ever - Failed: Timeout" in said, said
    assert "1 failed, 1 passed" in said


def test_no_example_of_hypothesis_fails_by_its_duration() -> None:
    """A test may set a deadline of its own again."""
    assert settings.default.deadline is None
    assert HealthCheck.too_slow in settings.default.suppress_health_check


def run(folder: Path, tests: str, *options: str) -> str:
    """Run these tests with this suite's settings and return what pytest says."""
    (folder / "test_it.py").write_text(tests)
    command = [sys.executable, "-m", "pytest", "-c", ROOT / "setup.cfg", "--rootdir", folder]
    done = subprocess.run(
        [*command, "-p", "no:cacheprovider", *options, folder],
        capture_output=True,
        text=True,
        cwd=folder,
        env=environment(PYTHONPATH=str(ROOT), ESXIPROXY_REQUIRE_ALL=""),
        timeout=60,
        check=False,
    )
    return done.stdout + done.stderr


# --- what to install


@pytest.mark.parametrize(
    ("reasons", "wanted"),
    [
        ([], None),
        (["this machine has no IPv6"], None),
        (
            ["install Debian package nginx-light", "this machine has no IPv6"],
            "1 test was skipped; to run every test: apt-get install a b nginx-light && make test",
        ),
        (
            ["install Debian package b"] * 2 + ["install Debian package npm, and a way to its registry"],
            "3 tests were skipped; to run every test: apt-get install a b npm && make test",
        ),
        (
            [NO_COMPILER, "install Debian package b"],
            "2 tests were skipped; to run every test: apt-get install a b gcc && make clean test",
        ),
    ],
)
def test_the_advice_has_every_package_that_is_missing(reasons: list[str], wanted: str | None) -> None:
    assert advice(reasons, ["a", "b"]) == wanted


def test_the_end_of_a_run_names_missing_packages(tmp_path: Path) -> None:
    """The run has the conftest of this suite, and its programs cannot be found."""
    test = (
        "from tests.support.programs import need\n\n"
        "def test_one():\n    need('no-such-program', 'no-such-package')\n"
    )
    said = run(tmp_path, test, "-p", "tests.conftest")
    line = re.search(
        r"^1 test was skipped; to run every test: apt-get install (.*) && make test$", said, re.M
    )
    assert line is not None, said
    assert line[1].split()[-1] == "no-such-package"


def test_without_dpkg_everything_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda name: None)
    assert packages.missing() == packages.listed()


def test_readme_has_the_list_that_the_gate_installs() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    commands = re.findall(r"^    apt-get install ((?:.*\\\n)*.*)\n", readme, re.M)
    assert [command.replace("\\", "").split() for command in commands] == [packages.listed()]
    assert ".ci/packages" in (ROOT / ".ci/run").read_text(encoding="utf-8")


def test_every_package_that_a_test_needs_is_in_the_list() -> None:
    text = "\n".join(path.read_text() for path in FILES if path != Path(__file__))
    needed = set(re.findall(r'\bneed\("[^"]+", "([\w-]+)', text))
    needed |= set(re.findall(r"install Debian packages? ([\w-]+)", text))
    assert {"chromium", "openssl", "gcc"} <= needed
    assert needed - set(packages.listed()) == {"mount", "util-linux"}, "these two are essential in Debian"
