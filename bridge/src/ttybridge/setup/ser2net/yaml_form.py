"""Reads ser2net.yaml in both its versions (ser2net.yaml.5 of 4.3 and 4.6, yamlconf.c).

Version 1 is not quite YAML: keys repeat, and an alias means a name. So this module reads the events
of a YAML parser, as ser2net does.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ttybridge.model.config import ConfigError
from ttybridge.model.values import label, shown
from ttybridge.setup.ser2net import gensio
from ttybridge.setup.ser2net.connection import Connection, Contents, Default, Option

if TYPE_CHECKING:
    import yaml

# ser2net accepts nothing that is nested this deep.
_DEEPEST = 10

# Characters that the names in a file may insert in all: defines that name defines can double.
_MOST_INSERTED = 1 << 20

_LOST = {
    "include": "that file is not read: import it, too",
    "admin": "with engine bridge use `ttybridge status` and `ttybridge kick`",
    "rotator": "give each of its ports its own client",
    "led": "no LED shows traffic",
}


@dataclass(frozen=True)
class _Scalar:
    line: int
    text: str
    anchor: str = ""
    alias: bool = False


@dataclass(frozen=True)
class _Mapping:
    line: int
    pairs: tuple[tuple[_Node, _Node], ...]
    anchor: str = ""


@dataclass(frozen=True)
class _Sequence:
    line: int
    items: tuple[_Node, ...]
    anchor: str = ""


_Node = _Scalar | _Mapping | _Sequence


class _Unknown(Exception):
    """A text refers to something that this reader cannot insert."""


def read(text: str, where: str) -> Contents:
    """Return the connections of a ser2net.yaml, and remarks on what the port map will lack.

    Raises `ConfigError` if the text is not YAML; its message begins with `where`.
    """
    reader = _Reader()
    for document in _documents(text, where):
        reader.take(document)
    reader.contents.note_unused_defaults()
    return reader.contents


def _documents(text: str, where: str) -> list[_Node]:
    try:
        import yaml
    except ModuleNotFoundError:
        missing = "Python's module yaml is missing: sudo apt install python3-yaml"
        raise ConfigError([f"{where}: {missing}"]) from None
    try:
        # libyaml, which ser2net uses, too, is ten times as fast. PyYAML may be built without it.
        loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
        return list(_nodes(yaml.parse(text, Loader=loader), where))
    except yaml.MarkedYAMLError as error:
        # At the end of the text the mark can be one line below its last one.
        last = text.count("\n") + 1
        line = min(error.problem_mark.line + 1, last) if error.problem_mark else 1
        raise ConfigError([f"{where}:{line}: not YAML: {error.problem}"]) from None
    except (yaml.YAMLError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise ConfigError([f"{where}: not YAML: {reason}"]) from None


def _nodes(events: Iterator[yaml.Event], where: str) -> Iterator[_Node]:
    import yaml

    for event in events:
        if not isinstance(
            event,
            yaml.StreamStartEvent
            | yaml.StreamEndEvent
            | yaml.DocumentStartEvent
            | yaml.DocumentEndEvent,
        ):
            yield _node(event, events, where, 0)


def _node(event: Any, events: Iterator[yaml.Event], where: str, depth: int) -> _Node:
    import yaml

    line = event.start_mark.line + 1
    if depth > _DEEPEST:
        raise ConfigError([f"{where}:{line}: no ser2net.yaml: nested too deep"])
    anchor = event.anchor or ""
    if isinstance(event, yaml.AliasEvent):
        return _Scalar(line, anchor, alias=True)
    if isinstance(event, yaml.ScalarEvent):
        if re.search("[\ud800-\udfff]", event.value):
            # The readers of ser2net and Ansible refuse them.
            raise ConfigError([f"{where}:{line}: not YAML: \\uD800 to \\uDFFF are no characters"])
        return _Scalar(line, event.value, anchor)
    inside: list[_Node] = []
    ends = yaml.SequenceEndEvent | yaml.MappingEndEvent
    while not isinstance(following := next(events), ends):
        inside.append(_node(following, events, where, depth + 1))
    if isinstance(event, yaml.SequenceStartEvent):
        return _Sequence(line, tuple(inside), anchor)
    return _Mapping(line, tuple(zip(inside[::2], inside[1::2], strict=True)), anchor)


class _Reader:
    def __init__(self) -> None:
        self.contents = Contents()
        self._names: dict[str, str] = {}
        self._inserted = 0
        self._sign = "*"

    def take(self, document: _Node) -> None:
        """Read one document."""
        if not isinstance(document, _Mapping):
            if not isinstance(document, _Scalar) or document.text:
                self._not_understood(document.line, "ser2net.yaml", document)
            return
        takers: dict[str, Callable[[int, _Node], None]] = {
            "define": self._define,
            "default": self._default,
            "delete_default": self._delete_default,
            "connection": self._connection,
            "defines": self._each(self._define),
            "defaults": self._each(self._default),
            "delete_defaults": self._each(self._delete_default),
            "connections": self._each(self._connection),
        }
        for key, node in document.pairs:
            name = self._text(key).lower() if isinstance(key, _Scalar) else ""
            self._sign = "=" if name.endswith("s") else self._sign
            one = name.removesuffix("s")
            if name in takers:
                takers[name](key.line, node)
            elif one in _LOST:
                for line, what in self._lost(name, node):
                    self.contents.lose(line, f"{what}: no counterpart: {_LOST[one]}")
            else:
                self._not_understood(key.line, "ser2net.yaml", key)

    def _each(self, take: Callable[[int, _Node], None]) -> Callable[[int, _Node], None]:
        """For version 2: a mapping of names, in place of several keys with an anchor each."""

        def take_each(line: int, node: _Node) -> None:
            if not isinstance(node, _Mapping):
                self._not_understood(line, "ser2net.yaml", node)
                return
            for key, value in node.pairs:
                if isinstance(key, _Scalar):
                    take(key.line, replace(value, anchor=self._text(key)))
                else:
                    self._not_understood(key.line, "ser2net.yaml", key)

        return take_each

    def _lost(self, name: str, node: _Node) -> Iterator[tuple[int, str]]:
        if isinstance(node, _Mapping) and name.endswith("s"):
            for key, _ in node.pairs:
                named = key.text if isinstance(key, _Scalar) else ""
                yield key.line, f"{name.removesuffix('s')} {shown(named)}"
        else:
            named = node.text if isinstance(node, _Scalar) else node.anchor
            yield node.line, f"{name} {shown(named)}" if named else name

    def _define(self, line: int, node: _Node) -> None:
        if isinstance(node, _Scalar) and node.anchor:
            text = self._filled_in(node, f"define {label(node.anchor)}")
            if text is not None:
                self._names[node.anchor] = text
        else:
            self.contents.lose(line, "define: no text with an &anchor follows")

    def _default(self, line: int, node: _Node) -> None:
        keys = self._keys(line, "default", node, ("name", "value", "class"))
        name = keys["name"].text if "name" in keys else node.anchor
        value = self._filled_in(keys["value"], "value") if "value" in keys else None
        if name:
            of = keys["class"].text if "class" in keys else ""
            self.contents.set_default(Default(line, name, value or None, of))
        else:
            self.contents.lose(line, "default: no name")

    def _delete_default(self, line: int, node: _Node) -> None:
        if isinstance(node, _Sequence):
            for item in node.items:
                if isinstance(item, _Scalar):
                    self.contents.delete_default(node.anchor, self._text(item))
                else:
                    self._not_understood(item.line, "delete_defaults", item)
            return
        keys = self._keys(line, "delete_default", node, ("name", "class"))
        if len(keys) == 2:
            self.contents.delete_default(keys["name"].text, keys["class"].text)
        else:
            self.contents.lose(line, "delete_default: it needs name and class")

    def _connection(self, line: int, node: _Node) -> None:
        if node.anchor:
            self._names[node.anchor] = node.anchor
        what = f"connection {shown(node.anchor)}"
        named = ("accepter", "connector", "timeout", "enable")
        keys = self._keys(line, what, node, named, ("options",))
        accepter, connector = (self._value(keys, name, what) for name in named[:2])
        timeout = gensio.number(self._value(keys, "timeout", what) or "0")
        enable = self._value(keys, "enable", what) or "on"
        if not accepter or not connector:
            words = f"{what} is left out: it needs an accepter and a connector"
            self.contents.lose_connection(line, words)
            return
        if timeout is None:
            self.contents.lose(keys["timeout"].line, f"{what}: timeout: not a number of seconds")
        if enable.lower() not in ("on", "off"):
            self.contents.lose(keys["enable"].line, f"{what}: enable: neither on nor off")
        self.contents.connections.append(
            Connection(
                line=line,
                name=node.anchor,
                accepter=accepter,
                connector=connector,
                state="off" if enable.lower() == "off" else "on",
                timeout=timeout or 0,
                options=tuple(self._options(node)),
                defaults=self.contents.applied(),
                label=node.anchor,
            )
        )

    def _options(self, connection: _Node) -> Iterator[Option]:
        pairs = connection.pairs if isinstance(connection, _Mapping) else ()
        for key, node in pairs:
            if not isinstance(key, _Scalar) or self._text(key).lower() != "options":
                continue
            if not isinstance(node, _Mapping):
                if node != _Scalar(node.line, ""):
                    self._not_understood(node.line, "options", node)
                continue
            for name, value in node.pairs:
                if isinstance(name, _Scalar) and isinstance(value, _Scalar):
                    text = self._filled_in(value, label(name.text))
                    if text is not None:
                        yield Option(name.line, self._text(name), text or None)
                else:
                    self._not_understood(name.line, "options", name)

    def _value(self, keys: dict[str, _Scalar], name: str, what: str) -> str | None:
        return self._filled_in(keys[name], f"{what}: {name}") if name in keys else None

    def _keys(
        self,
        line: int,
        what: str,
        node: _Node,
        names: tuple[str, ...],
        others: tuple[str, ...] = (),
    ) -> dict[str, _Scalar]:
        """The keys among `names` that hold a text; add remarks on all but these and `others`."""
        if not isinstance(node, _Mapping):
            self._not_understood(line, what, node)
            return {}
        found: dict[str, _Scalar] = {}
        for key, value in node.pairs:
            name = self._text(key).lower() if isinstance(key, _Scalar) else ""
            if name in names and name not in found and isinstance(value, _Scalar):
                found[name] = value
            elif name not in others:
                self._not_understood(key.line, what, key)
        return found

    def _not_understood(self, line: int, what: str, node: _Node) -> None:
        text = shown(node.text) if isinstance(node, _Scalar) else "a list or mapping"
        self.contents.lose(line, f"{what}: {text} is not understood here")

    def _text(self, scalar: _Scalar) -> str:
        """A text with what it refers to; the text as it is written if that is unknown."""
        try:
            return self._substituted(scalar)
        except _Unknown:
            return scalar.text

    def _filled_in(self, scalar: _Scalar, what: str) -> str | None:
        """A text with what it refers to; None, and a remark, if that is unknown."""
        try:
            return self._substituted(scalar)
        except _Unknown as unknown:
            self.contents.lose(scalar.line, f"{what}: {unknown}: left out")
            return None

    def _substituted(self, scalar: _Scalar) -> str:
        if scalar.alias:
            return self._named(scalar.text)
        sign = re.escape(self._sign)
        # Only in version 2, the sign twice means the sign itself.
        twice = "==|" if self._sign == "=" else ""

        def value(match: re.Match[str]) -> str:
            file, name = match.groups()
            if file is not None:
                raise _Unknown(f"the file {shown(file)} is not read")
            return match[0][:-1] if name is None else self._named(name)

        pattern = rf"{twice}{sign}[({{]{sign}|{sign}{{([^}}]*)}}|{sign}\(([^)]*)\)"
        return re.sub(pattern, value, scalar.text)

    def _named(self, name: str) -> str:
        if name not in self._names:
            raise _Unknown(f"nothing above is named {shown(name)}")
        text = self._names[name]
        if self._inserted + len(text) > _MOST_INSERTED:
            raise _Unknown(f"the names in the file insert more than {_MOST_INSERTED} characters")
        self._inserted += len(text)
        return text
