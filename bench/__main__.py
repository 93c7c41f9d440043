"""`python -m bench`: runs the benchmark, prints its table and saves its results."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from bench import cores
from bench.build import BUILT, programs
from bench.cases import cases
from bench.machine import machine
from bench.markdown import markdown
from bench.modes import MODES
from bench.peers import KINDS, missing
from bench.picture import picture
from bench.profile import profile
from bench.stage import Stage
from bench.table import table
from bench.turns import Results, run

RESULTS = Path(__file__).parent / "results"
"""The recorded results of a full run, which the documentation quotes."""
PARTIAL_RESULTS = BUILT / "results"
"""The results of every other run."""
SESSIONS = (1000, 5000)
QUICK_SESSIONS = (500,)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status."""
    options = _options(arguments)
    cores.raise_descriptors()
    os.sched_setaffinity(0, {cores.LOAD})
    if options.profile:
        mode, case = options.profile
        return profile(MODES[mode], case, options.seconds or 8.0, programs(options.pure))
    sessions = QUICK_SESSIONS if options.quick else SESSIONS
    known = cases(sessions)
    wanted = options.peers or [name for name in KINDS if not (options.quick and name == "websockify")]
    names = [name for name in wanted if not missing(name)]
    for name in set(wanted) - set(names):
        print(f"left out, not installed: {name}", file=sys.stderr)
    turns = options.turns or (2 if options.quick else 5)
    seconds = options.seconds or (0.15 if options.quick else 1.0)
    chosen = [known[name] for name in options.only or known]
    modes = [MODES[name] for name in options.modes]
    found, started = programs(options.pure), time.monotonic()
    place = machine()
    with Stage(found, names, seconds, sessions, 0.1 if options.quick else 0.2) as stage:
        results = run(stage, modes, chosen, turns)
    settings = {
        "turns": turns,
        "seconds": seconds,
        "load": f"in {found.language}",
        "took": f"{time.monotonic() - started:.0f} s",
    }
    text = table(results)
    print("\n".join(f"{name}: {value}" for name, value in (place | settings).items()), end="\n\n")
    print(text)
    folder = results_folder(options)
    _keep(folder, results, place, settings, text)
    print(f"results: {folder}")
    return 1 if results.failures else 0


def results_folder(options: argparse.Namespace) -> Path:
    """Return the folder for the results.

    A run with options, such as one row or shorter turns, does not replace the recorded results.
    """
    if options.results is not None:
        return Path(options.results)
    shortened = options.quick or options.turns or options.seconds or options.pure
    chosen = options.only or options.peers or options.modes != list(MODES)
    return PARTIAL_RESULTS if shortened or chosen else RESULTS


def _keep(
    folder: Path, results: Results, place: dict[str, str], settings: dict[str, object], text: str
) -> None:
    """Write the table, also as that of the documentation, the JSON file and the picture."""
    folder.mkdir(parents=True, exist_ok=True)
    whole = {"machine": place, "settings": settings, "failures": results.failures, "cells": results.plain()}
    (folder / "bench.json").write_text(json.dumps(whole, indent=1, ensure_ascii=False) + "\n")
    (folder / "bench.txt").write_text(text + "\n")
    (folder / "bench.md").write_text(markdown(results))
    (folder / "bench.svg").write_text(picture(results, place))


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    listed = {"only": list(cases(SESSIONS)), "modes": list(MODES), "peers": list(KINDS)}

    def several(kind: str) -> object:
        def parse(text: str) -> list[str]:
            names = text.split(",")
            for name in names:
                if name.partition("=")[0] not in listed[kind]:
                    raise argparse.ArgumentTypeError(f"{name}: choose from {', '.join(listed[kind])}")
            return names

        return parse

    parser.add_argument(
        "--quick",
        action="store_true",
        help="a few minutes: two short turns, 500 sessions, no websockify",
    )
    parser.add_argument("--turns", type=int, help="turns of each peer in each case (5; quick: 2)")
    parser.add_argument("--seconds", type=float, help="duration of one measurement (1; quick: 0.15)")
    parser.add_argument("--only", type=several("only"), metavar="CASE,...", help=", ".join(listed["only"]))
    parser.add_argument("--modes", type=several("modes"), default=listed["modes"], help=", ".join(MODES))
    parser.add_argument(
        "--peers",
        type=several("peers"),
        help=f"{', '.join(KINDS)}; esxiproxy=PATH is another checkout",
    )
    parser.add_argument(
        "--pure", action="store_true", help="load and upstream in Python, not in C; no rows for plain HTTP"
    )
    parser.add_argument(
        "--results",
        type=Path,
        help="the folder for table, JSON and picture (bench/results for a run without other options, "
        ".cache/bench/results for every other run)",
    )
    parser.add_argument(
        "--profile", nargs=2, metavar=("MODE", "CASE"), help="py-spy on esxiproxy in one case"
    )
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
