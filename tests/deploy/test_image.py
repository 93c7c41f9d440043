"""The steps of the Dockerfile make what runs with a read-only root and an unknown user, as PID 1.

The base image is not pulled: the programs of this machine stand in its place.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.deploy.container import Container, children
from tests.deploy.dockerfile import Dockerfile
from tests.support import config as ini
from tests.support.programs import ROOT, environment, free_port, need, until

IMAGE = ROOT / "deploy" / "image"
COMPOSE = yaml.safe_load((IMAGE / "compose.yaml").read_text())
PREFIX = "/opt/esxiproxy"


@pytest.fixture(scope="module")
def dockerfile() -> Dockerfile:
    return Dockerfile.read(IMAGE / "Dockerfile")


def copy_context(folder: Path) -> None:
    """Copy the files that the builder gets, by the rules of the .dockerignore file."""
    rules = (IMAGE / "Dockerfile.dockerignore").read_text().split("\n")
    names = [rule[1:] for rule in rules if rule.startswith("!")]
    ignored = [rule.removeprefix("**/") for rule in rules if rule.startswith("**/")]
    assert "*" in rules and ignored == ["__pycache__", "*.so"]
    for name in names:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns(*ignored))
        else:
            shutil.copy(ROOT / name, folder)


@pytest.fixture(scope="module")
def prefix(dockerfile: Dockerfile, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run the steps of the first stage, and return the folder that the second one copies."""
    need("gcc", "gcc")
    folder = tmp_path_factory.mktemp("build")
    prefix, source, path = folder / "esxiproxy", folder / "src", folder / "bin"
    source.mkdir()
    path.mkdir()
    copy_context(source)
    python: str = getattr(sys, "_base_executable", sys.executable)
    # A script and not a link: the environment that it makes refers to the program itself.
    (path / "python").write_text(f'#!/bin/sh\nexec {os.path.realpath(python)} "$@"\n')
    (path / "python").chmod(0o755)
    variables = environment(PREFIX=str(prefix), PATH=f"{path}:{os.environ['PATH']}")
    packages, *steps = dockerfile.all(0, "RUN")
    assert packages == "apt-get update && apt-get install --yes --no-install-recommends gcc libc6-dev"
    for step in steps:
        done = subprocess.run(
            ["sh", "-c", step],
            cwd=source,
            env=variables,
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
        assert done.returncode == 0, f"{step}\n{done.stdout}{done.stderr}"
    return prefix


def test_the_build_leaves_nothing_to_write_at_the_first_start(prefix: Path) -> None:
    (package,) = prefix.glob("lib/python*/site-packages/esxiproxy")
    sources = [*package.rglob("*.py"), *(package.parent / "twisted").rglob("plugins/*.py")]
    assert len(sources) > 400
    compiled = {file.name.partition(".")[0]: file for file in package.rglob("__pycache__/*.pyc")}
    assert {file.stem for file in sources if file.is_relative_to(package)} <= compiled.keys()
    caches = sorted(file.parent.name for file in package.parent.rglob("dropin.cache"))
    assert caches == ["plugins"]
    assert list(package.glob("net/transport/_compiled*.so")), "the compiled part"
    assert not (package.parent / "pip").exists()


def test_the_image_runs_as_a_number_and_without_a_shell(dockerfile: Dockerfile) -> None:
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", dockerfile.one("USER"))
    assert dockerfile.command()[:3] == ["twistd", "--nodaemon", "--pidfile="]
    assert dockerfile.health_check()[:2] == ["esxiproxy", "status"]
    assert dockerfile.one("STOPSIGNAL") == "SIGTERM"
    assert dockerfile.all(-1, "COPY") == [f"--from=build {PREFIX} {PREFIX}"]
    assert [line for line in dockerfile.all(0, "ARG") if line.startswith("PREFIX")] == [f"PREFIX={PREFIX}"]
    folder = f"install -d -m 0770 -o 10001 -g 10001 {dockerfile.environment()['RUNTIME_DIRECTORY']}"
    assert dockerfile.all(-1, "RUN") == [folder]


@pytest.mark.skipif(os.getuid() != 0, reason="mounts need root")
@pytest.mark.parametrize("workers", [1, 2])
def test_the_image_runs_read_only_with_an_unknown_user(
    workers: int, prefix: Path, dockerfile: Dockerfile, tmp_path: Path
) -> None:
    probe = f"127.0.0.1:{free_port()}"
    text = ini.ini(ini.listener(), ini.upstream(1), workers=workers) + f"[admin]\nprobe_listen = {probe}\n"
    (tmp_path / "proxy.ini").write_text(text)
    tmp_path.chmod(0o755)
    variables = {name: value.replace(PREFIX, str(prefix)) for name, value in dockerfile.environment().items()}
    container = Container(
        prefix,
        tmp_path,
        dockerfile.command(),
        dockerfile.health_check(),
        variables,
        dockerfile.one("WORKDIR"),
    )
    with container:
        look = f"cat /proc/1/comm; id -u; touch {prefix}/x /tmp/x; ls /run/esxiproxy"
        inside = container.run("sh", "-c", look)
        assert inside.stdout.split()[:2] == ["twistd", "54321"]
        assert "admin.sock" in inside.stdout.split()
        assert inside.stderr.count("Read-only file system") == 2, inside.stderr
        with_another_host = container.run("python", "-c", _PROBE, probe)
        assert with_another_host.stdout == "200\n", with_another_host.stderr
        before = set(children(container.first))
        orphan = container.orphan()
        os.kill(orphan, signal.SIGKILL)
        until(lambda: orphan not in children(container.first), "the orphan is reaped", 30)
        assert set(children(container.first)) == before
        assert container.is_healthy()
        log = container.log()
        assert container.terminate() == 0, container.log()
    assert "plugin cache" not in log and "Read-only file system" not in log, log


_PROBE = """
import http.client, sys
connection = http.client.HTTPConnection(sys.argv[1], timeout=20)
connection.request("GET", "/readyz", headers={"Host": "10.1.2.3:8080"})
print(connection.getresponse().status)
"""
"""The kubelet's probe has the address of the pod in its Host field."""


# --- compose.yaml


def test_the_proxies_of_compose_are_as_locked_as_the_test_above() -> None:
    for name in ("proxy-a", "proxy-b"):
        proxy = COMPOSE["services"][name]
        assert proxy["hostname"] == name, "its name in the shared state"
        assert proxy["read_only"] is True and proxy["cap_drop"] == ["ALL"]
        assert proxy["tmpfs"][0] == "/run/esxiproxy:uid=10001,gid=10001,mode=0770"
        assert proxy["build"] == {"context": "../..", "dockerfile": "deploy/image/Dockerfile"}
        for volume in proxy["volumes"]:
            source, _target, mode = volume.split(":")
            assert mode == "ro" and source.startswith("./compose/")
    assert (IMAGE / "../..").resolve() == ROOT


def test_the_configuration_of_compose_fits_its_services(tmp_path: Path) -> None:
    text = (IMAGE / "compose/proxy.ini").read_text()
    haproxy = (IMAGE / "compose/haproxy.cfg").read_text()
    assert re.search(r"^state = redis://redis:6379/0 ", text, re.M) and "redis" in COMPOSE["services"]
    subnet = COMPOSE["networks"]["default"]["ipam"]["config"][0]["subnet"]
    assert re.search(r"^trusted_proxies = (\S+)", text, re.M)[1] == subnet  # type: ignore[index]
    servers = re.findall(r"^    server (\S+) (\S+):8443 send-proxy-v2 check port 8080 ", haproxy, re.M)
    assert servers == [("proxy-a", "proxy-a"), ("proxy-b", "proxy-b")]
    assert re.search(r"^listen = :8443$", text, re.M) and re.search(r"^probe_listen = :8080 ", text, re.M)
    assert re.search(r"^proxy_protocol = yes ", text, re.M)
    # The drain of a stopped container fits its grace period.
    assert re.search(r"^drain_timeout = 5m$", text, re.M)
    assert COMPOSE["services"]["proxy-a"]["stop_grace_period"] == "10m"


def test_haproxy_accepts_its_configuration() -> None:
    haproxy = need("haproxy", "haproxy")
    done = subprocess.run(
        [haproxy, "-c", "-f", IMAGE / "compose/haproxy.cfg"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    # Their names exist in the network of compose only; HAProxy asks for them again while it runs.
    warnings = [line for line in done.stderr.splitlines() if "[WARNING]" in line]
    assert all("could not resolve address 'proxy-" in line for line in warnings), done.stderr
