"""What cloud-init reads on the first start of a Pi, made from `serial_card` of the inventory.

    python3 -m ttybridge.setup.sdcard FOLDER

says why FOLDER is no boot partition that can take these files, or nothing. `files` makes them, for
the cloud-init (25.1) of Raspberry Pi OS 13; docs/sdcard.md says what they do on a Pi.
"""

from __future__ import annotations

import base64
import difflib
import ipaddress
import os
import re
import struct
import sys
import zoneinfo
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ttybridge.model.values import (
    BadKeys,
    Kind,
    Misread,
    NotAllowed,
    OffOr,
    Switch,
    Table,
    Text,
    kinds_of,
    parse_table,
    setting,
    shown,
)
from ttybridge.setup.accounts import KEYS, ListOf

# Where Raspberry Pi OS 13 has the partition.
BOOT = "/boot/firmware"
SEED = ("user-data", "network-config", "meta-data")

_LABEL = "[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_NAME = Text(
    "lower-case letters, digits and '-', such as pi-rack1 or pi-rack1.example.org",
    rf"{_LABEL}(?:\.{_LABEL})*",
)
_USER = Text(
    "the account that ssh logs in as, such as pi, and not root", "(?!root$)[a-z_][a-z0-9_-]{0,31}"
)


@dataclass(frozen=True)
class _Secret:
    """Another kind, whose values no message shows."""

    kind: Kind

    @property
    def allowed(self) -> str:
        return self.kind.allowed

    @property
    def schema(self) -> dict[str, Any]:
        return self.kind.schema

    def parse(self, value: object) -> Any:
        try:
            return self.kind.parse(value)
        except ValueError as error:
            raise Misread(f"its value, which is not shown here, is wrong: {error}") from None


@dataclass(frozen=True)
class _WithSecrets:
    """A mapping with the keys of a dataclass; the value of an unknown key may be a secret."""

    table: Table
    hints: Mapping[str, str]

    @property
    def allowed(self) -> str:
        return self.table.allowed

    @property
    def schema(self) -> dict[str, Any]:
        return self.table.schema

    def parse(self, value: object) -> Any:
        if not isinstance(value, Mapping):
            raise Misread(f"its value, which is not shown here, is wrong: write {self.allowed}")
        kinds = kinds_of(self.table.model)
        known = {key: item if key in kinds else "..." for key, item in value.items()}
        return self.table.model(**parse_table(known, self.table.model, self.hints))


@dataclass(frozen=True)
class HostKey:
    """A private key of OpenSSH, without a passphrase."""

    allowed: str = (
        "a private key without a passphrase, as ssh-keygen -q -t ed25519 -N '' -f FILE makes it"
    )

    @property
    def schema(self) -> dict[str, Any]:
        return {"type": "string"}

    def parse(self, value: object) -> str:
        if not isinstance(value, str):
            raise NotAllowed(self)
        text = f"{value.strip()}\n"
        try:
            public_key(text)
        except ValueError:
            raise NotAllowed(self) from None
        return text


@dataclass(frozen=True)
class _Address:
    """An IP address, with the length of its network's prefix where `network` asks for it."""

    network: bool = False

    @property
    def allowed(self) -> str:
        if self.network:
            return "an IP address with the length of its prefix, such as 192.0.2.11/24"
        return "an IP address, such as 192.0.2.1"

    @property
    def schema(self) -> dict[str, Any]:
        return {"type": "string"}

    def parse(self, value: object) -> str:
        if not isinstance(value, str) or ("/" in value) != self.network:
            raise NotAllowed(self)
        try:
            address = ipaddress.ip_interface(value)
        except ValueError:
            raise NotAllowed(self) from None
        return str(address if self.network else address.ip)


@dataclass(frozen=True)
class _TimeZone:
    """A name of the time-zone database."""

    allowed: str = "a time zone such as Europe/Berlin; timedatectl list-timezones prints all"

    @property
    def schema(self) -> dict[str, Any]:
        return {"type": "string"}

    def parse(self, value: object) -> str:
        zones = zoneinfo.available_timezones()
        if not isinstance(value, str) or not re.fullmatch("[A-Za-z0-9_+/-]+", value):
            raise NotAllowed(self)
        # A controller may lack the database.
        if zones and value not in zones:
            near = difflib.get_close_matches(value, zones, 1)
            raise ValueError(f"write {near[0]}") if near else NotAllowed(self)
        return str(value)


@dataclass(frozen=True)
class Static:
    """An address that the Pi has without DHCP."""

    address: str = setting(_Address(network=True), "its address", touches="live")
    gateway: str = setting(_Address(), "the router", touches="live")
    dns: tuple[str, ...] = setting(
        ListOf(_Address(), "a list of IP addresses, such as [192.0.2.1]"),
        "name servers",
        touches="live",
    )


