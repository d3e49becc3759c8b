"""Texts of ser2net: a banner as one of ours, or as it is.

Its manual, ser2net.yaml(5), describes them in "SPECIAL STRING HANDLING".
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

_SEQUENCE = re.compile(r"\\(?:([0-7]{1,3})|x([0-9A-Fa-f]{1,2})|(.)|\Z)", re.DOTALL)
_CHARACTERS = {"a": 7, "b": 8, "t": 9, "n": 10, "v": 11, "f": 12, "r": 13}
# The date, the time, and the client's address.
_CHANGING = "YyMmADeUHhiSqPTI"
# Characters that a text of ser2net has as they are, in both forms of its file and in YAML.
_PLAIN = re.compile(r"[A-Za-z0-9 .,;:/()+@_=\[\]<>!|~-]")
_UNPRINTABLE = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")


def banner(text: str, fields: Mapping[str, str]) -> tuple[str, list[str], bool]:
    """Return a banner for the port map, what it cannot express, in words, and whether it is exact.

    `fields` has for an escape of ser2net, such as `d`, the text that replaces it. Lines end in LF;
    the engines send CR LF. So a banner with other ends of lines is not sent byte for byte.
    """
    meant, lacks = plain(text, fields, doubled)
    if _UNPRINTABLE.search(meant):
        lacks.append("control characters")
    printable = _UNPRINTABLE.sub("", meant)
    lines = printable.replace("\r\n", "\n")
    exact = not lacks and "\r" not in lines and lines.replace("\n", "\r\n") == printable
    whole = lines.endswith("\n") or not lines
    return lines.replace("\n\r", "\n").replace("\r", "\n"), lacks, exact and whole


def plain(
    text: str, fields: Mapping[str, str], literal: Callable[[str], str] = str
) -> tuple[str, list[str]]:
    """Return the text that ser2net makes of a text, and what it cannot express, in words.

    `literal` is how a piece of it is written where the text goes to.
    """
    lacks: list[str] = []
    made = bytearray()
    position = 0
    for match in _SEQUENCE.finditer(text):
        made += _bytes(literal(text[position : match.start()]))
        made += _meant(match, fields, lacks, literal)
        position = match.end()
    made += _bytes(literal(text[position:]))
    meant = made.decode(errors="replace")
    if "\ufffd" in meant and "\ufffd" not in text:
        lacks.append("bytes that are no UTF-8 text")
    return meant, lacks


def kept(text: str, fields: Mapping[str, str]) -> str:
    """Return a text of ser2net for ser2net, with `fields` filled in: it sends the same bytes.

    Everything else that means something, to ser2net or in its file, becomes `\\xHH`.
    """
    made, position = "", 0
    for match in _SEQUENCE.finditer(text):
        made += _safe(text[position : match.start()]) + _kept(match, fields)
        position = match.end()
    return made + _safe(text[position:])


def _kept(match: re.Match[str], fields: Mapping[str, str]) -> str:
    char = match[3] or ""
    if char in fields:
        return _safe(fields[char])
    if char and not char.isalnum():
        return _safe(char)
    return match[0] if match[0] != "\\" else ""


def _safe(text: str) -> str:
    return "".join(
        chr(byte) if _PLAIN.fullmatch(chr(byte)) else f"\\x{byte:02x}"
        for byte in text.encode(errors="replace")
    )


def _meant(
    match: re.Match[str],
    fields: Mapping[str, str],
    lacks: list[str],
    literal: Callable[[str], str],
) -> bytes:
    octal, hexadecimal, char = match.groups()
    if octal or hexadecimal:
        byte = bytes([(int(octal, 8) if octal else int(hexadecimal, 16)) & 0xFF])
        return _bytes(literal(byte.decode())) if byte.isascii() else byte
    if char in fields:
        return fields[char].encode()
    if char and char in _CHANGING:
        lacks.append(f"\\{char}")
        return b""
    if char in _CHARACTERS:
        return bytes([_CHARACTERS[char]])
    return _bytes(literal(char or ""))


def _bytes(text: str) -> bytes:
    return text.encode(errors="replace")


def doubled(text: str) -> str:
    """A text with each brace doubled, so that a banner shows it as it is."""
    return text.replace("{", "{{").replace("}", "}}")
