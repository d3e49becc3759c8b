"""The serial adapters and UARTs of this machine, as entries of a port map.

All is read from files, nothing is opened or changed, and no program is run. Where they are:
Documentation/ABI/testing/sysfs-bus-usb and sysfs-tty of the kernel, proc(5), udev(7).
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import os
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ttybridge import yaml_text
from ttybridge.portmap import KEYS, Port, UsbMatch
from ttybridge.values import kinds_of

FIRST_TCP_PORT = 10001

# Who has a UART that is not free for the taking: what boots the machine, or belongs to its board.
RESERVED = ("console", "getty", "bluetooth")

# The kernel's drivers by the vendors of nearly all adapters.
DRIVERS = {"067b": "pl2303", "0403": "ftdi_sio", "10c4": "cp210x", "1a86": "ch341"}

# What an entry without line settings gets: no adapter tells what hangs on it.
LINE_SETTINGS = (
    "Line settings that an entry lacks are those of serial_ports_defaults in the inventory, else",
    f"baudrate {Port.baudrate}, bytesize {Port.bytesize}, parity {Port.parity}, "
    f"stopbits {Port.stopbits:g}, flow {Port.flow}: write what the device has.",
)

NOTHING_FOUND = """\
No serial adapter and no UART was found. To find out why:
  lsusb                   is the adapter there at all? If not: another cable, socket or powered hub
  sudo dmesg | tail -30   right after plugging it in: which driver took it, or what went wrong
  lsmod | grep usbserial  is the driver loaded? pl2303, ftdi_sio, cp210x, ch341 or cdc_acm:
                          sudo modprobe NAME; a kernel without its modules has been upgraded: reboot
A Raspberry Pi's own UART appears with enable_uart=1 in config.txt, after a reboot."""


@dataclass(frozen=True)
class Adapter:
    """A USB device with at least one tty; "" is what it does not say."""

    vendor: str
    product: str
    serial: str
    path: str
    manufacturer: str = ""
    model: str = ""


@dataclass(frozen=True)
class Holder:
    """Who has a tty already; `kind` is process, modemmanager or one of RESERVED."""

    kind: str
    text: str


@dataclass(frozen=True)
class Tty:
    """A serial port of the machine. `adapter` is None where it is not on USB.

    `port_number` tells the ports of one USB interface apart; `aliases` are names in /dev such as
    serial0; the other links are absolute paths.
    """

    name: str
    driver: str = ""
    adapter: Adapter | None = None
    interface: int = 0
    port_number: int = 0
    by_id: tuple[str, ...] = ()
    by_path: tuple[str, ...] = ()
    by_name: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()
    holders: tuple[Holder, ...] = ()

    @property
    def device(self) -> str:
        return f"/dev/{self.name}"


@dataclass(frozen=True)
class Machine:
    """What was read; `notes` are faults that a person can mend, in words.

    `all_seen` is whether every process could be looked into, which takes root. `names` are those
    of the ports that ttyfleet serves, also while their adapters are away.
    """

    host: str
    model: str
    ttys: tuple[Tty, ...]
    listening: frozenset[int] = frozenset()
    all_seen: bool = True
    notes: tuple[str, ...] = ()
    names: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Match:
    """How an entry says which tty it is: `keys` are `usb` or `device`; how else it could."""

    keys: dict[str, Any]
    why: str
    alternative: dict[str, Any] | None = None
    alternative_why: str = ""


@dataclass(frozen=True)
class Proposal:
    """A port map entry for a tty."""

    tty: Tty
    entry: dict[str, Any]
    match: Match
    warnings: tuple[str, ...]

    @property
    def reserved(self) -> bool:
        """Whether serving it would take it from the machine's own console, or from Bluetooth."""
        return any(holder.kind in RESERVED for holder in self.tty.holders)


@dataclass(frozen=True)
class Processes:
    """Names of programs, of which the kernel keeps 15 bytes; path -> who has it open, in words."""

    names: frozenset[str]
    opened: dict[str, list[str]]
    all_seen: bool


def report(as_json: bool = False, only_new: bool = False, root: Path = Path("/")) -> str:
    """What `ttybridge discover` prints: YAML for host_vars, or a JSON object with every fact.

    With `only_new` it is the entries alone, for the end of a port map, of what is free and not
    served by ttyfleet; "" where there is none. `root` is where /sys, /proc, /dev, /run, /etc are.
    """
    machine = read_machine(root)
    proposals = propose(machine)
    if only_new:
        new = [one for one in proposals if not (one.reserved or one.tty.by_name)]
        return "".join(f"  # {line}\n" for line in LINE_SETTINGS if new) + to_entries(new)
    return to_json(machine, proposals) if as_json else to_yaml(machine, proposals)