@dataclass(frozen=True)
class _Network:
    """dhcp (None), or a static address."""

    table: Table = Table(Static, "{address: 192.0.2.11/24, gateway: 192.0.2.1, dns: [192.0.2.1]}")

    @property
    def allowed(self) -> str:
        return f"dhcp, or {self.table.allowed}"

    @property
    def schema(self) -> dict[str, Any]:
        return {"anyOf": [{"enum": ["dhcp"]}, self.table.schema]}

    def parse(self, value: object) -> Static | None:
        if value == "dhcp":
            return None
        if not isinstance(value, Mapping):
            raise NotAllowed(self)
        static: Static = self.table.parse(value)
        network = ipaddress.ip_interface(static.address).network
        gateway = ipaddress.ip_address(static.gateway)
        if gateway not in network and not gateway.is_link_local:
            problem = f"{shown(static.gateway)}: it is not in {network}: write the router there"
            raise BadKeys([("gateway", problem)])
        return static


@dataclass(frozen=True)
class Wifi:
    """The Wi-Fi network that the Pi joins."""

    ssid: str = setting(
        Text("the name of the network, at most 32 characters", r"[^\x00-\x1f\x7f]{1,32}"),
        "its name",
        touches="live",
    )
    country: str = setting(
        Text("the two letters of the country whose rules hold, such as DE", "[A-Z]{2}"),
        "the country: without it a Pi keeps its radio off",
        touches="live",
    )
    password: str | None = setting(
        _Secret(
            OffOr(Text("its password, 8 to 63 characters of ASCII", "[ -~]{8,63}|[0-9a-fA-F]{64}"))
        ),
        "its password; off for an open network",
        touches="live",
    )
    hidden: bool = setting(
        Switch(), "whether the network does not tell its name", touches="live", default=False
    )


_WIFI_EXAMPLE = '{ssid: lab, country: DE, password: "{{ vault_wifi }}"}'


@dataclass(frozen=True)
class Card:
    """`serial_card`: what the inventory says of the first start of a Pi."""

    keys: tuple[str, ...] = setting(KEYS, "public keys that log in as ansible_user", touches="live")
    network: Static | None = setting(
        _Network(), "how the Pi gets its address", touches="live", default=None
    )
    wifi: Wifi | None = setting(
        OffOr(_WithSecrets(Table(Wifi, _WIFI_EXAMPLE), {"psk": "did you mean password?"})),
        "Wi-Fi, instead of the cable",
        touches="live",
        default=None,
    )
    timezone: str = setting(_TimeZone(), "its time zone", touches="live", default="")
    hostname: str = setting(
        _NAME, "its name, if the inventory has another", touches="live", default=""
    )
    host_key: str = setting(
        _Secret(HostKey()), "the private host key of its sshd", touches="live", default=""
    )
    known_hosts: str = setting(
        Text("a file, such as ~/.ssh/known_hosts", "[^\x00-\x1f\x7f]+"),
        "the file in which ssh on this computer looks for host keys",
        touches="live",
        default="",
    )


_HINTS = {
    "key": "did you mean keys?",
    "ssh_keys": "did you mean keys?",
    "password": "nobody logs in with a password: write keys",
    "user": "the account is ansible_user",
    "name": "did you mean hostname?",
    "static": "did you mean network?",
}
_CARD = _WithSecrets(Table(Card, '{keys: ["ssh-ed25519 AAAA..."]}'), _HINTS)


@dataclass(frozen=True)
class Login:
    """How Ansible reaches the Pi: `ansible_user` and `ansible_host` ("" where there is none)."""

    user: str
    address: str = ""


def public_key(private: str) -> str:
    """Return the public key of a private one without a passphrase, as a .pub file has it.

    The format is that of OpenSSH (PROTOCOL.key). Raises `ValueError` if it is another.
    """
    match = re.fullmatch(
        r"-----BEGIN OPENSSH PRIVATE KEY-----\s(.*)-----END OPENSSH PRIVATE KEY-----\s*",
        private,
        re.DOTALL,
    )
    magic = b"openssh-key-v1\0"
    try:
        data = base64.b64decode("".join(match[1].split()), validate=True) if match else b""
        cipher, at = _field(data, len(magic))
        for _ in ("kdfname", "kdfoptions"):
            _, at = _field(data, at)
        public, _ = _field(data, at + 4)
        kind = _field(public, 0)[0].decode("ascii")
    except (ValueError, struct.error):
        cipher = b""
    if cipher != b"none" or not data.startswith(magic):
        raise ValueError("it is no private key of OpenSSH without a passphrase")
    return f"{kind} {base64.b64encode(public).decode('ascii')}"


