"""docs/clients.md, with its own words: each of its `sh` blocks runs here.

A line of a block is a console, tried by a person who types at it, or a script that ends by itself.
The blocks of some sections need more beside them, or another device: `SECTIONS` names those. Only
names, TCP ports and folders are this test's own.
"""

from __future__ import annotations

import contextlib
import getpass
import grp
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from .cable import Cable
from .devices import (
    REGISTERS,
    VERSION,
    Esp8266,
    Optiboot,
    boot_sector,
    console,
    device,
    modbus,
    receiver,
)
from .programs import Program, between_pipes, in_terminal
from .servers import ROOT, Served, free_tcp_port, listens
from .wait import TIMEOUT, assert_carries, wait_until

PAGE = (ROOT / "docs" / "clients.md").read_text()


@dataclass(frozen=True)
class Block:
    """A block of the page, and the section that it is in."""

    section: str
    language: str
    text: str


def _blocks() -> list[Block]:
    found = []
    for part in re.split(r"^## ", PAGE, flags=re.MULTILINE):
        section = part.partition("\n")[0]
        for language, text in re.findall(r"^```(\w+)\n(.*?)^```", part, re.DOTALL | re.MULTILINE):
            found.append(Block(section, language, text))
    return found


BLOCKS = _blocks()
PORTS: dict[str, dict[str, Any]] = {
    str(entry["listen"]): {key: entry[key] for key in ("protocol", "sharing") if key in entry}
    for entry in yaml.safe_load(BLOCKS[0].text)["serial_ports"]
}
"""The ports that the page begins with, by their TCP port."""


def texts(section: str, language: str = "sh") -> list[str]:
    """The blocks of a section."""
    return [
        block.text for block in BLOCKS if (block.section, block.language) == (section, language)
    ]


@dataclass(frozen=True)
class Bench:
    """What a block runs with: a port, its cable, and a folder."""

    serve: Callable[..., Served]
    cable: Cable
    folder: Path

    @property
    def far(self) -> str:
        """The device's end of the cable, for a program that is the device."""
        return str(self.folder / "far")

    def here(self, text: str, engine: str = "bridge", **keys: object) -> str:
        """Serve the port that a text names, and write this port in its place."""
        (number,) = {number for number in PORTS if re.search(rf"\b{number}\b", text)}
        sw = self.serve(engine, **{**PORTS[number], **keys})
        return text.replace(number, str(sw.tcp_port)).replace("pi-rack1", "127.0.0.1")

    def shell(self, text: str) -> tuple[str, ...]:
        """The words that run a text in the folder."""
        return "bash", "-c", f"cd {shlex.quote(str(self.folder))}\n{text}"

    def said(self, text: str) -> str:
        """What a text prints, which ends by itself and well."""
        done = subprocess.run(
            self.shell(text), stdin=subprocess.DEVNULL, capture_output=True, timeout=3 * TIMEOUT
        )
        said = (done.stdout + done.stderr).decode(errors="replace")
        assert done.returncode == 0, said
        return said

    def file(self, name: str, data: bytes | str) -> Path:
        """A file for the block."""
        path = self.folder / name
        path.write_bytes(data if isinstance(data, bytes) else data.encode())
        return path


@pytest.fixture
def bench(serve: Callable[..., Served], cable: Cable, tmp_path: Path) -> Bench:
    """A bench for each test."""
    return Bench(serve, cable, tmp_path)


def assert_is_a_console(client: Program) -> None:
    """Type until the device's answer shows: a client may lose what comes before it is ready."""

    def answered() -> bool:
        client.write(b"show version\r")
        return client.has(VERSION, seconds=0.5)

    wait_until(lambda: answered() or client.ended(), "the device's answer")
    assert client.has(VERSION), client.unread()


def try_line(bench: Bench, line: str) -> None:
    """Run one line beside a switch."""
    with device(bench.cable, console):
        if "printf" in line:
            assert VERSION.decode() in bench.said(line)
        else:
            with in_terminal(*bench.shell(line)) as client:
                assert_is_a_console(client)


