"""Whose connections a restart or a reload of a daemon ends."""

from __future__ import annotations

import base64
import tomllib
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from ttybridge.model import ports as model
from ttybridge.model.changes import closed
from ttybridge.model.check import check_portmap
from ttybridge.model.people import Person
from ttybridge.model.values import Allowed

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

    The new entry of a port ends those that `model.changes` says, and those that its `allow` or its
    `allow_names` or the port's `users` no longer let in. A restart also ends those with TLS, whose
    keys stay in the old process; a stop ends all.
    """
    wanted = {port["name"]: _parsed(_entry(port)) for port in ports}
    before = {name: _parsed(entry) for name, entry in _entries(read).items()}
    texts = []
    for name, clients in read["sessions"].items():
        old, new = before.get(name), wanted.get(name)
        gone = closed(old, new) if old and new else None
        if effect == "stop" or not old or not new or not gone or gone.port:
            ended = clients
        else:
            places = gone.listeners | (_secured(old) if effect == "restart" else set())
            ended = [one for one in clients if _at(one) in places or _is_forbidden(one, new)]
        if text := _named(name, (_aged(one) for one in ended)):
            texts.append(text)
    return texts


def of_people(names: Collection[str], read: Mapping[str, Any]) -> list[str]:
    """Return the sessions that some accounts have by `ttybridge console`, a text for each port."""
    found = (
        _named(port, (_aged(one) for one in clients if one.get("person") in names))
        for port, clients in read["sessions"].items()
    )
    return [text for text in found if text]


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


def _secured(port: model.Port) -> set[str]:
    """The listeners of a port that have TLS; "" for the connection that it makes."""
    dialled = {""} if port.connect and port.connect.tls else set()
    return {str(one.at) for one in port.listeners if one.tls} | dialled


def _at(client: Mapping[str, Any]) -> str:
    """The listener of a client, "" if the port has dialled."""
    return client.get("listener") or ""


def _is_forbidden(client: Mapping[str, Any], port: model.Port) -> bool:
    """Whether the port surely no longer lets a client in: by account, address or certificate.

    Which networks are `local`, only the host knows.
    """
    if client.get("person"):
        return not _person(client).may_use(port.users)
    listener = next((one for one in port.listeners if str(one.at) == _at(client)), None)
    allow, names = (listener.allow, listener.allow_names) if listener else ((), ())
    if names and set(names).isdisjoint(client.get("names") or ()):
        return True
    address = client["address"].rpartition(":")[0].strip("[]")
    try:
        return not Allowed.of(allow).lets_in(address, is_local=lambda _: True)
    except ValueError:  # a host can say what it likes
        return False


def _person(client: Mapping[str, Any]) -> Person:
    """A client by `ttybridge console`; a daemon of an earlier version does not say its groups."""
    name = str(client["person"])
    return Person(name, [str(each) for each in client.get("groups", ())], name == "root")


def _parsed(entry: Mapping[str, Any]) -> model.Port | None:
    """A port of the daemon's configuration; None where this version cannot read it."""
    found, _ = check_portmap([entry])
    return found[0] if found else None


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
