"""The variables of a host in an Ansible inventory: checks them, and prepares them for the roles.

Runs only on the controller, where the filters of filter_plugins/ call it.
"""

from __future__ import annotations

import dataclasses
import difflib
import functools
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from ttybridge.model.check import TLS_DIRECTORY, Fault, Site, check_portmap, parse_portmap
from ttybridge.model.ports import (
    BY_NAME,
    DialTls,
    Listener,
    Port,
    Tls,
    as_entry,
    as_variables,
    tls_files,
)
from ttybridge.model.values import (
    BadKeys,
    Choice,
    Integer,
    Kind,
    Listen,
    ListenAddress,
    Switch,
    Text,
    WrittenListener,
    inside_of,
    shown,
)
from ttybridge.setup import accounts, pull
from ttybridge.setup.boot_config import BLUETOOTH

# The roles; their argument_specs name all variables.
ROLES = Path(__file__).resolve().parents[4] / "roles"


@dataclass(frozen=True)
class Mode:
    """The mode of a device: octal digits in quotes that let the group read and write."""

    allowed: str = (
        'octal digits in quotes that let the group dialout read and write, such as "0660"'
    )

    @property
    def schema(self) -> dict[str, Any]:
        return self._text.schema

    @property
    def _text(self) -> Text:
        return Text(self.allowed, "0?[0-7][67][0-7]")

    def parse(self, value: object) -> str:
        if isinstance(value, bool) or not isinstance(value, int):
            return self._text.parse(value)
        # YAML reads 0660 as an octal number (432) and 660 as a decimal one.
        digits = (f"0{value:03o}", f"0{value}", "0660")
        meant = next(text for text in digits if re.fullmatch("0[0-7][67][0-7]", text))
        raise ValueError(f'YAML reads it as a number: write it in quotes: udev_mode: "{meant}"')


# The other variables that users set for a host: the kind of value, and what it is for.
SETTINGS: dict[str, tuple[Kind, str]] = {
    "bridge_metrics": (
        ListenAddress(),
        "Where ttybridge shows its metrics to Prometheus, if anywhere.",
    ),
    "bridge_version": (
        Text("the version of a program on the host, such as 0.1.0+1a2b3c4d", r"[A-Za-z0-9.+-]*"),
        "Program of ttybridge to go back to.",
    ),
    "busy": (
        Choice(("force", "skip", "wait")),
        "What to do if ports of ser2net are in use when it must restart.",
    ),
    "busy_timeout": (Integer(1, 86400), "Seconds that busy: wait waits before the host fails."),
    "serial_announce": (Switch(), "Whether the host announces its ports by DNS-SD."),
    "serial_users": (
        accounts.Accounts(),
        "Accounts that get serial consoles by SSH, and nothing else.",
    ),
    "serial_users_ca": (
        accounts.KEYS,
        "Public keys that sign the certificates of serial_users.",
    ),
    "serial_pull": (
        pull.Pulls(),
        "A git repository that the host pulls its inventory from, and applies by itself.",
    ),
    "serial_firewall": (Switch(), "Whether a firewall lets only the networks of allow in."),
    "uart_bluetooth": (
        Choice(BLUETOOTH),
        "What Bluetooth has where it takes the PL011 of a Raspberry Pi that a port names.",
    ),
    "uart_reboot": (Switch(), "Whether to reboot the host where its UARTs need it."),
    "udev_mode": (Mode(), "Mode of the devices; 0666 lets every user of the host open them."),
    "verify_patience": (
        Integer(0, 3600),
        "Seconds that a port may take until it listens after a restart.",
    ),
    "verify_probe_timeout": (
        Integer(1, 3600),
        "Seconds that a device may take to answer a probe.",
    ),
}

# Variables that name an account which Ansible needs.
_LOGINS = ("ansible_user", "ansible_ssh_user", "ansible_become_user")

# For these kinds an empty value means that the variable is not set.
_MAY_BE_EMPTY = (ListenAddress, Switch, Text, accounts.Accounts, accounts.ListOf, pull.Pulls)

VARIABLES = ("serial_ports", "serial_ports_defaults", *SETTINGS)

