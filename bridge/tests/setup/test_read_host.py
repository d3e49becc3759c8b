"""files/read_host.sh: what it says of a host is YAML, whatever the host's files hold."""

from __future__ import annotations

import base64
import hashlib
import os
import re
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ttybridge.setup import listeners

SCRIPT = Path(__file__).resolve().parents[3] / "files" / "read_host.sh"
FOLDERS = "etc|usr/lib|usr/local|var/lib|proc|boot|run|sys"
SERVED = 'ID=debian\nVERSION_ID="13"\n'
SERVES = "ttyfleet serves Debian and Raspberry Pi OS 12 (bookworm) and 13 (trixie)"

EVIL = "a'b\"c \\n\\c $(touch canary) `touch canary` \x1b[31m \u202e é: {x} #"
SHOWN = "a'b\"c \\n\\c $(touch canary) `touch canary` ?[31m ??? ??: {x} #"


class Host:
    """A folder in which the script finds the files of a host."""

    def __init__(self, root: Path) -> None:
        self.root = root
        for folder in ("etc/systemd/system", "run/systemd/system", "bin"):
            (root / folder).mkdir(parents=True)
        self.write("etc/os-release", SERVED)
        self.command("systemctl", "exit 1")

    def write(self, path: str, content: str | bytes) -> None:
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content.encode() if isinstance(content, str) else content)

    def command(self, name: str, script: str) -> None:
        """A command of the host."""
        self.write(f"bin/{name}", f"#!/bin/sh\n{script}\n")
        (self.root / "bin" / name).chmod(0o755)

    def read(self, text: str = "", **inputs: str) -> dict[str, Any]:
        """What the script says; `text` is its input, the text of listeners.py."""
        script = re.sub(rf"(?<=[ =(<\"])/(?=(?:{FOLDERS})\b)", f"{self.root}/", SCRIPT.read_text())
        script = script.replace("/usr/bin/python3", sys.executable)
        path = f"{self.root}/bin:{os.environ['PATH']}"
        done = subprocess.run(
            ["sh", "-c", script],
            env={
                **{"PATH": path, "NETWORK": text, "PLACES": f"{self.root}/etc/ttybridge"},
                **inputs,
            },
            capture_output=True,
            cwd=self.root,
            check=True,
        )
        said = done.stdout.decode("ascii")
        read: dict[str, Any] = yaml.safe_load(said)
        # Ansible reads a line of YAML as a line: no text may go over several.
        assert re.findall(r"[^ -~\n]", said) == []
        assert not (self.root / "canary").exists()
        return read


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ("""PRETTY_NAME='Debian "x"'""", 'Debian "x"'),
        ('''PRETTY_NAME="It's Debian"''', "It's Debian"),
        (r'PRETTY_NAME="a \"quoted\" \$name \\ \`x\`"', 'a "quoted" $name \\ `x`'),
        ("PRETTY_NAME=Debian GNU/Linux (x", "Debian GNU/Linux (x"),
        ("PRETTY_NAME=$(touch canary)`touch canary`", "$(touch canary)`touch canary`"),
        ('PRETTY_NAME=first\nPRETTY_NAME="second"  \r\nif \';', "second"),
        ("PRETTY_NAME='\x1b[31mred\x85 \u202e \\n\\c'", "?[31mred?? ??? nc"),
        ("NAME=x", "a system without a name"),
    ],
)
def test_what_another_system_calls_itself(host: Host, written: str, name: str) -> None:
    host.write("etc/os-release", f"ID=arch\nVERSION_ID=13\n{written}\n")
    assert host.read()["fault"] == f"runs {name}: {SERVES}"


def test_a_host_without_os_release(host: Host) -> None:
    (host.root / "etc/os-release").unlink()
    read = host.read()
    assert (read["release"], read["fault"]) == ("", f"runs a system without a name: {SERVES}")


@pytest.mark.parametrize("system", ["debian", "raspbian"])
@pytest.mark.parametrize("version", ["12", '"13"', "'13'"])
def test_a_host_that_can_be_served(host: Host, system: str, version: str) -> None:
    host.write("etc/os-release", f"VERSION_ID={version}\nID={system}\nPRETTY_NAME='\n")
    read = host.read()
    assert (read["release"], read["fault"]) == (version.strip("\"'"), "")


