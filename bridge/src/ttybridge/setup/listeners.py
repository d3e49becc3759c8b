"""The TCP listeners of a host and its connections, as the kernel tells of them.

    python3 - <listeners.py

prints JSON: "listening", the listeners as a list of {"address", "port", "user", "program",
"units"}; "clients", the connections as a list of {"port", "peer"}; and "sessions", the clients of
each port of ttybridge. "address" is "" for every address, IPv4 and IPv6; "user" is a number;
"program" and "units" (of systemd) are those of the processes with the socket. They are "" and []
for who is not root.

The role host sends this file to hosts, so it imports only the standard library. The facts come
from proc(5) and sock_diag(7).
"""

from __future__ import annotations

import contextlib
import dataclasses
import ipaddress
import json
import os
import re
import socket
import struct
import sys
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Where ttybridge answers; see ttybridge.daemon.control.
CONTROL = Path("/run/ttybridge/control.sock")

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_ESTABLISHED, _LISTENING = "01", "0A"

# Netlink's message types and flags, and the attribute of IPV6_V6ONLY (linux/inet_diag.h).
_NETLINK_SOCK_DIAG, _BY_FAMILY, _REQUEST_DUMP, _ONLY_IPV6 = 4, 20, 0x301, 11


@dataclass(frozen=True)
class Connection:
    """A listener, or a connection with a peer.

    `peer` is `address:port`; `user` is the number of the user who opened the socket; `inode` is
    the number of the socket.
    """

    address: Address
    port: int
    peer: str
    listening: bool
    user: int
    inode: int


@dataclass(frozen=True)
class Listener:
    """A listener and its owner; the fields are described at the top of this module."""

    address: str
    port: int
    user: int
    program: str = ""
    units: tuple[str, ...] = ()


def connections(root: Path = Path("/")) -> list[Connection]:
    """Return every TCP listener and established connection; `root` is the folder with proc/."""
    found = []
    for name in ("tcp", "tcp6"):
        try:
            lines = (root / "proc/net" / name).read_text(encoding="ascii").splitlines()[1:]
        except OSError:  # the host has no IPv6
            continue
        for _, local, remote, state, _, _, _, user, _, inode, *_ in map(str.split, lines):
            if state in (_LISTENING, _ESTABLISHED):
                address, port = _endpoint(local)
                peer, peer_port = _endpoint(remote)
                shown = f"[{peer}]" if peer.version == 6 else str(peer)
                found.append(
                    Connection(
                        address,
                        port,
                        peer=f"{shown}:{peer_port}",
                        listening=state == _LISTENING,
                        user=int(user),
                        inode=int(inode),
                    )
                )
    return found


def listeners(root: Path = Path("/"), only_ipv6: Collection[int] = ()) -> Iterator[Listener]:
    """Yield every TCP listener; `only_ipv6` are the inodes of those that take no IPv4."""
    listening = [one for one in connections(root) if one.listening]
    owners = _owners(root, {one.inode for one in listening})
    for one in listening:
        dual = one.address == ipaddress.IPv6Address(0) and one.inode not in only_ipv6
        processes = owners.get(one.inode, [])
        program = _text(processes[0] / "comm").rstrip("\n") if processes else ""
        units = dict.fromkeys(unit for process in processes for unit in _units(process))
        yield Listener("" if dual else str(one.address), one.port, one.user, program, tuple(units))


def listens(address: str, port: int, open_: list[Connection]) -> list[Connection]:
    """The listening sockets at an address and TCP port; "" is every address."""
    return [
        one
        for one in open_
        if one.listening
        and one.port == port
        and (
            one.address == ipaddress.ip_address(address) if address else one.address.is_unspecified
        )
    ]


def peers(address: str, port: int, open_: list[Connection]) -> list[str]:
    """The clients that are connected to a listener, each as `address:port`."""
    addresses = {one.address for one in listens(address, port, open_)}
    return [
        one.peer
        for one in open_
        if not one.listening
        and one.port == port
        and (one.address in addresses or any(address.is_unspecified for address in addresses))
    ]