# Variables that no longer exist: why, and what to do.
REMOVED = {
    "udev_group": "there is no such variable any more: devices belong to the group dialout, in "
    "which both engines run: delete it, and add users to that group (sudo adduser NAME dialout)"
}

# Facts that the roles set. The second playbook of a run finds them among a host's variables.
FACTS = frozenset(
    {
        *(
            "host_fault",
            "host_read",
            "plan_failed",
            "plan_host",
            "plan_hosts",
            "plan_outcome",
            "ser2net_busy",
        ),
        *("verify_said",),
    }
)

# Similarity from which on a name counts as misspelt: one wrong letter in nine.
_ALIKE = 0.88

# Devices that are allowed, and seldom what is meant.
_DEVICES_TO_NOTE = (
    (
        r"/dev/tty(USB|ACM)[0-9]+",
        "its number changes with the order in which adapters are plugged in: write usb instead; "
        "discover.yml prints what to write",
    ),
    (
        r"/dev/(tty[0-9]*|console|vcs.*)",
        "it is a screen of the host and no serial port: write usb, or a path such as /dev/ttyAMA0",
    ),
    (
        r"/dev/pts/[0-9]+",
        "it is a terminal of a program, and its number changes: write a path that stays",
    ),
    (
        rf"{BY_NAME}/.*",
        "ttyfleet makes the links in this folder, for ports with usb: write usb instead",
    ),
)

# The units that the roles write.
_BRIDGE, _SER2NET = "ttybridge.service", "ser2net.service"


@dataclass(frozen=True)
class Examined:
    """What is wrong with a host, what is worth a note, and how many sound ports it has."""

    faults: list[Fault]
    notes: list[Fault]
    ports: int


def examine_host(host: str, variables: Mapping[str, Any], where_looked: str = "") -> Examined:
    """Find every fault in a host's variables, those of its port map included.

    `where_looked` says where Ansible found no port map, if it finds none.
    """
    faults = list(_names(host, variables))
    values, bad = _settings(variables)
    faults += [Fault(host, key, problem) for key, problem in bad.items()]
    faults += [Fault(host, key, problem) for key, problem in _of_accounts(values, bad, variables)]
    ports: tuple[Port, ...] = ()
    if "serial_ports" in variables:
        folder = variables.get("inventory_dir")
        reserved = tuple(_reserved(variables, values.get("bridge_metrics")))
        # A faulty serial_firewall is one fault; the ports that need it are not faults, too.
        firewall = "serial_firewall" in bad or values.get("serial_firewall", False)
        site = Site(Path(folder) if folder else None, reserved, firewall)
        defaults = variables.get("serial_ports_defaults", {})
        ports, more = check_portmap(variables["serial_ports"], defaults, host, site)
        faults += more
    elif not faults:
        where = f"missing: {where_looked}" if where_looked else "missing"
        problem = f"{where}: write the host's port map in host_vars/{host}.yml, or [] for none"
        faults.append(Fault(host, "serial_ports", problem))
    return Examined(faults, list(_notes(host, ports)), len(ports))


def ports_of_host(entries: object, defaults: object = None) -> list[dict[str, Any]]:
    """Return the ports of a port map without faults, as `as_variables` does, with two more keys.

    `entry` is the shortest way to write the port. `tls_files` are the files to copy to the host:
    a list of {source, path}, where `source` is relative to the inventory and `path` is on the host.
    The paths in `tls` are those on the host.
    """
    return [_with_files(port) for port in parse_portmap(entries, defaults)]


def listener(written: object) -> dict[str, Any] | None:
    """Return a valid bridge_metrics as {address, port, text}; None if it is off."""
    listen = _settings({"bridge_metrics": written})[0].get("bridge_metrics")
    return {**dataclasses.asdict(listen), "text": str(listen)} if listen else None


def check_listeners(
    ports: Sequence[Mapping[str, Any]], metrics: object, read: Mapping[str, Any]
) -> list[str]:
    """Return a line for each port, and for the metrics, whose TCP port another program holds.

    `ports` are as `ports_of_host` returns them, `metrics` is bridge_metrics, and `read` is the
    output of files/read_host.sh.
    """
    parsed = parse_portmap([port["entry"] for port in ports])
    wanted: list[tuple[str, Listen | None]] = [
        (f"port {port.name}: {key}", one.at) for port in parsed for key, one in _keyed(port)
    ]
    if any(port.engine == "bridge" for port in parsed):
        wanted.append(
            ("bridge_metrics", _settings({"bridge_metrics": metrics})[0].get("bridge_metrics"))
        )
    others = [other for other in read["listening"] if not _is_ours(other, parsed, read)]
    return [
        f"{key}: {listen} is taken by {_in_words(other)}: write another TCP port, or stop that"
        for key, listen in wanted
        for other in others
        if listen and listen.overlaps(Listen(other["address"], other["port"]))
    ]


