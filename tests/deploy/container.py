"""A container for tests, without a runtime: a root of its own that is read-only, an unknown user, and PID 1.

The root has what the base image would have, by read-only mounts of this machine's folders.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.support.programs import Program, need, until

UID, GID = 54321, 0
"""A user that no list of users has, in the group that OpenShift gives to every container."""
_SCRIPT = """\
set -eu
root=$1 prefix=$2 config=$3 base=$4
mount -t tmpfs -o mode=0755 root "$root"
show() { mkdir -p "$root$2" && mount --bind "$1" "$root$2" && mount -o remount,bind,ro "$root$2"; }
for folder in /usr /bin /sbin /lib /lib32 /lib64; do
    if [ -L "$folder" ]; then cp -P "$folder" "$root$folder"
    elif [ -d "$folder" ]; then show "$folder" "$folder"; fi
done
case $base in /usr*) ;; *) show "$base" "$base" ;; esac
show "$prefix" "$prefix"
show "$config" /etc/esxiproxy
mkdir -p "$root/proc" "$root/dev" "$root/tmp" "$root/run/esxiproxy"
mount -t proc proc "$root/proc"
mount --rbind /dev "$root/dev"
mount -t tmpfs -o mode=0770,uid={uid},gid={gid} run "$root/run/esxiproxy"
mount -o remount,ro "$root"
shift 4
cd "$root"
exec chroot "$root" "$@"
"""
_DROP = (
    *("setpriv", f"--reuid={UID}", f"--regid={GID}", "--clear-groups"),
    *("--no-new-privs", "--inh-caps=-all", "--bounding-set=-all"),
)


class Container(Program):
    """A program of an installation in ``prefix``, with the files of ``config`` in /etc/esxiproxy.

    ``command`` and ``health_check`` are those of the image, and ``variables`` its whole environment.
    """

    name = "container"

    def __init__(
        self,
        prefix: Path,
        config: Path,
        command: Sequence[str],
        health_check: Sequence[str],
        variables: dict[str, str],
        workdir: str,
    ) -> None:
        self._unshare, self._nsenter = need("unshare", "util-linux"), need("nsenter", "util-linux")
        super().__init__()
        self._root = self.folder / "root"
        self._root.mkdir()
        self._prefix, self._config, self._command = prefix, config, command
        self._health_check = health_check
        self._env = [
            "/usr/bin/env",
            "-i",
            "-C",
            workdir,
            *(f"{name}={value}" for name, value in variables.items()),
        ]

    def command(self) -> Sequence[str | Path]:
        script = _SCRIPT.replace("{uid}", str(UID)).replace("{gid}", str(GID))
        return [
            *(self._unshare, "--mount", "--pid", "--fork", "--kill-child"),
            *("sh", "-c", script, "sh", self._root, self._prefix, self._config, sys.base_prefix),
            *_DROP,
            *self._env,
            *self._command,
        ]

    def is_ready(self) -> bool:
        return self.is_healthy()

    @property
    def first(self) -> int:
        """The process that has PID 1 inside."""
        (child,) = children(self.pid)
        return child

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a program inside, as a container runtime does it."""
        inside = [self._nsenter, f"--target={self.first}", "--mount", "--pid", "--root", "--wd"]
        return subprocess.run(
            [*inside, *_DROP, *self._env, *command], capture_output=True, text=True, timeout=60, check=False
        )

    def is_healthy(self) -> bool:
        """Return whether the health check of the image succeeds."""
        return bool(children(self.pid)) and self.run(*self._health_check).returncode == 0

    def orphan(self) -> int:
        """Leave an orphan inside that waits, and return its process id outside."""
        before = set(children(self.first))
        done = self.run("sh", "-c", "sleep 60 </dev/null >/dev/null 2>&1 &")
        assert done.returncode == 0, done.stderr
        (found,) = until(lambda: set(children(self.first)) - before, "PID 1 is the orphan's parent")
        return found

    def terminate(self) -> int:
        """Send SIGTERM to PID 1, and return its exit status."""
        os.kill(self.first, 15)
        assert self._process is not None
        return self._process.wait(30)


def children(pid: int) -> list[int]:
    """Return the children of a process, zombies included."""
    files = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(word) for file in files for word in file.read_text().split()]
