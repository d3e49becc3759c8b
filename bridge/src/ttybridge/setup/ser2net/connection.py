"""What both forms of a ser2net configuration say: connections, as ser2net itself keeps them."""

from __future__ import annotations

from dataclasses import dataclass, field

from ttybridge.model.values import label


@dataclass(frozen=True)
class Remark:
    """Something to tell of a line; `lost` is whether the port map does not have it."""

    line: int
    text: str
    lost: bool = True


@dataclass(frozen=True)
class Option:
    """One option of a connection; `value` is None where only its name stands."""

    line: int
    name: str
    value: str | None = None


@dataclass(frozen=True)
class Default:
    """A default in force: for every class of gensio where `of` is "", else for one."""

    line: int
    name: str
    value: str | None
    of: str = ""


@dataclass(frozen=True)
class Connection:
    """A listener and what it is connected to, with all that stands elsewhere in the file."""

    line: int
    name: str
    """ser2net's name of it."""
    accepter: str
    connector: str
    state: str = "on"
    """on, off, raw, rawlp or telnet."""
    timeout: int = 0
    options: tuple[Option, ...] = ()
    defaults: tuple[Default, ...] = ()
    label: str = ""
    """What a person called it, if anything."""
    device_name: str = ""
    """The DEVICE that it names."""


@dataclass
class Contents:
    """What a reader has found so far."""

    connections: list[Connection] = field(default_factory=list)
    remarks: list[Remark] = field(default_factory=list)
    defaults: list[Default] = field(default_factory=list)
    """In force where the reader stands."""
    _set: list[Default] = field(default_factory=list)

    def lose(self, line: int, text: str) -> None:
        """Tell of something that the port map will not have."""
        self.remarks.append(Remark(line, text))

    def note(self, line: int, text: str) -> None:
        """Tell of something of which nothing is lost."""
        self.remarks.append(Remark(line, text, lost=False))

    def set_default(self, default: Default) -> None:
        """Put a default in force for the connections that follow."""
        self.delete_default(default.name, default.of)
        self.defaults.append(default)
        self._set.append(default)

    def delete_default(self, name: str, of: str) -> None:
        """Take a default out of force."""
        self.defaults = [one for one in self.defaults if (one.name, one.of) != (name, of)]

    def note_unused_defaults(self) -> None:
        """At the end: tell of defaults that no connection follows."""
        used = {default for connection in self.connections for default in connection.defaults}
        for default in self._set:
            if default not in used:
                self.note(
                    default.line, f"default {label(default.name)}: no port follows that it is for"
                )
