"""``esxiproxy doctor``: finds the reason why a console does not open, or examines a whole configuration."""

from __future__ import annotations

import argparse
import json
import re
import sys
from dataclasses import replace
from pathlib import Path

from esxiproxy.cli import doctor_config
from esxiproxy.core.routing import TLSProfile, Verify
from esxiproxy.doctor.configuration.account import UnknownAccount
from esxiproxy.doctor.diagnosis import Diagnosis, DoctorOptions
from esxiproxy.doctor.finding import Finding, exit_status
from esxiproxy.doctor.report import as_object, conclusion, lines
from esxiproxy.doctor.trust import BadPin, HostVerification, parse_pin
from esxiproxy.doctor.url import BadUrl, ConsoleUrl
from esxiproxy.net.tls.pem import TLSFileError, read_certificates

NAME = "doctor"
HELP = "find the reason why consoles do not open"
USAGE_STATUS = 2

_DESCRIPTION = """\
With a URL: performs every step of a console's connection and prints the duration
and the facts of each, and what to change if a step fails. The path of the request is
secret. Over TLS the request is sent only to a verified host: its chain and name
verify, or --pin matches, or --insecure switches verification off.

The request uses up the ticket in the URL: request a new one for the console itself.
Give - and the URL on standard input to keep the ticket out of the process list:

    echo wss://esxi1.example/ticket/... | esxiproxy doctor -

With --config FILE: checks every upstream and every host of an inventory, as the
proxy itself would connect to it: look-up, networks, TCP, TLS, identity, the days
until the certificate expires, and the answer to a plain request without a ticket.
Also checks the certificates of listeners, the permissions of files, and the limits
and timeouts. Prints a table, worst first. Ctrl-C prints the results so far. Run it
as the user of the proxy, or as root with --user:

    sudo esxiproxy doctor --config /etc/esxiproxy/proxy.ini --user esxiproxy
"""
_EPILOG = """\
exit status with a URL:
  0   all steps succeeded
  2   wrong usage
  10  DNS           the host's name has no address
  11  TCP           no address accepts the connection
  12  TLS           the port speaks no TLS, or the host's certificate is rejected
  13  handshake     the answer is not a valid 101
  14  subprotocol   the host chose none of the offered subprotocols
  15  first frame   the console sends nothing, or closes the connection
The answers to a ping and to the Close are shown and do not change the exit status.

exit status with --config:
  0    nothing prevents consoles
  1    a finding prevents consoles, or will within days (with --strict: any finding)
  2    wrong usage
  130  Ctrl-C, after the results so far were printed
"""
_OF_URL = ("subprotocol", "pin", "ca", "insecure", "tls_profile")
"""The options that only a URL may have."""
_SUBPROTOCOL = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")


