"""The cache by the identity of objects: equal results, bounded, and no id counts twice."""

from types import MappingProxyType

from esxiproxy.core.identity_cache import IdentityCache
from esxiproxy.core.session_limits import SessionLimits, limits_of_upstream


def test_a_result_is_computed_once_for_an_object():
    asked = []
    cache = IdentityCache(lambda text: asked.append(text))
    first, second = ["a"], ["a"]
    for _ in range(3):
        assert cache(first) is None and cache(second) is None
    assert asked == [["a"], ["a"]]


def test_it_is_bounded_and_never_mistakes_a_new_object_for_one_that_is_gone():
    cache = IdentityCache(lambda many: many[0], most=8)
    for number in range(1000):
        assert cache([number]) == number
        assert len(cache) <= 8


def test_the_limits_of_an_upstream_depend_on_its_listener():
    slow, quick = SessionLimits(close_timeout=9.0), SessionLimits(close_timeout=1.0)
    overrides = MappingProxyType({"connect_timeout": 2.0})
    for _ in range(2):
        for limits in (slow, quick):
            assert limits_of_upstream(limits, overrides) == limits.overridden_by(overrides)
            assert limits_of_upstream(limits, MappingProxyType({})) is limits
    assert limits_of_upstream(slow, overrides) is limits_of_upstream(slow, overrides)
