"""The list of `ttybridge console` without a port, without a terminal."""

from __future__ import annotations

import pytest

from ttybridge.chooser import Chooser, Item

PORTS = [Item("router", "Core"), Item("switch", "Floor 2"), Item("ups"), Item("x2")]


@pytest.mark.parametrize(
    ("keys", "chosen"),
    [
        ([], "router"),
        ([b"\x1b[B"], "switch"),
        ([b"\x1bOB", b"\x0e", b"\x10"], "switch"),
        ([b"\x1b[A"], "x2"),
        ([b"\x1b[B"] * 4, "router"),
        ([b"2"], "switch"),
        ([b"2", b"\x7f"], "router"),
        ([b"F", b"LO"], "switch"),
        ([b"u", b"\x1b[B"], "ups"),
        ([b"u", b"\x1b[B", b"\b"], "router"),
        ([b"nix"], None),
        ([b"nix", b"\x1b[B"], None),
        ([b"\x1b[5~", b"\x01"], "router"),
        (["ü".encode()], None),
    ],
)
def test_keys_narrow_the_list_down_and_move_the_mark(keys: list[bytes], chosen: str | None) -> None:
    chooser = Chooser(PORTS)
    for key in keys:
        chooser.press(key)
    assert chooser.chosen == chosen


def test_the_list_fits_the_screen_and_shows_the_mark() -> None:
    chooser = Chooser([Item(f"port{number}", "\x1b[2J") for number in range(1, 41)])
    for _ in range(29):
        chooser.press(b"\x1b[B")
    lines = chooser.lines(30, 10)
    assert len(lines) == 10
    assert [line for line in lines if line.startswith(">")] == [r"> 30  port30  \x1b[2J"]
    assert all(len(line) < 30 for line in lines)


def test_a_list_without_a_match_says_so() -> None:
    chooser = Chooser(PORTS)
    chooser.press(b"nix")
    assert chooser.lines(80, 24)[0] == "  no port has that in its name"
