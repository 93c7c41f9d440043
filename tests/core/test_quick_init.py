"""Frozen dataclasses that are made quickly are as those that are not."""

import copy
import inspect
import pickle
from dataclasses import FrozenInstanceError, dataclass, field, replace

import pytest

from esxiproxy.core.http.head import NO_HEAD
from esxiproxy.core.http.request import Request
from esxiproxy.core.peer_address import PeerAddress
from esxiproxy.core.quick_init import quick_init
from tests.support.requests import request


def value(decorator):
    @decorator
    @dataclass(frozen=True, slots=True)
    class Value:
        first: int
        second: str = "two"
        third: list = field(default_factory=list)
        total: int = field(init=False, repr=False, compare=False)

        def __post_init__(self):
            object.__setattr__(self, "total", self.first + len(self.third))

    return Value


Quick, Plain = value(quick_init), value(lambda cls: cls)


@pytest.mark.parametrize(
    ("args", "kwargs"),
    [((1,), {}), ((1, "b", [2]), {}), ((), {"third": [3], "first": 4}), ((5,), {"second": "c"})],
)
def test_an_object_has_the_fields_and_the_text_of_one_that_dataclass_makes(args, kwargs):
    quick, plain = Quick(*args, **kwargs), Plain(*args, **kwargs)
    assert type(quick) is Quick and repr(quick) == repr(plain)
    for name in ("first", "second", "third", "total"):
        assert getattr(quick, name) == getattr(plain, name)
    assert quick == Quick(*args, **kwargs) and quick != Quick(9)
    assert replace(quick, first=7).total == replace(plain, first=7).total
    assert copy.copy(quick) == copy.deepcopy(quick) == quick


@pytest.mark.parametrize("args", [(), (1, "b", [], 4)])
def test_wrong_arguments_are_refused(args):
    for each in (Quick, Plain):
        with pytest.raises(TypeError):
            each(*args)


def test_an_object_is_frozen_and_has_no_further_attributes():
    quick = Quick(1)
    with pytest.raises(FrozenInstanceError):
        quick.first = 2
    with pytest.raises(FrozenInstanceError):
        del quick.first
    assert not hasattr(quick, "__dict__")
    assert Quick(1).third is not Quick(1).third


def test_a_subclass_is_made_as_well():
    class Noting(Quick):
        note = "n"

    noting = Noting(1, third=[2])
    assert type(noting) is Noting and (noting.first, noting.total, noting.note) == (1, 2, "n")


def test_a_class_with_other_fields_is_refused():
    with pytest.raises(TypeError):

        @quick_init
        @dataclass(frozen=True, slots=True, kw_only=True)
        class Named:
            first: int


def test_requests_are_made_quickly_and_can_be_sent_to_another_process():
    made = request()
    assert type(made) is Request and pickle.loads(pickle.dumps(made)) == made
    assert hash(PeerAddress("::ffff:192.0.2.7", 1)) == hash(PeerAddress("192.0.2.7", 1))
    assert replace(made, head=NO_HEAD).head is NO_HEAD
    assert list(inspect.signature(Request).parameters)[:2] == ["session", "listener"]