def inert(value: Any) -> Any:
    """Mark a value that a filter returns, so that Ansible evaluates no Jinja in it.

    Without the mark ansible-core 2.18 evaluates every text of a variable. From 2.19 on only texts
    from the user's files are templates.
    """
    try:
        from ansible.utils.unsafe_proxy import wrap_var
    except ImportError:
        return value
    return wrap_var(value)


def without_marks(variables: Any) -> Any:
    """Return variables that `ansible-inventory` printed, with plain texts for `!unsafe` ones.

    ansible-core 2.18 prints a mapping for such a text, 2.19 the text itself.
    """
    if isinstance(variables, Mapping):
        if variables.keys() == {"__ansible_unsafe"}:
            return variables["__ansible_unsafe"]
        return {name: without_marks(value) for name, value in variables.items()}
    if isinstance(variables, list):
        return [without_marks(value) for value in variables]
    return variables


@functools.cache
def role_variables(roles: Path = ROLES) -> frozenset[str]:
    """The variables in the argument_specs of all roles, whether users or playbooks set them."""
    # Imported late: script/install uses this module with a Python that may lack PyYAML.
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    files = roles.glob("*/meta/argument_specs.yml")
    specs = [yaml.load(file.read_text("utf-8"), loader)["argument_specs"] for file in files]
    entries = [entry for spec in specs for entry in spec.values()]
    return frozenset(name for entry in entries for name in entry.get("options", ()))


def _notes(host: str, ports: Iterable[Port]) -> Iterator[Fault]:
    """A note for each device whose path may soon, or always, be another thing than is meant."""
    for port in ports:
        for pattern, words in _DEVICES_TO_NOTE:
            if port.device and re.fullmatch(pattern, port.device):
                yield Fault(f"{host}: port {port.name}", "device", f"{shown(port.device)}: {words}")


def _names(host: str, variables: Mapping[str, Any]) -> Iterator[Fault]:
    """A fault for each variable that no longer exists or whose name is misspelt."""
    for name in variables:
        if name in REMOVED:
            yield Fault(host, name, f"{shown(variables[name])}: {REMOVED[name]}")
        elif (near := _meant(name)) and near not in variables:
            yield Fault(host, name, f"unknown variable; did you mean {near}?")


@functools.lru_cache(maxsize=10_000)
def _meant(name: str) -> str:
    """The variable that a misspelt name is meant to be; "" if the name is not misspelt.

    A prefix such as bridge_ does not make a name ours: users have other roles, too.
    """
    # The first letter must be right: dev_mode is not a misspelt udev_mode.
    known = [variable for variable in (*VARIABLES, "serial_card") if variable[0] == name[0]]
    near = difflib.get_close_matches(name, known, 1, cutoff=_ALIKE)
    if not near or name in known or name in FACTS or name in role_variables():
        return ""
    return near[0]


