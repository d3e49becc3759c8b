"""Reads ser2net.conf, the form of ser2net 2, 3 and up to 4.4 (ser2net.8 of 3.5, readconfig.c)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

from ttybridge.model.values import label, shown
from ttybridge.setup.ser2net import gensio
from ttybridge.setup.ser2net.connection import Connection, Contents, Default, Option

# Directives that name a text. A port that writes just the name has this option with that text.
_STRINGS = {
    "BANNER": "banner",
    "SIGNATURE": "signature",
    "OPENSTR": "openstr",
    "CLOSESTR": "closestr",
    "CLOSEON": "closeon",
}
# Options whose value is the name of a directive; the directive, and the option's present name.
_NAMED = {
    "tr": ("TRACEFILE", "trace-read"),
    "tw": ("TRACEFILE", "trace-write"),
    "tb": ("TRACEFILE", "trace-both"),
    "rs485": ("RS485CONF", "rs485"),
}
_LOST = {
    "CONTROLPORT": "with engine bridge use `ttybridge status` and `ttybridge kick`",
    "ROTATOR": "give each of its ports its own client",
    "LED": "no LED shows traffic",
}
_DIRECTIVE = re.compile(
    r"(BANNER|SIGNATURE|OPENSTR|CLOSESTR|CLOSEON|DEVICE|TRACEFILE|RS485CONF|CONTROLPORT|DEFAULT"
    r"|DELDEFAULT|ROTATOR|LED):(.*)",
    re.DOTALL,
)
_PORT = re.compile(r"(.*?):(raw|rawlp|telnet|off|on):([^:]*):?([^:]*):?(.*)", re.DOTALL)


@dataclass(frozen=True)
class _Text:
    """A text that a directive named."""

    line: int
    directive: str
    text: str


def read(text: str) -> Contents:
    """Return the connections of a ser2net.conf, and remarks on what the port map will lack."""
    reader = _Reader()
    for number, line in _lines(text):
        reader.take(number, line)
    reader.end()
    return reader.contents


def _lines(text: str) -> Iterator[tuple[int, str]]:
    """Yield the lines that are not empty; continued lines are one, with the first one's number."""
    start, joined = 0, ""
    for number, line in enumerate(text.split("\n"), start=1):
        line = line.removesuffix("\r")
        if not joined:
            start, line = number, line.lstrip()
            if line.startswith("#"):
                continue
        joined += line
        if joined.endswith("\\"):
            joined = joined[:-1]
            continue
        if joined.strip():
            yield start, joined
        joined = ""
    if joined.strip():
        yield start, joined


class _Reader:
    def __init__(self) -> None:
        self.contents = Contents()
        self._texts: dict[tuple[str, str], _Text] = {}
        self._used: set[_Text] = set()

    def take(self, line: int, text: str) -> None:
        """Read one line."""
        directive = _DIRECTIVE.fullmatch(text)
        port = _PORT.fullmatch(text)
        if directive:
            self._directive(line, directive[1], directive[2])
        elif port:
            self._port(line, *port.groups())
        else:
            words = "neither a directive nor a port with state raw, rawlp, telnet, on or off"
            self.contents.lose(line, f"{shown(text)}: {words}")

    def end(self) -> None:
        """Add remarks on texts and defaults that no port used."""
        for (_, name), text in self._texts.items():
            if text not in self._used:
                self.contents.note(text.line, f"{text.directive} {shown(name)}: no port uses it")
        self.contents.note_unused_defaults()

    def _directive(self, line: int, directive: str, rest: str) -> None:
        name, _, text = rest.partition(":")
        if directive in _LOST:
            words = f"{directive} {shown(rest.strip())}: no counterpart: {_LOST[directive]}"
            self.contents.lose(line, words)
        elif not name.strip():
            self.contents.lose(line, f"{directive}: no name follows")
        elif directive == "DEFAULT":
            value, _, of = text.partition(":")
            default = Default(line, name.strip(), value.strip() or None, of.strip())
            self.contents.set_default(default)
        elif directive == "DELDEFAULT":
            self._delete_default(line, name.strip(), text.strip())
        else:
            space = directive if directive in ("TRACEFILE", "RS485CONF") else ""
            self._texts[space, name.strip()] = _Text(line, directive, text)

    def _delete_default(self, line: int, name: str, of: str) -> None:
        if of in ("", "ser2net", "default"):
            self.contents.lose(line, f"DELDEFAULT {shown(name)}: write a class; ser2net ignores it")
        else:
            self.contents.delete_default(name, of)

    def _find(self, space: str, name: str) -> _Text | None:
        text = self._texts.get((space, name))
        if text:
            self._used.add(text)
        return text

    def _port(
        self, line: int, accepter: str, state: str, timeout: str, device: str, options: str
    ) -> None:
        accepter = accepter.strip()
        seconds = gensio.number(timeout.strip())
        if seconds is None or not device.strip():
            missing = "a device" if seconds is not None else "a timeout in seconds"
            words = f"port {shown(accepter)} is left out: {missing} is missing after {state}"
            self.contents.lose_connection(line, words)
            return
        try:
            words_of_it = gensio.words(options)
        except ValueError as error:
            words = f"port {shown(accepter)} is left out: its options: {error}"
            self.contents.lose_connection(line, words)
            return
        found = self._find("", device.strip())
        alias = found if found and found.directive == "DEVICE" else None
        self.contents.connections.append(
            Connection(
                line=line,
                name=accepter,
                accepter=accepter,
                connector=alias.text.strip() if alias else device.strip(),
                state=state,
                timeout=seconds,
                options=tuple(self._options(line, words_of_it)),
                defaults=self.contents.applied(),
                label=device.strip() if alias else "",
                device_name=device.strip() if alias else "",
            )
        )

    def _options(self, line: int, words: list[str]) -> Iterator[Option]:
        for word in words:
            name, equals, value = word.partition("=")
            option = Option(line, name, value if equals else None)
            yield self._named(option) if name in _NAMED else self._bare(option)

    def _named(self, option: Option) -> Option:
        directive, name = _NAMED[option.name]
        text = self._find(directive, option.value or "")
        if text:
            return replace(option, name=name, value=text.text.strip())
        words = f"no {directive} above has this name; ser2net ignores it"
        self.contents.lose(option.line, f"{option.name}={label(option.value or '')}: {words}")
        return replace(option, name="")

    def _bare(self, option: Option) -> Option:
        text = self._find("", option.name) if option.value is None else None
        if text and text.directive in _STRINGS:
            return replace(option, name=_STRINGS[text.directive], value=text.text)
        return option
