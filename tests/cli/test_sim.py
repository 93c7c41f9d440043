"""`esxiproxy sim`: the simulated host alone."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import urllib.request

import pytest

from esxiproxy.cli import sim
from esxiproxy.sim.__main__ import options_from
from esxiproxy.sim.faults import SimFault
from tests.support.programs import ROOT, environment

CODE = (
    "import argparse, sys; from esxiproxy.cli import sim; parser = argparse.ArgumentParser(); "
    "sim.add_arguments(parser); sys.exit(sim.run(parser.parse_args()))"
)


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(prog="esxiproxy sim")
    sim.add_arguments(made)
    return made


def test_every_option_of_the_host_is_an_argument() -> None:
    """Tickets, limits, subprotocols, pongs and faults."""
    options = options_from(
        parser().parse_args(
            [
                "--answer-pings",
                "--max-connections",
                "3",
                "--ticket-lifetime",
                "9",
                "--subprotocols",
                "binary,uint8utf8",
                "--fault",
                "refuse",
                "--fault-status",
                "418",
            ]
        )
    )
    assert options.answer_pings and options.max_connections == 3 and options.ticket_lifetime == 9
    assert options.subprotocols == ("binary", "uint8utf8")
    assert options.fault.fault is SimFault.REFUSE and options.fault.status == 418


def test_options_that_contradict_each_other(capsys: pytest.CaptureFixture[str]) -> None:
    """2, with the reason."""
    assert sim.run(parser().parse_args(["--port", "none", "--tls-port", "none"])) == 2
    assert "the host needs a port or a tls_port" in capsys.readouterr().err


def test_a_host_runs_until_it_is_stopped() -> None:
    """The host prints one line of JSON when it is ready, issues tickets, and exits with 0 at SIGTERM."""
    with subprocess.Popen(
        [sys.executable, "-c", CODE, "--tls-port", "none"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        cwd=ROOT,
        env=environment(),
    ) as process:
        try:
            assert process.stdout is not None
            ready = json.loads(process.stdout.readline())
            url = ready["ws"].replace("ws://", "http://") + "/sim/ticket"
            with urllib.request.urlopen(url, timeout=20) as answer:
                assert answer.status == 200 and answer.read()
            assert ready["wss"] is None
            process.terminate()
            assert process.wait(30) == 0
        finally:
            process.kill()
