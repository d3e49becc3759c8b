"""Discover: recorded adapters and UARTs, and the port map entries that are proposed for them."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from recorded import (
    BY_PATH,
    CP2102,
    TOGETHER,
    USB,
    Pi,
    Record,
    arduino,
    ch340,
    cp2102_twins,
    cp2102_with_serial,
    cp2105,
    edgeport_with_serial,
    everything,
    ft232,
    ft4232,
    ft4232_without_serial,
    pl2303,
    sc16is752,
    uart_of_pi_5,
    uarts_of_pi_4,
    uport_1450,
)
from ttybridge.model.check import check_portmap
from ttybridge.setup.discover import report
from ttybridge.setup.discover.machine import Adapter, Machine, Tty, read_machine
from ttybridge.setup.discover.proposal import Proposal, is_placeholder, propose
from ttybridge.setup.discover.report import to_yaml


@pytest.fixture
def pi(tmp_path: Path) -> Pi:
    return Pi(tmp_path)


def usb(**keys: Any) -> dict[str, Any]:
    return {"usb": keys}


def moxa(port: int) -> dict[str, Any]:
    return {"device": f"/dev/serial/by-path/{BY_PATH}:1.3.7:1.0-port{port}"}


def edgeport(port: int) -> dict[str, Any]:
    name = "usb-Digi_International_Edgeport_2_V90183261"
    return {"device": f"/dev/serial/by-id/{name}-if00-port{port}"}


QUAD = {"vendor": "0403", "product": "6011", "serial": "FT7XYZ12"}
DUAL = {"vendor": "10c4", "product": "ea70", "serial": "00A4F1B2"}
SILABS = {"vendor": "10c4", "product": "ea60"}

# What is plugged in; for each tty: name, what is matched, what else could be.
RECORDED: list[tuple[Record, list[tuple[str, dict[str, Any], dict[str, Any] | None]]]] = [
    (
        pl2303,
        [
            (
                "usb-serial-controller",
                usb(vendor="067b", product="2303", path="1-1.1"),
                usb(vendor="067b", product="2303"),
            )
        ],
    ),
    (
        ft232,
        [
            (
                "ft232r-usb-uart",
                usb(vendor="0403", product="6001", serial="A50285BI"),
                usb(path="1-1.2"),
            )
        ],
    ),
    (
        ft4232,
        [
            (
                f"quad-rs232-hs-{number}",
                usb(**QUAD, interface=number),
                usb(path="1-1.3.1", interface=number),
            )
            for number in range(4)
        ],
    ),
    (
        ft4232_without_serial,
        [
            (
                f"quad-rs232-hs-{number}",
                usb(vendor="0403", product="6011", path="1-1.3.8", interface=number),
                usb(vendor="0403", product="6011", interface=number),
            )
            for number in range(4)
        ],
    ),
    (
        cp2102_twins,
        [
            ("cp2102-usb-to-uart-1-1.3.2", usb(**SILABS, path="1-1.3.2"), usb(path="1-1.3.2")),
            ("cp2102-usb-to-uart-1-1.3.10", usb(**SILABS, path="1-1.3.10"), usb(path="1-1.3.10")),
        ],
    ),
    (
        cp2102_with_serial,
        [("cp2102-usb-to-uart", usb(**SILABS, serial="0133CA01"), usb(path="1-1.3.4"))],
    ),
    (
        ch340,
        [
            (
                "usb-serial",
                usb(vendor="1a86", product="7523", path="1-1.3.5"),
                usb(vendor="1a86", product="7523"),
            )
        ],
    ),
    (
        arduino,
        [
            (
                "2341-0043",
                usb(vendor="2341", product="0043", serial="75830303934351E0F1A1"),
                usb(path="1-1.4"),
            )
        ],
    ),
    (
        cp2105,
        [
            (
                f"cp2105-dual-usb-to-uart-{number}",
                usb(**DUAL, interface=number),
                usb(path="1-1.3.6", interface=number),
            )
            for number in range(2)
        ],
    ),
    (uport_1450, [(f"uport-1450-{port}", moxa(port), None) for port in range(4)]),
    (
        edgeport_with_serial,
        [
            (
                f"edgeport-2-{port}",
                edgeport(port),
                {"device": f"/dev/serial/by-path/{BY_PATH}:1.3.9:1.0-port{port}"},
            )
            for port in range(2)
        ],
    ),
    (
        uarts_of_pi_4,
        [
            ("ttyAMA0", {"device": "/dev/ttyAMA0"}, None),
            ("ttyS0", {"device": "/dev/ttyS0"}, {"device": "/dev/serial0"}),
        ],
    ),
    (uart_of_pi_5, [("ttyAMA10", {"device": "/dev/ttyAMA10"}, {"device": "/dev/serial0"})]),
    (sc16is752, [(name, {"device": f"/dev/{name}"}, None) for name in ("ttySC0", "ttySC1")]),
]


def check(pi: Pi) -> list[Proposal]:
    """See that what is proposed is a port map, and takes each tty once, for itself."""
    proposals = pi.proposals()
    assert check_portmap([proposal.entry for proposal in proposals])[1] == []
    for proposal in proposals:
        assert pi.taken_by(proposal.match.keys) == [proposal.tty.name]
        if proposal.match.alternative and "usb" in proposal.match.alternative:
            assert proposal.tty.name in pi.taken_by(proposal.match.alternative)
    return proposals


@pytest.mark.parametrize(
    ("record", "expected"), RECORDED, ids=lambda one: getattr(one, "__name__", "")
)
def test_recorded_adapter(
    pi: Pi, record: Record, expected: list[tuple[str, dict[str, Any], dict[str, Any] | None]]
) -> None:
    record(pi)
    proposals = check(pi)
    assert [
        (proposal.entry["name"], proposal.match.keys, proposal.match.alternative)
        for proposal in proposals
    ] == expected
    assert [proposal.entry["listen"] for proposal in proposals] == [
        10001 + number for number in range(len(expected))
    ]


def test_none_is_left_out() -> None:
    assert [record for record, _ in RECORDED if record is not uart_of_pi_5] == [*TOGETHER]


def test_all_recorded_adapters_at_once(pi: Pi) -> None:
    everything(pi)
    proposals = check(pi)
    match = {proposal.tty.name: proposal.match.keys for proposal in proposals}
    assert match["ttyUSB8"] == usb(**SILABS, serial="0133CA01")
    assert match["ttyUSB3"] == usb(vendor="0403", product="6011", serial="FT7XYZ12", interface=1)
    assert list(match) == [
        *[f"ttyUSB{number}" for number in range(2)],
        *["ttyUSB2", "ttyUSB3", "ttyUSB4", "ttyUSB5", "ttyUSB6", "ttyUSB8", "ttyUSB9"],
        *[f"ttyUSB{number}" for number in (*range(10, 16), *range(26, 30), 16, 17, 7)],
        *["ttyACM0", "ttyAMA0", "ttyS0", "ttySC0", "ttySC1"],
    ]


def test_each_alternative_goes_with_the_other_entries(pi: Pi) -> None:
    everything(pi)
    proposals = pi.proposals()
    for proposal in proposals:
        if proposal.match.alternative:
            rest = [other.entry for other in proposals if other is not proposal]
            assert check_portmap([*rest, with_alternative(proposal)])[1] == []
            assert pi.taken_by(proposal.match.alternative) == [proposal.tty.name]


def with_alternative(proposal: Proposal) -> dict[str, Any]:
    usual = {key: proposal.entry[key] for key in ("name", "listen")}
    return {**usual, **(proposal.match.alternative or proposal.match.keys)}


# A few values each, so that adapters have much in common.
ADAPTERS = st.lists(
    st.builds(
        Adapter,
        vendor=st.sampled_from(["0403", "10c4"]),
        product=st.sampled_from(["6001", "ea60"]),
        serial=st.sampled_from(["", "0001", "A1B2", "C3D4", "a b", "x*", "\N{MICRO SIGN}1"]),
        path=st.sampled_from([f"1-1.{socket}" for socket in range(1, 9)]),
        manufacturer=st.sampled_from(["", "FTDI"]),
        model=st.sampled_from(["", "CP2102", "Quad: # {{ x }}", "\N{MICRO SIGN}", "no"]),
    ),
    unique_by=lambda adapter: adapter.path,
)


@st.composite
def machines(draw: st.DrawFn) -> Machine:
    ttys: list[Tty] = []
    for adapter in draw(ADAPTERS):
        places = st.tuples(st.integers(0, 3), st.integers(0, 2))
        for interface, port in draw(st.lists(places, min_size=1, max_size=4, unique=True)):
            tty = Tty(f"ttyUSB{len(ttys)}", "", adapter, interface, port)
            if draw(st.booleans()):
                where = f"{adapter.path}:1.{interface}-port{port}"
                tty = replace(tty, by_path=(f"/dev/serial/by-path/{where}",))
            if draw(st.booleans()):
                tty = replace(tty, by_id=(f"/dev/serial/by-id/usb-{tty.name}",))
            ttys.append(tty)
    names = st.sampled_from(["cp2102", "cp2102-2", "0403-6001", "on", "1e3", "ttyAMA0", "a b"])
    for tty, name in zip(list(ttys), draw(st.lists(names, unique=True)), strict=False):
        ttys[ttys.index(tty)] = replace(tty, by_name=(f"/dev/serial/by-name/{name}",))
    ttys += [Tty(name) for name in draw(st.sets(st.sampled_from(["ttyAMA0", "ttyS0"])))]
    return Machine("pi", "", tuple(ttys), frozenset(draw(st.sets(st.integers(10001, 10009)))))


@given(machines())
def test_any_mix_of_adapters_gives_a_sound_map_that_yaml_reads_back(machine: Machine) -> None:
    proposals = propose(machine)
    entries = [proposal.entry for proposal in proposals]
    assert [proposal.tty for proposal in proposals] == list(machine.ttys)
    assert check_portmap(entries)[1] == []
    assert not machine.listening & {entry["listen"] for entry in entries}
    text = to_yaml(machine, proposals)
    assert yaml.safe_load(text) == {"serial_ports": entries}
    # Ansible shows a text as it is only if no line ends with a space.
    assert [line for line in text.splitlines() if line != line.rstrip()] == []


@given(machines(), st.integers(0, 31))
def test_any_alternative_goes_with_the_other_entries(machine: Machine, chosen: int) -> None:
    proposals = propose(machine)
    entries = [
        with_alternative(proposal) if number == chosen else proposal.entry
        for number, proposal in enumerate(proposals)
    ]
    assert check_portmap(entries)[1] == []


def test_what_is_printed(pi: Pi) -> None:
    for record in (pl2303, cp2102_twins, ft232, uarts_of_pi_4):
        record(pi)
    pi.write("proc/4711/comm", "minicom\n")
    pi.open("4711", "/dev/ttyUSB1")
    pi.write("proc/net/tcp", TCP)
    assert report.report(root=pi.root) == PRINTED
    assert [port["name"] for port in yaml.safe_load(PRINTED)["serial_ports"]] == [
        "usb-serial-controller",
        "ft232r-usb-uart",
        "cp2102-usb-to-uart-1-1.3.2",
        "cp2102-usb-to-uart-1-1.3.10",
        "ttyS0",
    ]


# ttybridge listens at 10001, somebody is connected from 10002.
TCP = """\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 00000000:2711 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1
   1: 0100007F:2712 0100007F:2711 01 00000000:00000000 00:00000000 00000000     0        0 2
