"""Adapters and UARTs as Linux shows them, for all that reads /sys: discover, and udev itself."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ttybridge.setup.discover.machine import read_machine
from ttybridge.setup.discover.proposal import Proposal, propose

USB = "platform/scb/fd500000.pcie/pci0000:00/0000:00:00.0/0000:01:00.0/usb1/1-1"
BY_PATH = "platform-fd500000.pcie-pci-0000:01:00.0-usb-0"


class Pi:
    """The folders /sys, /dev, /proc, /run and /etc of a Raspberry Pi 4, as far as they are read."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.minor = 0
        self.write("proc/sys/kernel/hostname", "pi-rack1\n")
        self.write("proc/device-tree/model", "Raspberry Pi 4 Model B Rev 1.4\0")
        self.write("proc/cmdline", "console=tty1 root=PARTUUID=1b2c-02 rootwait\n")
        self.write("proc/consoles", "tty1                 -WU (EC p  )    4:1\n")
        self.write("sys/class/tty/console/active", "tty1\n")
        self.write("proc/1/comm", "systemd\n")
        self.open("1", "/dev/null")
        # The root hub and the hub of the board's four sockets are USB devices, too.
        usb1 = f"sys/devices/{USB}/.."
        (root / "sys/devices" / USB).mkdir(parents=True)
        self.attributes(usb1, idVendor="1d6b", idProduct="0002", serial="0000:01:00.0")
        self.attributes(
            f"sys/devices/{USB}", idVendor="2109", idProduct="3431", product="USB2.0 Hub"
        )

    def write(self, path: str, text: str) -> None:
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")

    def attributes(self, folder: str, **values: str) -> None:
        for name, value in values.items():
            self.write(f"{folder}/{name}", f"{value}\n")

    def link(self, path: str, target: str) -> None:
        """A symlink to a path below the root, relative as those of /sys and /dev are."""
        link = self.root / path
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(os.path.relpath(self.root / target, link.parent))

    def open(self, pid: str, target: str) -> None:
        """A process that has a file open; what a link in /proc says is no path below the root."""
        folder = self.root / "proc" / pid / "fd"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / str(len(os.listdir(folder)))).symlink_to(target)

    def driver(self, device: str, bus: str, name: str) -> None:
        (self.root / f"sys/bus/{bus}/drivers/{name}").mkdir(parents=True, exist_ok=True)
        self.link(f"{device}/driver", f"sys/bus/{bus}/drivers/{name}")
        self.link(f"{device}/subsystem", f"sys/bus/{bus}")

    def tty(self, name: str, device: str, **attributes: str) -> None:
        """The tty of a device."""
        self.minor += 1
        folder = f"{device}/tty/{name}"
        self.attributes(folder, dev=f"188:{self.minor}", **attributes)
        self.link(f"{folder}/device", device)
        self.link(f"sys/class/tty/{name}", folder)

    def usb(
        self,
        names: list[str],
        ids: str,
        path: str,
        driver: str,
        about: Mapping[str, str],
        interfaces: int = 1,
    ) -> None:
        """An adapter with its ttys, in equal parts on its interfaces, and the links of udev."""
        vendor, product = ids.split(":")
        device = f"sys/devices/{USB}/{path}"
        self.attributes(device, idVendor=vendor, idProduct=product, **about)
        words = [about.get("manufacturer", vendor), about.get("product", product)]
        words.append(about.get("serial", ""))
        by_id = re.sub("[ /]", "_", "_".join(word for word in words if word))
        for number, name in enumerate(names):
            interface, port = divmod(number, len(names) // interfaces)
            at = f"{device}/{path}:1.{interface}"
            suffix = ""
            if not (self.root / at).exists():
                self.attributes(at, bInterfaceNumber=f"{interface:02x}")
                self.driver(at, "usb", driver)
                self.link(f"sys/bus/usb/devices/{path}:1.{interface}", at)
            if driver == "cdc_acm":
                self.tty(name, at)
            else:
                self.attributes(f"{at}/{name}", port_number=str(port))
                self.driver(f"{at}/{name}", "usb-serial", driver)
                self.tty(name, f"{at}/{name}")
                suffix = f"-port{port}"
            links = (
                f"by-path/{BY_PATH}:{path.partition('-')[2]}:1.{interface}{suffix}",
                f"by-id/usb-{by_id}-if{interface:02x}{suffix}",
            )
            for link in links:
                self.write(f"dev/{name}", "")
                # Of twins, the last one has the link.
                (self.root / "dev/serial" / link).unlink(missing_ok=True)
                self.link(f"dev/serial/{link}", f"dev/{name}")

    def uart(self, name: str, device: str, driver: str, type_: str = "32") -> None:
        """A UART, with the two devices that Linux has between it and its driver since 6.5."""
        folder = f"sys/devices/{device}"
        self.driver(folder, "platform", driver)
        base = f"{folder}/{Path(device).name}:0"
        self.driver(base, "serial-base", "ctrl")
        self.driver(f"{base}/{Path(device).name}:0.0", "serial-base", "port")
        self.tty(name, f"{base}/{Path(device).name}:0.0", type=type_)
        self.link(f"{base}/{Path(device).name}:0.0/of_node", f"{folder}/node")
        (self.root / folder / "node").mkdir()

    def proposals(self) -> list[Proposal]:
        return propose(read_machine(self.root))

    def taken_by(self, keys: dict[str, Any]) -> list[str]:
        """The ttys that udev would give to an entry: a match is by one device on the way up."""
        return [
            link.name
            for link in sorted((self.root / "sys/class/tty").iterdir())
            if (link / "device").exists() and self._satisfies(link, keys)
        ]

    def _satisfies(self, tty: Path, keys: dict[str, Any]) -> bool:
        if "device" in keys:
            return Path(self.root, keys["device"][1:]).resolve().name == tty.name
        start = (tty / "device").resolve()
        usb = dict(keys["usb"])
        number = usb.pop("interface", None)
        if number is not None:
            files = [folder / "bInterfaceNumber" for folder in (start, start.parent)]
            if f"{number:02x}" not in [file.read_text().strip() for file in files if file.exists()]:
                return False
        path = usb.pop("path", None)
        names = {"vendor": "idVendor", "product": "idProduct", "serial": "serial"}
        return any(
            path in (None, device.name)
            and all(
                (device / names[key]).exists()
                and (device / names[key]).read_text().strip() == value
                for key, value in usb.items()
            )
            for device in (start, *start.parents)
        )


def pl2303(pi: Pi) -> None:
    strings = {"manufacturer": "Prolific Technology Inc.", "product": "USB-Serial Controller"}
    pi.usb(["ttyUSB0"], "067b:2303", "1-1.1", "pl2303", strings)


def ft232(pi: Pi) -> None:
    strings = {"manufacturer": "FTDI", "product": "FT232R USB UART", "serial": "A50285BI"}
    pi.usb(["ttyUSB1"], "0403:6001", "1-1.2", "ftdi_sio", strings)


def ft4232(pi: Pi) -> None:
    names = [f"ttyUSB{number}" for number in (2, 3, 4, 5)]
    strings = {"manufacturer": "FTDI", "product": "Quad RS232-HS", "serial": "FT7XYZ12"}
    pi.usb(names, "0403:6011", "1-1.3.1", "ftdi_sio", strings, interfaces=4)


def ft4232_without_serial(pi: Pi) -> None:
    """As they come: its EEPROM is empty."""
    names = [f"ttyUSB{number}" for number in (26, 27, 28, 29)]
    strings = {"manufacturer": "FTDI", "product": "Quad RS232-HS"}
    pi.usb(names, "0403:6011", "1-1.3.8", "ftdi_sio", strings, interfaces=4)


CP2102 = {
    "manufacturer": "Silicon Labs",
    "product": "CP2102 USB to UART Bridge Controller",
}


def cp2102_twins(pi: Pi) -> None:
    pi.usb(["ttyUSB6"], "10c4:ea60", "1-1.3.2", "cp210x", {**CP2102, "serial": "0001"})
    pi.usb(["ttyUSB7"], "10c4:ea60", "1-1.3.10", "cp210x", {**CP2102, "serial": "0001"})


def cp2102_with_serial(pi: Pi) -> None:
    pi.usb(["ttyUSB8"], "10c4:ea60", "1-1.3.4", "cp210x", {**CP2102, "serial": "0133CA01"})


def ch340(pi: Pi) -> None:
    pi.usb(["ttyUSB9"], "1a86:7523", "1-1.3.5", "ch341-uart", {"product": "USB Serial"})


def arduino(pi: Pi) -> None:
    strings = {"manufacturer": "Arduino (www.arduino.cc)", "serial": "75830303934351E0F1A1"}
    pi.usb(["ttyACM0"], "2341:0043", "1-1.4", "cdc_acm", strings)


def cp2105(pi: Pi) -> None:
    names = ["ttyUSB10", "ttyUSB11"]
    strings = {"product": "CP2105 Dual USB to UART Bridge Controller", "serial": "00A4F1B2"}
    pi.usb(names, "10c4:ea70", "1-1.3.6", "cp210x", strings, interfaces=2)


def uport_1450(pi: Pi) -> None:
    """Four ports on one interface, and no serial number."""
    names = [f"ttyUSB{number}" for number in (12, 13, 14, 15)]
    strings = {"manufacturer": "Moxa Technologies Inc.", "product": "UPort 1450"}
    pi.usb(names, "110a:1450", "1-1.3.7", "mxuport", strings)


def edgeport_with_serial(pi: Pi) -> None:
    names = ["ttyUSB16", "ttyUSB17"]
    strings = {"manufacturer": "Digi International", "product": "Edgeport/2", "serial": "V90183261"}
    pi.usb(names, "1608:0215", "1-1.3.9", "io_ti", strings)


def uarts_of_pi_4(pi: Pi) -> None:
    """Bluetooth on the PL011, which leaves the mini UART for the pins."""
    pi.uart("ttyAMA0", "platform/soc/fe201000.serial", "uart-pl011")
    pi.write("sys/devices/platform/soc/fe201000.serial/node/bluetooth/status", "okay\0")
    pi.uart("ttyS0", "platform/soc/fe215040.serial", "bcm2835-aux-uart", "4")
    for link, name in (("serial0", "ttyS0"), ("serial1", "ttyAMA0")):
        pi.write(f"dev/{name}", "")
        pi.link(f"dev/{link}", f"dev/{name}")


def uart_of_pi_5(pi: Pi) -> None:
    """The one of the debug connector."""
    pi.write("proc/device-tree/model", "Raspberry Pi 5 Model B Rev 1.0\0")
    pi.uart("ttyAMA10", "platform/soc@107c000000/107d001000.serial", "uart-pl011")
    pi.write("dev/ttyAMA10", "")
    pi.link("dev/serial0", "dev/ttyAMA10")


def sc16is752(pi: Pi) -> None:
    """A HAT with two UARTs, on a kernel before 6.5: nothing between the ttys and the driver."""
    spi = "sys/devices/platform/soc/fe204000.spi/spi_master/spi0/spi0.0"
    pi.driver(spi, "spi", "sc16is7xx")
    for name in ("ttySC0", "ttySC1"):
        pi.tty(name, spi, type="108")
        pi.write(f"dev/{name}", "")


Record = Callable[[Pi], None]

# One machine can have all of these at once; a Raspberry Pi 5 has other UARTs.
TOGETHER: tuple[Record, ...] = (
    pl2303,
    ft232,
    ft4232,
    ft4232_without_serial,
    cp2102_twins,
    cp2102_with_serial,
    ch340,
    arduino,
    cp2105,
    uport_1450,
    edgeport_with_serial,
    uarts_of_pi_4,
    sc16is752,
)


def everything(pi: Pi) -> None:
    for record in TOGETHER:
        record(pi)
