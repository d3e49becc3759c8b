"""The two engines, each as a process that serves one port."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from .wait import TIMEOUT, wait_until

ENGINES = ["bridge", "ser2net"]
BREAK = "a break begins"

ROOT = Path(__file__).resolve().parents[2]

_TIOCSBRK = 0x5427  # linux/asm-generic/ioctls.h

# `python -m ttybridge`, which also says when it begins a break: a pty carries none to its far end.
_TTYBRIDGE = f"""
import sys

def watch(event, arguments):
    if event == "fcntl.ioctl" and arguments[1] == {_TIOCSBRK:#x}:
        print("{BREAK}", file=sys.stderr, flush=True)

sys.addaudithook(watch)
from ttybridge.cli import main
sys.exit(main())
"""

_SER2NET = """\
%YAML 1.1
---
default:
  name: chardelay
  value: false
connection: &sw
  accepter: {filters}tcp,{address}
  connector: serialdev,{device},9600n81
"""

_SER2NET_FILTERS = {"raw": "", "telnet": "telnet,", "rfc2217": "telnet(rfc2217),"}


class Served:
    """A port that is being served."""

    def __init__(self, tcp_port: int, log: Path) -> None:
        self.tcp_port = tcp_port
        self._log = log

    @property
    def address(self) -> str:
        """HOST:PORT, as most clients want it."""
        return f"127.0.0.1:{self.tcp_port}"

    @property
    def log(self) -> str:
        """What the engine has written to standard error."""
        return self._log.read_text()

    def breaks(self) -> int:
        """How many breaks the bridge has put on the line."""
        return self.log.count(BREAK)


@contextlib.contextmanager
def served(engine: str, folder: Path, **keys: object) -> Iterator[Served]:
    """A port with these keys of the port map, served for the length of a block."""
    tcp_port, log = free_tcp_port(), folder / f"{engine}.log"
    listen = f"127.0.0.1:{tcp_port}"
    entry = {"name": "sw", "listen": listen, "protocol": "raw", **keys}
    words = {"bridge": _bridge, "ser2net": _ser2net}[engine](entry, folder)
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT / "bridge" / "src"),
        "RUNTIME_DIRECTORY": str(folder),
    }
    with log.open("wb") as file, subprocess.Popen(words, env=environment, stderr=file) as process:
        try:
            made = Served(tcp_port, log)
            wait_until(lambda: listens(tcp_port) or process.poll() is not None, f"{engine} listens")
            assert process.poll() is None, made.log
            yield made
            assert "Traceback" not in made.log, made.log
            assert "Exception" not in made.log, made.log
        finally:
            process.terminate()
            try:
                process.wait(TIMEOUT)
            except subprocess.TimeoutExpired:
                process.kill()
                raise


def _bridge(entry: Mapping[str, object], folder: Path) -> list[str]:
    file = folder / "ttybridge.toml"
    keys = [f"{key} = {_toml(value)}\n" for key, value in entry.items()]
    file.write_text("[[port]]\n" + "".join(keys))
    return [sys.executable, "-c", _TTYBRIDGE, "serve", "--config", str(file)]


def _toml(value: object) -> str:
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key} = {_toml(item)}" for key, item in value.items()) + "}"
    return json.dumps(value)


def _ser2net(entry: Mapping[str, Any], folder: Path) -> list[str]:
    file = folder / "ser2net.yaml"
    file.write_text(
        _SER2NET.format(
            filters=_SER2NET_FILTERS[entry["protocol"]],
            address=entry["listen"].replace(":", ","),
            device=entry["device"],
        )
    )
    # Debug output instead of syslog, and no lock files in the system's folder.
    return ["ser2net", "-d", "-u", "-c", str(file)]


def listens(tcp_port: int) -> bool:
    """Whether something listens: to connect instead would be a first client (proc_net_tcp(5))."""
    return f":{tcp_port:04X} 00000000:0000 0A" in Path("/proc/net/tcp").read_text()


def free_tcp_port() -> int:
    """A TCP port that nothing listens on."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])