"""

PRINTED = """\
# pi-rack1 (Raspberry Pi 4 Model B Rev 1.4)
# Name each port after the device that is connected to it.
# allow: [local] lets in the networks that the host is in. Write others as 192.0.2.0/24, or
# [any] for everyone who reaches the port.
# An entry without line settings has those of serial_ports_defaults in the inventory, else
# baudrate 9600, bytesize 8, parity none, stopbits 1, flow none: write those of the device.
serial_ports:

  # /dev/ttyUSB0, USB path 1-1.1, driver pl2303
  # Prolific Technology Inc. USB-Serial Controller (067b:2303)
  # /dev/serial/by-id/usb-Prolific_Technology_Inc._USB-Serial_Controller-if00-port0
  # /dev/serial/by-path/platform-fd500000.pcie-pci-0000:01:00.0-usb-0:1.1:1.0-port0
  # Matched by USB path: it has no serial number.
  # Or usb: {vendor: "067b", product: "2303"}, wherever it is plugged in, while it has no twin.
  - name: usb-serial-controller
    usb: {vendor: "067b", product: "2303", path: "1-1.1"}
    listen: 10002
    allow: [local]

  # /dev/ttyUSB1, USB path 1-1.2, driver ftdi_sio
  # FTDI FT232R USB UART (0403:6001, serial number A50285BI)
  # /dev/serial/by-id/usb-FTDI_FT232R_USB_UART_A50285BI-if00-port0
  # /dev/serial/by-path/platform-fd500000.pcie-pci-0000:01:00.0-usb-0:1.2:1.0-port0
  # Matched by serial number: wherever it is plugged in.
  # Or usb: {path: "1-1.2"}, whichever adapter is plugged in there.
  # In use: minicom (pid 4711)
  - name: ft232r-usb-uart
    usb: {vendor: "0403", product: "6001", serial: "A50285BI"}
    listen: 10003
    allow: [local]

  # /dev/ttyUSB6, USB path 1-1.3.2, driver cp210x
  # Silicon Labs CP2102 USB to UART Bridge Controller (10c4:ea60, serial number 0001)
  # /dev/serial/by-path/platform-fd500000.pcie-pci-0000:01:00.0-usb-0:1.3.2:1.0-port0
  # Matched by USB path: its serial number 0001 is one that many adapters have.
  # Or usb: {path: "1-1.3.2"}, whichever adapter is plugged in there.
  # Warning: its twin is at 1-1.3.10: only the socket tells them apart, so label both
  - name: cp2102-usb-to-uart-1-1.3.2
    usb: {vendor: "10c4", product: "ea60", path: "1-1.3.2"}
    listen: 10004
    allow: [local]

  # /dev/ttyUSB7, USB path 1-1.3.10, driver cp210x
  # Silicon Labs CP2102 USB to UART Bridge Controller (10c4:ea60, serial number 0001)
  # /dev/serial/by-id/usb-Silicon_Labs_CP2102_USB_to_UART_Bridge_Controller_0001-if00-port0
  # /dev/serial/by-path/platform-fd500000.pcie-pci-0000:01:00.0-usb-0:1.3.10:1.0-port0
  # Matched by USB path: its serial number 0001 is one that many adapters have.
  # Or usb: {path: "1-1.3.10"}, whichever adapter is plugged in there.
  # Warning: its twin is at 1-1.3.2: only the socket tells them apart, so label both
  - name: cp2102-usb-to-uart-1-1.3.10
    usb: {vendor: "10c4", product: "ea60", path: "1-1.3.10"}
    listen: 10005
    allow: [local]

  # /dev/ttyAMA0, a UART, driver uart-pl011
  # /dev/serial1
  # Matched by name, which a UART keeps.
  # In use: the board's Bluetooth (dtoverlay=disable-bt frees it)
  # Not proposed because it is in use. To use it, remove the # from these lines:
  # - name: ttyAMA0
  #   device: /dev/ttyAMA0
  #   listen: 10006
  #   allow: [local]

  # /dev/ttyS0, a UART, driver bcm2835-aux-uart
  # /dev/serial0
  # Matched by name, which a UART keeps.
  # Or device: /dev/serial0, the first UART of the board, whichever that is by config.txt.
  # Warning: a mini UART: no parity, and its baudrate moves with the core clock: enable_uart=1
  - name: ttyS0
    device: /dev/ttyS0
    listen: 10007
    allow: [local]
