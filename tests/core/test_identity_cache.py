"""The cache by the identity of objects: equal results, bounded, and no id counts twice."""

from esxiproxy.core.identity_cache import IdentityCache


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
