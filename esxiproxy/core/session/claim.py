"""Claims of a session: a slot under a limit, a start under a rate, or the mark of a link that works once."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import Enum
from math import isfinite
from typing import ClassVar

from esxiproxy.core.errors import LimitReached, LinkUsed

MARK_LEEWAY = 60.0
"""Seconds for which a used mark is stored after the expiry of its link, since clocks differ."""


class Outcome(Enum):
    """The way in which a session ended, for the marks that it had taken."""

    DONE = "done"
    """The console was used and disconnected."""
    UNUSED = "unused"
    """Nothing was sent upstream, so the mark is as it was before."""
    SPENT = "spent"
    """The mark may never be taken again."""


@dataclass(frozen=True, slots=True)
class SlotClaim:
    """A claim for one of ``limit_value`` slots that all claims of this ``name`` share.

    ``limit`` is the configuration key of the limit, for responses, log and metrics.  ``name`` may contain a
    principal or an upstream host and is never shown to clients.
    """

    limit: str
    name: str
    limit_value: int

    @property
    def refusal(self) -> LimitReached:
        """The error for a client when every slot is in use."""
        return LimitReached(f"{self.limit}: all {self.limit_value} are in use")


@dataclass(frozen=True, slots=True)
class RateClaim:
    """A claim for one start from a token bucket of ``burst`` tokens.

    The bucket gets ``per_second`` new tokens a second.
    """

    limit: str
    name: str
    per_second: float
    burst: int

    @property
    def refusal(self) -> LimitReached:
        """The error for a client when the bucket is empty."""
        return LimitReached(f"{self.limit}: more than {self.per_second:g} a second")

    def spend(self, full_at: float, now: float) -> float | None:
        """Return the time at which the bucket is full again after this start, or None if it is empty.

        The bucket is stored as this time alone (GCRA, the leaky bucket as a meter).  A time in the past, such
        as 0, is a full bucket.
        """
        most = self.burst / self.per_second + 1e-6  # tolerance for rounding
        if full_at - now > most:  # the clock was set back, or the rate was changed
            full_at = now
        after = max(full_at, now) + 1 / self.per_second
        return after if after - now <= most else None


@dataclass(frozen=True, slots=True)
class OnceClaim:
    """A claim for the mark of a link that works once.

    ``expires`` is the time of day at which the link expires.  After a disconnect, the mark may be taken again
    for ``reuse`` seconds, up to ``most`` times in all.  ``name`` identifies the link among all links.
    ``in_use`` is set in a claim that is refused because another session has the mark.
    """

    limit: ClassVar[str] = "once"
    name: str
    expires: float
    reuse: float = 0.0
    most: int = 1
    in_use: bool = field(default=False, compare=False)

    def __post_init__(self) -> None:
        if not isfinite(self.expires):
            raise ValueError("expires is no finite time of day")
        if not isfinite(self.reuse) or self.reuse < 0:
            raise ValueError("reuse is no finite number of seconds from 0")
        if self.most < 1:
            raise ValueError("most is less than 1")

    @property
    def refusal(self) -> LinkUsed:
        """The error for a client when the mark cannot be taken."""
        return LinkUsed("the link is in use" if self.in_use else "the link was used")

    @property
    def stored_until(self) -> float:
        """The time of day until which the mark is stored."""
        return self.expires + MARK_LEEWAY


@dataclass(frozen=True, slots=True)
class Mark:
    """The stored state of an :class:`OnceClaim`.  All times are times of day.

    ``count`` is how often the mark was taken.  ``slot`` and ``holder`` have it now, or are empty.  A mark
    without a holder may be taken again before ``until``.
    """

    expires: float
    reuse: float
    count: int
    until: float
    slot: str
    holder: str

    def given(self, outcome: Outcome, now: float) -> Mark | None:
        """Return the mark after its slot was released, or None for one that was never used."""
        if outcome is Outcome.UNUSED:
            left = self.count - 1
            return replace(self, count=left, slot="", holder="") if left else None
        until = now + self.reuse if outcome is Outcome.DONE and self.reuse else 0.0
        return replace(self, until=until, slot="", holder="")


def refused_mark(mark: Mark | None, claim: OnceClaim) -> OnceClaim:
    """Return the claim as it is refused, after ``take_mark`` has returned None."""
    return replace(claim, in_use=mark is not None and bool(mark.holder))


def take_mark(mark: Mark | None, claim: OnceClaim, slot: str, holder: str, now: float) -> Mark | None:
    """Return the mark as this slot takes it, or None if it cannot be taken.

    ``mark`` is the stored mark of the claim, None for a link that was not used before.
    """
    if now >= claim.stored_until:
        return None  # the stored mark may be deleted already
    if mark is None:
        return Mark(claim.stored_until, claim.reuse, 1, 0.0, slot, holder)
    if mark.holder:
        return mark if (mark.slot, mark.holder) == (slot, holder) else None
    if now >= mark.until or mark.count >= claim.most:
        return None
    stored = max(mark.expires, claim.stored_until)
    return Mark(stored, claim.reuse, mark.count + 1, mark.until, slot, holder)


Claim = SlotClaim | RateClaim | OnceClaim
