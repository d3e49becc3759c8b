"""Regular expressions that take time in proportion to the text, for `watch`.

Python's `re` tries one way after the other: for `(a+)+b` and a line of 40 letters that takes hours,
and nothing could stop it. Here all ways are followed at once (K. Thompson, 1968: a set of places in
the expression), and what a character makes of such a set is remembered.

The syntax is that of `re`, without what needs to look back or ahead: \\b, lookaround, references,
possessive quantifiers. \\d, \\w and \\s are those of ASCII, and so is (?i).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

# Places that an expression may have; each character of it is about one, repeated as {m,n} says.
MOST_PLACES = 250

# What is remembered, in pairs of a set and a character; then all is forgotten.
MOST_REMEMBERED = 10_000

_CLASSES = {"d": "0-9", "w": "a-zA-Z0-9_", "s": " \t\n\r\f\v"}
_CONTROLS = {"t": "\t", "n": "\n", "r": "\r", "f": "\f", "v": "\v", "a": "\a"}
_REPEATS = {"*": (0, None), "+": (1, None), "?": (0, 1)}

Range = tuple[str, str]


@dataclass(frozen=True)
class _Set:
    """Characters: those of the ranges and of the other sets; or all others."""

    ranges: tuple[Range, ...] = ()
    others: tuple[_Set, ...] = ()
    negated: bool = False
    any_case: bool = False

    def has(self, char: str) -> bool:
        """Whether a character is one of these."""
        forms = {char}
        if self.any_case and char.isascii():
            forms |= {char.lower(), char.upper()}
        found = any(first <= form <= last for form in forms for first, last in self.ranges)
        return (found or any(other.has(char) for other in self.others)) != self.negated


_EVERY = _Set(negated=True)


@dataclass
class _Graph:
    """The places of an expression: a step from one to the next takes a character, or nothing."""

    takes: list[tuple[_Set, int] | None] = field(default_factory=list)
    """The characters with which a place is left, and for which place."""
    free: list[list[tuple[str, int]]] = field(default_factory=list)
    """Steps without a character: anywhere (""), at the start ("^") or at the end ("$")."""

    def place(self) -> int:
        """Return a new place. Raises `ValueError` if there are too many."""
        if len(self.takes) == MOST_PLACES:
            raise ValueError("it is too long, with all that it repeats: write a shorter one")
        self.takes.append(None)
        self.free.append([])
        return len(self.takes) - 1

    def reached(self, places: Iterable[int], steps: tuple[str, ...]) -> frozenset[int]:
        """Return what can be reached without a character, by these kinds of free steps."""
        found, todo = set(places), list(places)
        while todo:
            for kind, place in self.free[todo.pop()]:
                if kind in steps and place not in found:
                    found.add(place)
                    todo.append(place)
        return frozenset(found)


# Part of an expression: adds itself to a graph behind a place, and returns its last place.
_Part = Callable[[_Graph, int], int]


class _Parser:
    """Reads an expression that `re` understands. Raises `ValueError` for what is not taken here."""

    def __init__(self, text: str) -> None:
        self._any_case = text.startswith("(?i)")
        self._text = text.removeprefix("(?i)")
        self._at = 0

    def expression(self) -> _Part:
        """Return what is left of the text, up to a bracket that ends a group."""
        choices = [self._sequence()]
        while self._next_is("|"):
            choices.append(self._sequence())
        return _either(choices) if len(choices) > 1 else choices[0]

    def _next_is(self, word: str) -> bool:
        found = self._text.startswith(word, self._at)
        self._at += len(word) * found
        return found

    def _take(self, count: int = 1) -> str:
        self._at += count
        return self._text[self._at - count : self._at]

    def _sequence(self) -> _Part:
        parts = []
        while self._at < len(self._text) and self._text[self._at] not in "|)":
            parts.append(self._repeated(self._atom()))
        return _sequence(parts)

    def _repeated(self, part: _Part) -> _Part:
        written = re.compile(r"[*+?]|\{(?=[\d,])(\d*)(,?)(\d*)\}").match(self._text, self._at)
        if not written:
            return part
        self._at = written.end()
        if self._next_is("+"):
            raise ValueError(
                "possessive quantifiers (such as a++) are not taken: write it without the +"
            )
        self._next_is("?")  # which way is tried first makes no difference here
        if written[0] in _REPEATS:
            return _repeat(part, *_REPEATS[written[0]])
        least = int(written[1] or 0)
        most = (int(written[3]) if written[3] else None) if written[2] else least
        return _repeat(part, least, most)

    def _atom(self) -> _Part:
        char = self._take()
        match char:
            case "(":
                return self._group()
            case "[":
                return _character(self._set())
            case ".":
                return _character(_EVERY)
            case "^" | "$":
                return _anchor(char)
            case "\\" if self._text[self._at] in "AZ":
                return _anchor("^" if self._take() == "A" else "$")
            case "\\":
                return _character(self._escaped())
        return _character(self._one(char))

    def _group(self) -> _Part:
        if not (self._next_is("?:") or self._named()) and self._next_is("?"):
            kind = f"(?{self._text[self._at]}"
            raise ValueError(f"{kind}...) is not taken: write (?:...), or (?i) at the start")
        inside = self.expression()
        self._take()  # the bracket, or `re` would have found it missing
        return inside

    def _named(self) -> bool:
        name = re.compile(r"\?P<\w+>").match(self._text, self._at)
        self._at = name.end() if name else self._at
        return name is not None

    def _one(self, char: str) -> _Set:
        return _Set(((char, char),), any_case=self._any_case)

    def _escaped(self) -> _Set:
        char = self._take()
        if char.lower() in _CLASSES:
            ends = re.findall(r"(.)-(.)|(.)", _CLASSES[char.lower()], re.DOTALL)
            ranges = tuple((first or one, last or one) for first, last, one in ends)
            return _Set(ranges, negated=char.isupper())
        if char in "xu":
            return self._one(chr(int(self._take({"x": 2, "u": 4}[char]), 16)))
        if char.isascii() and char.isalnum() and char not in _CONTROLS:
            raise ValueError(f"\\{char} is not taken: write it without")
        return self._one(_CONTROLS.get(char, char))

    def _set(self) -> _Set:
        negated = self._next_is("^")
        ranges: list[Range] = []
        others: list[_Set] = []
        first = True
        while first or self._text[self._at] != "]":
            first = False
            one = self._member()
            is_range = self._text[self._at] == "-" and self._text[self._at + 1] != "]"
            if one.negated or len(one.ranges) > 1 or not is_range:
                others.append(one)
            else:
                self._take()
                ranges.append((one.ranges[0][0], self._member().ranges[0][0]))
        self._take()
        return _Set(tuple(ranges), tuple(others), negated, self._any_case)

    def _member(self) -> _Set:
        char = self._take()
        if char != "\\":
            return self._one(char)
        return self._one("\b") if self._next_is("b") else self._escaped()


def _character(chars: _Set) -> _Part:
    def add(graph: _Graph, start: int) -> int:
        if graph.takes[start]:
            start, other = graph.place(), start
            graph.free[other].append(("", start))
        after = graph.place()
        graph.takes[start] = (chars, after)
        return after

    return add


def _anchor(kind: str) -> _Part:
    def add(graph: _Graph, start: int) -> int:
        end = graph.place()
        graph.free[start].append((kind, end))
        return end

    return add


def _sequence(parts: list[_Part]) -> _Part:
    def add(graph: _Graph, start: int) -> int:
        for part in parts:
            start = part(graph, start)
        return start

    return add


def _either(choices: list[_Part]) -> _Part:
    def add(graph: _Graph, start: int) -> int:
        end = graph.place()
        for choice in choices:
            graph.free[choice(graph, start)].append(("", end))
        return end

    return add


def _repeat(part: _Part, least: int, most: int | None) -> _Part:
    def add(graph: _Graph, start: int) -> int:
        for _ in range(least):
            start = part(graph, start)
        if most is None:
            again, end = graph.place(), graph.place()
            graph.free[start] += [("", again), ("", end)]
            graph.free[part(graph, again)] += [("", again), ("", end)]
            return end
        end = graph.place()
        for _ in range(most - least):
            graph.free[start].append(("", end))
            start = part(graph, start)
        graph.free[start].append(("", end))
        return end

    return add


class _Places:
    """A set of places in an expression, all reached by the same text."""

    def __init__(self, places: frozenset[int], found: bool, found_at_end: bool) -> None:
        self.places = places
        self.found = found
        """Whether the text matches already."""
        self.found_at_end = found_at_end
        """Whether it matches if it ends here."""
        self.next: dict[str, _Places] = {}
        """What a character makes of it, as far as that is known."""


class Pattern:
    """A regular expression that is looked for in lines. Raises `ValueError` for a faulty one."""

    def __init__(self, text: str) -> None:
        try:
            re.compile(text)
        except (re.error, OverflowError, RecursionError) as error:
            raise ValueError(
                f"it is no regular expression ({error}): write one of Python's"
            ) from None
        graph = _Graph()
        start = graph.place()
        self._end = _Parser(text).expression()(graph, start)
        self._takes = [(place, *step) for place, step in enumerate(graph.takes) if step]
        every = range(len(graph.takes))
        self._behind = [graph.reached({place}, ("",)) for place in every]
        """What can be reached from each place without a character, within a line."""
        self._ends = {one for one in every if self._end in graph.reached({one}, ("", "$"))}
        """The places where a line may end that matches."""
        self._start = self._behind[start]
        first = graph.reached({start}, ("", "^"))
        is_empty = self._end in graph.reached({start}, ("", "^", "$"))
        self._at_start = first, self._end in first, is_empty
        self._forget()

    def _forget(self) -> None:
        self._remembered = 0
        self._known: dict[frozenset[int], _Places] = {}
        self._takers: dict[str, list[tuple[int, frozenset[int]]]] = {}
        self._first = _Places(*self._at_start)

    def _step(self, here: _Places, char: str) -> _Places:
        if self._remembered >= MOST_REMEMBERED:
            self._forget()
        if char not in self._takers:
            taken = [(place, after) for place, chars, after in self._takes if chars.has(char)]
            self._takers[char] = [(place, self._behind[after]) for place, after in taken]
        after = (behind for place, behind in self._takers[char] if place in here.places)
        # A match may begin behind every character.
        places = self._start.union(*after)
        if places not in self._known:
            found, at_end = self._end in places, not places.isdisjoint(self._ends)
            self._known[places] = _Places(places, found, at_end)
        here.next[char] = self._known[places]
        self._remembered += 1
        return here.next[char]

    def is_in(self, line: str) -> bool:
        """Whether some part of a line matches."""
        here = self._first
        for char in line:
            if here.found:
                return True
            here = here.next.get(char) or self._step(here, char)
        return here.found or here.found_at_end
