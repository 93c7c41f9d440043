"""``esxiproxy doctor --config FILE``: checks the hosts, files and limits of a configuration."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

from esxiproxy.app import preflight
from esxiproxy.core.config.errors import ConfigError, Problem
from esxiproxy.core.config.model import Config
from esxiproxy.doctor.configuration.account import Account
from esxiproxy.doctor.configuration.expiry import certificate_files
from esxiproxy.doctor.configuration.files import files_of
from esxiproxy.doctor.configuration.host_check import HostCheck, HostCheckOptions
from esxiproxy.doctor.configuration.hosts import HostTarget, hosts_of
from esxiproxy.doctor.configuration.limits import limit_findings
from esxiproxy.doctor.configuration.machine import ProxyMachine
from esxiproxy.doctor.configuration.parallel import AddressSlots, in_parallel
from esxiproxy.doctor.configuration.permissions import permission_findings
from esxiproxy.doctor.configuration.progress import ProgressBar
from esxiproxy.doctor.configuration.result import (
    CheckKind,
    CheckResult,
    CheckVerdict,
    exit_status_of,
    worst_first,
)
from esxiproxy.doctor.configuration.table import as_object, summary, table_lines
from esxiproxy.doctor.configuration.timeouts import timeout_findings

OPTIONS = ("parallel", "user", "strict")
"""The options that only a configuration may have."""
INTERRUPTED = 130
_PARALLEL = 32
_MOST_PARALLEL = 256


def add_arguments(parser: argparse._ActionsContainer) -> None:
    """Declare the arguments."""
    add = parser.add_argument
    add(
        "--parallel",
        type=_parallel,
        metavar="N",
        help=f"number of hosts that are checked at once, {_MOST_PARALLEL} at most ({_PARALLEL})",
    )
    add("--user", metavar="NAME", help="user that runs the proxy, for permissions (the current user)")
    add("--strict", action="store_true", help="exit with 1 for warnings too")


def _parallel(text: str) -> int:
    if text.isascii() and text.isdigit() and len(text) < 4 and 1 <= int(text) <= _MOST_PARALLEL:
        return int(text)
    raise argparse.ArgumentTypeError(f"must be a number from 1 to {_MOST_PARALLEL}")


def run(arguments: argparse.Namespace) -> int:
    """Check the configuration and print the results; return the exit status.  Raises UnknownAccount."""
    account = Account.current() if arguments.user is None else Account.named(arguments.user)
    now = datetime.now(UTC)
    try:
        config = preflight.load(arguments.config)
    except ConfigError as error:
        results = _of_problems(error.problems)
        _print(arguments, results, 0, 0)
        print("esxiproxy doctor: the file has errors, so no host was checked", file=sys.stderr)
        return exit_status_of(results, arguments.strict)
    if account.is_root:
        print(
            "esxiproxy doctor: root may use every file; name the user that runs the proxy with --user",
            file=sys.stderr,
        )
    results = _local_results(config, account, now)
    hosts, unlisted = hosts_of(config)
    found, is_interrupted = _check_hosts(hosts, arguments, now)
    results = [*results, *unlisted, *(result for place in sorted(found) for result in found[place])]
    _print(arguments, results, len(hosts), len(found))
    if is_interrupted:
        left = len(hosts) - len(found)
        print(f"esxiproxy doctor: interrupted, {left} hosts were not checked", file=sys.stderr)
        return INTERRUPTED
    return exit_status_of(results, arguments.strict)


def _local_results(config: Config, account: Account, now: datetime) -> list[CheckResult]:
    """Return the results that need no connection."""
    return [
        *_of_problems((*config.warnings, *preflight.problems_of(config))),
        *certificate_files(config, now),
        *permission_findings(files_of(config), account),
        *limit_findings(config, ProxyMachine.read()),
        *timeout_findings(config),
    ]


def _check_hosts(
    hosts: Sequence[HostTarget], arguments: argparse.Namespace, now: datetime
) -> tuple[dict[int, list[CheckResult]], bool]:
    """Return the results of the hosts by their places, and whether the checks were interrupted."""
    options, slots = HostCheckOptions(now, arguments.timeout), AddressSlots()
    found: dict[int, list[CheckResult]] = {}
    progress = ProgressBar(sys.stderr, len(hosts))
    checks = in_parallel(hosts, lambda: HostCheck(options, slots), arguments.parallel or _PARALLEL)
    try:
        progress.show(0)
        for place, results in checks:
            found[place] = results
            progress.show(len(found))
    except KeyboardInterrupt:
        return found, True
    finally:
        checks.close()
        progress.clear()
    return found, False


def _of_problems(problems: Iterable[Problem]) -> list[CheckResult]:
    return [
        CheckResult(
            CheckKind.CONFIGURATION,
            CheckVerdict.ERROR if problem.is_error else CheckVerdict.WARNING,
            problem.section or "",
            problem.key or "",
            f"{problem.file}:{problem.line}",
            problem.text,
        )
        for problem in problems
    ]


def _print(arguments: argparse.Namespace, results: Sequence[CheckResult], hosts: int, checked: int) -> None:
    ordered = worst_first(results)
    if arguments.json:
        print(json.dumps([as_object(result) for result in ordered], indent=2), flush=True)
        return
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    for line in table_lines(ordered, width):
        print(line)
    print(summary(arguments.config, results, hosts, checked), flush=True)