def try_node(bench: Bench, blocks: Sequence[str]) -> None:
    (unit,) = texts("A /dev node on Linux", "ini")
    found = re.search(r"^ExecStart=(.*)$", unit, re.MULTILINE)
    assert found
    node, own = str(bench.folder / "node"), grp.getgrgid(os.getgid()).gr_name
    text = bench.here(found[1]).replace("/dev/serial-core-switch", node)
    with between_pipes(*shlex.split(text.replace("group=dialout", f"group={own}"))):
        wait_until(lambda: os.path.exists(node), "the node")
        try_line(bench, blocks[0].replace("/dev/serial-core-switch", node))


def try_qemu(bench: Bench, blocks: Sequence[str]) -> None:
    """A guest that sends back what it gets, and no byte before."""
    bench.file("guest.img", boot_sector())
    text = bench.here(blocks[0])
    if _qemu_version() >= (9, 2):  # as the page says below the block
        text = text.replace("reconnect=2", "reconnect-ms=2000")
    with between_pipes(*bench.shell(text)):
        assert bench.cable.read(5) == b"guest"
        assert_carries(bench.cable, bench.cable, b"there and back")


def _qemu_version() -> tuple[int, ...]:
    said = subprocess.run(["qemu-system-x86_64", "--version"], capture_output=True, check=True)
    found = re.search(rb"version (\d+)\.(\d+)", said.stdout)
    assert found
    return int(found[1]), int(found[2])


def try_tls(bench: Bench, blocks: Sequence[str]) -> None:
    _certificate(bench.folder, "lab-ca")
    for name in ("127.0.0.1", "laptop"):
        _certificate(bench.folder, name, "-CA", "lab-ca.pem", "-CAkey", "lab-ca.key")
    files = {key: str(bench.folder / f"127.0.0.1.{end}") for key, end in _SERVER_FILES.items()}
    text = bench.here(blocks[0], tls={**files, "client_ca": str(bench.folder / "lab-ca.pem")})
    for line in text.splitlines():
        try_line(bench, line)


_SERVER_FILES = {"certificate": "pem", "key": "key"}


def _certificate(folder: Path, name: str, *signed_by: str) -> None:
    names = ["-subj", f"/CN={name}", "-addext", f"subjectAltName={_alternative(name)}"]
    files = ["-keyout", f"{name}.key", "-out", f"{name}.pem"]
    words = ["req", "-x509", "-days", "2", "-newkey", "rsa:2048", "-nodes", *files, *names]
    subprocess.run(["openssl", *words, *signed_by], cwd=folder, check=True, capture_output=True)


def _alternative(name: str) -> str:
    return f"IP:{name}" if name[0].isdigit() else f"DNS:{name}"


def try_listener(bench: Bench, blocks: Sequence[str]) -> None:
    """The port dials: the line is the far end, which listens."""
    number = free_tcp_port()
    words = f"name=sw,device={bench.cable.near},connect=127.0.0.1:{number}"
    bridge = [sys.executable, "-m", "ttybridge", "serve", "--port", words]
    environment = [f"PYTHONPATH={ROOT}/bridge/src", f"RUNTIME_DIRECTORY={bench.folder}"]
    with (
        device(bench.cable, console),
        in_terminal(*bench.shell(blocks[0].replace("10001", str(number)))) as client,
        between_pipes("env", *environment, *bridge),
    ):
        assert_is_a_console(client)


