"""An INI file as sections and keys with their line numbers."""

from hypothesis import given
from hypothesis import strategies as st

from esxiproxy.core.config.ini import IniEntry, parse


def problems(raw):
    return [str(problem) for problem in parse(raw, "x.ini")[1]]


def test_sections_keys_and_their_lines_are_read():
    (proxy, listener), found = parse(
        b"; first\n[proxy]\na=1\n\n[ listener  x ] # why\n  ; more\nb = 2 = 3 ; c\n", "x"
    )
    assert (proxy.header, proxy.kind, proxy.name, proxy.line) == ("proxy", "proxy", "", 2)
    assert (listener.header, listener.kind, listener.name, listener.line) == (
        "listener x",
        "listener",
        "x",
        5,
    )
    assert proxy.entries == {"a": IniEntry(3, "1")} and listener.entries == {"b": IniEntry(7, "2 = 3")}
    assert (listener.line_of("b"), listener.line_of("c"), listener.line_of(None)) == (7, 5, 5)
    assert found == ()


def test_only_a_mark_after_a_space_begins_a_comment():
    (section,), _ = parse(b"[a]\nk = x#1;2 ;3\nl = v\t#4\nm = ;5\n", "x")
    assert [entry.text for entry in section.entries.values()] == ["x#1;2", "v", ""]


def test_nothing_is_interpolated_and_keys_keep_their_case():
    (section,), _ = parse(b"[a]\nKey = %(home)s\nkey: = 1\n", "x")
    assert section.entries == {"Key": IniEntry(2, "%(home)s"), "key:": IniEntry(3, "1")}


def test_a_bom_and_any_line_ending_are_accepted():
    for end in (b"\n", b"\r\n", b"\r"):
        (section,), found = parse(b"\xef\xbb\xbf[a]" + end + b"k = v" + end, "x")
        assert section.entries == {"k": IniEntry(2, "v")} and found == ()


def test_other_separators_of_unicode_end_no_line():
    assert problems("[a]\nk = 1\u2028l = 2\n".encode()) == [
        "x.ini:2: [a] k: invisible character: line separator, U+2028 in column 6"
    ]


def test_comments_may_have_any_character():
    assert problems("; Grüße\u00a0\u2028\n[a] ; \u200b\n".encode()) == []


def test_a_key_that_is_faulty_is_remembered():
    (section,), _ = parse(b"[a]\nlisten 0.0.0.0\n", "x")
    assert section.faulty == {"listen"}


def test_a_section_that_is_given_twice_is_still_there_twice():
    sections, _ = parse(b"[a]\nk = 1\n[a]\nk = 2\n", "x")
    assert [section.entries["k"].text for section in sections] == ["1", "2"]


@given(st.binary() | st.text("[]a=;# \t\n\r\"'%:\x00\x85\u00a0é").map(str.encode))
def test_parse_raises_nothing(raw):
    """Each line that a problem names is a line of the file."""
    sections, found = parse(raw, "x")
    last = raw.replace(b"\r\n", b"\n").replace(b"\r", b"\n").count(b"\n") + 1
    assert all(1 <= item.line <= last for item in (*sections, *found))
    assert not any("\n" in entry.text for section in sections for entry in section.entries.values())
