"""The udev rules: the host's own udev tries them on recorded adapters instead of its /sys."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest
from testinfra.host import Host

from recorded import Pi, everything

ROOT = Path(__file__).resolve().parents[3]
testinfra_hosts = ["ansible://serial_servers"]

SSH = ["ssh", "-F", str(ROOT / ".lab" / "ssh_config")]
FILES = ("60-ttyfleet.rules", "zz-ttyfleet.rules")

# /dev/serial0 as on Raspberry Pi OS, from a file with the same name.
SERIAL0 = 'KERNEL=="ttyS0", SYMLINK+="serial0"\n'

# What users write: a link, and a link in place of all others.
LINKS = """\
SUBSYSTEM=="tty", KERNEL=="ttyS0", SYMLINK+="ttyISR4K-1 bbb-sdmux01"
SUBSYSTEM=="tty", ATTRS{serial}=="IC-9700*", SYMLINK="icom", GROUP="root", MODE="0666"
"""
# As brltty's own rules, for two chips that braille displays have, too.
BRLTTY = """\
SUBSYSTEM!="usb", GOTO="brltty_end"
ENV{PRODUCT}=="10c4/ea60/*", ENV{BRLTTY_BRAILLE_DRIVER}="mm,sk", GOTO="brltty_run"
ENV{PRODUCT}=="1a86/7523/*", ENV{BRLTTY_BRAILLE_DRIVER}="bm", GOTO="brltty_run"
GOTO="brltty_end"
LABEL="brltty_run"
ENV{BRLTTY_BRAILLE_DEVICE}="usb:serial=$attr{serial}", TAG+="systemd"
ENV{SYSTEMD_WANTS}+="brltty-device@.service"
LABEL="brltty_end"
"""

# Only this shell and what it starts see the rules and the /sys of the test.
TRY = r"""
set -e
cd /tmp/udev-test
mount --bind sys /sys
mount --bind rules /etc/udev/rules.d
mount -t tmpfs tmpfs /run
export SYSTEMD_DEVICE_VERIFY_SYSFS=0
while read -r tty path; do
  echo "$tty" $(udevadm test --action=add "$path" 2>&1 |
    sed -n 's/^ *DEVLINKS=//p; /^ *ID_MM_/p; /^ *BRLTTY_/p; /^ *SYSTEMD_WANTS/p
      s/.*ATTR.*device\/\([a-z_./]*\)[}'\''].*["'\'']\([a-z0-9]*\)["'\'']\.*$/\1=\2/p')
done <ttys
"""

# What a person may write and discover does not, and which ttys match it.
OTHERS: list[tuple[dict[str, Any], list[str]]] = [
    ({"device": "/dev/serial0"}, ["ttyS0"]),
    ({"device": "/dev/ttySC1"}, ["ttySC1"]),
    ({"usb": {"vendor": "110a", "interface": 0, "port": 3}}, ["ttyUSB15"]),
    ({"usb": {"serial": "V90183261", "port": 1}}, ["ttyUSB17"]),
    ({"usb": {"path": "1-1.3.1", "interface": 2}}, ["ttyUSB4"]),
    # A hub and a host controller, with all adapters behind them: no rule takes one for an adapter.
    ({"usb": {"path": "1-1"}}, []),
    ({"usb": {"vendor": "2109"}}, []),
    ({"usb": {"serial": "0000:01:00.0"}}, []),
]


class Recorded(Pi):
    """Recorded adapters, with the other files that udev reads of them."""

    def complete(self) -> None:
        for file in list(self.root.rglob("idVendor")):
            hub = file.parent.name in ("usb1", "1-1")
            ids = [(file.parent / name).read_text().strip() for name in ("idVendor", "idProduct")]
            product = "/".join(one.lstrip("0") for one in ids)
            self.device(file.parent, "usb", f"DEVTYPE=usb_device\nPRODUCT={product}/264\n")
            (file.parent / "bDeviceClass").write_text("09\n" if hub else "00\n")
            (file.parent / "power").mkdir(exist_ok=True)
            (file.parent / "power/control").write_text("auto\n")
        for file in list(self.root.rglob("bInterfaceNumber")):
            self.device(file.parent, "usb", "DEVTYPE=usb_interface\n")
            for name in ("bInterfaceClass", "bInterfaceSubClass", "bInterfaceProtocol"):
                (file.parent / name).write_text("ff\n")
        controller = self.root / "sys/devices/platform/scb/fd500000.pcie"
        self.device(controller, "platform")
        self.device(controller / "pci0000:00/0000:00:00.0", "pci")
        self.device(controller / "pci0000:00/0000:00:00.0/0000:01:00.0", "pci")
        for name, path in self.ttys().items():
            major, _, minor = (path / "dev").read_text().strip().partition(":")
            uevent = f"MAJOR={major}\nMINOR={minor}\nDEVNAME={name}\n"
            (path / "uevent").write_text(uevent)
            self.link_once(f"{path.relative_to(self.root)}/subsystem", "sys/class/tty")
            self.link_once(f"sys/dev/char/{major}:{minor}", str(path.relative_to(self.root)))
            parent = (path / "device").resolve()
            if (parent / "driver").resolve().name == "ftdi_sio":
                (parent / "latency_timer").write_text("16\n")
            if not (parent / "uevent").exists():
                (parent / "uevent").write_text("")

    def device(self, folder: Path, bus: str, uevent: str = "") -> None:
        (self.root / "sys/bus" / bus).mkdir(parents=True, exist_ok=True)
        (folder / "uevent").write_text(uevent)
        self.link_once(f"{folder.relative_to(self.root)}/subsystem", f"sys/bus/{bus}")

    def link_once(self, path: str, target: str) -> None:
        if not (self.root / path).is_symlink():
            self.link(path, target)

    def ttys(self) -> dict[str, Path]:
        links = (self.root / "sys/class/tty").iterdir()
        return {link.name: link.resolve() for link in links if (link / "device").exists()}


@pytest.fixture
def recorded(tmp_path: Path) -> Recorded:
    pi = Recorded(tmp_path / "pi")
    everything(pi)
    pi.complete()
    return pi


def render(entries: list[dict[str, Any]], folder: Path) -> None:
    """Write the rules for a port map into a folder, as the playbook does."""
    port_map = folder / "map.yml"
    port_map.write_text(json.dumps({"serial_ports": entries}))
    (folder / "map").mkdir(exist_ok=True)
    variables = {"maps": [str(port_map)], "templates": FILES, "out": str(folder)}
    subprocess.run(
        [
            "ansible-playbook",
            str(ROOT / "tests" / "templates" / "render.yml"),
            "--inventory=localhost,",
            f"--extra-vars={json.dumps(variables)}",
        ],
        check=True,
        capture_output=True,
        env={
            **os.environ,
            "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
            "ANSIBLE_PYTHON_INTERPRETER": sys.executable,
        },
    )


def links(host: Host, recorded: Recorded, entries: list[dict[str, Any]]) -> dict[str, list[str]]:
    """The names that the host's udev gives to each recorded tty."""
    folder = "/dev/serial/by-name/"
    found = tried(host, recorded, entries, {"99-com.rules": SERIAL0})
    return {
        tty: [word.removeprefix(folder) for word in said if word.startswith(folder)]
        for tty, said in found.items()
        if tty in recorded.ttys()
    }