def _field(data: bytes, at: int) -> tuple[bytes, int]:
    """A field after its length (RFC 4251, 5), and where the next one begins."""
    (length,) = struct.unpack_from(">I", data, at)
    at += 4
    if len(data) < at + length:
        raise ValueError("a part is missing")
    return data[at : at + length], at + length


def faults(host: str, written: object, login: Login) -> list[str]:
    """Return a line for everything in `serial_card` of a host, or beside it, that is wrong."""
    found = []
    card = None
    try:
        card = _parse(written)
    except BadKeys as inside:
        found += [f"{host}: serial_card.{key}: {problem}" for key, problem in inside.bad]
    except ValueError as error:
        found.append(f"{host}: serial_card: {error}")
    try:
        _USER.parse(login.user)
    except ValueError as error:
        found.append(f"{host}: ansible_user: {shown(login.user or None)}: {error}")
    if card:
        found += [f"{host}: {key}: {problem}" for key, problem in _beside(host, card, login)]
    return found


def _parse(written: object) -> Card:
    if written is None:
        raise ValueError(f"missing: write {_CARD.allowed}")
    card: Card = _CARD.parse(written)
    return card


def _beside(host: str, card: Card, login: Login) -> list[tuple[str, str]]:
    """What is wrong with a card only beside the host's name and address."""
    found = []
    if not card.keys:
        found.append(("serial_card.keys", "[]: nobody could log in: write a public key"))
    if not card.hostname:
        try:
            _NAME.parse(host)
        except ValueError as error:
            problem = f"the inventory's name {shown(host)} cannot be a Pi's: {error}"
            found.append(("serial_card.hostname", problem))
    if card.network and _is_address(login.address):
        address = ipaddress.ip_interface(card.network.address).ip
        if address != ipaddress.ip_address(login.address):
            problem = f"Ansible looks for it at ansible_host: {login.address}: write one address"
            shown_address = shown(card.network.address)
            found.append(("serial_card.network.address", f"{shown_address}: {problem}"))
    return found


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def files(
    host: str,
    written: object,
    login: Login,
    host_key: str,
    instance: str,
    more: Mapping[str, Sequence[Any]] | None = None,
) -> dict[str, str]:
    """Return the seed, three files by their names, from a `serial_card` without faults.

    `host_key` is the private key of the Pi's sshd, where the card has none of its own. `instance`
    is a text that no earlier start had: cloud-init does its work once for each. `more` has further
    `write_files` and `runcmd` of user-data.
    """
    card = _parse(written)
    name = card.hostname or host
    network = _network(card)
    kept = _user_data(name, card, login.user)
    secret = _files(login.user, card.host_key or HostKey().parse(host_key))
    more = more or {}
    start = [["systemctl", "enable", "ssh"], ["systemctl", "restart", "ssh"]]
    user = {
        **kept,
        "write_files": [*secret, *more.get("write_files", ())],
        "runcmd": [*start, _forget(card, kept, network), *more.get("runcmd", ())],
    }
    return {
        "user-data": _cloud_config(user),
        "network-config": _yaml({"network": network}),
        # The hyphen matters: instance_id is ignored.
        "meta-data": _yaml({"dsmode": "local", "instance-id": f"{name}-{instance}"}),
    }


def _user_data(name: str, card: Card, user: str) -> dict[str, Any]:
    """What stays in user-data: cloud-init sets the names at each start."""
    return {
        "hostname": name.partition(".")[0],
        **({"fqdn": name} if "." in name else {}),
        "manage_etc_hosts": True,
        **({"timezone": card.timezone} if card.timezone else {}),
        # Otherwise cloud-init writes Debian's own over those of Raspberry Pi OS.
        "apt": {"preserve_sources_list": True},
        # The account that the distribution would make, with its groups and another name.
        "user": {
            "name": user,
            "shell": "/bin/bash",
            "lock_passwd": True,
            "ssh_authorized_keys": [*card.keys],
        },
        "ssh_pwauth": False,
    }


def _files(user: str, host_key: str) -> list[dict[str, Any]]:
    """The files of the first start, as `write_files` of user-data has them."""
    # A file of another name than sshd's own: the Pi makes those itself on its first start.
    key = "/etc/ssh/ttyfleet_host_ed25519_key"
    return [
        {"path": key, "content": host_key, "permissions": "0600"},
        {"path": "/etc/ssh/sshd_config.d/10-ttyfleet-host-key.conf", "content": f"HostKey {key}\n"},
        # `sudo` of the account is not heeded where Raspberry Pi OS renames its own first account.
        {
            "path": f"/etc/sudoers.d/010_{user}-nopasswd",
            "content": f"{user} ALL=(ALL) NOPASSWD: ALL\n",
            "permissions": "0440",
        },
    ]


