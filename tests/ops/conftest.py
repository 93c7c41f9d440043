"""The observer of the metrics of one process, and a folder in which several processes count."""

import pytest

from esxiproxy.ops.metrics.files import prepare
from esxiproxy.ops.metrics.metrics import Metrics
from esxiproxy.ops.metrics.observer import MetricsObserver
from tests.ops.metrics_world import COUNTING, ended, run, samples

COUNTING_SOME = (
    COUNTING
    + """
opened, closed = int(sys.argv[1]), int(sys.argv[2])
sessions = [opened_session(next(number), observer, listed("esxi7")) for _ in range(opened)]
for session in sessions[:closed]:
    end(session, observer, up=10, down=100)
for _ in range(3):
    session = new_session(next(number))
    session.status = UpstreamRefused.status
    end(session, observer, UpstreamRefused("no"))
observer.refused("max_sessions")
observer.lagged(0.5)
print("counted", flush=True)
sys.stdin.read()
"""
)
"""Opens and ends some consoles, and waits."""


@pytest.fixture
def observer():
    return MetricsObserver(Metrics())


@pytest.fixture
def shown(observer):
    return lambda extra=(): samples(observer.metrics, extra)


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "metrics"
    prepare(path)
    return path


@pytest.fixture
def start(folder):
    """Start a process that opens and ends so many consoles; it has counted them on return."""
    processes = []

    def start(opened, closed):
        program = f"import sys; sys.argv[1:] = ['{opened}', '{closed}']\n{COUNTING_SOME}"
        process = run(folder, program)
        processes.append(process)
        assert process.stdout.readline() == "counted\n"
        return process

    yield start
    for process in processes:
        if process.poll() is None:
            process.kill()
        ended(process)
