"""The table of all attempts."""

from __future__ import annotations

from tests.attacks.attempt import Attempt
from tests.attacks.of_inventory import ADDRESSES, INVENTORY
from tests.attacks.of_link_claims import CLAIMS
from tests.attacks.of_link_uses import LINK_USES
from tests.attacks.of_links import LINKS
from tests.attacks.of_listener import LISTENER
from tests.attacks.of_tokens import RESOLVER, TOKENS

TABLE: tuple[Attempt, ...] = (
    *LISTENER,
    *INVENTORY,
    *ADDRESSES,
    *TOKENS,
    *RESOLVER,
    *LINKS,
    *LINK_USES,
    *CLAIMS,
)
