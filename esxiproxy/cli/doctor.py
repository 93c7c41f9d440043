"""`esxiproxy doctor URL`: why a console does not open."""

from __future__ import annotations

import argparse
import json
import re
import sys
from dataclasses import replace
from pathlib import Path

from esxiproxy.core.routing import TLSProfile, Verify
from esxiproxy.doctor.diagnosis import Diagnosis, DoctorOptions
from esxiproxy.doctor.finding import Finding, exit_status
from esxiproxy.doctor.report import as_object, conclusion, lines
from esxiproxy.doctor.trust import BadPin, HostVerification, parse_pin
from esxiproxy.doctor.url import BadUrl, ConsoleUrl
from esxiproxy.net.tls.pem import TLSFileError, read_certificates

NAME = "doctor"
HELP = "say why a console does not open"
USAGE_STATUS = 2

_DESCRIPTION = """\
Takes every step on the way to a console, says how long each took and what was
seen, and what to change when one fails. The request, whose path is the secret,
goes out over TLS only when the host is the one that was meant: its chain and its
name verify, or --pin matches, or --insecure asks no questions.

A ticket is spent by asking: fetch a fresh one for the console itself. Give - and
the URL on standard input, and the ticket does not stand in the process list:

    echo wss://esxi1.example/ticket/... | esxiproxy doctor -
"""
_EPILOG = """\
exit status:
  0   all is well
  2   wrong usage
  10  DNS           the host's name has no address
  11  TCP           no address takes the connection
  12  TLS           no TLS there, or not the host that was meant
  13  handshake     the answer is no right 101
  14  subprotocol   none of the offered was chosen, or another one
  15  first frame   the console says nothing, or ends
Whether a ping and the Close are answered is told, and fails nothing.
"""
_SUBPROTOCOL = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")


class UsageError(ValueError):
    """Arguments that cannot be meant."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description, parser.epilog = _DESCRIPTION, _EPILOG
    add = parser.add_argument
    add("url", metavar="URL", help="ws://HOST[:PORT]/PATH or wss://..; - reads it from standard input")
    add(
        "--subprotocol",
        action="append",
        metavar="NAME",
        help="offer this one, may be repeated; none offers none (binary)",
    )
    trust = parser.add_mutually_exclusive_group()
    trust.add_argument(
        "--pin",
        action="append",
        metavar="sha256:AA:BB:..",
        help="the host's certificate has this thumbprint, or sha1:..; may be repeated",
    )
    trust.add_argument("--ca", type=Path, metavar="FILE", help="trust these authorities, not the system's")
    trust.add_argument(
        "--insecure", action="store_true", help="send the request, ticket and all, to whoever is there"
    )
    add(
        "--tls-profile",
        choices=[profile.value for profile in TLSProfile],
        default=TLSProfile.INTERMEDIATE.value,
        help="the tls_profile of the upstream's section (%(default)s)",
    )
    add("--timeout", type=float, default=5.0, metavar="SECONDS", help="of each step (%(default)s)")
    add("--json", action="store_true", help="print one JSON object")


def run(arguments: argparse.Namespace) -> int:
    """Examine; the exit status says which step failed."""
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


def options_from(arguments: argparse.Namespace) -> DoctorOptions:
    """What the arguments ask for.  Raises UsageError, BadPin or TLSFileError."""
    if not 0 < arguments.timeout <= 3600:
        raise UsageError("--timeout has to lie between 0 and 3600 seconds")
    trust = replace(_trust(arguments), tls_profile=TLSProfile(arguments.tls_profile))
    return DoctorOptions(_subprotocols(arguments.subprotocol), trust, arguments.timeout)


def _subprotocols(named: list[str] | None) -> tuple[str, ...]:
    if named is None:
        return DoctorOptions().subprotocols
    names = [name.strip() for text in named for name in text.split(",")]
    if "none" in names:
        if len(names) > 1:
            raise UsageError("--subprotocol none goes with no other one")
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
        read_certificates(arguments.ca)  # a file that is no use is told before the ticket is spent
        return HostVerification(Verify.CA, ca=arguments.ca)
    return HostVerification()


def _warn(listed: bool) -> None:
    """On standard error, so that the JSON stays JSON."""
    print(
        "esxiproxy doctor: asking spends the ticket in this URL: fetch a fresh one for the console itself.",
        file=sys.stderr,
    )
    if listed:
        print(
            "esxiproxy doctor: everybody on this machine can read it in the process list: give - and the URL "
            "on standard input next time.",
            file=sys.stderr,
        )
