"""The command `esxiproxy` loads the subcommand that it runs, and no other one."""

from esxiproxy.cli.main import NAMES, subcommand
from tests.support.commands import command

PRINTED = "import atexit; atexit.register(lambda: print(*sys.modules))\n"


def test_each_subcommand_is_the_module_of_its_name():
    assert [subcommand(name).NAME for name in NAMES] == list(NAMES)


def test_a_command_loads_no_other_one():
    """Commands for the running proxy need neither Twisted nor TLS, which take half a second to load."""
    done = command("sessions", "--socket", "/nowhere", code=PRINTED)
    assert done.returncode == 3
    loaded = set(done.stdout.split())
    assert "esxiproxy.cli.sessions" in loaded
    assert not loaded & {"esxiproxy.cli.doctor", "twisted", "autobahn", "OpenSSL", "cryptography"}
