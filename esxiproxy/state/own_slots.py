"""The slots of one process, and the limits that it applies without asking Redis."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Sequence, Set

from esxiproxy.core.session.claim import Claim, RateClaim, SlotClaim

_FIRST_SWEEP = 1024
"""Number of token buckets at which full ones are deleted for the first time."""


class OwnSlots:
    """The slots of this process with the names of their claims, and its own token buckets."""

    def __init__(self) -> None:
        self._names: dict[str, set[str]] = {}
        self._counts: Counter[str] = Counter()
        self._full_at: dict[str, float] = {}
        self._sweep_at = _FIRST_SWEEP

    def __len__(self) -> int:
        return len(self._names)

    def items(self) -> Iterable[tuple[str, Set[str]]]:
        """Return the slots, each with the names of its claims."""
        return self._names.items()

    def names(self, slot: str) -> Set[str]:
        """Return the names of a slot, none for an unknown one."""
        return self._names.get(slot, frozenset())

    def add(self, slot: str, names: Iterable[str]) -> None:
        """Add names to a slot that it does not have."""
        new = set(names) - self.names(slot)
        if new:
            self._names.setdefault(slot, set()).update(new)
            self._counts.update(new)

    def remove(self, slot: str, names: Collection[str]) -> None:
        """Remove names from a slot, and the slot with its last name."""
        gone = self.names(slot) & set(names)
        for name in gone:
            self._counts[name] -= 1
            if not self._counts[name]:
                del self._counts[name]
        if gone:
            self._names[slot] -= gone
            if not self._names[slot]:
                del self._names[slot]

    def pop(self, slot: str) -> Set[str]:
        """Remove a slot, and return its names."""
        names = set(self.names(slot))
        self.remove(slot, names)
        return names

    def clear(self) -> None:
        """Remove all slots and buckets."""
        self._names.clear()
        self._counts.clear()
        self.fill_buckets()

    # The limits of this process alone

    def refused_rate(self, claims: Sequence[Claim], now: float) -> RateClaim | None:
        """Return the first rate that this process would refuse if it were the only one."""
        for claim in claims:
            if isinstance(claim, RateClaim) and claim.spend(self._full_at.get(claim.name, 0.0), now) is None:
                return claim
        return None

    def first_refused(self, slot: str, claims: Sequence[Claim], now: float) -> Claim | None:
        """Return the first slot or rate that this process would refuse if it were the only one."""
        has = self.names(slot)
        for claim in claims:
            if isinstance(claim, SlotClaim):
                if claim.name not in has and self._counts[claim.name] >= claim.limit_value:
                    return claim
            elif self.refused_rate([claim], now) is not None:
                return claim
        return None

    def spend(self, claims: Sequence[Claim], now: float) -> None:
        """Take one token from the bucket of each rate, after ``first_refused`` has refused none."""
        for claim in claims:
            if isinstance(claim, RateClaim):
                full_at = claim.spend(self._full_at.get(claim.name, 0.0), now)
                if full_at is not None:
                    self._full_at[claim.name] = full_at
        self._sweep(now)

    def empty_bucket(self, claim: RateClaim, now: float) -> None:
        """Take all tokens from the bucket of a rate, since Redis has refused it."""
        self._full_at[claim.name] = now + claim.burst / claim.per_second
        self._sweep(now)

    def _sweep(self, now: float) -> None:
        if len(self._full_at) >= self._sweep_at:
            self._full_at = {name: full_at for name, full_at in self._full_at.items() if full_at > now}
            self._sweep_at = max(_FIRST_SWEEP, 2 * len(self._full_at))

    def fill_buckets(self) -> None:
        """Forget what was spent, since Redis counts it."""
        self._full_at.clear()
        self._sweep_at = _FIRST_SWEEP