def try_tunnel(bench: Bench, blocks: Sequence[str]) -> None:
    tunnel, client = blocks
    local, sshd = str(free_tcp_port()), free_tcp_port()
    for key in ("host", "own"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", bench.folder / key])
    root = os.geteuid() == 0
    if root:
        os.makedirs("/run/sshd", exist_ok=True)  # sshd wants it, and its unit makes it
    bench.file("sshd_config", _SSHD.format(sshd, bench.folder, "yes" if root else "no"))
    bench.file("ssh_config", _SSH.format(sshd, getpass.getuser(), bench.folder))
    text = bench.here(tunnel.replace("pi@pi-rack1", "lab").replace("9000", local))
    with between_pipes("/usr/sbin/sshd", "-D", "-e", "-f", str(bench.folder / "sshd_config")):
        wait_until(lambda: listens(sshd), "sshd listens")
        with between_pipes(*bench.shell(text.replace("ssh ", "ssh -F ssh_config "))):
            wait_until(lambda: listens(int(local)), "the tunnel listens")
            try_line(bench, client.replace("9000", local))


_SSHD = """\
Port {}
ListenAddress 127.0.0.1
HostKey {1}/host
AuthorizedKeysFile {1}/own.pub
StrictModes no
PidFile none
UsePAM {2}
""".replace("{}", "{0}")
_SSH = """\
Host lab
  HostName 127.0.0.1
  Port {0}
  User {1}
  IdentityFile {2}/own
  StrictHostKeyChecking no
  UserKnownHostsFile /dev/null
"""


def try_esptool(bench: Bench, blocks: Sequence[str]) -> None:
    with device(bench.cable, Esp8266()):
        assert re.search(rf"MAC: +{Esp8266.MAC}", bench.said(bench.here(blocks[0])))


def try_avrdude(bench: Bench, blocks: Sequence[str]) -> None:
    program = bytes(byte for byte in range(256) if byte != ord(" "))
    bench.file("firmware.hex", _intel_hex(program))
    board = Optiboot()
    with device(bench.cable, board):
        bench.said(bench.here(blocks[0]))
    assert board.flash.startswith(program)


def _intel_hex(data: bytes) -> str:
    """Data in Intel's form, from address 0."""
    records = [
        bytes([len(data[at : at + 16])]) + at.to_bytes(2, "big") + b"\0" + data[at : at + 16]
        for at in range(0, len(data), 16)
    ]
    lines = [":" + (line + bytes([-sum(line) & 0xFF])).hex().upper() for line in records]
    return "\n".join([*lines, ":00000001FF"]) + "\n"


def try_gdb(bench: Bench, blocks: Sequence[str]) -> None:
    shutil.copy("/bin/true", bench.folder / "firmware.elf")
    # The terminal of a test has no size.
    text = bench.here(blocks[0]).replace("gdb ", "gdb -ex 'set pagination off' ", 1)
    program = str(bench.folder / "firmware.elf")
    with (
        between_pipes("gdbserver", bench.far, program),
        in_terminal(*bench.shell(text)) as client,
    ):
        client.read_until(b"Remote debugging using 127.0.0.1")
        client.read_until(b"(gdb) ")
        client.write(b"x/i $pc\n")
        client.read_until(b"=> 0x")


def try_gpsd(bench: Bench, blocks: Sequence[str]) -> None:
    text = bench.here(blocks[0]).replace("2947", str(free_tcp_port()))
    daemon, reader = text.splitlines()
    # In the foreground, so that it ends with the test.
    with (
        device(bench.cable, receiver),
        between_pipes(*bench.shell(daemon.replace("gpsd ", "exec gpsd -N "))),
        between_pipes(*bench.shell(f"until {reader}; do sleep 0.2; done")) as client,
    ):
        client.read_until(b'"lat":48.117')


FIRMWARE = bytes(range(256)) * 20


@contextlib.contextmanager
def _receiving(bench: Bench, *words: str) -> Iterator[subprocess.Popen[bytes]]:
    """A device that receives a file into a folder of its own."""
    folder = bench.folder / "received"
    folder.mkdir()
    fd = os.open(bench.far, os.O_RDWR | os.O_NOCTTY)
    with subprocess.Popen(
        words, cwd=folder, stdin=fd, stdout=fd, stderr=subprocess.DEVNULL
    ) as process:
        os.close(fd)
        try:
            yield process
        finally:
            process.kill()


def try_files(bench: Bench, blocks: Sequence[str]) -> None:
    bench.file("firmware.bin", FIRMWARE)
    with _receiving(bench, "rz", "-b") as process:
        bench.said(bench.here(blocks[0]))
        process.wait(TIMEOUT)
    assert (bench.folder / "received" / "firmware.bin").read_bytes() == FIRMWARE


def try_conman(bench: Bench, blocks: Sequence[str]) -> None:
    daemon, client = blocks
    (configuration,) = texts("conserver, conman", "ini")
    number = str(free_tcp_port())
    configuration = bench.here(configuration).replace("7890", number)
    bench.file("conman.conf", configuration.replace("/var/log/conman", str(bench.folder)))
    with between_pipes(*bench.shell("exec " + daemon)):
        wait_until(lambda: listens(int(number)), "conmand listens")
        try_line(bench, client.replace("7890", number))


def try_websockify(bench: Bench, blocks: Sequence[str]) -> None:
    number = str(free_tcp_port())
    text = bench.here(blocks[0]).replace("8080", number)
    with between_pipes(*bench.shell("exec " + text)):
        wait_until(lambda: listens(int(number)), "websockify listens")
        with socket.create_connection(("127.0.0.1", int(number)), TIMEOUT) as client:
            client.sendall(_UPGRADE)
            answer = client.makefile("rb")
            assert b"101" in answer.readline()
            while answer.readline().strip():
                pass
            # Binary frames (RFC 6455, 5.2): one that is masked with zeros, one that is not.
            client.sendall(b"\x82\x84\0\0\0\0\xff\x00ab")
            assert bench.cable.read(4) == b"\xff\x00ab"
            bench.cable.write(b"\xff\x00yz")
            assert answer.read(6) == b"\x82\x04\xff\x00yz"


_UPGRADE = b"\r\n".join(
    [
        b"GET / HTTP/1.1",
        b"Host: 127.0.0.1",
        b"Upgrade: websocket",
        b"Connection: Upgrade",
        b"Sec-WebSocket-Version: 13",
        b"Sec-WebSocket-Protocol: binary",
        b"Sec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==",
        b"",
        b"",
    ]
)


def try_haproxy(bench: Bench, blocks: Sequence[str]) -> None:
    (configuration,) = texts("haproxy", "text")
    number = free_tcp_port()
    bench.file("core-switch.cfg", bench.here(configuration).replace("7001", str(number)))
    with between_pipes(*bench.shell("exec " + blocks[0])):
        wait_until(lambda: listens(number), "haproxy listens")
        try_line(bench, f"nc 127.0.0.1 {number}")


SECTIONS: dict[str, Callable[[Bench, Sequence[str]], None]] = {
    "A /dev node on Linux": try_node,
    "QEMU": try_qemu,
    "TLS": try_tls,
    "A port that dials out": try_listener,
    "SSH tunnel": try_tunnel,
    "esptool": try_esptool,
    "avrdude": try_avrdude,
    "gdb": try_gdb,
    "gpsd": try_gpsd,
    "Files: ZMODEM, XMODEM, Kermit": try_files,
    "conserver, conman": try_conman,
    "websockify": try_websockify,
    "haproxy": try_haproxy,
}
LINES = [
    (block.section, line)
    for block in BLOCKS
    if block.language == "sh" and block.section not in SECTIONS
    for line in block.text.splitlines()
]


@pytest.mark.parametrize("section", SECTIONS)
def test_a_section(section: str, bench: Bench) -> None:
    blocks = texts(section)
    assert blocks
    SECTIONS[section](bench, blocks)


@pytest.mark.parametrize(("section", "line"), LINES)
def test_a_line(section: str, line: str, bench: Bench) -> None:
    try_line(bench, bench.here(line))


@pytest.mark.parametrize("line", [line for _, line in LINES if "sleep" in line])
def test_a_line_that_waits_is_for_ser2net_too(line: str, bench: Bench) -> None:
    try_line(bench, bench.here(line, "ser2net"))


def test_modbus(bench: Bench) -> None:
    (text,) = texts("Modbus", "python")
    with device(bench.cable, modbus):
        assert _python(bench, text) == f"{REGISTERS}\n"


def test_netmiko(bench: Bench) -> None:
    (text,) = texts("netmiko", "python")
    with device(bench.cable, console):
        assert VERSION.decode() in _python(bench, text)


def _python(bench: Bench, text: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", bench.here(text)], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