class UsageError(ValueError):
    """Raised for arguments that are invalid or contradict each other."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description, parser.epilog = _DESCRIPTION, _EPILOG
    add = parser.add_argument
    add(
        "url",
        metavar="URL",
        nargs="?",
        help="ws://HOST[:PORT]/PATH or wss://..; - reads it from standard input",
    )
    add("--config", metavar="FILE", help="check this configuration instead of one console")
    add("--timeout", type=float, default=5.0, metavar="SECONDS", help="time limit of each step (%(default)s)")
    add("--json", action="store_true", help="print one JSON object; with --config a list of objects")
    doctor_config.add_arguments(parser.add_argument_group("with --config"))
    url = parser.add_argument_group("with a URL")
    url.add_argument(
        "--subprotocol",
        action="append",
        metavar="NAME",
        help="offer this subprotocol, or no subprotocol for none; may be repeated (binary)",
    )
    trust = url.add_mutually_exclusive_group()
    trust.add_argument(
        "--pin",
        action="append",
        metavar="sha256:AA:BB:..",
        help="accept only a certificate with this thumbprint, or sha1:..; may be repeated",
    )
    trust.add_argument(
        "--ca", type=Path, metavar="FILE", help="trust these authorities instead of the system's"
    )
    trust.add_argument(
        "--insecure", action="store_true", help="send the request with its ticket to an unverified host"
    )
    url.add_argument(
        "--tls-profile",
        choices=[profile.value for profile in TLSProfile],
        help="TLS versions and ciphers, as the tls_profile key of an upstream (intermediate)",
    )


def run(arguments: argparse.Namespace) -> int:
    """Diagnose the console, or check the configuration; return the exit status."""
    try:
        _check_usage(arguments)
        if arguments.config is not None:
            return doctor_config.run(arguments)
    except (UsageError, UnknownAccount) as error:
        print(f"esxiproxy doctor: {error}", file=sys.stderr)
        return USAGE_STATUS
    return _diagnose(arguments)


def _diagnose(arguments: argparse.Namespace) -> int:
    """Diagnose the console; return the exit status of the step that failed, or 0."""
    try:
        url = ConsoleUrl.parse(sys.stdin.readline() if arguments.url == "-" else arguments.url)
        diagnosis = Diagnosis(url, options_from(arguments))
        if url.has_ticket:
            _warn(listed=arguments.url != "-")
        findings: list[Finding] = []
        if not arguments.json:
            print(url, flush=True)
        for finding in diagnosis:
            findings.append(finding)
            if not arguments.json:
                print(*lines(finding), sep="\n", flush=True)
    except (UsageError, BadUrl, BadPin, TLSFileError) as error:
        print(f"esxiproxy doctor: {error}", file=sys.stderr)
        return USAGE_STATUS
    print(json.dumps(as_object(url, findings)) if arguments.json else conclusion(findings), flush=True)
    return exit_status(findings)


def _check_usage(arguments: argparse.Namespace) -> None:
    """Raise UsageError for arguments that contradict each other."""
    if (arguments.url is None) == (arguments.config is None):
        raise UsageError("name either the URL of a console, or a configuration with --config FILE")
    other, names = ("a URL", _OF_URL) if arguments.url is None else ("--config", doctor_config.OPTIONS)
    for name in names:
        if getattr(arguments, name) not in (None, False):
            raise UsageError(f"--{name.replace('_', '-')} only with {other}")
    if not 0 < arguments.timeout <= 3600:
        raise UsageError("--timeout must be above 0 and at most 3600 seconds")


def options_from(arguments: argparse.Namespace) -> DoctorOptions:
    """Return the options in the arguments.  Raises UsageError, BadPin or TLSFileError."""
    profile = TLSProfile(arguments.tls_profile or TLSProfile.INTERMEDIATE.value)
    trust = replace(_trust(arguments), tls_profile=profile)
    return DoctorOptions(_subprotocols(arguments.subprotocol), trust, arguments.timeout)


def _subprotocols(named: list[str] | None) -> tuple[str, ...]:
    if named is None:
        return DoctorOptions().subprotocols
    names = [name.strip() for text in named for name in text.split(",")]
    if "none" in names:
        if len(names) > 1:
            raise UsageError("--subprotocol none cannot be combined with another one")
        return ()
    if not all(map(_SUBPROTOCOL.fullmatch, names)) or len(set(names)) != len(names):
        raise UsageError("--subprotocol takes names without spaces, each once")
    return tuple(names)


def _trust(arguments: argparse.Namespace) -> HostVerification:
    if arguments.insecure:
        return HostVerification(Verify.NONE)
    if arguments.pin:
        texts = [text for argument in arguments.pin for text in argument.split(",")]
        return HostVerification(Verify.PIN, tuple(map(parse_pin, texts)))
    if arguments.ca:
        read_certificates(arguments.ca)  # reports an unusable file before the ticket is used
        return HostVerification(Verify.CA, ca=arguments.ca)
    return HostVerification()


def _warn(listed: bool) -> None:
    """Print warnings about the ticket on standard error, so that standard output stays JSON."""
    print(
        "esxiproxy doctor: this uses up the ticket in the URL; request a new one for the console itself.",
        file=sys.stderr,
    )
    if listed:
        print(
            "esxiproxy doctor: the process list shows the ticket to every user of this machine; next time "
            "give - and the URL on standard input.",
            file=sys.stderr,
        )
