"""A host's variables in an Ansible inventory, checked as a whole and made ready for the roles.

Runs on the controller alone; the filters of filter_plugins/ call it.
"""

from __future__ import annotations

import dataclasses
import difflib
import functools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ttybridge.model.check import TLS_DIRECTORY, Fault, Site, check_portmap, parse_portmap
from ttybridge.model.ports import Listener, Port, Tls, as_entry, as_variables
from ttybridge.model.values import (
    Choice,
    Integer,
    Kind,
    Listen,
    ListenAddress,
    Switch,
    Text,
    WrittenListener,
    shown,
)
from ttybridge.setup.boot_config import BLUETOOTH

# The folder of the roles, whose argument_specs name their variables.
ROLES = Path(__file__).resolve().parents[4] / "roles"


@dataclass(frozen=True)
class Mode:
    """The mode of a device: octal digits in quotes, by which the group can read and write."""

    allowed: str = (
        'octal digits in quotes by which the group dialout can read and write, such as "0660"'
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
        # YAML takes 0660 for an octal number, which is 432, and 660 for a decimal one.
        digits = (f"0{value:03o}", f"0{value}", "0660")
        meant = next(text for text in digits if re.fullmatch("0[0-7][67][0-7]", text))
        raise ValueError(f'YAML reads it as a number: write it in quotes: udev_mode: "{meant}"')


# The variables of a host, besides its ports, that a user sets: what may be written, and their use.
SETTINGS: dict[str, tuple[Kind, str]] = {
    "bridge_metrics": (
        ListenAddress(),
        "Where ttybridge shows its metrics to Prometheus, if anywhere.",
    ),
    "bridge_version": (
        Text("the version of a program on the host, such as 0.1.0+1a2b3c4d", r"[A-Za-z0-9.+-]*"),
        "Program of ttybridge to go back to.",
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

# Kinds of which an empty value means the same as none.
_MAY_BE_EMPTY = (ListenAddress, Switch, Text)

VARIABLES = ("serial_ports", "serial_ports_defaults", *SETTINGS)

# Variables that are gone, each with why and what to do.
REMOVED = {
    "udev_group": "there is no such variable any more: devices belong to the group dialout, in "
    "which both engines run: delete it, and add users to that group (sudo adduser NAME dialout)"
}

# Facts that the roles set. They are among a host's variables where one run has two playbooks.
FACTS = frozenset(
    {
        *("bridge_differs", "bridge_faults", "firewall_differs", "host_fault", "host_read"),
        *("host_ser2net_version", "host_taken", "ser2net_differs", "serial_ports_checked"),
        *("serial_ports_guarded", "uart_differs", "uart_faults", "udev_differs"),
        *("verify_differing", "verify_findings", "verify_further", "verify_provisioned"),
        *("verify_unreadable",),
    }
)

# How alike two names are, at least, where one is the other misspelt: by one letter of nine.
_ALIKE = 0.88

# The units that the roles write.
_BRIDGE, _SER2NET = "ttybridge.service", "ser2net.service"


def check_host(host: str, variables: Mapping[str, Any]) -> list[Fault]:
    """Every fault in what the inventory says of a host's ports."""
    faults = list(_names(host, variables))
    values, bad = _settings(variables)
    faults += [Fault(host, name, problem) for name, problem in bad.items()]
    if "serial_ports" in variables:
        folder = variables.get("inventory_dir")
        reserved = tuple(_reserved(variables, values.get("bridge_metrics")))
        # A switch that is wrongly written forbids nothing else.
        firewall = "serial_firewall" in bad or values.get("serial_firewall", False)
        site = Site(Path(folder) if folder else None, reserved, firewall)
        defaults = variables.get("serial_ports_defaults", {})
        faults += check_portmap(variables["serial_ports"], defaults, host, site)[1]
    elif not faults:
        problem = "missing: write the host's port map in host_vars/, or [] for none"
        faults.append(Fault(host, "serial_ports", problem))
    return faults


def ports_of_host(entries: object, defaults: object = None) -> list[dict[str, Any]]:
    """The ports of a sound port map, as `as_variables` has them, with two more keys.

    `entry` is the shortest way to write the port. `tls_files` are the files that have to be copied
    to the host, as {source, path}: beside the inventory, and there; `tls` holds paths there only.
    """
    return [_with_files(port) for port in parse_portmap(entries, defaults)]


def listener(written: object) -> dict[str, Any] | None:
    """A sound setting such as bridge_metrics, as {address, port, text}; None where it is off."""
    listen = _settings({"bridge_metrics": written})[0].get("bridge_metrics")
    return {**dataclasses.asdict(listen), "text": str(listen)} if listen else None


def check_listeners(
    ports: Sequence[Mapping[str, Any]], metrics: object, read: Mapping[str, Any]
) -> list[str]:
    """Why a host cannot listen where its ports shall: another program does.

    `ports` are as `ports_of_host` returns them, `metrics` is bridge_metrics; `read` is what
    files/read_host.sh says of the host.
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
    """What a filter returns, as a value in which Ansible evaluates no Jinja.

    ansible-core 2.18 evaluates a text of a variable wherever it is used, unless it is marked. From
    2.19 on only what stands in a file of the user's is a template.
    """
    try:
        from ansible.utils.unsafe_proxy import wrap_var
    except ImportError:
        return value
    return wrap_var(value)


def without_marks(variables: Any) -> Any:
    """Variables as `ansible-inventory` prints them, with texts in place of its marks for `!unsafe`.

    ansible-core 2.18 prints a mapping there, 2.19 the text.
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
    """The variables of all roles, by their argument_specs: those that users set, and inputs."""
    # Not at the top: script/install has this module read by a Python that may lack PyYAML.
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    files = roles.glob("*/meta/argument_specs.yml")
    specs = [yaml.load(file.read_text("utf-8"), loader)["argument_specs"] for file in files]
    return frozenset(name for spec in specs for name in spec["main"]["options"])


def _names(host: str, variables: Mapping[str, Any]) -> Iterator[Fault]:
    """Faults in the names of variables: those that are gone, and those that are misspelt."""
    for name in variables:
        if name in REMOVED:
            yield Fault(host, name, f"{shown(variables[name])}: {REMOVED[name]}")
        elif (near := _meant(name)) and near not in variables:
            yield Fault(host, name, f"unknown variable; did you mean {near}?")


def _meant(name: str) -> str:
    """The variable of which a name is a misspelling; "" where it is a name of its own.

    Other names belong to the user, whatever they begin with: inventories serve other roles, too.
    """
    # dev_mode is a name of its own, although it is nearly udev_mode.
    known = [variable for variable in VARIABLES if variable[0] == name[0]]
    near = difflib.get_close_matches(name, known, 1, cutoff=_ALIKE)
    if not near or name in known or name in FACTS or name in role_variables():
        return ""
    return near[0]


def _settings(variables: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """What a host has of `SETTINGS`, and what is wrong with how others are written."""
    values, bad = {}, {}
    for name, (kind, _) in SETTINGS.items():
        value = variables.get(name)
        if name not in variables or (value in (None, "") and isinstance(kind, _MAY_BE_EMPTY)):
            continue
        try:
            values[name] = kind.parse(value)
        except ValueError as error:
            bad[name] = f"{shown(value)}: {error}"
    return values, bad


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


def _with_files(port: Port) -> dict[str, Any]:
    used = [one.tls for one in port.listeners] or [port.tls]
    files = [file for tls in used if tls for file in vars(tls).values() if file]
    copied = {file: _on_the_host(file) for file in files if file != _on_the_host(file)}
    listen = tuple(_with_tls_on_the_host(one) for one in port.listen)
    port = dataclasses.replace(port, tls=_tls_on_the_host(port.tls), listen=listen)
    return {
        **as_variables(port),
        "entry": as_entry(port),
        "tls_files": [{"source": file, "path": path} for file, path in copied.items()],
    }


def _with_tls_on_the_host(written: WrittenListener) -> WrittenListener:
    own = ((key, _tls_on_the_host(one) if key == "tls" else one) for key, one in written.own)
    return dataclasses.replace(written, own=tuple(own))


def _tls_on_the_host(tls: Tls | None) -> Tls | None:
    if not tls:
        return None
    files = {name: _on_the_host(file) for name, file in vars(tls).items() if file}
    return dataclasses.replace(tls, **files)


def _on_the_host(file: str) -> str:
    """Where a TLS file is on the host: one beside the inventory is copied there."""
    return file if file.startswith("/") else f"{TLS_DIRECTORY}/{file.rpartition('/')[2]}"


def _is_ours(listener: Mapping[str, Any], ports: Sequence[Port], read: Mapping[str, Any]) -> bool:
    """Whether a listener goes, or comes to be as its port says, with what the roles do.

    Root may not see whose sockets are whose in a container; the numbers of the users tell it then.
    """
    ours = {_BRIDGE}
    # A ser2net that somebody else has set up stays as it is, unless it gets our configuration.
    if f"{_SER2NET}.d/ttyfleet.conf" in read["units"] or any(p.engine == "ser2net" for p in ports):
        ours.add(_SER2NET)
    users = {str(read["users"].get(unit)) for unit in ours} - {"0"}
    return bool(ours & {*listener["units"]}) or str(listener["user"]) in users


def _in_words(listener: Mapping[str, Any]) -> str:
    units = ", ".join(listener["units"])
    program = listener["program"] or "another program"
    at = str(Listen(listener["address"] or "*", listener["port"]))
    return f"{program}{f' ({units})' if units else ''}, which listens on {at}"
