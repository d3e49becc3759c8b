"""`ttybridge import`: a ser2net configuration becomes a port map.

The user is told what the port map cannot say, with its line. A port that would let in more than
ser2net does is left out. The result always passes `check_portmap`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from ttybridge.model.check import check_portmap, check_ser2net, parse_portmap
from ttybridge.model.config import ConfigError
from ttybridge.model.ports import Port, as_entry
from ttybridge.model.values import shown
from ttybridge.setup import yaml_text
from ttybridge.setup.ser2net import classic as import_classic
from ttybridge.setup.ser2net import yaml_form as import_yaml
from ttybridge.setup.ser2net.connection import Contents, Remark
from ttybridge.setup.ser2net.entry import Draft, translate
from ttybridge.setup.ser2net.gathered import Gathered
from ttybridge.setup.words import count

# Keys that an entry can lose: the port still does its work, and lets in nobody else.
_OPTIONAL = (
    *("idle_timeout", "max_clients", "dtr", "rts", "hangup", "first_words", "last_words", "log"),
    *("banner", "options"),
)

# Keys that are always in an entry, since serial_ports_defaults must not change them: without a word
# about them ser2net has defaults of its own. Other keys (allow, tls, log, banner, and those that
# ser2net lacks) may come from serial_ports_defaults.
_SAID = (
    *("protocol", "engine", "baudrate", "bytesize", "parity", "stopbits", "flow", "dtr", "rts"),
    *("hangup", "rs485", "sharing", "max_clients", "idle_timeout"),
)

# The oldest ser2net that a supported release has (bookworm's).
_OLDEST_SER2NET = "4.3.11"


@dataclass(frozen=True)
class Imported:
    """The ports, and the remarks in the order of their lines.

    `announces` is whether the host is to announce its ports (`serial_announce`).
    `written` is how many ports ser2net is told to serve, each by a TCP port of its own; `taken` is
    how many of them the port map has, as ports or as listeners of ports.
    """

    ports: tuple[Port, ...]
    remarks: tuple[Remark, ...]
    written: int
    taken: int
    announces: bool = False

    @property
    def complete(self) -> bool:
        """Whether the port map has everything that the file says."""
        return not any(remark.lost for remark in self.remarks)

    @property
    def summary(self) -> str:
        """What was taken, such as `50 of 52 ports, 4 lost, 3 notes`."""
        lost = sum(remark.lost for remark in self.remarks)
        notes = len(self.remarks) - lost
        parts = [f"{self.taken} of {count(self.written, 'port')}"]
        parts += [f"{lost} lost"] if lost else []
        parts += [count(notes, "note")] if notes else []
        return ", ".join(parts)

    def lines(self, where: str) -> list[str]:
        """Return the remarks as text, a line each; `where` is the file."""
        return [
            f"{where}:{remark.line}: {'' if remark.lost else 'note: '}{remark.text}"
            for remark in self.remarks
        ]


def load(path: Path, engine: str = "ser2net") -> Imported:
    """Read a ser2net configuration of any form. Raises `ConfigError` if it cannot be read."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ConfigError([f"{path}: {error.strerror}"]) from None
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = data.decode("latin-1")
    return parse(text, str(path), engine)


def parse(text: str, where: str, engine: str = "ser2net") -> Imported:
    """Return the ports in a ser2net configuration, for an engine; `where` is the file.

    Raises `ConfigError` if a ser2net.yaml is not YAML.
    """
    yaml = where.endswith((".yaml", ".yml")) or re.search(
        r"\A%YAML|^(?:connection|default|define)s?:", text, re.MULTILINE
    )
    contents = import_yaml.read(text, where) if yaml else import_classic.read(text)
    return _ports(contents, engine)


def _ports(contents: Contents, engine: str) -> Imported:
    gathered, taken, announces = Gathered(), 0, False
    for connection in contents.connections:
        draft = translate(connection, engine, gathered.name)
        port = _sound(draft)
        if port and gathered.add(draft, port):
            taken += 1
            announces = announces or draft.announces
        contents.remarks += draft.remarks
    served = [one for one in contents.connections if one.state != "off"]
    written = len(served) + contents.unreadable
    if not contents.connections:
        contents.note(1, "there is no port in it")
    ports = parse_portmap([draft.entry for draft in gathered.drafts])
    for port, draft in zip(ports, gathered.drafts, strict=True):
        for fault in check_ser2net([port], _OLDEST_SER2NET):
            contents.note(draft.connection.line, str(fault))
    return Imported(ports, _in_order(contents.remarks), written, taken, announces)


def _sound(draft: Draft) -> Port | None:
    """Remove from an entry what its engine cannot honour; return the port, if it still is one."""
    while draft.entry:
        ports, faults = check_portmap([draft.entry])
        if not faults:
            return ports[0]
        for fault in faults:
            key = fault.key.partition(".")[0]
            if key not in _OPTIONAL:
                draft.leave_out(f"{fault.key}: {fault.problem}")
                return None
            draft.lose(draft.connection.line, f"{fault.key}: {fault.problem}")
            draft.entry.pop(key, None)
    return None


def _in_order(remarks: list[Remark]) -> tuple[Remark, ...]:
    """The remarks by line: each loss once a line, each note once."""
    told: dict[object, Remark] = {}
    for remark in sorted(remarks, key=lambda remark: remark.line):
        told.setdefault((remark.line if remark.lost else 0, remark.text), remark)
    return tuple(told.values())


def as_yaml(ports: tuple[Port, ...], where: str, announces: bool = False) -> str:
    """Return a port map as YAML for host_vars; `where` is the file that it comes from.

    `announces` is whether the host is to announce its ports.
    """
    head = (
        f"# From {shown(where)[1:-1]} by ttybridge import. docs/migrating.md says how to go on.\n"
    )
    if not ports:
        return f"{head}serial_ports: []\n"
    if any(port.engine == "ser2net" and port.allow for port in ports):
        head += "serial_firewall: true\n"
    if announces:
        head += "serial_announce: true\n"
    entries = [yaml_text.entry(as_entry(port, always=_SAID)) for port in ports]
    lines = "".join(f"  {line}\n" for entry in entries for line in entry)
    return f"{head}serial_ports:\n{lines}"