# What there is


def read_machine(root: Path) -> Machine:
    """Read every serial adapter and UART, and who has them."""
    names = sorted(_names(root / "sys/class/tty"), key=_natural)
    found = [tty for tty in (_read_tty(root, name) for name in names) if tty]
    found.sort(key=_place)
    processes = _processes(root)
    ttys = tuple(
        dataclasses.replace(tty, holders=tuple(_holders(root, tty, processes))) for tty in found
    )
    return Machine(
        host=_text(root / "proc/sys/kernel/hostname"),
        model=_text(root / "proc/device-tree/model"),
        ttys=ttys,
        listening=frozenset(_listening(root)),
        all_seen=processes.all_seen,
        notes=tuple(dict.fromkeys(_notes(root, processes))),
        names=frozenset(_given_names(root / "etc/udev/rules.d")),
    )


def _place(tty: Tty) -> tuple[object, ...]:
    """A key that sorts by USB path, interface and port, UARTs behind them."""
    if not tty.adapter:
        return (1,)
    return (0, _natural(tty.adapter.path), tty.interface, tty.port_number)


def _read_tty(root: Path, name: str) -> Tty | None:
    """A serial port, or None: a pty, a virtual terminal, a UART that is not there."""
    folder = root / "sys/class/tty" / name
    if not (folder / "device").exists():
        return None
    chain = _ancestors(root, folder / "device")
    interface = next((path for path in chain if (path / "bInterfaceNumber").exists()), None)
    device = next((path for path in chain if (path / "idVendor").exists()), None)
    # 0 where the kernel made a name but found no UART (PORT_UNKNOWN); only UARTs have a type.
    if device is None and _text(folder / "type") in ("", "0"):
        return None
    number = _text(folder / "device/port_number")
    return Tty(
        name=name,
        driver=_driver(chain),
        adapter=_read_adapter(root, device) if device else None,
        interface=int(_text(interface / "bInterfaceNumber") or "0", 16) if interface else 0,
        port_number=int(number) if number.isdigit() else 0,
        by_id=_links(root, "dev/serial/by-id", name),
        by_path=_links(root, "dev/serial/by-path", name),
        by_name=_links(root, "dev/serial/by-name", name),
        aliases=_links(root, "dev", name),
    )


def _read_adapter(root: Path, device: Path) -> Adapter:
    udev = _udev(root, device)
    return Adapter(
        vendor=_text(device / "idVendor").lower(),
        product=_text(device / "idProduct").lower(),
        serial=_text(device / "serial"),
        path=device.name,
        manufacturer=_text(device / "manufacturer") or udev.get("ID_VENDOR_FROM_DATABASE", ""),
        model=_text(device / "product") or udev.get("ID_MODEL_FROM_DATABASE", ""),
    )


def _driver(chain: Sequence[Path]) -> str:
    for path in chain:
        # Since Linux 6.5 a UART has two devices of serial-base between itself and its driver's.
        if (path / "driver").exists() and (path / "subsystem").resolve().name != "serial-base":
            return (path / "driver").resolve().name
    return ""


def _ancestors(root: Path, link: Path) -> list[Path]:
    """A device's folder in /sys/devices and those above it."""
    start, top = link.resolve(), (root / "sys/devices").resolve()
    return [path for path in (start, *start.parents) if top in path.parents]


def _udev(root: Path, device: Path) -> dict[str, str]:
    """What udev has noted of a device, in its database's own form: lines such as E:NAME=value."""
    lines = _text(root / f"run/udev/data/c{_text(device / 'dev')}", lines=True).splitlines()
    pairs = (_one_line(line[2:]).partition("=") for line in lines if line.startswith("E:"))
    return {name: value for name, _, value in pairs}


def _links(root: Path, folder: str, name: str) -> tuple[str, ...]:
    """The symlinks in a folder to a tty, the shortest first, as absolute paths."""
    found = [
        f"/{folder}/{link}"
        for link in _names(root / folder)
        if os.path.basename(_target(root / folder / link)) == name and link.isprintable()
    ]
    return tuple(sorted(found, key=lambda path: (len(path), path)))


# Who has it


