"""The observer of the metrics of one process, and the values that are shown."""

import pytest

from esxiproxy.ops.metrics.metrics import Metrics
from esxiproxy.ops.metrics.observer import MetricsObserver
from tests.ops.metrics_world import (
    samples,
)


@pytest.fixture
def observer():
    return MetricsObserver(Metrics())


@pytest.fixture
def shown(observer):
    return lambda extra=(): samples(observer.metrics, extra)
