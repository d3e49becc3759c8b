"""A list to choose from: arrow keys, the number, or letters of the name."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass

from ttybridge import terminal
from ttybridge.model.values import printable

_UP, _DOWN = (b"\x1b[A", b"\x1bOA", b"\x10"), (b"\x1b[B", b"\x1bOB", b"\x0e")
_ENTER, _ERASE = (b"\r", b"\n"), (b"\x7f", b"\b")
_GIVE_UP = (b"\x1b", b"\x03", b"\x04")  # Esc, Ctrl-C, Ctrl-D


@dataclass(frozen=True)
class Item:
    """A name to choose, and words about it."""

    name: str
    words: str = ""


class Chooser:
    """What is typed narrows the list down; the arrow keys move the mark in it."""

    def __init__(self, items: Sequence[Item]) -> None:
        self._items = [*enumerate(items, start=1)]
        self._typed = ""
        self._mark = 0

    @property
    def found(self) -> list[tuple[int, Item]]:
        """The items that what was typed leaves, with their numbers."""
        wanted = self._typed.casefold()
        exact = [each for each in self._items if str(each[0]) == wanted]
        return exact or [
            (number, item)
            for number, item in self._items
            if wanted in f"{item.name} {item.words}".casefold()
        ]

    @property
    def chosen(self) -> str | None:
        """The name that has the mark, None where the list is empty."""
        found = self.found
        return found[self._mark][1].name if found else None

    def press(self, key: bytes) -> None:
        """Move the mark, or narrow the list down."""
        if key in _UP or key in _DOWN:
            step = 1 if key in _DOWN else -1
            self._mark = (self._mark + step) % max(1, len(self.found))
            return
        if key in _ERASE:
            self._typed = self._typed[:-1]
        elif (text := key.decode(errors="replace")).isprintable():
            self._typed += text
        self._mark = 0

    def lines(self, width: int, height: int) -> list[str]:
        """The list as text, at most so many lines."""
        found, room = self.found, max(1, height - 1)
        first = max(0, min(self._mark - room // 2, len(found) - room))
        longest = max((len(item.name) for _, item in found), default=0)
        rows = [f"  {number:>2}  {item.name:<{longest}}  {item.words}" for number, item in found]
        if rows:
            rows[self._mark] = f">{rows[self._mark][1:]}"
        shown = rows[first : first + room] or ["  no port has that in its name"]
        prompt = f"Which port? (arrows, number or name; Esc to leave) {self._typed}"
        return [printable(line)[: width - 1].rstrip(" ") for line in (*shown, prompt)]


def choose(items: Sequence[Item], keyboard: int, screen: int) -> str | None:
    """Let a person choose; return the name, None if none is wanted. The terminal is raw."""
    chooser, drawn = Chooser(items), 0
    while True:
        size = shutil.get_terminal_size()
        lines = chooser.lines(size.columns, size.lines - 1)
        terminal.write(screen, (_over(drawn) + "\r\n".join(lines)).encode())
        drawn = len(lines)
        key = os.read(keyboard, 64)
        if key in (b"", *_GIVE_UP) or (key in _ENTER and chooser.chosen):
            terminal.write(screen, _over(drawn).encode())
            return chooser.chosen if key in _ENTER else None
        if key.endswith(_ENTER) and not key.startswith(b"\x1b"):  # typed ahead, or by a program
            chooser.press(key.rstrip(b"\r\n"))
            terminal.write(screen, _over(drawn).encode())
            return chooser.chosen
        chooser.press(key)


def _over(lines: int) -> str:
    """Go to where so many lines began, and erase them."""
    return f"\r\x1b[{lines - 1}A\x1b[J" if lines > 1 else "\r\x1b[J"
