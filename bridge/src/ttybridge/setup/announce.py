"""What a host tells its network of its ports by DNS-SD: an avahi service for each listener."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

# Beside _iostream._tcp, which gensio (its gensio `mdns`) and openHAB look for.
_TYPES = {"raw": (), "telnet": ("_telnet._tcp",), "rfc2217": ("_rfc2217._tcp", "_telnet._tcp")}

# What gensio opens; it adds the address.
_STACKS = {"raw": "", "telnet": "telnet,", "rfc2217": "telnet(rfc2217),"}

# The bytes of a name and of a text that DNS takes.
_NAME_BYTES, _TEXT_BYTES = 63, 255


def services(ports: Sequence[Mapping[str, Any]], host: str) -> list[dict[str, Any]]:
    """Return a service for each TCP port that others reach.

    `ports` are as `inventory.ports_of_host` returns them, `host` is the host's name for people.
    A service has `path`, its file on the host; `name`; `family`, which is any, ipv4 or ipv6;
    `port`; `types`; and `texts`, each KEY=VALUE. A file of avahi-daemon has one name, so there is
    one for each.
    """
    return [one for port in ports for one in _of_port(port, host)]


def _of_port(port: Mapping[str, Any], host: str) -> Iterator[dict[str, Any]]:
    reachable = [one for one in port["listeners"] if not _is_loopback(one["address"])]
    numbers = {one["port"]: one for one in reversed(reachable)}
    for number, listener in sorted(numbers.items()):
        which = f" {number}" if len(numbers) > 1 else ""
        yield {
            "path": f"/etc/avahi/services/ttyfleet-{port['name']}-{number}.service",
            "name": _cut(f"{port['name']}{which} on {host}", _NAME_BYTES),
            "family": _family(listener["address"]),
            "port": number,
            "types": _types(listener),
            "texts": [_cut(text, _TEXT_BYTES) for text in _texts(port, listener)],
        }


def _types(listener: Mapping[str, Any]) -> list[str]:
    types = _TYPES[listener["protocol"]]
    if listener["tls"]:
        types = ("_telnets._tcp",) if types else ()
    return ["_iostream._tcp", *types]


def _texts(port: Mapping[str, Any], listener: Mapping[str, Any]) -> Iterator[str]:
    yield f"name={port['name']}"
    for key in ("description", "location"):
        if port[key]:
            yield f"{key}={port[key]}"
    protocol = listener["protocol"]
    yield f"protocol={protocol}"
    yield f"gensiostack={_STACKS[protocol]}{'ssl,' if listener['tls'] else ''}tcp"
    if listener["access"] != "write":
        yield f"access={listener['access']}"
    yield "provider=ttyfleet"
    yield from _adapter(port["usb"] or {})


def _adapter(usb: Mapping[str, Any]) -> Iterator[str]:
    """The adapter, by the names of sysfs, as ser2net gives them and openHAB reads them."""
    if not (usb.get("vendor") and usb.get("product")):
        return
    yield "devicetype=serialusb"
    yield f"idVendor={usb['vendor']}"
    yield f"idProduct={usb['product']}"
    yield f"bInterfaceNumber={usb.get('interface') or 0:02x}"
    if usb.get("serial"):
        yield f"serial={usb['serial']}"


def _is_loopback(address: str) -> bool:
    return bool(address) and _parsed(address).is_loopback


def _family(address: str) -> str:
    # One socket on :: takes clients of both.
    return "any" if address in ("", "::") else f"ipv{_parsed(address).version}"


def _parsed(address: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    return ipaddress.ip_address(address.partition("%")[0])


def _cut(text: str, size: int) -> str:
    return text.encode()[:size].decode(errors="ignore").rstrip()