"""


def test_the_same_for_programs(pi: Pi) -> None:
    cp2105(pi)
    found = json.loads(report.report(as_json=True, root=pi.root))
    ports = found.pop("ports")
    assert found == {
        "host": "pi-rack1",
        "model": "Raspberry Pi 4 Model B Rev 1.4",
        "all_seen": True,
        "notes": [],
    }
    assert len(ports) == 2
    assert ports[1] == {
        "device": "/dev/ttyUSB11",
        "name": "ttyUSB11",
        "driver": "cp210x",
        "adapter": {
            **DUAL,
            "path": "1-1.3.6",
            "manufacturer": "",
            "model": "CP2105 Dual USB to UART Bridge Controller",
        },
        "interface": 1,
        "port_number": 0,
        "by_id": [
            "/dev/serial/by-id/usb-10c4_CP2105_Dual_USB_to_UART_Bridge_Controller_00A4F1B2-if01-port0"
        ],
        "by_path": [f"/dev/serial/by-path/{BY_PATH}:1.3.6:1.1-port0"],
        "by_name": [],
        "aliases": [],
        "holders": [],
        "reserved": False,
        "entry": {
            "name": "cp2105-dual-usb-to-uart-1",
            "usb": {**DUAL, "interface": 1},
            "listen": 10002,
            "allow": ["local"],
        },
        "match": {
            "keys": {"usb": {**DUAL, "interface": 1}},
            "why": "by serial number: wherever it is plugged in; "
            "by interface, since it has 2 ports",
            "alternative": {"usb": {"path": "1-1.3.6", "interface": 1}},
            "alternative_why": "whichever adapter is plugged in there",
        },
        "warnings": [],
    }


def holders(pi: Pi, name: str) -> list[str]:
    (tty,) = [tty for tty in read_machine(pi.root).ttys if tty.name == name]
    return [holder.text for holder in tty.holders]


CONSOLE = "kernel console (console= in the kernel's command line)"


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("proc/cmdline", "console=ttyS0,115200 console=tty1 root=/dev/mmcblk0p2\n"),
        ("proc/cmdline", "console=serial0,115200\n"),
        ("proc/consoles", "ttyS0                -W- (EC p a)    4:64\n"),
        ("sys/class/tty/console/active", "tty1 ttyS0\n"),
    ],
)
def test_the_kernel_console_is_not_given_away(pi: Pi, file: str, text: str) -> None:
    uarts_of_pi_4(pi)
    pi.write(file, text)
    assert holders(pi, "ttyS0") == [CONSOLE]
    assert yaml.safe_load(report.report(root=pi.root)) == {"serial_ports": []}


UNIT = "serial-getty@ttyS0.service"
CGROUP = f"system.slice/system-serial\\x2dgetty.slice/{UNIT}/cgroup.procs"


@pytest.mark.parametrize(
    ("file", "state"),
    [
        (f"etc/systemd/system/getty.target.wants/{UNIT}", "enabled"),
        (f"run/systemd/generator/getty.target.wants/{UNIT}", "enabled"),
        (f"sys/fs/cgroup/{CGROUP}", "active"),
        (f"sys/fs/cgroup/systemd/{CGROUP}", "active"),
    ],
)
def test_a_login_prompt_is_not_taken_away(pi: Pi, file: str, state: str) -> None:
    uarts_of_pi_4(pi)
    pi.write(file, "")
    assert holders(pi, "ttyS0") == [f"login prompt, {UNIT} ({state})"]
    assert yaml.safe_load(report.report(root=pi.root)) == {"serial_ports": []}


def test_a_masked_login_prompt_is_none(pi: Pi) -> None:
    uarts_of_pi_4(pi)
    pi.write(f"run/systemd/generator/getty.target.wants/{UNIT}", "")
    (pi.root / "etc/systemd/system").mkdir(parents=True)
    (pi.root / "etc/systemd/system" / UNIT).symlink_to("/dev/null")
    assert holders(pi, "ttyS0") == []


def test_bluetooth_that_is_disabled_holds_nothing(pi: Pi) -> None:
    uarts_of_pi_4(pi)
    assert holders(pi, "ttyAMA0") == ["the board's Bluetooth (dtoverlay=disable-bt frees it)"]
    pi.write("sys/devices/platform/soc/fe201000.serial/node/bluetooth/status", "disabled\0")
    assert holders(pi, "ttyAMA0") == []


def test_modem_manager_is_named_unless_it_is_kept_away(pi: Pi) -> None:
    arduino(pi)
    sc16is752(pi)
    pi.write("proc/99/comm", "ModemManager\n")
    assert holders(pi, "ttyACM0") == ["ModemManager, which may send AT commands to it"]
    assert holders(pi, "ttySC0") == []
    pi.write("run/udev/data/c188:1", "S:serial/by-name/x\nE:ID_MM_DEVICE_IGNORE=1\nG:systemd\n")
    assert holders(pi, "ttyACM0") == []


def test_processes_that_cannot_be_looked_into(pi: Pi, monkeypatch: pytest.MonkeyPatch) -> None:
    pl2303(pi)
    listdir = os.listdir

    def refuse(path: Path) -> list[str]:
        if path.name == "fd":
            raise PermissionError
        return listdir(path)

    monkeypatch.setattr(os, "listdir", refuse)
    assert "Only root sees the files of every process" in report.report(root=pi.root)


def test_a_port_keeps_the_name_that_it_has(pi: Pi) -> None:
    """Also where another adapter, found before it, would get that name."""
    ft232(pi)
    arduino(pi)
    pi.link("dev/serial/by-name/ft232r-usb-uart", "dev/ttyACM0")
    pi.write("dev/ttyACM0", "")
    names = {proposal.tty.name: proposal.entry["name"] for proposal in check(pi)}
    assert names == {"ttyUSB1": "ft232r-usb-uart-2", "ttyACM0": "ft232r-usb-uart"}
    assert "# ttyfleet serves it already: keep the entry that you have.\n" in report.report(
        root=pi.root
    )


def provisioned(pi: Pi) -> None:
    """With a PL2303 that ttyfleet serves, one adapter that is away, and what has come since."""
    pl2303(pi)
    pi.link("dev/serial/by-name/core-switch", "dev/ttyUSB0")
    rule = 'SUBSYSTEMS=="usb", SYMLINK+="serial/by-name/{}", GROUP="dialout"\n'
    rules = rule.format("core-switch") + rule.format("ft232r-usb-uart")
    pi.write("etc/udev/rules.d/60-ttyfleet.rules", rules)
    pi.write("proc/net/tcp", TCP)
    ft232(pi)
    uarts_of_pi_4(pi)
    pi.write("proc/cmdline", "console=serial0,115200 console=tty1\n")


def test_what_is_new_goes_behind_the_port_map_that_is_there(pi: Pi) -> None:
    """Not the console's UART nor Bluetooth's; and with a name and a TCP port of its own."""
    provisioned(pi)
    assert report.report(only_new=True, root=pi.root) == NEW
    before = "serial_ports:\n  - {name: ft232r-usb-uart, usb: {path: 1-1.4}, listen: 10001}\n"
    entries = yaml.safe_load(before + NEW)["serial_ports"]
    assert check_portmap(entries)[1] == []


NEW = """\
  # allow: [local] lets in the networks that the host is in. Write others as 192.0.2.0/24, or
  # [any] for everyone who reaches the port.
  # An entry without line settings has those of serial_ports_defaults in the inventory, else
  # baudrate 9600, bytesize 8, parity none, stopbits 1, flow none: write those of the device.

  # /dev/ttyUSB1, USB path 1-1.2, driver ftdi_sio
  # FTDI FT232R USB UART (0403:6001, serial number A50285BI)
  # /dev/serial/by-id/usb-FTDI_FT232R_USB_UART_A50285BI-if00-port0
  # /dev/serial/by-path/platform-fd500000.pcie-pci-0000:01:00.0-usb-0:1.2:1.0-port0
  # Matched by serial number: wherever it is plugged in.
  # Or usb: {path: "1-1.2"}, whichever adapter is plugged in there.
  - name: ft232r-usb-uart-2
    usb: {vendor: "0403", product: "6001", serial: "A50285BI"}
    listen: 10002
    allow: [local]