def _holders(root: Path, tty: Tty, processes: Processes) -> Iterator[Holder]:
    names = {tty.name, *(path.removeprefix("/dev/") for path in tty.aliases)}
    if names & _consoles(root):
        yield Holder("console", "kernel console (console= in the kernel's command line)")
    for name in sorted(names):
        state = _getty(root, f"serial-getty@{name}.service")
        if state:
            yield Holder("getty", f"login prompt, serial-getty@{name}.service ({state})")
    if _has_bluetooth(root / "sys/class/tty" / tty.name / "device/of_node/bluetooth"):
        yield Holder("bluetooth", "the board's Bluetooth (dtoverlay=disable-bt frees it)")
    for process in processes.opened.get(tty.device, ()):
        yield Holder("process", process)
    udev = _udev(root, root / "sys/class/tty" / tty.name)
    ignored = "1" in (udev.get("ID_MM_DEVICE_IGNORE"), udev.get("ID_MM_PORT_IGNORE"))
    if tty.adapter and not ignored and "ModemManager" in processes.names:
        yield Holder("modemmanager", "ModemManager, which may send AT commands to it")


def _consoles(root: Path) -> set[str]:
    """Names of the ttys on which the kernel writes, or is told to."""
    told = re.findall(r"(?:^|\s)console=([^\s,]+)", _text(root / "proc/cmdline"))
    lines = _text(root / "proc/consoles", lines=True).splitlines()
    active = _text(root / "sys/class/tty/console/active").split()
    return {*told, *(line.split()[0] for line in lines if line.strip()), *active}


def _getty(root: Path, unit: str) -> str:
    """Whether a unit is active, or will be after a boot: active, enabled or ""."""
    slice_ = "system.slice/system-serial\\x2dgetty.slice"
    groups = [root / "sys/fs/cgroup" / hierarchy / slice_ for hierarchy in ("", "systemd")]
    if any((group / unit).exists() for group in groups):
        return "active"
    folders = ("etc/systemd/system", "run/systemd/system", "run/systemd/generator")
    if any(_target(root / folder / unit) == "/dev/null" for folder in folders):
        return ""
    wanted = (path for folder in folders for path in (root / folder).glob("*.wants"))
    return "enabled" if any(unit in _names(path) for path in wanted) else ""


def _has_bluetooth(node: Path) -> bool:
    """Whether a UART's node in the device tree has a Bluetooth chip that is not disabled."""
    return node.exists() and _text(node / "status") in ("", "ok", "okay")


def _processes(root: Path) -> Processes:
    names = set()
    opened: dict[str, list[str]] = defaultdict(list)
    all_seen = True
    for pid in sorted((name for name in _names(root / "proc") if name.isdigit()), key=int):
        process = root / "proc" / pid
        name = _text(process / "comm")
        names.add(name)
        try:
            targets = {os.readlink(process / "fd" / fd) for fd in os.listdir(process / "fd")}
        except PermissionError:
            all_seen = False
        except OSError:  # it has ended, or closed a file
            continue
        else:
            for target in targets:
                opened[target].append(f"{name} (pid {pid})")
    return Processes(frozenset(names), opened, all_seen)


def _listening(root: Path) -> Iterator[int]:
    """TCP ports with a listener, at whatever address."""
    for name in ("tcp", "tcp6"):
        for line in _text(root / "proc/net" / name, lines=True).splitlines()[1:]:
            local, state = line.split()[1], line.split()[3]
            if state == "0A":
                yield int(local.rpartition(":")[2], 16)


def _given_names(rules: Path) -> Iterator[str]:
    """The names of ports in the rules that the role udev has written."""
    for path in rules.glob("*-ttyfleet.rules"):
        yield from re.findall(r'SYMLINK\+="serial/by-name/([^"]+)"', _text(path, lines=True))


