"""The two programs of the benchmark, load and upstream: in C where a compiler is, in Python elsewhere."""

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
SOURCES = {"load": ("load.c", "traffic.c", "sessions.c"), "upstream": ("upstream.c",)}
FLAGS = ("-O2", "-D_GNU_SOURCE", "-Wall", "-Wextra", "-Wno-unused-function")
LIBRARIES = ("-lssl", "-lcrypto", "-lpthread")


@dataclass(frozen=True, slots=True)
class Programs:
    """How to call load and upstream, and in which language they are."""

    language: str
    load: tuple[str, ...]
    upstream: tuple[str, ...]


def programs(pure: bool = False) -> Programs:
    """The C programs, compiled if they are new; the Python ones where that fails or is asked for."""
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
    """The program's path; its name has a digest of all sources in it."""
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
