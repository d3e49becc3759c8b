"""Where the daemon's ports come from: a TOML file, or words on the command line."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from ttybridge.portmap import Fault, Port, check_portmap


class ConfigError(Exception):
    """A configuration that cannot be used; `lines` says all that is wrong with it, for a person."""

    def __init__(self, lines: list[str]) -> None:
        super().__init__("\n".join(lines))
        self.lines = lines


def load(path: Path) -> tuple[Port, ...]:
    """Return the ports of a TOML file: an array `[[port]]` of port map entries.

    Raises `ConfigError` with every fault of the file.
    """
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError([f"{path}: {error.strerror}"]) from None
    except (ValueError, RecursionError) as error:  # also bytes that are no text, a huge number
        raise ConfigError([f"{path}: not TOML: {error}"]) from None
    strangers = [
        f"{path}: {name}: unknown key; write the ports as [[port]] tables"
        for name in document
        if name != "port"
    ]
    try:
        ports = parse(document.get("port", []), str(path))
    except ConfigError as error:
        raise ConfigError(strangers + error.lines) from None
    if strangers:
        raise ConfigError(strangers)
    return ports


def parse(entries: object, where: str) -> tuple[Port, ...]:
    """Return the ports of port map entries that this daemon shall serve, or raise `ConfigError`."""
    ports, faults = check_portmap(entries, None, where)
    faults += [
        Fault(
            f"{where}: port {port.name}", "engine", f"{port.engine}: ttybridge serves only bridge"
        )
        for port in ports
        if port.engine != "bridge"
    ]
    if faults:
        raise ConfigError([str(fault) for fault in faults])
    return ports


def entry_from_words(words: str) -> dict[str, Any]:
    """Return the entry in `name=sw,device=/dev/ttyUSB0,listen=9999`.

    Raises `ConfigError` where a part is not key=value, or a key stands twice.
    """
    entry: dict[str, Any] = {}
    for part in words.split(","):
        name, equals, value = part.partition("=")
        if not equals:
            raise ConfigError([f"--port {words}: {part!r} is not key=value"])
        if name.strip() in entry:
            raise ConfigError([f"--port {words}: {name.strip()!r} stands twice"])
        entry[name.strip()] = value.strip()
    return entry
