"""The results of a soak from given samples: the growth, the picture, the length."""

from __future__ import annotations

import argparse
from xml.etree import ElementTree

import pytest

from bench.soak.__main__ import seconds
from bench.soak.chart import PANELS, picture
from bench.soak.soak import Plan, Sample, growth
from bench.soak.tally import Spread

SVG = "{http://www.w3.org/2000/svg}"
SPREAD = Spread(9, 0.001, 0.02, 0.3)


def sample(number: int, memory: int, trips: Spread = SPREAD) -> Sample:
    """Return a sample of a quiet interval with these changes."""
    return Sample(
        at=number * 15.0,
        consoles=1000,
        resident=memory + 1000,
        memory=memory,
        descriptors=2013,
        cpu=0.2,
        trips=trips,
        openings=Spread(),
        begun=number * 10,
        messages=number * 100,
        failures=0,
    )


def test_growth_is_from_the_second_fifth_to_the_last_and_one_peak_is_none() -> None:
    """Medians are compared; a process that shrinks has a growth below zero."""
    rising = [sample(number, 1000 + 10 * number) for number in range(1, 101)]
    assert growth(rising) == 600
    assert growth(rising[::-1]) == -600
    assert growth([*rising[:1], sample(2, 9000), *rising[:1]] * 5) == 0
    assert growth(rising[:1]) == 0


def test_the_picture_has_every_curve_and_every_sample() -> None:
    """The SVG is well-formed with any words, and no point is outside of it."""
    taken = [sample(number, 1 << 26, SPREAD if number % 7 else Spread()) for number in range(1, 61)]
    root = ElementTree.fromstring(picture(taken, "a < b", "c & d"))
    curves = [curve.attrib["points"].split() for curve in root.iter(f"{SVG}polyline")]
    assert len(curves) == sum(len(panel.lines) for panel in PANELS)
    _, _, width, height = map(float, root.attrib["viewBox"].split())
    for curve in curves:
        points = [tuple(map(float, point.split(","))) for point in curve]
        assert len(points) == 60
        assert all(0 <= x <= width and 0 <= y <= height for x, y in points)
    texts = [text.text for text in root.iter(f"{SVG}text")]
    assert "a < b" in texts and "14 min" in texts and {panel.title for panel in PANELS} <= set(texts)


def test_a_length_is_a_number_and_its_unit() -> None:
    """A length is written as a duration in the configuration. Other texts are refused."""
    assert [seconds(text) for text in ("90s", "10m", "1h", "2d")] == [90, 600, 3600, 172800]
    for text in ("", "10", "h", "1.5h", "-1h", "10 m"):
        with pytest.raises(argparse.ArgumentTypeError):
            seconds(text)


def test_there_is_a_sample_a_second_at_most_and_240_in_a_long_soak() -> None:
    """Pictures of long soaks have the same number of points."""
    assert Plan(60, 1, 1, 1).every == 1 and Plan(3600, 1, 1, 1).every == 15
