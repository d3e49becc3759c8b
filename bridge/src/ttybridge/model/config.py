"""Reads the daemon's ports from a TOML file, or from words on the command line."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ttybridge.model.check import Fault, check_portmap
from ttybridge.model.ports import Port
from ttybridge.model.values import Listen, ListenAddress, shown


@dataclass(frozen=True)
class Config:
    """What the daemon serves; `metrics` is where Prometheus can ask, None for nowhere."""

    ports: tuple[Port, ...]
    metrics: Listen | None = None


class ConfigError(Exception):
    """A configuration with faults; `lines` names every one, for a person."""

    def __init__(self, lines: list[str]) -> None:
        super().__init__("\n".join(lines))
        self.lines = lines


def load(path: Path) -> Config:
    """Read a TOML file: `[[port]]` tables that are port map entries, and `metrics` if it is there.

    Raises `ConfigError` with every fault of the file.
    """
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError([f"{path}: {error.strerror}"]) from None
    except (
        ValueError,
        RecursionError,
    ) as error:  # also bytes that are no UTF-8 text, a huge number
        raise ConfigError([f"{path}: not TOML: {error}"]) from None
    faults = [
        f"{path}: {name}: unknown key; write the ports as [[port]] tables"
        for name in document
        if name not in ("port", "metrics")
    ]
    metrics: Listen | None = None
    ports: tuple[Port, ...] = ()
    try:
        metrics = parse_metrics(document.get("metrics"))
    except ValueError as error:
        faults.append(f"{path}: metrics: {error}")
    try:
        ports = parse(document.get("port", []), str(path))
    except ConfigError as error:
        faults += error.lines
    faults += [
        f"{path}: metrics: {metrics} is taken by port {port.name}: write another TCP port"
        for port in ports
        if metrics and any(metrics.overlaps(one.at) for one in port.listeners)
    ]
    if faults:
        raise ConfigError(faults)
    return Config(ports, metrics)


def parse_metrics(value: object) -> Listen | None:
    """Return where metrics are served, None if nothing is written.

    Raises `ValueError`, which says what to write.
    """
    if value is None:
        return None
    try:
        listen: Listen = ListenAddress().parse(value)
    except ValueError as error:
        raise ValueError(f"{shown(value)}: {error}") from None
    return listen


def parse(entries: object, where: str) -> tuple[Port, ...]:
    """Return the ports of port map entries, all with engine bridge, or raise `ConfigError`."""
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

    Raises `ConfigError` if a part is not key=value, or a key is there twice.
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
