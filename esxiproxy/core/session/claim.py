"""What a session asks for under a limit: a slot that comes back, or one more start that does not."""

from __future__ import annotations

from dataclasses import dataclass

from esxiproxy.core.errors import LimitReached


@dataclass(frozen=True, slots=True)
class SlotClaim:
    """One of at most ``most`` slots under ``name``, which all who claim under that name share.

    ``limit`` is the key of the configuration that sets it: the name that an answer, the log and the metrics
    use.  ``name`` may hold a principal or a host of ours, and stays inside.
    """

    limit: str
    name: str
    limit_value: int

    @property
    def refusal(self) -> LimitReached:
        """What the client is told when there is none left."""
        return LimitReached(f"{self.limit}: all {self.limit_value} are in use")


@dataclass(frozen=True, slots=True)
class RateClaim:
    """One more start out of a bucket that holds ``burst`` and gets ``per_second`` new ones."""

    limit: str
    name: str
    per_second: float
    burst: int

    @property
    def refusal(self) -> LimitReached:
        """What the client is told when there were too many."""
        return LimitReached(f"{self.limit}: more than {self.per_second:g} a second")

    def spend(self, full_at: float, now: float) -> float | None:
        """When the bucket will be full again, after this start; None when it is empty.

        The bucket is kept as that one number (GCRA, the leaky bucket as a meter): one in the past, such as 0,
        is a full bucket.
        """
        most = self.burst / self.per_second + 1e-6  # for the rounding of sums with a clock's large number
        if full_at - now > most:  # the clock was set back, or the rate was changed
            full_at = now
        after = max(full_at, now) + 1 / self.per_second
        return after if after - now <= most else None


Claim = SlotClaim | RateClaim
