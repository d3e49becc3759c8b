"""Who gets past a firewall: run by test_firewall.py, in a network namespace of its own.

    unshare --net python knock.py TABLE <JSON

TABLE is a file for nft. JSON is {"listen": ["[address:]port", ...], "from": [address, ...]}; their
addresses become the namespace's own. Printed is a JSON object: "let_in" has for each listener the
addresses from where clients got to it, and "cut" whether a connection from before came to its end
at both ends, by listener.
"""

from __future__ import annotations

import contextlib
import ipaddress
import json
import socket
import subprocess
import sys

from ttybridge.model.values import Listen, ListenAddress
from ttybridge.net.sockets import open_listener

# For what comes at once, or else is a fault.
SECONDS = 10


def bring_up(addresses: set[str]) -> None:
    """Give the namespace its addresses."""
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    for address in sorted(addresses):
        if address and not ipaddress.ip_address(address).is_loopback:
            at_once = ["nodad"] if ":" in address else []
            command = ["ip", "address", "add", address, "dev", "lo", *at_once]
            subprocess.run(command, check=True)


def connect(listen: Listen, source: str) -> socket.socket | None:
    """A client of a listener; None where it is refused."""
    own = {"": "", "0.0.0.0": "", "::": ""}.get(listen.address, listen.address)
    target = own or ("::1" if ":" in source else "127.0.0.1")
    try:
        return socket.create_connection((target, listen.port), SECONDS, (source, 0))
    except ConnectionRefusedError:
        return None


def is_reset(end: socket.socket) -> bool:
    """Whether an end of a connection hears of its end after it has sent a byte."""
    end.settimeout(SECONDS)
    with contextlib.suppress(TimeoutError):
        try:
            end.sendall(b"x")
            return end.recv(1) == b""
        except ConnectionError:
            return True
    return False


def main(table: str) -> None:
    """Print who gets past."""
    asked = json.load(sys.stdin)
    listeners = {text: ListenAddress().parse(text) for text in asked["listen"]}
    bring_up({*asked["from"], *(each.address for each in listeners.values())} - {"0.0.0.0", "::"})
    sockets = {text: open_listener(listen) for text, listen in listeners.items()}
    pairs = [
        (text, source)
        for text, listen in listeners.items()
        for source in asked["from"]
        if not listen.address or (":" in listen.address) == (":" in source)
    ]
    before = {}
    for text, source in pairs:
        client = connect(listeners[text], source)
        assert client, f"{source} does not get to {text} without a firewall"
        sockets[text].settimeout(SECONDS)
        before[text, source] = client, sockets[text].accept()[0]
    # Twice: alone, and over what is there.
    for _ in range(2):
        subprocess.run(["nft", "--file", table], check=True)
    let_in: dict[str, list[str]] = {text: [] for text in listeners}
    cut: dict[str, list[str]] = {text: [] for text in listeners}
    for text, source in pairs:
        if client := connect(listeners[text], source):
            client.close()
            let_in[text].append(source)
        elif all(is_reset(end) for end in before[text, source]):
            cut[text].append(source)
    json.dump({"let_in": let_in, "cut": cut}, sys.stdout)


if __name__ == "__main__":
    main(sys.argv[1])
