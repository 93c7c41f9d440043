"""URLs for VMware Remote Console (VMRC) whose ticket is a link of the proxy.

VMRC newer than 11 opens ``wss://HOST:PORT/ticket/TICKET`` for such a URL, and compares the SHA-1 of the
certificate.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import load_pem_x509_certificates

from esxiproxy.core.bounded_file import FileTooLarge, read_file
from esxiproxy.core.config.model import Listener
from esxiproxy.core.http.link_place import LinkPlace, PlaceKind
from esxiproxy.core.issued_ticket import PATH
from esxiproxy.core.thumbprint import thumbprint

_MAX_FILE = 16 << 20
_MAX_VMX = 1024


class VmrcUnusable(Exception):
    """VMRC cannot open the links of a router; the text gives the reason and what to do."""


@dataclass(frozen=True, slots=True)
class VmrcConsole:
    """The address of a listener for VMRC, ``HOST:PORT``, and the thumbprint of its certificate."""

    authority: str
    thumbprint: str

    def url(self, link: str, vmx: str | None) -> str:
        """Return the URL for a link; ``vmx`` is the path of the machine's file, which VMRC shows."""
        path = "" if vmx is None else f"&path={quote(vmx[:_MAX_VMX], safe='')}"
        sha1 = quote(self.thumbprint, safe=":")
        return f"vmrc://{self.authority}/?mksticket={quote(link, safe='')}&thumbprint={sha1}{path}"


def vmrc_console(listener: Listener, settings: Any) -> VmrcConsole:
    """Return the address of the links of a router with these settings.  Raises VmrcUnusable."""
    place: LinkPlace = settings["locate"]
    if not settings["opaque"] or place.kind is not PlaceKind.PATH or place.name != PATH:
        raise VmrcUnusable(
            "VMRC opens /ticket/LINK and needs a short link: write opaque = yes and "
            "locate = path:/ticket/{link} in the section of the router"
        )
    url = listener.public_url or ""
    authority = url.removeprefix("https://")
    if authority == url or "/" in authority:
        raise VmrcUnusable(f"VMRC needs public_url = https://HOST[:PORT] in [listener {listener.name}]")
    if not authority.rpartition(":")[2].isdigit():
        authority += ":443"
    if listener.public_certificate is None:
        raise VmrcUnusable(
            f"VMRC needs the thumbprint of the certificate: write public_certificate in "
            f"[listener {listener.name}], where another proxy in front ends TLS"
        )
    try:
        certificate = load_pem_x509_certificates(read_file(listener.public_certificate, _MAX_FILE))[0]
    except (OSError, ValueError, FileTooLarge):
        raise VmrcUnusable(f"{listener.public_certificate} has no certificate that can be read") from None
    return VmrcConsole(authority, thumbprint(certificate.public_bytes(Encoding.DER), "sha1"))
