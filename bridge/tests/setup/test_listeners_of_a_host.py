"""Who listens on a host, from /proc as Linux writes it, and on this very machine."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from ttybridge.setup import listeners
from ttybridge.setup.listeners import Listener

HEADER = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid ...\n"
ANYONE, MAPPED, LOOPBACK = "0" * 32, "0000000000000000FFFF0000", "0" * 24 + "01000000"


def line(local: str, remote: str, state: str, user: int, inode: int) -> str:
    queues = "00000000:00000000 00:00000000 00000000"
    return f"   0: {local} {remote} {state} {queues} {user:5}        0 {inode} 1 0 100 0 0 10 0\n"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A host with /proc: nginx on every address, sshd, somebody on IPv6, a client of nginx."""
    net = tmp_path / "proc" / "net"
    net.mkdir(parents=True)
    nobody4, nobody6 = "00000000:0000", f"{ANYONE}:0000"
    (net / "tcp").write_text(
        HEADER
        + line("00000000:0016", nobody4, "0A", 0, 1)
        + line("0100007F:0016", "0100007F:C000", "06", 0, 0)
    )
    (net / "tcp6").write_text(
        HEADER
        + line(f"{ANYONE}:270F", nobody6, "0A", 33, 2)
        + line(f"{LOOPBACK}:0277", nobody6, "0A", 7, 3)
        + line(f"{ANYONE}:2710", nobody6, "0A", 7, 4)
        + line(f"{MAPPED}010200C0:270F", f"{MAPPED}070200C0:C001", "01", 33, 5)
    )
    process(tmp_path, 1, "systemd", "0::/init.scope", [])
    process(tmp_path, 300, "sshd", "0::/system.slice/ssh.service", [1])
    cgroup = "12:pids:/x.service\n1:name=systemd:/user.slice/user@7.service/app.slice/nginx.service"
    process(tmp_path, 4000, "a \"quoted' name", cgroup, [2])
    process(tmp_path, 5000, "nginx: worker", "0::/system.slice/nginx.service/worker", [2, 5])
    return tmp_path


def process(root: Path, pid: int, program: str, cgroup: str, sockets: list[int]) -> None:
    folder = root / "proc" / str(pid)
    (folder / "fd").mkdir(parents=True)
    (folder / "comm").write_text(f"{program}\n")
    (folder / "cgroup").write_text(f"{cgroup}\n")
    (folder / "fd" / "0").symlink_to("/dev/null")
    for number, inode in enumerate(sockets, start=3):
        (folder / "fd" / str(number)).symlink_to(f"socket:[{inode}]")


def test_listeners_and_connections(root: Path) -> None:
    seen = [
        (str(one.address), one.port, one.peer, one.listening, one.user, one.inode)
        for one in listeners.connections(root)
    ]
    assert seen == [
        ("0.0.0.0", 22, "0.0.0.0:0", True, 0, 1),
        ("::", 9999, "[::]:0", True, 33, 2),
        ("::1", 631, "[::]:0", True, 7, 3),
        ("::", 10000, "[::]:0", True, 7, 4),
        ("192.0.2.1", 9999, "192.0.2.7:49153", False, 33, 5),
    ]


def test_a_host_without_ipv6(root: Path) -> None:
    (root / "proc/net/tcp6").unlink()
    assert [one.port for one in listeners.connections(root)] == [22]


def test_whose_a_listener_is(root: Path) -> None:
    assert list(listeners.listeners(root, only_ipv6={4})) == [
        Listener("0.0.0.0", 22, 0, "sshd", ("ssh.service",)),
        Listener("", 9999, 33, "a \"quoted' name", ("nginx.service",)),
        Listener("::1", 631, 7),
        Listener("::", 10000, 7),
    ]


def test_a_process_that_ends_meanwhile_has_nothing(root: Path) -> None:
    (root / "proc/300/fd").rename(root / "proc/300/gone")
    (root / "proc/4000/comm").unlink()
    (root / "proc/4000/cgroup").unlink()
    (ssh, nginx, *_) = listeners.listeners(root)
    assert (ssh.program, ssh.units) == ("", ())
    assert (nginx.program, nginx.units) == ("", ("nginx.service",))


@pytest.fixture
def both() -> tuple[socket.socket, socket.socket]:
    """A listener that takes IPv6 only, and one that takes IPv4, too."""
    only = socket.socket(socket.AF_INET6)
    only.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    only.bind(("::", 0))
    only.listen()
    dual = socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True)
    return only, dual


def test_what_the_text_prints_on_this_machine(both: tuple[socket.socket, socket.socket]) -> None:
    """As the role host has a host run it."""
    text = Path(listeners.__file__).read_text(encoding="utf-8")
    command = [sys.executable, "-I", "-c", text]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    listening = json.loads(done.stdout)["listening"]
    found = {(one["address"], one["port"]): one for one in listening}
    only, dual = (one.getsockname()[1] for one in both)
    me = Path("/proc/self/comm").read_text().strip()
    for at in (("::", only), ("", dual)):
        assert found[at]["user"] == os.getuid()
        assert found[at]["program"] == me
    for one in both:
        one.close()


def test_a_kernel_that_does_not_say_who_takes_no_ipv4(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError

    monkeypatch.setattr(socket, "socket", refuse)
    assert listeners.without_ipv4() == set()