def _notes(root: Path, processes: Processes) -> Iterator[str]:
    """Serial hardware that is there and has no tty, and why."""
    for name in sorted(_names(root / "sys/bus/usb/devices"), key=_natural):
        interface = (root / "sys/bus/usb/devices" / name).resolve()
        device = interface.parent
        if not (interface / "bInterfaceNumber").exists():
            continue
        kind = _text(interface / "bInterfaceClass"), _text(interface / "bInterfaceSubClass")
        module = "cdc_acm" if kind == ("02", "02") else DRIVERS.get(_text(device / "idVendor"))
        if not module:
            continue
        what = f"{_in_words(_read_adapter(root, device))} at USB path {device.name}"
        if not (interface / "driver").exists():
            yield f"No driver has taken {what}: sudo modprobe {module}"
        elif (interface / "driver").resolve().name == "usbfs":
            blame = "brltty: sudo apt remove brltty" if "brltty" in processes.names else "a program"
            yield f"Without its tty is {what}: taken through libusb by {blame}"
    for name in sorted(_names(root / "sys/bus/serial/devices")):
        chain = _ancestors(root, root / "sys/bus/serial/devices" / name)
        if _driver(chain[:1]).startswith("hci"):
            uart = f"the UART of driver {_driver(chain[1:])}"
            yield f"Bluetooth has {uart}, so it has no tty: dtoverlay=disable-bt frees it"


def _names(folder: Path) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []


def _target(path: Path) -> str:
    try:
        return os.readlink(path)
    except OSError:
        return ""


def _text(path: Path, lines: bool = False) -> str:
    """A file's content, "" where it cannot be read: devices go while they are looked at.

    What a device says of itself is made one printable line, whatever it holds.
    """
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    return text if lines else _one_line(text.rstrip("\0\r\n\t "))


def _one_line(text: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in text)


def _natural(text: str) -> list[tuple[int, int, str]]:
    """A key that sorts 1-1.10 behind 1-1.9."""
    parts = re.findall(r"[0-9]+|[^0-9]+", text)
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts]


# What is proposed


def propose(machine: Machine) -> list[Proposal]:
    """An entry for every tty; together they are a port map without faults."""
    adapters = list(dict.fromkeys(tty.adapter for tty in machine.ttys if tty.adapter))
    proposals: list[Proposal] = []
    names = {name for tty in machine.ttys if (name := _present_name(tty))} | machine.names
    free = (port for port in itertools.count(FIRST_TCP_PORT) if port not in machine.listening)
    # The first ones are for what has no entry yet.
    listen = {tty: next(free) for tty in sorted(machine.ttys, key=lambda tty: len(tty.by_name))}
    for tty in machine.ttys:
        name = _present_name(tty) or _unused(_new_name(tty, machine, adapters), names)
        names.add(name)
        match = _match(tty, machine, adapters)
        entry = {"name": name, **match.keys, "listen": listen[tty]}
        warnings = tuple(_warnings(tty, match, adapters))
        proposals.append(Proposal(tty, entry, match, warnings))
    return proposals


def _match(tty: Tty, machine: Machine, adapters: Sequence[Adapter]) -> Match:
    if not tty.adapter:
        why = "by name, which a UART keeps"
        if "/dev/serial0" not in tty.aliases:
            return Match({"device": tty.device}, why)
        first = "the board's first UART, whichever config.txt makes it"
        return Match({"device": tty.device}, why, {"device": "/dev/serial0"}, first)
    same = [other for other in machine.ttys if other.adapter == tty.adapter]
    if sum(other.interface == tty.interface for other in same) > 1:
        return _match_link(tty, tty.adapter, adapters)
    keys, why = _match_adapter(tty.adapter, adapters)
    if "path" in keys and not _siblings(tty.adapter, adapters):
        other = {"vendor": tty.adapter.vendor, "product": tty.adapter.product}
        other_why = "wherever it is plugged in, while it has no twin"
    else:
        other = {"path": tty.adapter.path}
        other_why = "whichever adapter is plugged in there"
    interface = {}
    if len(same) > 1:
        interface = {"interface": tty.interface}
        why += f"; by interface, since it has {len(same)} ports"
    return Match({"usb": {**keys, **interface}}, why, {"usb": {**other, **interface}}, other_why)


def _match_adapter(adapter: Adapter, adapters: Sequence[Adapter]) -> tuple[dict[str, Any], str]:
    """The keys of `usb` that this adapter has and no other one, and why these."""
    model = {"vendor": adapter.vendor, "product": adapter.product}
    fault = serial_fault(adapter, adapters)
    mixed = any(serial_fault(other, adapters) for other in _siblings(adapter, adapters))
    if mixed and not fault and [other.serial for other in adapters].count(adapter.serial) > 1:
        fault = f"adapters of several models have the serial number {adapter.serial}"
    if fault:
        return {**model, "path": adapter.path}, f"by USB path: {fault}"
    if mixed:
        # With the model's ids, one adapter could be both this and the one at that path.
        why = "by serial number alone: another of its model is matched by USB path"
        return {"serial": adapter.serial}, why
    return {**model, "serial": adapter.serial}, "by serial number: wherever it is plugged in"


