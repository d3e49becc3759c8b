"""A ser2net banner as one of ours (ser2net.yaml.5, "SPECIAL STRING HANDLING"; ser2net_str.c)."""

from __future__ import annotations

import re
from collections.abc import Mapping

_SEQUENCE = re.compile(r"\\(?:([0-7]{1,3})|x([0-9A-Fa-f]{1,2})|(.)|\Z)", re.DOTALL)
_CHARACTERS = {"a": 7, "b": 8, "t": 9, "n": 10, "v": 11, "f": 12, "r": 13}
# The date, the time, and the client's address.
_CHANGING = "YyMmADeUHhiSqPTI"
_UNPRINTABLE = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")


def banner(text: str, fields: Mapping[str, str]) -> tuple[str, list[str]]:
    """Return a banner for the port map, and a list of what it cannot express, in words.

    `fields` has for an escape of ser2net, such as `d`, the text that replaces it. Lines end in LF;
    the engines send CR LF.
    """
    lacks: list[str] = []
    plain = bytearray()
    position = 0
    for match in _SEQUENCE.finditer(text):
        plain += _bytes(text[position : match.start()])
        plain += _meant(match, fields, lacks)
        position = match.end()
    plain += _bytes(text[position:])
    meant = plain.decode(errors="replace")
    if "\ufffd" in meant and "\ufffd" not in text:
        lacks.append("bytes that are no UTF-8 text")
    if _UNPRINTABLE.search(meant):
        lacks.append("control characters")
    lines = _UNPRINTABLE.sub("", meant).replace("\r\n", "\n").replace("\n\r", "\n")
    return lines.replace("\r", "\n"), lacks


def _meant(match: re.Match[str], fields: Mapping[str, str], lacks: list[str]) -> bytes:
    octal, hexadecimal, char = match.groups()
    if octal or hexadecimal:
        byte = bytes([(int(octal, 8) if octal else int(hexadecimal, 16)) & 0xFF])
        return byte * 2 if byte in b"{}" else byte
    if char in fields:
        return fields[char].encode()
    if char and char in _CHANGING:
        lacks.append(f"\\{char}")
        return b""
    if char in _CHARACTERS:
        return bytes([_CHARACTERS[char]])
    return _bytes(char or "")


def _bytes(text: str) -> bytes:
    return doubled(text).encode(errors="replace")


def doubled(text: str) -> str:
    """A text with each brace doubled, so that a banner shows it as it is."""
    return text.replace("{", "{{").replace("}", "}}")
