"""The programs of the benchmark, load and upstream: in C if there is a compiler, else in Python."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
NATIVE = Path(__file__).parent / "native"
BUILT = ROOT / ".cache" / "bench"
SOURCES = {"load": ("load.c", "traffic.c", "sessions.c", "exchanges.c"), "upstream": ("upstream.c",)}
FLAGS = ("-O2", "-D_GNU_SOURCE", "-Wall", "-Wextra", "-Wno-unused-function")
LIBRARIES = ("-lssl", "-lcrypto", "-lpthread")


@dataclass(frozen=True, slots=True)
class Programs:
    """The command lines of load and upstream, and their language.  Those in Python have no plain HTTP."""

    language: str
    load: tuple[str, ...]
    upstream: tuple[str, ...]

    @property
    def has_http(self) -> bool:
        return self.language == "C"


def programs(pure: bool = False) -> Programs:
    """Compile the C programs if they have changed; return the Python ones if that fails or if ``pure``."""
    if not pure:
        try:
            load, upstream = (_compiled(name) for name in SOURCES)
        except (OSError, subprocess.CalledProcessError) as problem:
            print(f"no C load (install gcc and libssl-dev): {problem}", file=sys.stderr)
        else:
            return Programs("C", (str(load),), (str(upstream),))
    python = (sys.executable, "-m")
    return Programs("Python", (*python, "bench.pure.load"), (*python, "bench.pure.upstream"))


def _compiled(name: str) -> Path:
    """Return the path of a compiled program, whose name contains a digest of all sources."""
    digest = hashlib.sha256()
    for source in sorted(NATIVE.glob("*.[ch]")):
        digest.update(source.read_bytes())
    path = BUILT / f"{name}-{digest.hexdigest()[:12]}"
    if not path.exists():
        compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
        if compiler is None:
            raise FileNotFoundError("no C compiler")
        BUILT.mkdir(parents=True, exist_ok=True)
        sources = [str(NATIVE / source) for source in SOURCES[name]]
        subprocess.run([compiler, *FLAGS, "-o", f"{path}.new", *sources, *LIBRARIES], check=True)
        Path(f"{path}.new").rename(path)
    return path
