"""The tests of the compiled part under AddressSanitizer and UBSan, without Python's own allocator.

They take a minute, so they run with ``ESXIPROXY_LONG=1`` only (`make long`).
"""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from esxiproxy.net.transport import constants

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
SOURCES = sorted(Path(constants.__file__).parent.glob("*.c"))
TESTS = (
    "test_fast_path.py",
    "test_fast_path_bodies.py",
    "test_fast_path_tls.py",
    "test_epoll_loop.py",
    "test_relaying.py",
    "test_exchange_bodies.py",
)
FLAGS = ("-shared", "-fPIC", "-g", "-O1", "-fno-omit-frame-pointer", "-Wall", "-Wextra", "-Werror")
SANITIZERS = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all")


def library(name):
    found = subprocess.run(["gcc", f"-print-file-name={name}"], capture_output=True, text=True, check=True)
    return Path(found.stdout.strip())


def test_the_package_is_built_from_all_c_files():
    setup = (ROOT / "setup.py").read_text()
    assert SOURCES and all(f'"{source.name}"' in setup for source in SOURCES)


@pytest.mark.skipif(os.environ.get("ESXIPROXY_LONG") != "1", reason="takes a minute: ESXIPROXY_LONG=1")
def test_the_tests_of_the_compiled_part_pass_under_the_sanitizers(tmp_path):
    built = tmp_path / "_compiled.so"
    include = sysconfig.get_path("include")
    subprocess.run(["gcc", *FLAGS, *SANITIZERS, f"-I{include}", *SOURCES, "-o", built], check=True)
    environment = os.environ | {
        "SANITIZED_PART": str(built),
        "LD_PRELOAD": f"{library('libasan.so')} {library('libubsan.so')}",
        "PYTHONMALLOC": "malloc",
        "PYTHONPATH": str(ROOT),
        "ASAN_OPTIONS": "detect_leaks=0",  # the interpreter frees little at its end
        "UBSAN_OPTIONS": "print_stacktrace=1",
    }
    environment.pop("ESXIPROXY_LONG")
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-s", "-p", "tests.support.sanitized"]
    run = subprocess.run(
        [*command, *(str(HERE / name) for name in TESTS)],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=1800,
    )
    assert run.returncode == 0, run.stdout[-3000:] + run.stderr[:5000]
    assert "skipped" not in run.stdout