def without_ipv4() -> set[int]:
    """Return the inodes of IPv6 listeners that take no IPv4; /proc does not show that.

    The set is empty if the kernel does not answer.
    """
    every = struct.pack("=4BI48x", socket.AF_INET6, socket.IPPROTO_TCP, 0, 0, 1 << 10)
    request = struct.pack("=IHHII", 16 + len(every), _BY_FAMILY, _REQUEST_DUMP, 0, 0) + every
    found: set[int] = set()
    with (
        contextlib.suppress(OSError),
        socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_SOCK_DIAG) as kernel,
    ):
        kernel.send(request)
        while answer := kernel.recv(65536):
            at = 0
            while at < len(answer):
                length, kind = struct.unpack_from("=IH", answer, at)
                if kind != _BY_FAMILY:  # the end, or an error
                    return found
                if _attributes(answer[at + 88 : at + length]).get(_ONLY_IPV6) == b"\1":
                    found.add(struct.unpack_from("=I", answer, at + 84)[0])
                at += length + 3 & ~3
    return found


def _attributes(data: bytes) -> dict[int, bytes]:
    """The attributes at the end of a netlink message, by their numbers."""
    found = {}
    at = 0
    while at + 4 <= len(data):
        length, number = struct.unpack_from("=HH", data, at)
        found[number] = data[at + 4 : at + length]
        at += max(length, 4) + 3 & ~3
    return found


def _endpoint(text: str) -> tuple[Address, int]:
    """Read an address and port as /proc writes them: 32-bit words in the host's byte order."""
    digits, port = text.split(":")
    words = [bytes.fromhex(digits[at : at + 8]) for at in range(0, len(digits), 8)]
    packed = b"".join(word[::-1] if sys.byteorder == "little" else word for word in words)
    address = ipaddress.ip_address(packed)
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
        address = address.ipv4_mapped
    return address, int(port, 16)


def _owners(root: Path, inodes: Collection[int]) -> dict[int, list[Path]]:
    """The processes that have each socket, by its inode; a process is its folder in /proc."""
    found: dict[int, list[Path]] = {}
    names = {f"socket:[{inode}]": inode for inode in inodes}
    for pid in sorted((name for name in os.listdir(root / "proc") if name.isdigit()), key=int):
        process = root / "proc" / pid
        try:
            targets = {os.readlink(process / "fd" / file) for file in os.listdir(process / "fd")}
        except OSError:  # the process has ended, or is another user's
            continue
        for target in targets & names.keys():
            found.setdefault(names[target], []).append(process)
    return found


def _units(process: Path) -> Iterator[str]:
    """The service of systemd that the control group of a process names."""
    groups = _text(process / "cgroup")
    yield from re.findall(r"^(?:0:|1:name=systemd):.*/([^/\n]*\.service)\b", groups, re.MULTILINE)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def sessions(path: Path = CONTROL) -> dict[str, list[dict[str, Any]]]:
    """Return the clients of each port of ttybridge, as `ttybridge status --json` shows them.

    The result is empty if no daemon answers.
    """
    try:
        with socket.socket(socket.AF_UNIX) as daemon:
            daemon.settimeout(5)
            daemon.connect(str(path))
            daemon.sendall(b'{"command": "status"}\n')
            with daemon.makefile("rb") as stream:
                status = json.loads(stream.readline())
        return {port["name"]: port["clients"] for port in status["ports"]}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def network() -> dict[str, Any]:
    """Return what the role host wants to know: "listening", "clients" and "sessions"."""
    established = (one for one in connections() if not one.listening)
    return {
        "listening": [dataclasses.asdict(one) for one in listeners(only_ipv6=without_ipv4())],
        "clients": [{"port": one.port, "peer": one.peer} for one in established],
        "sessions": sessions(),
    }


if __name__ == "__main__":
    print(json.dumps(network()))
