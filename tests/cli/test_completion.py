"""The completion of the command for shells: it fits the commands, and the shells accept it."""

import subprocess

import pytest

from esxiproxy.cli.completion import FILES
from esxiproxy.cli.main import main
from tests.support.programs import need
from tools.write_completion import FOLDER, script


@pytest.mark.parametrize("shell", FILES)
def test_the_script_fits_the_commands(shell, capsys):
    assert main(["completion", shell]) == 0
    printed = capsys.readouterr().out
    assert printed == script(shell), "run python -m tools.write_completion"


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("esxiproxy dra", "drain"),
        ("esxiproxy kill --rea", "--reason"),
        ("esxiproxy hosts --sort us", "usage"),
    ],
)
def test_bash_completes_commands_options_and_values(words, expected):
    *_, before, last = words.split()
    line = (
        f"source {FOLDER / FILES['bash']}; COMP_WORDS=({words}); COMP_CWORD={len(words.split()) - 1}; "
        f"_shtab_esxiproxy esxiproxy '{last}' '{before}'; echo ${{COMPREPLY[@]}}"
    )
    found = subprocess.run(["bash", "-c", line], capture_output=True, text=True, timeout=60, check=True)
    assert expected in found.stdout.split()


def test_zsh_parses_the_script():
    subprocess.run([need("zsh", "zsh"), "-n", FOLDER / FILES["zsh"]], timeout=60, check=True)
