"""The Debian package is built, is clean for lintian, and is installed and started over this machine's root.

The root is an overlay in a mount namespace of its own: the machine itself stays as it is.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.support.programs import ROOT, environment, need

LONG = os.environ.get("ESXIPROXY_LONG") == "1"
pytestmark = [
    pytest.mark.timeout(900),
    pytest.mark.full,
    pytest.mark.skipif(not LONG, reason="builds a package for minutes: ESXIPROXY_LONG=1"),
]
FILES = ROOT / "deploy" / "debian"
_INSTALL = r"""
set -eu
root=$1 package=$2
mount -t tmpfs layers "$root"
mkdir "$root/upper" "$root/work" "$root/all"
mount -t overlay -o "lowerdir=/,upperdir=$root/upper,workdir=$root/work" overlay "$root/all"
cd "$root/all"
mount -t proc proc proc
mount --rbind /dev dev
for folder in run tmp; do mount -t tmpfs "$folder" "$folder"; done
cp "$package" tmp/esxiproxy.deb
export DEBIAN_FRONTEND=noninteractive PATH=/usr/sbin:/usr/bin:/sbin:/bin
exec chroot . sh -eu -c "$3"
"""
_USE = r"""
ip link set lo up
dpkg -i /tmp/esxiproxy.deb
stat -c '%U:%G %a %n' /etc/esxiproxy
unit=/lib/systemd/system/esxiproxy.service
as_user() { setpriv --reuid=esxiproxy --regid=esxiproxy --clear-groups --no-new-privs "$@"; }
install -d -o esxiproxy -g esxiproxy -m 0750 /run/esxiproxy
install -d -o esxiproxy -g esxiproxy -m 0700 /var/lib/esxiproxy
cd /var/lib/esxiproxy
as_user $(sed -n 's/^ExecStartPre=//p' $unit)
setpriv --reuid=esxiproxy --regid=esxiproxy --clear-groups --no-new-privs $(sed -n 's/^ExecStart=//p' $unit) &
service=$!
tries=0
until as_user esxiproxy status; do
    tries=$((tries + 1)); [ $tries -lt 100 ] || exit 1
    kill -0 $service; sleep 0.1
done
kill -TERM $service
wait $service
echo "the service has ended with status 0"
dpkg -r esxiproxy
if [ -e /usr/lib/esxiproxy ]; then find /usr/lib/esxiproxy; exit 1; fi
echo "nothing is left"
"""


def run(command: Sequence[str | Path], seconds: float, **variables: str) -> str:
    """Run a program and return its output."""
    done = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=seconds,
        env=environment(**variables),
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the package by the script of deploy/debian."""
    need("dh_virtualenv", "dh-virtualenv")
    need("dh", "debhelper")
    need("dpkg-buildpackage", "dpkg-dev")
    need("gcc", "gcc")
    folder = tmp_path_factory.mktemp("debian")
    run([FILES / "build", folder], 800)
    (found,) = folder.glob("*.deb")
    return found


def test_lintian_finds_nothing_wrong(package: Path) -> None:
    lintian = need("lintian", "lintian")
    as_root = ["--allow-root"] if os.getuid() == 0 else []
    assert run([lintian, *as_root, "--fail-on", "error,warning", package], 300) == ""


def test_the_package_needs_the_python_that_built_it(package: Path) -> None:
    depends = run(["dpkg-deb", "-f", package, "Depends"], 60)
    assert re.search(r"python3 \(>= 3\.(\d+)~\), python3 \(<< 3\.\d+\)", depends), depends
    assert re.search(r"\blibc6 ", depends) and "adduser" in depends


def test_the_version_is_that_of_the_project(package: Path) -> None:
    version = re.search(r"^version = (.*)$", (ROOT / "setup.cfg").read_text(), re.M)
    assert version is not None
    assert run(["dpkg-deb", "-f", package, "Version"], 60).strip() == version[1]


def test_only_the_configuration_is_one(package: Path) -> None:
    contents = run(["dpkg-deb", "-c", package], 60)
    names = {line.split()[5] for line in contents.splitlines()}
    assert {name for name in names if name.startswith("./etc/") and not name.endswith("/")} == {
        "./etc/esxiproxy/proxy.ini"
    }
    assert {name.rpartition("/")[2] for name in names if name.startswith("./usr/lib/esxiproxy/bin/")} == {
        *("", "esxiproxy", "python", "python3", "twistd"),
        *(name.rpartition("/")[2] for name in names if re.search(r"/bin/python3\.\d+$", name)),
    }
    assert not any("__pycache__" in name for name in names)


@pytest.mark.skipif(os.getuid() != 0, reason="mounts need root")
def test_the_service_starts_with_the_configuration_of_the_package(package: Path, tmp_path: Path) -> None:
    unshare = need("unshare", "util-linux")
    need("ip", "iproute2")
    output = run(
        [
            unshare,
            "--mount",
            "--net",
            "--pid",
            "--fork",
            "--kill-child",
            "sh",
            "-c",
            _INSTALL,
            "sh",
            tmp_path,
            package,
            _USE,
        ],
        300,
    )
    assert "root:esxiproxy 750 /etc/esxiproxy" in output
    assert "/etc/esxiproxy/proxy.ini: ok" in output
    assert re.search(r"^esxiproxy .*\bready\b", output, re.M), output
    assert "Unable to write to plugin cache" not in output
    assert "the service has ended with status 0" in output
    assert output.endswith("nothing is left\n")
