"""Reads the metrics of a running proxy."""

from __future__ import annotations

import urllib.request

from prometheus_client.parser import text_string_to_metric_families


def shown(port: int) -> str:
    """Return the text of /metrics."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30) as answer:
        text: str = answer.read().decode()
    return text


def total(port: int, name: str, **labels: str) -> int:
    """Return the sum of a metric over all samples with these labels."""
    return sum(
        int(sample.value)
        for family in text_string_to_metric_families(shown(port))
        for sample in family.samples
        if sample.name == f"esxiproxy_{name}" and labels.items() <= sample.labels.items()
    )
