"""The folder of a run's results: a run that is not a full one leaves the recorded results alone."""

import pytest

from bench import __main__ as command


@pytest.mark.parametrize(
    "arguments",
    [
        ["--quick"],
        ["--only", "rtt"],
        ["--modes", "ws-ws"],
        ["--peers", "esxiproxy"],
        ["--turns", "1"],
        ["--seconds", "0.1"],
        ["--pure"],
    ],
    ids=lambda arguments: arguments[0],
)
def test_a_run_that_is_not_a_full_one_does_not_replace_the_recorded_results(arguments):
    assert command.results_folder(command._options(arguments)) == command.PARTIAL_RESULTS


def test_a_full_run_replaces_the_recorded_results():
    assert command.results_folder(command._options([])) == command.RESULTS


def test_a_named_folder_gets_the_results(tmp_path):
    options = command._options(["--quick", "--results", str(tmp_path)])
    assert command.results_folder(options) == tmp_path
