"""The lines of a Raspberry Pi's config.txt, and the GPIOs that they use."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from ttybridge.setup.pins import buses_of, is_listed, knows, likely_pins, pins_of


@dataclass(frozen=True)
class Line:
    """A line of config.txt that the user wrote: its number, from 1, its key and its value."""

    number: int
    key: str
    value: str

    @property
    def words(self) -> dict[str, str]:
        """The words of the value, such as an overlay and its parameters, each with its setting."""
        parts = [part.partition("=") for part in re.split("[,:]", self.value)]
        return {name.strip(): value.strip() for name, _, value in parts}

    def __str__(self) -> str:
        return f"config.txt line {self.number} ({self.key}={self.value})"


@dataclass(frozen=True)
class Use:
    """The GPIOs that lines use together: an overlay and the dtparam lines after it, or one line.

    `what` is the overlay, the parameter of dtparam, or the function that gpio= gives. `is_likely`
    says that only the name of a parameter tells the pins.
    """

    lines: tuple[Line, ...]
    what: str
    pins: frozenset[int]
    is_likely: bool = False

    def __str__(self) -> str:
        return " with ".join(map(str, self.lines))


def last(lines: Sequence[Line], key: str, word: str = "") -> Line | None:
    """Return the last line with a key (and a word in its value), which is the one that counts."""
    found = [line for line in lines if line.key == key and (not word or word in line.words)]
    return found[-1] if found else None


def loaded(lines: Sequence[Line], overlay: str) -> Line | None:
    """Return the last line that loads an overlay, by any of its names."""
    found = [line for line in lines if line.key == "dtoverlay" and _name(line) in names_of(overlay)]
    return found[-1] if found else None


def names_of(overlay: str) -> tuple[str, ...]:
    """Return the names by which an overlay can be loaded."""
    return (overlay, f"pi3-{overlay}", overlay.removesuffix("-pi5"))


def uses(lines: Sequence[Line], *, rp1: bool) -> Iterator[Use]:
    """Yield what lines use of the GPIOs; `rp1` says that the model is a Raspberry Pi 5."""
    groups = list(_groups(lines, rp1))
    moved = {
        bus for first, *_ in groups if first.key == "dtoverlay" for bus in buses_of(_name(first))
    }
    for group in groups:
        first = group[0]
        if first.key == "gpio":
            yield from _uses_of_gpio(first)
        elif first.key == "dtparam":
            for word, value in first.words.items():
                pins = pins_of("dtparam", {word: value}, rp1=rp1, moved=moved)
                yield Use(group, word, pins)
        elif first.key == "dtoverlay":
            yield from _uses_of_overlay(group, rp1, moved)
        else:
            yield Use(group, first.key, frozenset(range(28) if first.value != "0" else ()))


def _groups(lines: Sequence[Line], rp1: bool) -> Iterator[tuple[Line, ...]]:
    """The lines that concern pins; an overlay comes with the dtparam lines that are about it.

    A dtparam line is about the last overlay, if that has the parameter, else about the base.
    """
    group: tuple[Line, ...] = ()
    for line in lines:
        if line.key == "dtparam" and group and _is_about(line, _name(group[0]), rp1):
            group += (line,)
        elif line.key == "dtoverlay":
            if group:
                yield group
            group = (line,) if line.value else ()
        elif line.key in ("dtparam", "gpio", "enable_dpi_lcd"):
            yield (line,)
    if group:
        yield group


def _is_about(line: Line, overlay: str, rp1: bool) -> bool:
    if is_listed(overlay, rp1=rp1):
        return any(knows(overlay, word, rp1=rp1) for word in line.words)
    if any(knows("dtparam", word, rp1=rp1) for word in line.words):
        return False
    return bool(likely_pins(overlay, line.words, rp1=rp1))


def _name(line: Line) -> str:
    """The overlay that a line loads."""
    return next(iter(line.words))


def _uses_of_overlay(group: tuple[Line, ...], rp1: bool, moved: Collection[str]) -> Iterator[Use]:
    name = _name(group[0])
    words = {word: value for line in group for word, value in line.words.items()}
    del words[name]
    others = {*moved} - buses_of(name)
    yield Use(group, name, pins_of(name, words, rp1=rp1, moved=others))
    likely = likely_pins(name, words, rp1=rp1)
    if likely:
        yield Use(group, name, likely, is_likely=True)


def _uses_of_gpio(line: Line) -> Iterator[Use]:
    """What gpio=4,8-11=op,dh uses; a pull or a level alone uses no pin."""
    pins, _, settings = line.value.partition("=")
    numbers: set[int] = set()
    for first, end in re.findall(r"(\d+)(?:-(\d+))?", pins):
        numbers.update(range(int(first), int(end or first) + 1))
    for function in re.findall(r"\b(?:ip|op|a[0-8])\b", settings):
        yield Use((line,), function, frozenset(numbers))
