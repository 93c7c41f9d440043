"""Links at a fixed time, verified or read."""

from esxiproxy.core.link import (
    claims_in,
    read_claims,
)
from tests.support.links import (
    AUDIENCE,
    ISSUER,
    claims,
)

NOW = 1_800_000_000.5
GOOD = claims(NOW)


def verified(text, keys, now=NOW):
    return read_claims(claims_in(text, keys, ISSUER, AUDIENCE), ISSUER, AUDIENCE, now)


def read(now=NOW, **changed):
    return read_claims(claims(NOW, **changed), ISSUER, AUDIENCE, now)
