"""What both forms of a ser2net configuration are read into: connections, as in ser2net itself."""

from __future__ import annotations

from dataclasses import dataclass, field

from ttybridge.model.values import label
from ttybridge.setup.ser2net import vocabulary


@dataclass(frozen=True)
class Remark:
    """Something to tell the user about a line; `lost` is whether the port map lacks it."""

    line: int
    text: str
    lost: bool = True


@dataclass(frozen=True)
class Option:
    """One option of a connection; `value` is None if only the name is written."""

    line: int
    name: str
    value: str | None = None


@dataclass(frozen=True)
class Default:
    """A default for one class of gensio (`of`), or for all if `of` is ""."""

    line: int
    name: str
    value: str | None
    of: str = ""


@dataclass(frozen=True)
class Connection:
    """A listener and its device, with everything that the rest of the file says about them."""

    line: int
    name: str
    """Its name in ser2net."""
    accepter: str
    connector: str
    state: str = "on"
    """on, off, raw, rawlp or telnet."""
    timeout: int = 0
    options: tuple[Option, ...] = ()
    defaults: tuple[Default, ...] = ()
    label: str = ""
    """The name that the user gave it; "" if there is none."""
    device_name: str = ""
    """The name of the DEVICE directive that it uses, if any."""


@dataclass
class Contents:
    """What a reader has found so far."""

    connections: list[Connection] = field(default_factory=list)
    remarks: list[Remark] = field(default_factory=list)
    unreadable: int = 0
    """How many more connections are written, but not so that one can say what they are."""
    _defaults: dict[tuple[str, str], Default] = field(default_factory=dict)
    """Those that apply from the current line on, by name and class."""
    _unused: dict[tuple[str, str], Default] = field(default_factory=dict)
    """Those that no connection follows so far."""
    _applied: tuple[Default, ...] = ()
    """What the last connection has: the next one shares it, unless a default comes between."""

    def lose(self, line: int, text: str) -> None:
        """Add a remark on something that the port map will lack."""
        self.remarks.append(Remark(line, text))

    def lose_connection(self, line: int, text: str) -> None:
        """Add a remark on a connection that cannot be read."""
        self.unreadable += 1
        self.lose(line, text)

    def note(self, line: int, text: str) -> None:
        """Add a remark on something that is not lost."""
        self.remarks.append(Remark(line, text, lost=False))

    def set_default(self, default: Default) -> None:
        """Apply a default to the connections that follow."""
        self.delete_default(default.name, default.of)
        self._defaults[default.name, default.of] = default
        self._unused[default.name, default.of] = default

    def delete_default(self, name: str, of: str) -> None:
        """Apply a default no longer."""
        if self._defaults.pop((name, of), None):
            self._applied = ()
        unused = self._unused.pop((name, of), None)
        if unused:
            self._note_unused(unused)

    def applied(self) -> tuple[Default, ...]:
        """Return the defaults of a connection that is read now, without those that are lost."""
        for key, default in self._unused.items():
            lost = vocabulary.default_lost(default.name, default.value, default.of)
            if lost:
                # Told once: kept, each of many would be looked at for each of many connections.
                self.lose(default.line, lost)
                del self._defaults[key]
        if self._unused:
            self._unused.clear()
            self._applied = ()
        self._applied = self._applied or tuple(self._defaults.values())
        return self._applied

    def note_unused_defaults(self) -> None:
        """Add remarks, at the end, on defaults that no connection follows."""
        for default in self._unused.values():
            self._note_unused(default)

    def _note_unused(self, default: Default) -> None:
        self.note(default.line, f"default {label(default.name)}: no port follows that uses it")
