"""Kinds of value: the words they have for a person."""

from __future__ import annotations

import re

import pytest

from ttybridge.model.ports import KEYS
from ttybridge.model.values import (
    Allowed,
    Choice,
    EscapedText,
    Integer,
    Kind,
    Listen,
    Misread,
    NotAllowed,
    Number,
    OffOr,
    Remote,
    Switch,
    Template,
    WrittenListener,
    all_printable,
    label,
    printable,
    shown,
)


@pytest.mark.parametrize(
    ("kind", "allowed"),
    [
        (Integer(1, 9), "a whole number from 1 to 9"),
        (Number(0.5, 1000), "a number from 0.5 to 1000"),
        (Choice(("a", "b", "c")), "a, b or c"),
        (Choice(("a",)), "a"),
        (Switch(), "on or off"),
        (OffOr(Integer(1, 9)), "off, or a whole number from 1 to 9"),
        (Template(("a", "b")), r"text, in which \{a\} or \{b\} may stand"),
    ],
)
def test_a_kind_says_what_it_takes(kind: Kind, allowed: str) -> None:
    with pytest.raises(NotAllowed, match=f"^write {allowed}$"):
        kind.parse(object())


@pytest.mark.parametrize(
    ("written", "number"), [(1, 1.0), (2.5, 2.5), (10, 10.0), ("2.5", 2.5), ("4", 4.0)]
)
def test_a_number_is_written_as_one_or_as_its_digits(written: object, number: float) -> None:
    assert Number(1, 10).parse(written) == number


@pytest.mark.parametrize(
    "written",
    [0.9, 10.1, 10**400, float("nan"), float("inf"), True, None, "", "1e1", "-2", ".5", "2,5", [2]],
)
def test_what_is_no_number_in_its_bounds(written: object) -> None:
    with pytest.raises(NotAllowed):
        Number(1, 10).parse(written)


@pytest.mark.parametrize("name", KEYS)
def test_every_key_says_what_it_takes_on_one_line(name: str) -> None:
    assert KEYS[name].allowed.isprintable()


@pytest.mark.parametrize(
    ("listen", "written"),
    [
        (Listen("", 9999), "9999"),
        (Listen("127.0.0.1", 9999), "127.0.0.1:9999"),
        (Listen("::1", 9999), "[::1]:9999"),
    ],
)
def test_a_listener_is_shown_as_people_write_it(listen: Listen, written: str) -> None:
    assert str(listen) == written
    assert KEYS["listen"].parse(written) == (WrittenListener(listen),)


@pytest.mark.parametrize(
    ("text", "sound"),
    [
        *((r"\r", False), (r"\r\n", False), (r"AT\r", False), (r"\nlogin", False)),
        *((r"a\rb", False), (r"\x1b[A", False), (r"\u001b", False), (r"\t", False)),
        *((r"\\r", False), (r"C:\new\r", False), (r"\e[0m", False), (r"\0", False)),
        *((r"C:\new", True), (r"C:\>", True), ("\r\n", True), ("\\", True), (r"\_/", True)),
        *((r"\w+", True), (r"\test", True), (r"\x4", True)),
    ],
)
def test_an_escape_is_meant_to_be_one(text: str, sound: bool) -> None:
    """In single quotes YAML reads a backslash and a letter."""
    kind = EscapedText("text")
    if sound:
        assert kind.parse(text) == text
    else:
        with pytest.raises(Misread, match="in double quotes$"):
            kind.parse(text)
    assert bool(re.search(kind.schema["pattern"], text)) == sound


@pytest.mark.parametrize("written", ["pc.example.org:1", "192.0.2.7:65535", "[::1]:9999"])
def test_a_remote_is_shown_as_people_write_it(written: str) -> None:
    remote = KEYS["connect"].parse(written)
    assert isinstance(remote, Remote)
    assert str(remote) == written


class Tagged(str):
    """What Ansible makes of a string: a subclass whose repr says more."""

    def __repr__(self) -> str:
        return f"Tagged({str(self)!r})\n"


def test_a_tagged_string_is_shown_as_it_was_written() -> None:
    assert shown({Tagged("a"): [Tagged("b")]}) == "{'a': ['b']}"
    assert type(KEYS["name"].parse(Tagged("sw"))) is str
    assert type(KEYS["protocol"].parse(Tagged("raw"))) is str


class TwoLines:
    def __repr__(self) -> str:
        return "one\ntwo"


def test_whatever_is_shown_stays_on_one_line() -> None:
    assert shown(TwoLines()) == r"'one\ntwo'"
    assert shown("\u2028\x85\n") == r"'\u2028\x85\n'"
    assert len(shown("x" * 1000)) == 80


def test_a_name_is_shown_as_it_is_where_that_can_be_read() -> None:
    assert label("core-switch") == "core-switch"
    assert label("") == "''"
    assert label("a\nb") == r"'a\nb'"
    assert label(None) == "empty"


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ("two lines\n\tand a tab, é, \U0001f600", "two lines\n\tand a tab, é, \U0001f600"),
        ("\x1b[31mred", r"\x1b[31mred"),
        ("\x00\a\b\r\x7f", r"\x00\x07\x08\r\x7f"),
        ("\x9b1m\x85", r"\x9b1m\x85"),
        ("\u202eback\u2066\u200f", r"\u202eback\u2066\u200f"),
        ("\u2028\U000e0001\udc80", r"\u2028\U000e0001\udc80"),
    ],
)
def test_a_terminal_gets_text_and_no_commands(text: str, seen: str) -> None:
    assert printable(text) == seen
    assert all_printable({text: [text, (text, 1, None)]}) == {seen: [seen, (seen, 1, None)]}
    assert all_printable(Remote(text, 1)) == Remote(seen, 1)


@pytest.mark.parametrize(
    ("allow", "let_in"),
    [
        ((), ["192.0.2.1", "198.51.100.1", "fe80::1%eth0"]),
        (("any",), ["192.0.2.1", "198.51.100.1", "fe80::1%eth0"]),
        (("local",), ["192.0.2.1"]),
        (("198.51.100.0/24",), ["198.51.100.1"]),
        (("local", "fe80::/64"), ["192.0.2.1", "fe80::1%eth0"]),
        (("2001:db8::/32",), []),
    ],
)
def test_allow_says_who_is_let_in(allow: tuple[str, ...], let_in: list[str]) -> None:
    asked = ["192.0.2.1", "198.51.100.1", "fe80::1%eth0"]
    allowed = Allowed.of(allow)
    assert [one for one in asked if allowed.lets_in(one, lambda address: address == asked[0])] == (
        let_in
    )