def _settings(variables: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """The valid values of `SETTINGS` by name, and the problems of the others by name."""
    values: dict[str, Any] = {}
    bad: dict[str, str] = {}
    for name, (kind, _) in SETTINGS.items():
        value = variables.get(name)
        if name not in variables or (value in (None, "") and isinstance(kind, _MAY_BE_EMPTY)):
            continue
        try:
            values[name] = kind.parse(value)
        except BadKeys as inside:
            bad |= {inside_of(name, key): problem for key, problem in inside.bad}
        except ValueError as error:
            bad[name] = f"{shown(value)}: {error}"
    return values, bad


def _of_accounts(
    values: Mapping[str, Any], bad: Mapping[str, str], variables: Mapping[str, Any]
) -> list[tuple[str, str]]:
    """What is wrong with serial_users beside other variables, as (key, problem)."""
    logins = {
        str(variables[name]): f"is who Ansible becomes or logs in as ({name})"
        for name in _LOGINS
        if variables.get(name)
    }
    # A faulty serial_users_ca is one fault; the principals that need it are not faults, too.
    signers = values.get("serial_users_ca", ()) or [key for key in bad if "_ca" in key]
    everywhere = {"root": "is the administrator", **logins}
    return accounts.problems(values.get("serial_users", ()), signers, everywhere)


def _reserved(variables: Mapping[str, Any], metrics: Listen | None) -> Iterator[tuple[Listen, str]]:
    ssh = str(variables.get("ansible_port") or variables.get("ansible_ssh_port") or 22)
    yield Listen("", 22), "the host's own ssh"
    if ssh.isdigit() and ssh != "22":
        yield Listen("", int(ssh)), f"where Ansible reaches the host's ssh (ansible_port: {ssh})"
    if metrics:
        yield metrics, f"taken by ttybridge's metrics (bridge_metrics: {metrics})"


def _keyed(port: Port) -> list[tuple[str, Listener]]:
    """The listeners of a port, each with what a message calls it."""
    several = len(port.listen) > 1
    return [
        (f"listen[{number}]" if several else "listen", one)
        for number, one in enumerate(port.listeners, start=1)
    ]


AnyTls = TypeVar("AnyTls", Tls, DialTls)


def _with_files(port: Port) -> dict[str, Any]:
    used = [one.tls for one in port.listeners] + [port.connect.tls if port.connect else None]
    files = [file for tls in used for file in tls_files(tls).values()]
    copied = {file: _on_the_host(file) for file in files if file != _on_the_host(file)}
    listen = tuple(_with_tls_on_the_host(one) for one in port.listen)
    port = dataclasses.replace(port, tls=_tls_on_the_host(port.tls), listen=listen)
    if port.connect:
        tls = _tls_on_the_host(port.connect.tls)
        port = dataclasses.replace(port, connect=dataclasses.replace(port.connect, tls=tls))
    return {
        **as_variables(port),
        "entry": as_entry(port),
        "tls_files": [{"source": file, "path": path} for file, path in copied.items()],
    }


def _with_tls_on_the_host(written: WrittenListener) -> WrittenListener:
    own = ((key, _tls_on_the_host(one) if key == "tls" else one) for key, one in written.own)
    return dataclasses.replace(written, own=tuple(own))


def _tls_on_the_host(tls: AnyTls | None) -> AnyTls | None:
    if not tls:
        return None
    files = {name: _on_the_host(file) for name, file in tls_files(tls).items()}
    return dataclasses.replace(tls, **files)


def _on_the_host(file: str) -> str:
    """Where a TLS file is on the host: one beside the inventory is copied there."""
    return file if file.startswith("/") else f"{TLS_DIRECTORY}/{file.rpartition('/')[2]}"


# The numbers that systemd gives users of services with DynamicUser.
_DYNAMIC_USERS = range(61184, 65520)


def _is_ours(listener: Mapping[str, Any], ports: Sequence[Port], read: Mapping[str, Any]) -> bool:
    """Whether the roles stop a listener, or make it what its port says.

    In a container even root may not see which process has a socket. The user's number tells then.
    """
    ours = {_BRIDGE}
    # A ser2net that somebody else set up stays as it is, unless a port makes it ours.
    if f"{_SER2NET}.d/ttyfleet.conf" in read["units"] or any(p.engine == "ser2net" for p in ports):
        ours.add(_SER2NET)
    users = {str(read["users"].get(unit)) for unit in ours} - {"0"}
    # While ttybridge starts again and again it has no user, and systemd keeps its listeners. The
    # sockets that systemd itself opens are root's.
    is_kept = listener["program"] == "systemd" and int(listener["user"]) in _DYNAMIC_USERS
    return (
        bool(ours & {*listener["units"]})
        or str(listener["user"]) in users
        or (is_kept and _BRIDGE in read["units"])
    )


def _in_words(listener: Mapping[str, Any]) -> str:
    units = ", ".join(listener["units"])
    program = listener["program"] or "another program"
    at = str(Listen(listener["address"] or "*", listener["port"]))
    return f"{program}{f' ({units})' if units else ''}, which listens on {at}"
