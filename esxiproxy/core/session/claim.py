"""Claims of a session under a limit: a slot, which is returned at the end, or a start, which is not."""

from __future__ import annotations

from dataclasses import dataclass

from esxiproxy.core.errors import LimitReached


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


Claim = SlotClaim | RateClaim