"""


def test_where_nothing_is_new_nothing_is_said(pi: Pi) -> None:
    provisioned(pi)
    pi.link("dev/serial/by-name/ft232r-usb-uart", "dev/ttyUSB1")
    assert report.report(only_new=True, root=pi.root) == ""


def test_ports_of_one_interface_without_udev_keep_only_the_kernels_name(pi: Pi) -> None:
    uport_1450(pi)
    shutil.rmtree(pi.root / "dev/serial")
    proposals = check(pi)
    assert [proposal.match.keys["device"] for proposal in proposals] == [
        f"/dev/ttyUSB{number}" for number in (12, 13, 14, 15)
    ]
    assert all("another adapter may get this name" in one.warnings[0] for one in proposals)


def test_what_is_no_serial_port_is_left_out(pi: Pi) -> None:
    pi.tty("ttyS1", "sys/devices/platform/serial8250/serial8250:0/serial8250:0.1", type="0")
    pi.tty("ttyGS0", "sys/devices/platform/soc/fe980000.usb/gadget.0")
    for name in ("tty1", "ttyprintk", "ptmx"):
        pi.attributes(f"sys/devices/virtual/tty/{name}", dev="4:1")
        pi.link(f"sys/class/tty/{name}", f"sys/devices/virtual/tty/{name}")
    assert read_machine(pi.root).ttys == ()


def test_an_empty_machine_says_what_to_look_at(pi: Pi) -> None:
    text = report.report(root=pi.root)
    assert yaml.safe_load(text) == {"serial_ports": []}
    for word in ("lsusb", "dmesg", "modprobe", "enable_uart=1"):
        assert word in text


def test_a_folder_without_anything_is_no_traceback(tmp_path: Path) -> None:
    assert yaml.safe_load(report.report(root=tmp_path)) == {"serial_ports": []}


@pytest.mark.parametrize(
    ("ids", "class_", "module"),
    [("067b:23a3", "ff", "pl2303"), ("2341:0043", "02", "cdc_acm"), ("0bda:8153", "02", "")],
)
def test_an_adapter_without_a_driver_is_named(pi: Pi, ids: str, class_: str, module: str) -> None:
    vendor, product = ids.split(":")
    device = f"sys/devices/{USB}/1-1.2"
    # A network adapter is of class 02, too, and not of subclass 02.
    sub = "02" if module == "cdc_acm" else "06"
    pi.attributes(device, idVendor=vendor, idProduct=product)
    interface = {"bInterfaceNumber": "00", "bInterfaceClass": class_, "bInterfaceSubClass": sub}
    pi.attributes(f"{device}/1-1.2:1.0", **interface)
    pi.link("sys/bus/usb/devices/1-1.2:1.0", f"{device}/1-1.2:1.0")
    pi.link("sys/bus/usb/devices/1-1.2", device)
    what = f"No driver has taken USB adapter ({ids}) at USB path 1-1.2: sudo modprobe {module}"
    assert read_machine(pi.root).notes == ((what,) if module else ())


def test_an_adapter_that_brltty_has_taken_is_named(pi: Pi) -> None:
    device = f"sys/devices/{USB}/1-1.2"
    pi.attributes(device, idVendor="1a86", idProduct="7523", product="USB Serial")
    pi.attributes(f"{device}/1-1.2:1.0", bInterfaceNumber="00", bInterfaceClass="ff")
    pi.driver(f"{device}/1-1.2:1.0", "usb", "usbfs")
    pi.link("sys/bus/usb/devices/1-1.2:1.0", f"{device}/1-1.2:1.0")
    pi.write("proc/88/comm", "brltty\n")
    (note,) = read_machine(pi.root).notes
    assert note.endswith("taken through libusb by brltty: sudo apt remove brltty")


def test_bluetooth_on_a_uart_without_a_tty_is_named(pi: Pi) -> None:
    """As on Raspberry Pi OS since krnbt is the default: the kernel itself talks to the chip."""
    uart = "sys/devices/platform/soc/fe201000.serial"
    pi.driver(uart, "platform", "uart-pl011")
    chip = f"{uart}/fe201000.serial:0/fe201000.serial:0.0/serial0/serial0-0"
    pi.driver(chip, "serial", "hci_uart_bcm")
    pi.link("sys/bus/serial/devices/serial0-0", chip)
    pi.link("sys/bus/serial/devices/serial0", str(Path(chip).parent))
    (note,) = read_machine(pi.root).notes
    assert note.startswith("Bluetooth has the UART of driver uart-pl011, so it has no tty:")


@pytest.mark.parametrize(
    "serial",
    ["0001", "0", "00000000", "1", "12345678", "123456", "0123456789ABCDEF", "ffffffff"]
    + ["0000:00:1d.0", "Serial", "N/A"],
)
def test_a_serial_number_that_many_have_is_not_relied_on(serial: str) -> None:
    assert is_placeholder(serial)


@pytest.mark.parametrize(
    "serial", ["A50285BI", "0133CA01", "0002", "75830303934351E0F1A1", "12346"]
)
def test_a_serial_number_of_its_own_is(serial: str) -> None:
    assert not is_placeholder(serial)


@pytest.mark.parametrize("serial", ["a b", "x*", "\N{MICRO SIGN}1", 'a"b'])
def test_a_serial_number_of_any_characters_is_taken(pi: Pi, serial: str) -> None:
    pi.usb(["ttyUSB0"], "10c4:ea60", "1-1.1", "cp210x", {**CP2102, "serial": serial})
    (proposal,) = check(pi)
    assert proposal.match.keys == usb(**SILABS, serial=serial)


@pytest.mark.parametrize("serial", ["a\x1bb", "a\u202eb", "a?b", "x" * 127])
def test_a_serial_number_that_no_port_map_can_hold_is_not_relied_on(pi: Pi, serial: str) -> None:
    pi.usb(["ttyUSB0"], "10c4:ea60", "1-1.1", "cp210x", {**CP2102, "serial": serial})
    (proposal,) = check(pi)
    assert proposal.match.keys == usb(**SILABS, path="1-1.1")


def test_what_a_device_says_of_itself_cannot_get_out_of_its_comment(pi: Pi) -> None:
    strings = {"product": "X\nserial_ports: [evil]", "manufacturer": "\x1b[2J\u2028y: 1"}
    pi.usb(["ttyUSB0"], "1234:5678", "1-1.1", "pl2303", {**strings, "serial": "A\nB"})
    entry = {"name": "x-serial-ports-evil", "listen": 10001, "allow": ["local"]}
    match = usb(vendor="1234", product="5678", path="1-1.1")
    text = report.report(root=pi.root)
    assert yaml.safe_load(text) == {"serial_ports": [{**entry, **match}]}
    assert "\x1b" not in text
