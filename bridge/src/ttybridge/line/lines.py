"""Cuts bytes into lines of text, wherever they were cut on their way."""

from __future__ import annotations

import re

# Bytes of a line at most: a longer one counts as several.
LONGEST = 1024

_END = re.compile(rb"[\r\n]+")

# Colours and movements of the cursor (ECMA-48, CSI), between which the words are.
_STYLE = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]")


def cut(data: bytes) -> tuple[list[str], bytes]:
    """Return the lines in some bytes, and the rest: a line that has not ended.

    Empty lines are left out, and what styles text on a terminal. Bytes that are no UTF-8 become
    \\xNN.
    """
    *whole, rest = _END.split(data)
    more = len(rest) // LONGEST * LONGEST
    parts = [line[at : at + LONGEST] for line in whole for at in range(0, len(line), LONGEST)]
    parts += [rest[at : at + LONGEST] for at in range(0, more, LONGEST)]
    return [_text(part) for part in parts], rest[more:]


def _text(line: bytes) -> str:
    return _STYLE.sub("", line.decode("utf-8", "backslashreplace"))