def tried(
    host: Host, recorded: Recorded, entries: list[dict[str, Any]], others: dict[str, str]
) -> dict[str, list[str]]:
    """What the host's udev says of each recorded tty and USB device: its links and properties.

    What it writes into /sys is there too, such as `latency_timer=1`.

    `others` are files of rules beside ours.
    """
    render(entries, recorded.root)
    name = str(host.backend.host)
    devices = {file.parent.name: file.parent for file in recorded.root.rglob("idVendor")}
    ttys = "".join(
        f"{tty} /{path.relative_to(recorded.root)}\n"
        for tty, path in {**recorded.ttys(), **devices}.items()
    )
    rules = others | {file: (recorded.root / "map" / file).read_text() for file in FILES}
    content = {f"rules/{file}": text for file, text in rules.items()}
    content |= {"ttys": ttys, "try": TRY}
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        tar.add(recorded.root / "sys", "sys")
        for path, text in content.items():
            member = tarfile.TarInfo(path)
            member.size = len(text.encode())
            tar.addfile(member, io.BytesIO(text.encode()))
    unpack = "sudo sh -ec 'rm -rf /tmp/udev-test; mkdir /tmp/udev-test; tar -xC /tmp/udev-test'"
    subprocess.run([*SSH, name, unpack], input=packed.getvalue(), check=True)
    command = "sudo unshare --mount sh /tmp/udev-test/try; sudo rm -rf /tmp/udev-test"
    done = subprocess.run([*SSH, name, command], capture_output=True, text=True, check=True)
    lines = [line.split() for line in done.stdout.splitlines()]
    return {device: got for device, *got in lines}


def test_each_recorded_adapter_gets_the_name_of_its_proposed_entry_alone(
    host: Host, recorded: Recorded
) -> None:
    proposals = recorded.proposals()
    expected = {proposal.tty.name: [proposal.entry["name"]] for proposal in proposals}
    assert links(host, recorded, [proposal.entry for proposal in proposals]) == expected


def test_what_else_may_be_written_takes_what_it_says(host: Host, recorded: Recorded) -> None:
    entries = [
        {"name": f"p{number}", "listen": number, **keys}
        for number, (keys, _) in enumerate(OTHERS, start=1)
    ]
    got = links(host, recorded, entries)
    for number, (keys, ttys) in enumerate(OTHERS, start=1):
        assert [tty for tty, names in got.items() if f"p{number}" in names] == ttys, keys


