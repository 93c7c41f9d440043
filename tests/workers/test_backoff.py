"""The delays between restarts of a process."""

from esxiproxy.workers.master.backoff import LONGEST_DELAY, STABLE_AFTER, Backoff


def test_the_delay_doubles_up_to_half_a_minute():
    backoff = Backoff()
    delays = [backoff.next_delay(0.5) for _ in range(12)]
    assert delays[:4] == [0.1, 0.2, 0.4, 0.8]
    assert delays[-2:] == [LONGEST_DELAY, LONGEST_DELAY]


def test_the_first_restart_may_be_at_once():
    backoff = Backoff(0.0)
    assert [backoff.next_delay(0.5) for _ in range(4)] == [0.0, 0.1, 0.2, 0.4]


def test_after_a_stable_run_the_delays_begin_again():
    backoff = Backoff()
    for _ in range(5):
        backoff.next_delay(1.0)
    assert backoff.next_delay(STABLE_AFTER) == 0.0
    assert backoff.next_delay(1.0) == 0.1