@pytest.mark.parametrize(
    ("version", "served"),
    [("3.10.12", False), ("3.11.0", True), ("3.14.2", True), ("3.20.1", True), ("2.7.18", False)],
)
def test_python(host: Host, version: str, served: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    host.command("python3", f"echo Python {version}")
    monkeypatch.setattr(sys, "executable", f"{host.root}/bin/python3")
    assert host.read()["fault"] == (
        "" if served else "has no Python 3.11 or later: sudo apt install python3"
    )


def test_a_host_without_systemd(host: Host) -> None:
    (host.root / "run/systemd/system").rmdir()
    assert host.read()["fault"] == "was not started by systemd, which runs the daemons"


IN_MEMORY = (
    "its root file system is an overlay in memory, so the next start loses what a run changes"
)
OVERLAY = (
    "overlay / overlay rw,relatime,lowerdir=/lower,upperdir=/upper/data,workdir=/upper/work 0 0"
)


@pytest.mark.parametrize(
    ("mounts", "cmdline", "container", "said"),
    [
        ("/dev/mmcblk0p2 / ext4 rw,noatime 0 0", "overlayroot=tmpfs", False, ""),
        ("/dev/mmcblk0p2 / ext4 rw,noatime,errors=remount-ro 0 0", "root=x", False, ""),
        (
            "/dev/mmcblk0p2 / ext4 ro,noatime 0 0",
            "root=x",
            False,
            "its root file system is read-only",
        ),
        (OVERLAY, "boot=overlay root=x", False, IN_MEMORY),
        (OVERLAY, "boot=overlay root=x", True, IN_MEMORY),
        (OVERLAY, "overlayroot=tmpfs:recurse=0 root=x", True, IN_MEMORY),
        (OVERLAY, "root=x", False, IN_MEMORY),
        (OVERLAY, "root=x", True, ""),
        ("rootfs / rootfs rw 0 0\ntmpfs / tmpfs rw 0 0", "root=x", False, IN_MEMORY),
        ("tmpfs /run tmpfs rw 0 0", "root=x", False, ""),
        ("overlayroot / overlay rw,upperdir=MEMORY,workdir=/w 0 0", "", True, IN_MEMORY),
        ("overlayroot / overlay rw,upperdir=DISK,workdir=/w 0 0", "", False, ""),
        ("", "", False, ""),
    ],
)
def test_whether_what_is_written_stays(
    host: Host, mounts: str, cmdline: str, container: bool, said: str
) -> None:
    for name in ("memory", "disk"):
        (host.root / name).mkdir()
        mounts = mounts.replace(name.upper(), f"{host.root}/{name}")
    host.command("stat", 'case $* in *"/memory") echo tmpfs ;; *) echo ext2/ext3 ;; esac')
    host.command("systemd-detect-virt", f"exit {0 if container else 1}")
    host.write("proc/mounts", f"{mounts}\n/dev/sda1 /mnt ext4 ro 0 0\n")
    host.write("proc/cmdline", f"{cmdline}\n")
    assert host.read()["not_kept"].partition(":")[0] == said


def test_a_host_without_a_table_of_mounts(host: Host) -> None:
    assert host.read()["not_kept"] == ""


def test_texts_of_any_kind(host: Host) -> None:
    host.write("proc/device-tree/model", f"{EVIL}\0")
    host.write("var/lib/ttyfleet/ser2net.service", f"{EVIL}\nactive\n")
    host.write("var/lib/ttyfleet/masked-units", f"{EVIL}\nserial-getty@ttyS0.service\n")
    host.write("boot/config.txt", EVIL)
    name = EVIL.replace("/", "")
    host.write(f"usr/local/lib/ttybridge/{name}", "")
    (host.root / "usr/local/bin").mkdir()
    (host.root / "usr/local/bin/ttybridge").symlink_to(f"/x/{name}")
    (host.root / f"etc/systemd/system/{name}").symlink_to("/dev/null")
    without = EVIL.replace("'", "")
    host.command("systemctl", f"[ $1 != show ] || printf %s '{without}'")
    read = host.read()
    assert read["programs"] == [SHOWN]
    assert read["program"] == SHOWN
    assert read["ser2net"]["before"] == f"{SHOWN} active "
    assert read["boot"]["model"] == SHOWN
    assert read["boot"]["masked"] == [SHOWN]
    assert read["boot"]["ours"] == [SHOWN, "serial-getty@ttyS0.service"]
    assert base64.b64decode(read["boot"]["config"]).decode() == EVIL
    assert read["users"]["ttybridge.service"] == SHOWN.replace("'", "")


SSHD = """\
# Written by ttyfleet.
DenyUsers bob
DenyUsers eve
Match User tech1,jane
  PermitTTY yes
  ForceCommand /usr/local/bin/ttybridge ssh
  # why
  X11Forwarding no

Match User tech1
  AuthorizedKeysFile /etc/ssh/ttyfleet/%u
"""


def test_the_accounts_of_consoles(host: Host) -> None:
    host.write(
        "etc/passwd",
        "root:x:0:0:root:/root:/bin/bash\n"
        "tech1:x:1001:1001:Serial consoles (ttyfleet),,,:/usr:/bin/sh\n"
        "tech2:x:1002:1002:Serial consoles (ttyfleet):/usr:/bin/sh\n"
        "mine:x:1003:1003:not Serial consoles (ttyfleet):/usr:/bin/sh\n",
    )
    host.write("etc/ssh/sshd_config.d/00-ttyfleet.conf", SSHD)
    names = "tech1 | tech2 | jane | joe@example.org"
    host.command(
        "id",
        f"for last; do :; done; case $last in {names}) ;; *) exit 1 ;; esac\n"
        'case $1 in -Gnz) printf "%s\\0" "$last" "domain users" ;; -gn) echo "$last" ;; esac',
    )
    # Another file lets X11 through.
    host.command(
        "sshd",
        "[ $1 = -T ] && [ $2 = -C ] || exit 1\n"
        "printf 'permittty yes\\nforcecommand /usr/local/bin/ttybridge ssh\\n'\n"
        "case $3 in user=jane,*) echo x11forwarding yes ;; *) echo x11forwarding no ;; esac",
    )
    people = host.read(USERS="jane joe@example.org nobody-here tech1", SUDO_USER="pi")["people"]
    assert people["login"] == "pi"
    assert (set(people["limited"]), people["denied"]) == ({"tech1", "jane"}, ["bob", "eve"])
    found = {one["name"]: one for one in people["accounts"]}
    assert {name: one["made"] for name, one in found.items()} == {
        **{"jane": False, "joe@example.org": False, "tech1": True, "tech2": True}
    }
    assert found["jane"]["groups"] == ["jane", "domain users"]
    assert found["jane"]["group"] == "jane"
    assert [name for name, one in found.items() if one["overridden"]] == ["jane"]
    assert found["jane"]["overridden"] == ["X11Forwarding"]


def test_a_host_without_accounts_for_consoles(host: Host) -> None:
    people = host.read()["people"]
    assert (people["limited"], people["denied"], people["accounts"]) == ([], [], [])


@settings(
    max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None
)
@given(st.binary(max_size=40), st.binary(max_size=40))
def test_any_bytes(host: Host, name: bytes, units: bytes) -> None:
    host.write("etc/os-release", b"ID=x\nPRETTY_NAME=" + name)
    host.write("var/lib/ttyfleet/masked-units", units)
    read = host.read()
    assert read["fault"].startswith("runs ")
    assert all(isinstance(unit, str) for unit in read["boot"]["ours"])


@pytest.mark.parametrize(
    ("ahead", "said"), [(0, 0), (290, 0), (-290, 0), (3600, 3600), (-9_000_000, -9_000_000)]
)
def test_how_far_its_clock_is_off(host: Host, ahead: int, said: int) -> None:
    now = str(int(time.time()) - ahead)
    assert abs(host.read(NOW=now, CLOCK_LIMIT="300")["clock"] - said) < 60


# The services of a host have started at that time.
STARTED_IN = "[ $1 != show ] || echo {}-01-01 00:00:00 UTC"
RUNS_SER2NET = f'[ "$*" = "${{*%ser2net.service}}" ] && exit 1; {STARTED_IN.format(2001)}'


def test_a_ttybridge_whose_python_is_of_an_earlier_debian(host: Host) -> None:
    host.command("systemctl", STARTED_IN.format(2100))
    assert host.read()["stale"] == []
    host.command("systemctl", STARTED_IN.format(2001))
    assert host.read()["stale"] == ["ttybridge.service"]


def test_a_drop_in_of_ser2net_that_names_an_option_of_find(host: Host) -> None:
    """The script has find compare the file that the drop-in names with the start of the service."""
    drop_in = "etc/systemd/system/ser2net.service.d/ttyfleet.conf"
    host.write(drop_in, "[Service]\nExecStart=/usr/sbin/ser2net -n -c -delete\n")
    host.command("systemctl", RUNS_SER2NET)
    assert host.read()["stale"] == ["ser2net.service"]
    assert (host.root / drop_in).exists()


@pytest.mark.parametrize(
    "line",
    ["ExecStart=x -c FILE", "ExecStart=sh -c 'case ? in \\\n *) file=FILE ;; \\\n *) file=/x ;;'"],
)
def test_a_configuration_of_ser2net_that_is_newer_than_its_service(host: Host, line: str) -> None:
    file = host.root / "etc/a.yaml"
    drop_in = "etc/systemd/system/ser2net.service.d/ttyfleet.conf"
    host.write(drop_in, line.replace("FILE", str(file)) + "\n")
    os.utime(host.root / drop_in, (0, 0))
    host.command("systemctl", RUNS_SER2NET)
    assert host.read()["stale"] == []
    file.touch()
    assert host.read()["stale"] == ["ser2net.service"]


def test_the_network(host: Host) -> None:
    assert host.read()["network"] == {}
    with socket.create_server(("127.0.0.1", 0)) as server:
        number = server.getsockname()[1]
        with socket.create_connection(server.getsockname()) as client:
            peer = f"127.0.0.1:{client.getsockname()[1]}"
            network = host.read(Path(listeners.__file__).read_text())["network"]
    here = [one["address"] for one in network["listening"] if one["port"] == number]
    assert here == ["127.0.0.1"]
    assert {"port": number, "peer": peer} in network["clients"]
    assert network["sessions"] == {}


def test_files_of_ours(host: Host) -> None:
    assert (host.read()["files"], host.read()["checksums"]) == ([], {})
    host.write("etc/ttybridge/ttybridge.toml", "ports\n")
    host.write("etc/ttybridge/a 'name' of\nothers", "")
    (host.root / "etc/ttybridge/link").symlink_to(EVIL)
    read = host.read()
    folder = f"{host.root}/etc/ttybridge"
    kinds = {one["path"]: one["type"] for one in read["files"]}
    assert kinds == {folder: "d", f"{folder}/ttybridge.toml": "f", f"{folder}/link": "l"}
    checksum = hashlib.sha256(b"ports\n").hexdigest()
    assert read["checksums"] == {f"{folder}/ttybridge.toml": checksum}
    assert read["targets"] == {f"{folder}/link": SHOWN}
    assert base64.b64decode(read["configuration"]) == b"ports\n"


def test_usb_devices_without_a_driver(host: Host) -> None:
    assert host.read()["driverless"] == []
    for path, kind, driver in (("1-1", "ff", ""), ("1-2", "ff", "ch341"), ("1-3", "08", "")):
        for number in (0, 1):
            interface = f"sys/devices/0000:01/usb1/{path}/{path}:1.{number}"
            host.write(f"{interface}/bInterfaceClass", f"{kind}\n")
            if driver and number:
                (host.root / interface / "driver").symlink_to(host.root)
            link = host.root / f"sys/bus/usb/devices/{path}:1.{number}"
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(host.root / interface)
        host.write(f"sys/devices/0000:01/usb1/{path}/idVendor", "1a86\n")
        (host.root / f"sys/devices/0000:01/usb1/{path}/driver").symlink_to(host.root)
        host.write(f"sys/devices/0000:01/usb1/{path}/idProduct", "55d2\n")
        host.write(f"sys/devices/0000:01/usb1/{path}/product", f"{EVIL}\n")
    found = host.read()["driverless"]
    about = {"idVendor": "1a86", "idProduct": "55d2", "product": SHOWN}
    nothing = {"serial": "", "manufacturer": "", "bcdDevice": ""}
    assert found == [{"path": "1-1", **about, **nothing}] * 2


def test_services(host: Host) -> None:
    assert host.read()["services"]["ttybridge.service"] == {}
    host.command(
        "systemctl",
        "[ $1 != show ] || printf 'ActiveState=active\\nUnitFileState=enabled\\nX=\\033[m\\n'",
    )
    assert host.read()["services"]["ttybridge.service"] == {
        "ActiveState": "active",
        "UnitFileState": "enabled",
    }


def test_what_an_interrupted_run_has_kept(host: Host) -> None:
    assert host.read()["unfinished"] == []
    host.write("var/lib/ttyfleet/last-good/paths", "/etc/a\n/etc/b\n")
    assert host.read()["unfinished"] == ["/etc/a", "/etc/b"]


def test_it_says_what_became_of_the_last_pull(host: Host) -> None:
    assert host.read()["pull"] == ""
    host.write("var/lib/ttyfleet/pull.json", EVIL)
    assert base64.b64decode(host.read()["pull"]).decode() == EVIL


def test_it_says_whether_the_host_pulls(host: Host) -> None:
    host.write("etc/systemd/system/ttyfleet-pull.timer", "")
    host.command("systemctl", "echo ActiveState=failed")
    read = host.read()
    assert "ttyfleet-pull.timer" in read["units"]
    assert read["services"]["ttyfleet-pull.service"] == {"ActiveState": "failed"}
