"""The serial adapters and UARTs of this machine, and who uses them.

This module only reads files of /sys, /proc, /run and /etc. It opens no device, changes nothing and
runs no program. What the files hold: Documentation/ABI/testing/sysfs-bus-usb and sysfs-tty of the
kernel, proc(5), udev(7).
"""

from __future__ import annotations

import dataclasses
import os
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ttybridge.setup.listeners import connections

# Kinds of holders whose UART is not free: the machine boots with it, or its board uses it.
RESERVED = ("console", "getty", "bluetooth")

# The kernel's driver for the adapters of each of these vendors.
DRIVERS = {"067b": "pl2303", "0403": "ftdi_sio", "10c4": "cp210x", "1a86": "ch341"}


@dataclass(frozen=True)
class Adapter:
    """A USB device with at least one tty. A field is "" if the device does not say it."""

    vendor: str
    product: str
    serial: str
    path: str
    manufacturer: str = ""
    model: str = ""

    def __str__(self) -> str:
        name = " ".join(filter(None, (self.manufacturer, self.model))) or "USB adapter"
        serial = f", serial number {self.serial}" if self.serial else ""
        return f"{name} ({self.vendor}:{self.product}{serial})"


@dataclass(frozen=True)
class Holder:
    """Who uses a tty already; `kind` is process, modemmanager or one of RESERVED."""

    kind: str
    text: str


@dataclass(frozen=True)
class Tty:
    """A serial port of the machine. `adapter` is None if it is not on USB.

    `port_number` tells the ports of one USB interface apart. `by_id`, `by_path` and `by_name` are
    udev's links to it, `aliases` those directly in /dev, such as /dev/serial0; all are absolute
    paths.
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
    """What was read of this machine.

    `notes` say in words why hardware has no tty, and what to do. `all_seen` is whether the files of
    every process could be seen, for which one must be root. `names` are the names of the ports that
    ttyfleet serves, also of those whose adapter is away.
    """

    host: str
    model: str
    ttys: tuple[Tty, ...]
    listening: frozenset[int] = frozenset()
    all_seen: bool = True
    notes: tuple[str, ...] = ()
    names: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Processes:
    """The running programs, and who has which file open.

    `names` are cut off at 15 bytes by the kernel; `opened` has for a path the processes in words.
    """

    names: frozenset[str]
    opened: dict[str, list[str]]
    all_seen: bool


def read_machine(root: Path) -> Machine:
    """Read every serial adapter and UART, and who uses them; `root` is the folder with sys/."""
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
        listening=frozenset(one.port for one in connections(root) if one.listening),
        all_seen=processes.all_seen,
        notes=tuple(dict.fromkeys(_notes(root, processes))),
        names=frozenset(_given_names(root / "etc/udev/rules.d")),
    )


def _place(tty: Tty) -> tuple[object, ...]:
    """A sort key: USB path, interface, port; UARTs come last."""
    if not tty.adapter:
        return (1,)
    return (0, _natural(tty.adapter.path), tty.interface, tty.port_number)


def _read_tty(root: Path, name: str) -> Tty | None:
    """A serial port; None for a pty, a virtual terminal, or a UART that does not exist."""
    folder = root / "sys/class/tty" / name
    if not (folder / "device").exists():
        return None
    chain = _ancestors(root, folder / "device")
    interface = next((path for path in chain if (path / "bInterfaceNumber").exists()), None)
    device = next((path for path in chain if (path / "idVendor").exists()), None)
    # Only UARTs have a type; it is 0 (PORT_UNKNOWN) if there is a name but no hardware.
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
        # Since Linux 6.5 two devices of serial-base are between a UART and that of its driver.
        if (path / "driver").exists() and (path / "subsystem").resolve().name != "serial-base":
            return (path / "driver").resolve().name
    return ""


def _ancestors(root: Path, link: Path) -> list[Path]:
    """The folder of a device in /sys/devices, and those above it."""
    start, top = link.resolve(), (root / "sys/devices").resolve()
    return [path for path in (start, *start.parents) if top in path.parents]


def _udev(root: Path, device: Path) -> dict[str, str]:
    """The properties of a device in udev's database, which has lines such as E:NAME=value."""
    lines = _text(root / f"run/udev/data/c{_text(device / 'dev')}", lines=True).splitlines()
    pairs = (_one_line(line[2:]).partition("=") for line in lines if line.startswith("E:"))
    return {name: value for name, _, value in pairs}


def _links(root: Path, folder: str, name: str) -> tuple[str, ...]:
    """The symlinks to a tty in a folder as absolute paths, the shortest first."""
    found = [
        f"/{folder}/{link}"
        for link in _names(root / folder)
        if os.path.basename(_target(root / folder / link)) == name and link.isprintable()
    ]
    return tuple(sorted(found, key=lambda path: (len(path), path)))


# Who uses a tty


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
    """Names of the ttys that are the kernel's console now, or by its command line."""
    told = re.findall(r"(?:^|\s)console=([^\s,]+)", _text(root / "proc/cmdline"))
    lines = _text(root / "proc/consoles", lines=True).splitlines()
    active = _text(root / "sys/class/tty/console/active").split()
    return {*told, *(line.split()[0] for line in lines if line.strip()), *active}


def _getty(root: Path, unit: str) -> str:
    """Whether a unit is "active", or "enabled" and thus active after a boot; else ""."""
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
    """Whether the device tree has an enabled Bluetooth chip at a UART; `node` is its folder."""
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
        except OSError:  # the process has ended or closed a file
            continue
        else:
            for target in targets:
                opened[target].append(f"{name} (pid {pid})")
    return Processes(frozenset(names), opened, all_seen)


def _given_names(rules: Path) -> Iterator[str]:
    """The names of ports in the rules of the role udev."""
    for path in rules.glob("*-ttyfleet.rules"):
        yield from re.findall(r'SYMLINK\+="serial/by-name/([^"$]+)"', _text(path, lines=True))


def _notes(root: Path, processes: Processes) -> Iterator[str]:
    """A line for each piece of serial hardware without a tty: why, and what to do."""
    for name in sorted(_names(root / "sys/bus/usb/devices"), key=_natural):
        interface = (root / "sys/bus/usb/devices" / name).resolve()
        device = interface.parent
        if not (interface / "bInterfaceNumber").exists():
            continue
        kind = _text(interface / "bInterfaceClass"), _text(interface / "bInterfaceSubClass")
        module = "cdc_acm" if kind == ("02", "02") else DRIVERS.get(_text(device / "idVendor"))
        if not module:
            continue
        what = f"{_read_adapter(root, device)} at USB path {device.name}"
        if not (interface / "driver").exists():
            yield f"No driver has taken {what}: sudo modprobe {module}"
        elif (interface / "driver").resolve().name == "usbfs":
            blame = "brltty: sudo apt remove brltty" if "brltty" in processes.names else "a program"
            yield f"{what} has no tty: taken through libusb by {blame}"
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
    """The content of a file; "" if it cannot be read, since devices can go at any moment.

    What a device says of itself becomes one printable line. With `lines` the text stays as it is.
    """
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    return text if lines else _one_line(text.rstrip("\0\r\n\t "))


def _one_line(text: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in text)


def _natural(text: str) -> list[tuple[int, int, str]]:
    """A sort key by which 1-1.10 comes after 1-1.9."""
    parts = re.findall(r"[0-9]+|[^0-9]+", text)
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts]
