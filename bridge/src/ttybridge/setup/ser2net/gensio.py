"""Reads the strings by which ser2net 4 describes its connections (gensio(5))."""

from __future__ import annotations

import re
from dataclasses import dataclass

BLANKS = " \f\n\r\t\v"

# Layers that need another layer below them, and those that end a stack.
FILTERS = (
    "telnet", "ssl", "certauth", "mux", "keepopen", "trace", "perf", "conacc", "msgdelim",
    "relpkt", "ratelimit", "xlt", "script", "mdns", "chardelay", "cm108gpio", "kiss",
)  # fmt: skip
ENDS = (
    "tcp", "udp", "sctp", "unix", "unixdgram", "unixseq", "stdio", "serialdev", "ipmisol", "pty",
    "echo", "file", "dummy", "sound", "afskmdm", "ax25", "dgram",
)  # fmt: skip

_ESCAPE = re.compile(r"\\(?:([0-7]{1,3})|x([0-9A-Fa-f]{1,2})|(.))", re.DOTALL)
_CHARACTERS = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}
_SPEED = re.compile(r"([0-9]{2,9})(?:([NEOMS])(?:([5-8])([12])?)?)?", re.IGNORECASE | re.ASCII)
_PARITIES = {"N": "none", "E": "even", "O": "odd", "M": "mark", "S": "space"}


@dataclass(frozen=True)
class Layer:
    """One layer of a stack; `name` is "" for an address or a path without a layer's name."""

    name: str
    options: tuple[str, ...]
    rest: str
    """After the last layer: an address, or a device and its words."""


def layers(text: str) -> tuple[Layer, ...]:
    """Return the layers of `telnet(rfc2217),tcp,9999`, the outermost first.

    Raises `ValueError` if parentheses or quotes do not close.
    """
    found: list[Layer] = []
    while True:
        text = text.lstrip()
        match = re.match(r"[a-z0-9]+(?=[,(]|\Z)", text)
        # A filter with nothing below it is the name of a service: ser2net 3 knew no filters.
        if not match or match[0] not in FILTERS + ENDS or text in FILTERS:
            return (*found, Layer("", (), text))
        options, text = _options(text[match.end() :])
        found.append(Layer(match[0], options, text))
        if match[0] in ENDS:
            return tuple(found)


def _options(text: str) -> tuple[tuple[str, ...], str]:
    """Return the options in `(a,b=c),rest`, and the rest."""
    options: list[str] = []
    if text.startswith("("):
        options, end = _split(text, 1, BLANKS + ",", ")")
        if end == len(text):
            raise ValueError("a parenthesis does not close")
        text = text[end + 1 :]
    if text and not text.startswith(","):
        raise ValueError(f"no comma before {text!r}")
    return tuple(options), text[1:]


def words(text: str, separators: str = BLANKS) -> list[str]:
    """Return the words of a text without their quotes and backslashes.

    Raises `ValueError` if a quote does not close.
    """
    return _split(text, 0, separators, "")[0]


def _split(text: str, position: int, separators: str, end: str) -> tuple[list[str], int]:
    """Return the words from a position on, and the position where they end."""
    found: list[str] = []
    while True:
        while position < len(text) and text[position] in separators:
            position += 1
        if position == len(text) or text[position] in end:
            return found, position
        word, position = _word(text, position, separators + end)
        found.append(word)


def _word(text: str, position: int, ends: str) -> tuple[str, int]:
    word, quote = "", ""
    while position < len(text):
        char = text[position]
        escape = _ESCAPE.match(text, position)
        if escape:
            word += _unescaped(escape)
            position = escape.end()
            continue
        if char == "\\":
            raise ValueError("it ends in a backslash")
        if char == quote:
            quote = ""
        elif not quote and char in "'\"":
            quote = char
        elif not quote and char in ends:
            break
        else:
            word += char
        position += 1
    if quote:
        raise ValueError("a quote does not close")
    return word, position


def _unescaped(escape: re.Match[str]) -> str:
    octal, hexadecimal, char = escape.groups()
    if char:
        return _CHARACTERS.get(char, char)
    return chr((int(octal, 8) if octal else int(hexadecimal, 16)) & 0xFF)


def truth(text: str | None) -> bool | None:
    """Return whether an option is on or off; None if its value is neither."""
    if text in (None, "true", "1", "yes", "on"):
        return True
    return False if text in ("false", "0", "no", "off") else None


def number(text: str) -> int | None:
    """Return a number as C's strtoul(3) reads it, also octal or hexadecimal; None for other texts.

    A number of more than 18 digits is None, too.
    """
    match = re.fullmatch(r"[ \t]*\+?(?:0[xX]([0-9A-Fa-f]{1,16})|([0-9]{1,18}))", text)
    if not match:
        return None
    if match[1]:
        return int(match[1], 16)
    octal = match[2].startswith("0")
    return None if octal and set(match[2]) & set("89") else int(match[2], 8 if octal else 10)


def speed(text: str) -> dict[str, str | int] | None:
    """Return the line settings in `9600` or `9600N81`; None for other texts.

    Only settings that are written are in it.
    """
    match = _SPEED.fullmatch(text)
    if not match:
        return None
    settings: dict[str, str | int] = {"baudrate": int(match[1])}
    if match[2]:
        settings["parity"] = _PARITIES[match[2].upper()]
    if match[3]:
        settings["bytesize"] = int(match[3])
    if match[4]:
        settings["stopbits"] = int(match[4])
    return settings


def listener(text: str) -> tuple[str, str]:
    """Return the protocol of `[ipv4,|ipv6,][tcp,|udp,...][host,]port`, and `[address:]port`.

    The address is whatever is written; this does not check that it is one. Raises `ValueError`
    for any other form.
    """
    parts = [part.strip() for part in text.split(",")]
    family, protocol = "", "tcp"
    while len(parts) > 1 and parts[0] in ("ipv4", "ipv6", "tcp", "udp", "sctp"):
        part = parts.pop(0)
        if part.startswith("ip"):
            family = part
        else:
            protocol = part
    if len(parts) > 2 or not all(parts):
        raise ValueError(f"{text!r} is not [host,]port")
    any_address = {"": "", "ipv4": "0.0.0.0", "ipv6": "::"}[family]
    host = parts[0] if len(parts) == 2 else any_address
    if host == "localhost":
        host = "::1" if family == "ipv6" else "127.0.0.1"
    host = f"[{host}]" if ":" in host else host
    return protocol, f"{host}:{parts[-1]}" if host else parts[-1]
