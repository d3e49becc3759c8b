"""Regular expressions of `watch`: the same answers as `re`, in time that no text makes long."""

from __future__ import annotations

import random
import re

import pytest
from hypothesis import given, reject
from hypothesis import strategies as st

from ttybridge.model.pattern import MOST_PLACES, Pattern

EXPRESSIONS = [
    *("", "a", "ab|cd", "Kernel panic|Oops", "^a", "a$", "^$", "^a|b$", "a.c", "a*b", "(ab)*c"),
    *("a+?b", "a{2}", "a{2,}b", "a{,2}b", "a{1,3}$", "x{", "x{}", "{a}", "a{,}b", "(?:a|b)+c"),
    *("(?P<n>ab)+", "[abc]", "[^abc]", "[a-c-]", "[]a]", "[^]a]", "[a\\]b]", "[\\d.]+x", "[\\D]"),
    *("\\d\\d", "\\w+\\s", "\\W", "\\S\\S", "\\D", "\\.", "\\[a\\]", "\\x41", "\\u0042", "\\t"),
    *("(?i)oops", "(?i)[^a]", "(?i)[a-c]x", "\\Aab", "ab\\Z", "(|a)b", "(a|)", "((a))", "(a+)+b"),
    *("(a|aa)+$", "(a*)*b", "(^a|b)c", "a($|b)", "é+", "[à-é]", "%[A-Z]+-[0-3]-", "[\\b]"),
]
LINES = [
    *("", "a", "b", "ab", "abc", "aaab", "cd", "xcdx", "Kernel panic - not syncing", "oops OOPS"),
    *("a.c", "a\tb", "12", "x1.2x", "[a]", "A", "B", "]", "-", "{a}", "x{", "x{}", "aab", "bc"),
    *("é", "à", "%LINK-3-UPDOWN", "b\x08", "aaaaaaaa", "AX", "c\n"),
]


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_it_finds_what_re_finds(expression: str) -> None:
    pattern, expected = Pattern(expression), re.compile(expression, re.ASCII | re.DOTALL)
    lines = [line for line in LINES if not line.endswith("\n")]
    found = [line for line in lines if pattern.is_in(line)]
    assert found == [line for line in lines if expected.search(line)]


atoms = st.sampled_from(["a", "b", ".", "[ab]", "[^a]", "\\w", "^", "$"])
expressions = st.recursive(
    atoms,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map("".join),
        st.lists(inner, min_size=2, max_size=3).map(lambda parts: f"({'|'.join(parts)})"),
        st.tuples(inner, st.sampled_from(["*", "+", "?", "{2}", "{1,2}", "*?"])).map(
            lambda pair: f"(?:{pair[0]}){pair[1]}"
        ),
    ),
    max_leaves=6,
)


@given(expressions, st.lists(st.text("abc ", max_size=8), max_size=5))
def test_it_agrees_with_re(expression: str, lines: list[str]) -> None:
    try:
        pattern = Pattern(expression)
    except ValueError:  # too long
        reject()
    for line in lines:
        assert pattern.is_in(line) == bool(re.search(expression, line, re.ASCII)), line


@pytest.mark.parametrize("expression", ["(a+)+b", "(a|a)*b", "(a|aa)+$", "a.*a.*a.*a.*b", "(.*)*x"])
def test_no_line_takes_long(expression: str) -> None:
    """With `re` each of these takes longer than anybody waits."""
    assert not Pattern(expression).is_in("a" * 100_000 + "!")


def test_what_is_remembered_has_an_end() -> None:
    pattern = Pattern("(a|b)*a(a|b){20}c")
    chance = random.Random(1)
    line = "".join(chance.choice("ab") for _ in range(30_000))
    assert not pattern.is_in(line)
    assert len(pattern._known) <= 10_001
    assert pattern.is_in(f"{line[-10:]}a{'b' * 20}c")


@pytest.mark.parametrize(
    ("expression", "problem"),
    [
        ("(", "it is no regular expression (missing ), unterminated subpattern at position 0): {}"),
        ("a**", "it is no regular expression (multiple repeat at position 2): {}"),
        ("a(?=b)", "(?=...) is not taken: write (?:...), or (?i) at the start"),
        ("(?<!a)b", "(?<...) is not taken: write (?:...), or (?i) at the start"),
        (r"\bOops\b", r"\b is not taken: write it without"),
        (r"(a)\1", r"\1 is not taken: write it without"),
        ("a++b", "possessive quantifiers (such as a++) are not taken: write it without the +"),
        ("(?m)^a", "(?m...) is not taken: write (?:...), or (?i) at the start"),
        ("a{1000}", "it is too long, with all that it repeats: write a shorter one"),
        ("((a{50}){50}){50}", "it is too long, with all that it repeats: write a shorter one"),
    ],
)
def test_what_is_not_taken_is_said(expression: str, problem: str) -> None:
    words = problem.format("write one of Python's")
    with pytest.raises(ValueError, match=f"^{re.escape(words)}$"):
        Pattern(expression)


def test_a_long_expression_is_taken_up_to_a_bound() -> None:
    Pattern("a" * (MOST_PLACES - 1))
    with pytest.raises(ValueError, match="too long"):
        Pattern("a" * MOST_PLACES)