def _match_link(tty: Tty, adapter: Adapter, adapters: Sequence[Adapter]) -> Match:
    """For ports that share an interface: `usb` has no key that tells them apart."""
    among = "as one of several ports that share one USB interface"
    by_id, by_path = (
        next(({"device": link} for link in links if _is_good("device", link)), None)
        for links in (tty.by_id, tty.by_path)
    )
    if by_id and not serial_fault(adapter, adapters):
        return Match(by_id, f"by serial number, {among}", by_path, "which is by USB path")
    if by_path:
        return Match(by_path, f"by USB path, {among}")
    return Match({"device": tty.device}, f"by the kernel's name, {among}")


def serial_fault(adapter: Adapter, adapters: Sequence[Adapter]) -> str:
    """Why an adapter cannot be told by its serial number; "" = it can."""
    serial = adapter.serial
    if not serial:
        return "it has no serial number"
    if is_placeholder(serial):
        return f"its serial number {serial} is one that its maker gives to many"
    if not serial.isascii() or not _is_good("serial", serial):
        return "its serial number holds characters that a udev rule cannot"
    if any(other.serial == serial for other in _siblings(adapter, adapters)):
        return f"another of its model has the serial number {serial}, too"
    return ""


def is_placeholder(serial: str) -> bool:
    """Whether a serial number says nothing: 0001, 12345678, FFFF, a host controller's address."""
    text = serial.lower()
    rows = ("0123456789abcdef", "1234567890", "abcdef", "9876543210")
    return (
        text.lstrip("0") in ("", "1")
        or len(set(text)) == 1
        or any(row.startswith(text) for row in rows)
        or re.fullmatch(r"[0-9a-f]{4}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]", text) is not None
        or re.sub(r"[^a-z]", "", text) in ("none", "na", "serial", "serialnumber", "defaultstring")
    )


def _siblings(adapter: Adapter, adapters: Sequence[Adapter]) -> list[Adapter]:
    """The other adapters of the same model."""
    model = (adapter.vendor, adapter.product)
    return [one for one in adapters if one != adapter and (one.vendor, one.product) == model]


def _warnings(tty: Tty, match: Match, adapters: Sequence[Adapter]) -> Iterator[str]:
    if tty.adapter and serial_fault(tty.adapter, adapters):
        twins = [a for a in _siblings(tty.adapter, adapters) if a.serial == tty.adapter.serial]
        if twins:
            where = ", ".join(twin.path for twin in twins)
            yield f"its twin is at {where}: only the socket tells them apart, so label both"
    if tty.adapter and match.keys.get("device") == tty.device:
        yield "another adapter may get this name after a boot: udev made no link to it here"
    if ":" in match.keys.get("device", ""):
        yield "engine ser2net cannot open a path with a colon"
    if tty.driver == "bcm2835-aux-uart":
        yield "a mini UART: no parity, and its baudrate moves with the core clock: enable_uart=1"


def _is_good(key: str, value: str) -> bool:
    """Whether a value may be written for a key of an entry, or of its `usb`."""
    try:
        (KEYS | kinds_of(UsbMatch))[key].parse(value)
    except ValueError:
        return False
    return True


def _present_name(tty: Tty) -> str:
    """The name that ttyfleet has given it already, if any."""
    names = (os.path.basename(link) for link in tty.by_name)
    return next((name for name in names if _is_good("name", name)), "")


def _new_name(tty: Tty, machine: Machine, adapters: Sequence[Adapter]) -> str:
    """What lsusb calls the adapter, made short; where it has twins, what tells them apart."""
    adapter = tty.adapter
    if not adapter:
        return tty.name
    name = _word(adapter)
    if any(_word(other) == name for other in adapters if other != adapter):
        unique = adapter.path if serial_fault(adapter, adapters) else adapter.serial[-12:]
        name = f"{name}-{re.sub(r'[^A-Za-z0-9.-]', '', unique)}"
    same = [other for other in machine.ttys if other.adapter == adapter]
    if len({other.interface for other in same}) > 1:
        name += f"-{tty.interface}"
    if len({other.port_number for other in same}) > 1:
        name += f"-{tty.port_number}"
    return name


def _word(adapter: Adapter) -> str:
    words = re.sub(r"[^a-z0-9]+", "-", adapter.model.lower()).strip("-")
    while len(words) > 24 and "-" in words:
        words = words.rpartition("-")[0]
    return words[:24] or f"{adapter.vendor}-{adapter.product}"