# What an adapter says of itself, and an entry that takes it and no other.
SAYS: list[tuple[dict[str, str], dict[str, Any]]] = [
    ({"serial": "IC-9700 13001202 A"}, {"vendor": "1a86", "serial": "IC-9700 13001202 A"}),
    ({"serial": r'a*b?[c]|d"e\f'}, {"serial": r'a*b?[c]|d"e\f'}),
    ({"serial": "\N{MICRO SIGN}1 {x} %k $d"}, {"serial": "\N{MICRO SIGN}1 {x} %k $d"}),
    ({"serial": "  in front and behind "}, {"serial": "  in front and behind "}),
    ({"manufacturer": 'ACME "X"'}, {"manufacturer": 'ACME "X"'}),
    ({"product": "USB [v*] 50% $x"}, {"product_name": "USB [v*] 50% $x"}),
    ({"bcdDevice": "0264"}, {"product": "7523", "bcdDevice": "0264"}),
    ({}, {"id_path": "platform-fd500000.pcie-pci-0000:01:00.0-usb-0:1.4.8:1.0"}),
]


def test_adapters_with_any_names(host: Host, recorded: Recorded) -> None:
    for number, (about, _) in enumerate(SAYS, start=1):
        about = {"bcdDevice": "0100", **about}
        recorded.usb([f"ttyUSB{60 + number}"], "1a86:7523", f"1-1.4.{number}", "ch341", about)
    recorded.complete()
    entries = [
        {"name": f"p{number}", "listen": number, "usb": usb}
        for number, (_, usb) in enumerate(SAYS, start=1)
    ]
    got = {tty: names for tty, names in links(host, recorded, entries).items() if names}
    assert got == {f"ttyUSB{60 + number}": [f"p{number}"] for number in range(1, len(SAYS) + 1)}


def test_rules_of_other_programs_and_of_the_user(host: Host, recorded: Recorded) -> None:
    about = {"serial": "IC-9700 13001202 A"}
    recorded.usb(["ttyUSB61"], "1a86:7523", "1-1.4.1", "ch341", about)
    recorded.usb(["ttyUSB62"], "1a86:7523", "1-1.4.2", "ch341", {})
    recorded.complete()
    entries = [
        {"name": "isr", "device": "/dev/ttyISR4K-1", "listen": 1},
        {"name": "bbb", "device": "/dev/bbb-sdmux01", "listen": 2},
        {"name": "icom", "usb": {"vendor": "1a86", **about}, "listen": 3},
    ]
    names = {"isr", "bbb"}
    for file in ("99-usb-serial.rules", "90-usb-serial.rules", "usb.rules"):
        said = tried(host, recorded, entries, {file: LINKS, "85-brltty.rules": BRLTTY})
        assert {f"/dev/serial/by-name/{name}" for name in names} < {*said["ttyS0"]}, file
        assert {"/dev/icom", "/dev/serial/by-name/icom"} < {*said["ttyUSB61"]}, file
        assert "ID_MM_PORT_IGNORE=1" in said["ttyS0"], file
        assert "ID_MM_PORT_IGNORE=1" in said["ttyUSB61"], file
        assert said["1-1.4.1"] == [], file
        assert "SYSTEMD_WANTS=brltty-device@.service" in said["1-1.4.2"], file


def test_adapters_in_use_pass_on_at_once_what_they_receive_and_never_sleep(
    host: Host, recorded: Recorded
) -> None:
    quick, slow, other = "latency_timer=1", "latency_timer=16", "../../power/control=on"
    expected: dict[str, tuple[dict[str, Any], list[str]]] = {
        "ttyUSB1": ({"usb": {"serial": "A50285BI"}}, [quick, other]),
        "ttyUSB4": (
            {"usb": {"path": "1-1.3.1", "interface": 2}, "low_latency": "on"},
            [quick, other],
        ),
        "ttyUSB5": ({"device": "/dev/ttyUSB5", "low_latency": "off"}, [quick, slow, other]),
        "ttyUSB8": ({"usb": {"serial": "0133CA01"}}, [other]),
        "ttyACM0": ({"usb": {"vendor": "2341"}}, ["../power/control=on"]),
        "ttyS0": ({"device": "/dev/ttyS0"}, []),
    }
    entries = [
        {"name": tty, "listen": number, **keys}
        for number, (tty, (keys, _)) in enumerate(expected.items(), start=1)
    ]
    said = tried(host, recorded, entries, {})
    for tty in recorded.ttys():
        written = [word for word in said[tty] if "latency_timer" in word or "power" in word]
        assert written == (expected[tty][1] if tty in expected else []), tty


@pytest.mark.parametrize("file", FILES)
def test_udev_reads_the_rules_of_every_key(host: Host, file: str) -> None:
    if host.system_info.release.startswith("12"):
        return  # udevadm verify came with systemd 254
    name = str(host.backend.host)
    golden = (ROOT / "tests/templates/golden/every-key" / file).read_bytes()
    command = f"cat >/tmp/{file} && udevadm verify /tmp/{file}"
    done = subprocess.run([*SSH, name, command], input=golden, capture_output=True)
    assert done.returncode == 0, done.stderr.decode()
