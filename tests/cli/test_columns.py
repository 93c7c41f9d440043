"""Tables for a terminal: columns that are left out or cut in a narrow one, and those that stay."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from esxiproxy.cli.columns import Column, cut, display_width, fitted_table, wrapped

COLUMNS = (
    Column("id", lambda row: row["id"]),
    Column("user", lambda row: row["user"], least=6),
    Column("state", lambda row: row["state"], rank=1, usual="open"),
    Column("host", lambda row: row["host"], rank=2, least=6),
    Column("bytes", lambda row: row["bytes"], rank=3, is_number=True),
)
ROW = {"id": "0123456789", "user": "alice", "state": "open", "host": "esx1", "bytes": "512"}
LONG = {**ROW, "user": "maximiliane.von.hohenstein", "host": "esx1.example.com", "bytes": "1.5 MiB"}


def test_a_file_gets_all_columns_as_wide_as_they_are() -> None:
    assert fitted_table(COLUMNS, [ROW, LONG]) == [
        "id          user                        state  host                bytes",
        "0123456789  alice                       open   esx1                  512",
        "0123456789  maximiliane.von.hohenstein  open   esx1.example.com  1.5 MiB",
    ]


@pytest.mark.parametrize(
    ("width", "header", "row"),
    [
        (
            72,
            "id          user                        state  host                bytes",
            "0123456789  maximiliane.von.hohenstein  open   esx1.example.com  1.5 MiB",
        ),
        (
            54,
            "id          user          state  host            bytes",
            "0123456789  maximiliane…  open   esx1.exampl…  1.5 MiB",
        ),
        (38, "id          user     host        bytes", "0123456789  maximi…  esx1.ex…  1.5 MiB"),
        (30, "id          user      host", "0123456789  maximil…  esx1.ex…"),
        (20, "id          user", "0123456789  maximil…"),
        (5, "id          user", "0123456789  maxim…"),
    ],
)
def test_a_narrow_terminal_gets_fewer_columns_and_shorter_names(width: int, header: str, row: str) -> None:
    """A column with nothing unusual goes first, names are cut, and an id is always whole."""
    assert fitted_table(COLUMNS, [LONG], width) == [header, row]


def test_an_unusual_state_stays_longer_than_less_important_columns() -> None:
    lines = fitted_table(COLUMNS, [LONG, {**ROW, "state": "stalled"}], 32)
    assert lines[0].split() == ["id", "user", "state"]
    assert "stalled" in lines[2]


def test_control_characters_of_names_are_escaped() -> None:
    hostile = {**ROW, "user": "\x1b[2Jroot\nmore", "host": "\u202eevil\x9b1m\x07"}
    lines = fitted_table(COLUMNS, [hostile])
    assert len(lines) == 2
    assert r"\x1b[2Jroot\nmore" in lines[1] and r"\u202eevil\x9b1m\x07" in lines[1]
    assert all(line.isprintable() for line in lines)


@pytest.mark.parametrize(
    ("text", "width", "expected"),
    [
        ("alice", 5, "alice"),
        ("alice", 4, "ali…"),
        ("alice", 1, "…"),
        ("alice", 0, ""),
        ("三つの言葉", 10, "三つの言葉"),
        ("三つの言葉", 6, "三つ…"),
        ("e\u0301e\u0301e\u0301", 3, "e\u0301e\u0301e\u0301"),
        ("", 3, ""),
    ],
)
def test_a_text_is_cut_at_a_character(text: str, width: int, expected: str) -> None:
    assert cut(text, width) == expected
    assert display_width(expected) <= width


def test_a_sentence_is_wrapped_with_an_indent() -> None:
    assert wrapped("one two-three four", 2, 11) == ["one", "  two-three", "  four"]
    assert wrapped("see https://example.com/", 2, 10) == ["see", "  https://example.com/"]
    assert wrapped("one two three", 2, None) == ["one two three"]


@given(
    rows=st.lists(st.fixed_dictionaries({name: st.text(max_size=40) for name in ROW}), max_size=5),
    width=st.integers(1, 200),
)
def test_every_table_fits_or_has_no_column_left_to_leave_out(rows: list[dict[str, str]], width: int) -> None:
    lines = fitted_table(COLUMNS, rows, width)
    assert len(lines) == len(rows) + 1
    if any(display_width(line) > width for line in lines):
        assert lines[0].split() == ["id", "user"]