def _unused(name: str, names: set[str]) -> str:
    number = 2
    free = name
    while free in names:
        free = f"{name}-{number}"
        number += 1
    return free


# How it is said


def to_yaml(machine: Machine, proposals: Sequence[Proposal]) -> str:
    """The variable `serial_ports` as a person would write it, with all that is to be known."""
    lines = [f"# {' '.join(filter(None, (machine.host, _in_brackets(machine.model))))}"]
    lines += [f"# {note}" for note in machine.notes]
    if not machine.all_seen:
        lines.append(
            "# Some processes could not be looked into, which takes root: one may have a port."
        )
    if not proposals:
        lines += [f"# {line}" for line in NOTHING_FOUND.splitlines()]
    else:
        lines.append("# Name each port after what hangs on it.")
        lines += [f"# {line}" for line in LINE_SETTINGS]
    if all(proposal.reserved for proposal in proposals):
        # An empty value would be no list.
        lines.append("serial_ports: []" + ("  # remove [] with the #" if proposals else ""))
    else:
        lines.append("serial_ports:")
    return "\n".join(lines) + "\n" + to_entries(proposals)


def to_entries(proposals: Sequence[Proposal]) -> str:
    """The entries alone, each below an empty line and what is to be known of it."""
    lines = [line for one in proposals for line in ("", *_about(one), *_entry(one))]
    return "".join(f"{line}\n" for line in lines)


def _about(proposal: Proposal) -> Iterator[str]:
    tty = proposal.tty
    where = f"USB path {tty.adapter.path}" if tty.adapter else "a UART"
    yield f"  # {tty.device}, {where}" + (f", driver {tty.driver}" if tty.driver else "")
    if tty.adapter:
        yield f"  # {_in_words(tty.adapter)}"
    for link in (*tty.aliases, *tty.by_id[:1], *tty.by_path[:1]):
        yield f"  # {link}"
    yield f"  # Matched {proposal.match.why}."
    if proposal.match.alternative:
        yield f"  # Or {_inline(proposal.match.alternative)}, {proposal.match.alternative_why}."
    for warning in proposal.warnings:
        yield f"  # Warning: {warning}"
    for holder in tty.holders:
        yield f"  # In use: {holder.text}"
    if tty.by_name:
        yield "  # ttyfleet has it already: keep the entry that you have."
    if proposal.reserved:
        yield "  # Not proposed, since it is in use. To take it, remove the # from these lines:"


def _entry(proposal: Proposal) -> Iterator[str]:
    entry = proposal.entry
    keys = _inline(proposal.match.keys)
    for line in (
        f"- name: {yaml_text.text(entry['name'])}",
        f"  {keys}",
        f"  listen: {entry['listen']}",
    ):
        yield f"  {'# ' if proposal.reserved else ''}{line}"


def _in_words(adapter: Adapter) -> str:
    name = " ".join(filter(None, (adapter.manufacturer, adapter.model))) or "USB adapter"
    serial = f", serial number {adapter.serial}" if adapter.serial else ""
    return f"{name} ({adapter.vendor}:{adapter.product}{serial})"


def _in_brackets(text: str) -> str:
    return f"({text})" if text else ""


def _inline(match: Mapping[str, Any]) -> str:
    """`usb: {...}` or `device: ...` on one line."""
    if "usb" not in match:
        return f"device: {yaml_text.text(match['device'])}"
    # Texts in quotes in any case: the next adapter's could be a number to YAML.
    texts = {
        key: yaml_text.quoted(value) if isinstance(value, str) else value
        for key, value in match["usb"].items()
    }
    return f"usb: {{{', '.join(f'{key}: {value}' for key, value in texts.items())}}}"


def to_json(machine: Machine, proposals: Sequence[Proposal]) -> str:
    """The object {host, model, all_seen, notes, ports}; a port has every fact and its entry."""
    document = {
        "host": machine.host,
        "model": machine.model,
        "all_seen": machine.all_seen,
        "notes": machine.notes,
        "ports": [_as_object(proposal) for proposal in proposals],
    }
    return json.dumps(document, indent=2) + "\n"


def _as_object(proposal: Proposal) -> dict[str, Any]:
    facts = dataclasses.asdict(proposal)
    tty = facts.pop("tty")
    return {"device": proposal.tty.device, **tty, "reserved": proposal.reserved, **facts}
