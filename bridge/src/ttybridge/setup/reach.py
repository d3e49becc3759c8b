"""What to type on another machine to reach each port of a port map; docs/clients.md has more.

    python3 -m ttybridge.setup.reach HOST <VARIABLES

HOST is the name or address of this machine for others. VARIABLES are those of the host, as
`ansible-inventory --host` prints them.
"""

from __future__ import annotations

import ipaddress
import json
import sys
from collections.abc import Sequence
from typing import Any

from ttybridge.model.check import PortMapError, parse_portmap
from ttybridge.model.ports import Listener, Port
from ttybridge.model.values import Listen
from ttybridge.setup.inventory import without_marks
from ttybridge.setup.ways import address


def instructions(ports: Sequence[Port], host: str) -> str:
    """Return a few lines for each port; the first begins with its name."""
    width = max((len(port.name) for port in ports), default=0)
    lines = []
    for port in ports:
        names = [port.name]
        for line in _of_port(port, host):
            lines.append(f"{names.pop() if names else '':{width}}  {line}\n")
    return "".join(lines)


def _of_port(port: Port, host: str) -> list[str]:
    """Commands and URLs for each listener of a port."""
    if port.connect:
        return [f"connects to {port.connect} itself"]
    lines = [line for listener in port.listeners for line in _of_listener(listener, host)]
    if port.users or not lines:
        lines.append(f"ttybridge console {port.name}    # on this machine")
    return lines


def _of_listener(listener: Listener, host: str) -> list[str]:
    at = address(listener.at, host)
    notes = [] if at == host else [_from_where(at)]
    if listener.access == "watch":
        notes.append("to watch only")
    note = f"    # {', '.join(notes)}" if notes else ""
    url = str(Listen(at, listener.at.port))
    words = f"{at} {listener.at.port}"
    if listener.tls:
        return [f"TLS, at {url}: docs/clients.md#tls{note}"]
    if listener.protocol == "raw":
        return [
            f"nc {words}{note}",
            f"socat -,rawer,escape=0x1d tcp:{url}    # Ctrl-] ends it",
            f"pyserial: socket://{url}",
        ]
    pyserial = [f"pyserial: rfc2217://{url}"] if listener.protocol == "rfc2217" else []
    return [f"telnet {words}{note}", *pyserial]


def _from_where(address: str) -> str:
    if ipaddress.ip_address(address).is_loopback:
        return "on this machine only"
    return "this address only"


def main(host: str, variables: dict[str, Any]) -> None:
    """Print the instructions."""
    try:
        known = without_marks(variables)
        ports = parse_portmap(known["serial_ports"], known.get("serial_ports_defaults"))
    except PortMapError:
        # ansible-inventory does not evaluate the user's Jinja, so the values may be no values.
        print("docs/clients.md has what to type for each kind of port")
    else:
        print(instructions(ports, host), end="")


if __name__ == "__main__":
    main(sys.argv[1], json.load(sys.stdin))
