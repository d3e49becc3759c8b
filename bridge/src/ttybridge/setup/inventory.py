"""A host's variables in an Ansible inventory, checked as a whole and made ready for the roles.

Runs on the controller alone; the filters of filter_plugins/ call it.
"""

from __future__ import annotations

import dataclasses
import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ttybridge.model.check import TLS_DIRECTORY, Fault, Site, check_portmap, parse_portmap
from ttybridge.model.ports import Listener, Port, Tls, as_entry, as_variables
from ttybridge.model.values import (
    Choice,
    Kind,
    Listen,
    ListenAddress,
    Switch,
    Text,
    WrittenListener,
    shown,
)
from ttybridge.setup.boot_config import BLUETOOTH

# A host's variables beside its ports: what may stand there, and what it is for.
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
}

# Names for the hint at a variable that is nearly called so.
VARIABLES = ("serial_ports", "serial_ports_defaults", *SETTINGS)

# What the roles have under such names themselves.
_OURS = re.compile(r"serial_ports_(?:checked|guarded)|uart_boot|__.*")

# The units that the roles write.
_BRIDGE, _SER2NET = "ttybridge.service", "ser2net.service"


def check_host(host: str, variables: Mapping[str, Any]) -> list[Fault]:
    """Every fault in what the inventory says of a host's ports."""
    faults = list(_misspelt(host, variables))
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


def _misspelt(host: str, variables: Mapping[str, Any]) -> Iterator[Fault]:
    for name in variables:
        if name in VARIABLES or _OURS.fullmatch(name):
            continue
        near = difflib.get_close_matches(name, VARIABLES, 1, cutoff=0.9)
        if near and near[0] not in variables:
            yield Fault(host, name, f"unknown variable; did you mean {near[0]}?")


def _settings(variables: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """What a host has of `SETTINGS`, and what is wrong with how others are written."""
    values, bad = {}, {}
    for name, (kind, _) in SETTINGS.items():
        value = variables.get(name)
        if value in (None, ""):
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
