"""Whose connections a restart or a reload of a daemon ends."""

from __future__ import annotations

import base64
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

Port = Mapping[str, Any]

_SER2NET = "ser2net.service"


def cut_by_ser2net(ports: Sequence[Port], read: Mapping[str, Any]) -> list[str]:
    """Return the clients that a restart of ser2net ends, a text for each port.

    `ports` are those that it gets; a client of a TCP port that none of them has is there, too.
    """
    names = {one["port"]: port["name"] for port in ports for one in port["listeners"]}
    served = {one["port"] for one in read["listening"] if _is_ser2nets(one, read)}
    peers: dict[str, list[str]] = {}
    for client in read["clients"]:
        if client["port"] in served:
            name = names.get(client["port"], f"TCP port {client['port']}")
            peers.setdefault(name, []).append(client["peer"])
    return [_named(name, clients) for name, clients in peers.items()]


def _is_ser2nets(listener: Mapping[str, Any], read: Mapping[str, Any]) -> bool:
    """Whether a listener is ser2net's: in a container only its user tells."""
    user = str(read["users"].get(_SER2NET, ""))
    return _SER2NET in listener["units"] or (
        user not in ("", "0") and str(listener["user"]) == user
    )


def cut_by_bridge(effect: str, ports: Sequence[Port], read: Mapping[str, Any]) -> list[str]:
    """Return the clients that ttybridge's new state ends, a text for each port.

    Every change ends the clients of the ports whose entry it changes. A restart also ends those
    with TLS, whose keys stay in the old process; a stop ends all.
    """
    sessions = read["sessions"]
    wanted = {port["name"]: port for port in ports}
    before = _entries(read)
    texts = []
    for name, clients in sessions.items():
        port = wanted.get(name)
        if effect == "stop" or port is None or before.get(name) != _entry(port):
            ended = clients
        elif effect == "restart":
            ended = [one for one in clients if _has_tls(one, port, read)]
        else:
            ended = []
        if text := _named(name, (_aged(one) for one in ended)):
            texts.append(text)
    return texts


def _named(port: str, clients: Iterable[str]) -> str:
    known = list(clients)
    return f"{port}: {', '.join(known)}" if known else ""


def _aged(client: Mapping[str, Any]) -> str:
    """A client with the time for which it has been connected."""
    seconds = round(client["connected_for"])
    for size, unit in ((86400, "days"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{client['address']} (for {seconds // size} {unit})"
    return f"{client['address']} (for {seconds} s)"


def _has_tls(client: Mapping[str, Any], port: Port, read: Mapping[str, Any]) -> bool:
    secured = {one["port"] for one in port["listeners"] if one["tls"]}
    connected = {one["peer"]: one["port"] for one in read["clients"]}
    return connected.get(client["address"]) in secured


def _entries(read: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The ports of the configuration that the host has, by name; none if it is not readable."""
    try:
        text = base64.b64decode(read["configuration"]).decode()
        ports = tomllib.loads(text).get("port", [])
        return {port["name"]: port for port in ports}
    except (ValueError, TypeError, KeyError):  # a TOMLDecodeError is a ValueError
        return {}


def _entry(port: Port) -> dict[str, Any]:
    """A port as templates/ttybridge.toml.j2 writes it."""
    skipped = {"device", "usb", "engine", "probe"}
    kept = {key: value for key, value in port["entry"].items() if key not in skipped}
    return {**kept, "device": port["path"]}
