"""Windows of lists: filter, order, stable ties, and pages."""

import time

import pytest

from esxiproxy.admin.window import MAX_WORDS, WindowRequest, window

TEXTS = frozenset({"name", "place"})


class Row:
    def __init__(self, key, name, place="", number=None):
        self.key, self.name, self.place, self.number = key, name, place, number

    @property
    def words(self):
        return f"{self.name}\n{self.place}".lower()

    def column(self, name):
        return getattr(self, name)


ROWS = [
    Row(1, "Alice", "2001:db8::1", 5),
    Row(2, "bob", "esxi1.example", None),
    Row(3, "carol", "ESXI2.example", 5),
    Row(4, "Bob", "esxi1.example", 1),
    Row(5, "dave", "", None),
    Row(6, "alice", "198.51.100.7:4711", 3),
]


def keys(filter="", sort="", order="asc", offset=0, limit=100):
    found = window(ROWS, TEXTS, WindowRequest(filter, sort, order == "desc", offset, limit))
    return [row.key for row in found.rows]


@pytest.mark.parametrize(
    ("filter", "expected"),
    [
        ("", [1, 2, 3, 4, 5, 6]),
        ("   ", [1, 2, 3, 4, 5, 6]),
        ("alice", [1, 6]),
        ("ALICE", [1, 6]),
        ("esxi1 bob", [2, 4]),
        ("bob esxi2", []),
        ("name:bob", [2, 4]),
        ("place:esxi", [2, 3, 4]),
        ("name:bob place:esxi1", [2, 4]),
        ("NAME:Bob", [2, 4]),
        ("name:", [1, 2, 3, 4, 5, 6]),
        ("2001:db8::1", [1]),
        ("place:2001:db8::1", [1]),
        ("198.51.100.7:4711", [6]),
        ("number:5", []),
        ("key:1", []),
        ("__class__:x", []),
        (".*", []),
        ("a|b", []),
        ("%_", []),
        ("al\nice", [1, 6]),
        ("name:alice'--", []),
        ("\ud800", []),
        ("x" * 200, []),
    ],
)
def test_a_filter_is_words_and_nothing_else(filter, expected):
    assert keys(filter) == expected


@pytest.mark.parametrize(
    ("sort", "order", "expected"),
    [
        ("number", "asc", [4, 6, 1, 3, 2, 5]),
        ("number", "desc", [1, 3, 6, 4, 2, 5]),
        ("name", "asc", [1, 6, 2, 4, 3, 5]),
        ("name", "desc", [5, 3, 2, 4, 1, 6]),
        ("place", "asc", [5, 6, 1, 2, 4, 3]),
    ],
)
def test_equal_rows_keep_their_order_and_rows_without_a_value_are_the_last(sort, order, expected):
    assert keys(sort=sort, order=order) == expected


@pytest.mark.parametrize(
    ("offset", "limit", "expected"),
    [(0, 2, [4, 6]), (2, 2, [1, 3]), (4, 10, [2, 5]), (6, 1, []), (10_000_000, 500, [])],
)
def test_pages_continue_each_other(offset, limit, expected):
    assert keys(sort="number", offset=offset, limit=limit) == expected


def test_the_numbers_of_rows_are_those_of_the_whole_list():
    found = window(ROWS, TEXTS, WindowRequest("alice", "name", limit=1))
    assert (found.total, found.matching, len(found.rows)) == (6, 2, 1)


def test_the_time_grows_with_the_rows_and_not_with_the_square():
    def seconds(count):
        rows = [Row(number, f"user{number % 7}", "x" * 20, number % 100) for number in range(count)]
        request = WindowRequest("user " * MAX_WORDS, "number", True, 0, 50)
        best = float("inf")
        for _ in range(3):
            began = time.thread_time()
            window(rows, TEXTS, request)
            best = min(best, time.thread_time() - began)
        return best

    assert seconds(40_000) < 40 * seconds(4_000)
