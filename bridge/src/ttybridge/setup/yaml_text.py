"""Entries of a port map as YAML for host_vars, in which Ansible evaluates nothing."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

# What Ansible can take for Jinja anywhere in a text, and the header that changes Jinja's signs.
_JINJA = re.compile(r"\{[{%#]|[}%#]\}|#jinja2:")

_WORD = re.compile(r"[A-Za-z/][A-Za-z0-9/_.-]*")
_YAML_WORDS = ("y", "n", "yes", "no", "on", "off", "true", "false", "null")
# Keys whose values are texts even if they are on or off.
_TEXTS = (
    *("name", "device", "banner", "first_words", "last_words", "file", "certificate", "key"),
    "client_ca",
)
_SHORT = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}
# Keys of usb whose values are always in quotes: another adapter's could be a number to YAML.
_QUOTED = ("vendor", "product", "serial", "path")


def entry(keys: Mapping[str, Any]) -> list[str]:
    """An entry as an item of a list: a line for each key, the first with the dash."""
    lines = [pair(key, item) for key, item in keys.items()]
    return [f"{'  ' if number else '- '}{line}" for number, line in enumerate(lines)]


def pair(key: str, item: Any) -> str:
    """A key of an entry and its value on one line."""
    return f"{key}: {value(key, item)}"


def value(key: str, item: Any) -> str:
    """The value of a key of an entry, in YAML's flow style."""
    if isinstance(item, Mapping):
        return "{" + ", ".join(pair(key, inside) for key, inside in item.items()) + "}"
    if isinstance(item, list):
        return "[" + ", ".join(value(key, one) for one in item) + "]"
    if not isinstance(item, str) or (key == "listen" and item.isdecimal()):
        return str(item)
    if key in _QUOTED:
        return quoted(item)
    switch = item in ("on", "off") and key not in _TEXTS
    return item if switch else text(item)


def text(item: str) -> str:
    """A text, in quotes only if YAML could read it as something else."""
    plain = _WORD.fullmatch(item) and item.lower() not in _YAML_WORDS
    return item if plain else quoted(item)


def quoted(item: str) -> str:
    """A text in quotes, with the tag that keeps Ansible from reading Jinja in it."""
    tag = "!unsafe " if _JINJA.search(item) else ""
    return f'{tag}"{"".join(map(_escaped, item))}"'


def _escaped(char: str) -> str:
    if char in '"\\':
        return f"\\{char}"
    if char in _SHORT:
        return _SHORT[char]
    return char if char.isprintable() else f"\\U{ord(char):08x}"