def _network(card: Card) -> dict[str, Any]:
    """The network in the words of netplan; a start waits for what is not optional."""
    addressed = _addressed(card.network)
    if not card.wifi:
        return {"version": 2, "ethernets": {"eth0": {**addressed, "optional": False}}}
    # With `password` netplan takes WPA2 and WPA3; an open network needs words of its own.
    point: dict[str, Any] = {"auth": {"key-management": "none"}}
    if card.wifi.password:
        point = {"password": card.wifi.password}
    if card.wifi.hidden:
        point["hidden"] = True
    wlan0 = {
        **addressed,
        "optional": False,
        "regulatory-domain": card.wifi.country,
        "access-points": {card.wifi.ssid: point},
    }
    return {
        "version": 2,
        "ethernets": {"eth0": {"dhcp4": True, "optional": True}},
        "wifis": {"wlan0": wlan0},
    }


def _addressed(static: Static | None) -> dict[str, Any]:
    if not static:
        return {"dhcp4": True}
    return {
        "dhcp4": False,
        "addresses": [static.address],
        "routes": [{"to": "default", "via": static.gateway}],
        "nameservers": {"addresses": [*static.dns]},
    }


def _forget(card: Card, kept: Mapping[str, Any], network: Mapping[str, Any]) -> list[str]:
    """The command that takes the secrets off the boot partition, which everybody may read.

    By then cloud-init has copies of its own for root. It uses the network of an instance once, so
    the Pi keeps its Wi-Fi.
    """
    clean = {"user-data": _cloud_config(kept)}
    if card.wifi and card.wifi.password:
        without = {key: item for key, item in network.items() if key != "wifis"}
        clean["network-config"] = _yaml({"network": without})
    # Overwritten in place: a removed file's bytes stay on a FAT partition.
    script = [f"cd {BOOT}", f"shred --iterations=1 {' '.join(clean)}"]
    script += [f"printf %s {_quoted(text)} >{name}" for name, text in clean.items()]
    return ["sh", "-ec", "\n".join([*script, "sync"])]


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"


def _cloud_config(value: Mapping[str, Any]) -> str:
    return f"#cloud-config\n{_yaml(value)}"


def _yaml(value: Any) -> str:
    # Imported late: to look at a partition the system's Python is enough.
    import yaml

    class Dumper(yaml.SafeDumper):
        """Texts of several lines as such; no text is ever cut into lines."""

    def text(dumper: yaml.SafeDumper, data: str) -> yaml.ScalarNode:
        style = "|" if "\n" in data else None
        return dumper.represent_scalar("tag:yaml.org,2002:str", data, style=style)

    Dumper.add_representer(str, text)
    # Ansible has classes of its own for text.
    Dumper.add_multi_representer(str, text)
    return str(yaml.dump(value, Dumper=Dumper, sort_keys=False, allow_unicode=True, width=10**6))


def partition_fault(folder: Path) -> str:
    """Return why a folder is not the boot partition of a card with cloud-init; "" if it is."""
    if not folder.is_dir():
        return f"{folder} is no folder: mount the card's first partition, and name where it is"
    missing = [name for name in ("config.txt", "cmdline.txt") if not (folder / name).is_file()]
    if missing:
        return (
            f"{folder} is not the boot partition of a Raspberry Pi: it has no {missing[0]}: "
            "name the folder where the card's partition bootfs is mounted"
        )
    if not any((folder / name).exists() for name in SEED):
        return (
            f"{folder} has none of {', '.join(SEED)}: its image has no cloud-init, as Raspberry Pi "
            "OS 12 (bookworm) has none. Write Raspberry Pi OS 13 (trixie) onto the card, or see "
            "docs/sdcard.md#bookworm"
        )
    if "ds=nocloud" in (folder / "cmdline.txt").read_text("utf-8", errors="replace"):
        return (
            f"{folder}/cmdline.txt has ds=nocloud: Raspberry Pi Imager has put settings of its own "
            "onto the card. Write the image again without settings"
        )
    if not os.access(folder, os.W_OK):
        return f"{folder} cannot be written by you: mount it so, or run this with sudo"
    return ""


if __name__ == "__main__":
    fault = partition_fault(Path(sys.argv[1]))
    sys.exit(f"error: {fault}" if fault else 0)
