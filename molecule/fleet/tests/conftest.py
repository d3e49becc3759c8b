"""The fleet is provisioned and changed, once: the fixtures note what each run did.

They stand in their order. From the canary on everything comes from another clone, whose program is
newer.
"""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from client import receive
from playbook import LAB, ROOT, environment, other_clone, run_playbook
from racks import (
    BUSY,
    CANARY,
    GUARDED,
    HOSTS,
    INVENTORY,
    NO_APT,
    OFF,
    OTHER,
    PLAIN,
    SER2NET_ONLY,
    TLS,
    goes_on,
    playbook,
    served_baudrate,
)
from state import Run, ssh, states

# All that is provisioned is changed a bit, on all hosts.
FASTER = ("-e", '{"serial_ports_defaults": {"baudrate": 19200}}')
LAST_GOOD = "/var/lib/ttyfleet/last-good"

GOOD = "/var/lib/ttyfleet/last-good"

TTYBRIDGE = "etc/ttybridge/ttybridge.toml"

GOOD = "async def _run("
BROKEN = 'async def _run(*_: object) -> int:\n    raise RuntimeError("no ports today")\n\n\n'
BROKEN += "async def _run_well("

# Programs that fail on a host: what they change in the sources.
FAULTY = {
    # Before it is put into use.
    "cannot serve": (
        "serve/port.py",
        "        self.port = port\n",
        '        raise RuntimeError("no port of mine")\n',
    ),
    # After that.
    "serves too little": ("daemon/main.py", ")(config.ports)", ")(config.ports[:-1])"),
    "never says that it is ready": (
        "daemon/main.py",
        'notify("READY=1", f"STATUS={server.',
        'notify(f"STATUS={server.',
    ),
    "hangs": (
        "daemon/main.py",
        "    await stop.wait()\n",
        '    __import__("time").sleep(1000)\n',
    ),
}
# It would take systemd 45 s to see that a program is never ready, and 20 s that it does not end.
IMPATIENT = r"""
dropins=/run/systemd/system/ttybridge.service.d
mkdir -p $dropins
printf '[Service]\nTimeoutStartSec=5\nTimeoutStopSec=5\n' >$dropins/impatient.conf
systemctl daemon-reload
"""
PATIENT = """
rm -r /run/systemd/system/ttybridge.service.d
systemctl daemon-reload
"""

# A reload of ttybridge waits for a file; `RESET` keeps the daemon from the new configuration, too.
RESET = "ExecReload=\\n"
HOLD = rf"""
mkdir -p /run/systemd/system/ttybridge.service.d
wait='ExecReload=/bin/sh -c "until [ -e /run/go ]; do sleep 0.1; done"'
printf '[Service]\n{RESET}%s\n' "$wait" >/run/systemd/system/ttybridge.service.d/hold.conf
systemctl daemon-reload
"""
RELEASE = """
systemctl kill --kill-whom=control ttybridge.service 2>/dev/null
rm -r /run/systemd/system/ttybridge.service.d
systemctl daemon-reload
rm -f /run/go
"""
# Its package must come, and its sources have none.
BREAK_APT = """
dpkg --purge --force-depends python3-uvloop >/dev/null 2>&1
mkdir /run/apt
mv /etc/apt/sources.list* /run/apt
echo 'deb file:/nowhere trixie main' >/etc/apt/sources.list
"""
REPAIR_APT = "rm /etc/apt/sources.list; mv /run/apt/sources.list* /etc/apt"


def wait_for(condition: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < end, f"did not happen in 120 s: {what}"
        time.sleep(0.2)


def connect(host: str, port: int) -> socket.socket:
    client = socket.create_connection((ssh(host, "hostname -I").split()[0], port), 30)
    assert echo(client)
    return client


def echo(client: socket.socket) -> bool:
    """Whether a port, with an echo at the far end of its line, still serves a client."""
    client.sendall(b"still here\n")
    return receive(client, 11) == b"still here\n"


@contextmanager
def root_shell(host: str) -> Iterator[subprocess.Popen[str]]:
    """A shell of root that is there before and after others can become root."""
    words = ["ssh", "-F", str(LAB / "ssh_config"), host, "sudo sh -s"]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as shell:
        yield shell


@contextmanager
def asks_for_a_password(host: str) -> Iterator[None]:
    """A host whose sudo wants a password."""
    file = "/etc/sudoers.d/010_pi-nopasswd"
    with root_shell(host) as shell:
        assert shell.stdin
        assert shell.stdout
        shell.stdin.write(f"mv {file} /run/nopasswd; echo done\n")
        shell.stdin.flush()
        assert shell.stdout.readline() == "done\n"
        yield
        shell.stdin.write(f"mv /run/nopasswd {file}\n")


def switch_off(host: str) -> None:
    subprocess.run(["ssh", "-F", str(LAB / "ssh_config"), host, "sudo systemctl poweroff"])
    is_on = ["ssh", "-F", str(LAB / "ssh_config"), "-o", "ConnectTimeout=2", host, "true"]
    wait_for(lambda: subprocess.run(is_on, capture_output=True).returncode != 0, f"{host} is off")


def switch_on(*hosts: str) -> None:
    subprocess.run([ROOT / "script" / "lab", "restart", *hosts], check=True)


@contextmanager
def started(clone: Path, *arguments: str, hosts: Sequence[str]) -> Iterator[subprocess.Popen[str]]:
    """A run of playbook.yml that goes on meanwhile, in a group of processes of its own."""
    limit = f"--limit={','.join(hosts)}"
    with subprocess.Popen(
        ["ansible-playbook", "playbook.yml", "-i", str(INVENTORY), limit, *arguments],
        cwd=clone,
        env=environment(clone=clone),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as run:
        yield run


@pytest.fixture(scope="session")
def first() -> Run:
    """The first run, with all packages to install."""
    return playbook("playbook.yml")


@pytest.fixture(scope="session")
def second(first: Run) -> Run:
    """A run right after it."""
    assert first.status == 0, first.output
    return playbook("playbook.yml")


@pytest.fixture(scope="session")
def clone(second: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clone with a newer program."""
    return other_clone(tmp_path_factory.mktemp("clone"), "99.0")


@pytest.fixture(scope="session")
def canary(clone: Path) -> Run:
    """A run for a program whose daemon does not start; a client of the first host is connected."""
    file = clone / "bridge" / "src" / "ttybridge" / "daemon" / "main.py"
    text = file.read_text()
    assert GOOD in text
    file.write_text(text.replace(GOOD, BROKEN))
    with connect(CANARY, 10001) as client:
        run = playbook("playbook.yml", clone=clone)
        assert echo(client), run.output
    file.write_text(text)
    return run


@pytest.fixture(scope="session")
def faulty(clone: Path, canary: Run) -> dict[str, Run]:
    """Runs for programs that fail, on a host of each release; a client of each is connected."""
    source, hosts = clone / "bridge" / "src" / "ttybridge", [PLAIN, OTHER]
    words = ("-e", "rollout=100%", "-e", "verify_patience=5")
    runs = {}
    for host in hosts:
        ssh(host, IMPATIENT)
    with connect(PLAIN, 10001) as one, connect(OTHER, 10001) as other:
        for fault, (name, good, bad) in FAULTY.items():
            text = (source / name).read_text()
            assert text.count(good) == 1, fault
            (source / name).write_text(text.replace(good, bad))
            runs[fault] = playbook("playbook.yml", *words, hosts=hosts, clone=clone)
            assert echo(one), runs[fault].output
            assert echo(other), runs[fault].output
            (source / name).write_text(text)
    for host in hosts:
        ssh(host, PATIENT)
    return runs


@pytest.fixture(scope="session")
def resumed(clone: Path, canary: Run, faulty: dict[str, Run]) -> Run:
    """The command that the last summary names, with the program corrected, in default batches.

    On one host somebody has the device of a port meanwhile.
    """
    ssh(OTHER, "ttybridge release ups")
    run = subprocess.run(
        [*goes_on(canary), "-e", 'rollout=[1, "25%", "100%"]'],
        cwd=clone,
        env=environment(clone=clone),
        capture_output=True,
        text=True,
    )
    return Run(run.returncode, run.stdout + run.stderr, states(HOSTS))


@pytest.fixture(scope="session")
def troubled(clone: Path, resumed: Run) -> Run:
    """A change for all, while one host is off, one wants a password, and one has a broken apt."""
    assert resumed.status == 0, resumed.output
    ssh(NO_APT, BREAK_APT)
    switch_off(OFF)
    with asks_for_a_password(GUARDED):
        done = run_playbook("playbook.yml", INVENTORY, *FASTER, clone=clone)
    ssh(NO_APT, REPAIR_APT)
    switch_on(OFF)
    return Run(done.returncode, done.stdout + done.stderr, states(HOSTS))


@pytest.fixture(scope="session")
def interrupted(clone: Path, troubled: Run) -> list[Run]:
    """A run that is killed when a file is written and not yet used; then the next two."""
    ssh(PLAIN, HOLD)
    with started(clone, hosts=[PLAIN]) as run:
        held = "systemctl show --property=ActiveState --value ttybridge"
        wait_for(lambda: ssh(PLAIN, held).strip() == "reloading", "a reload of ttybridge")
        subprocess.run(["kill", "-KILL", "--", f"-{run.pid}"], check=True)
    ssh(PLAIN, RELEASE)
    assert served_baudrate(PLAIN) == "19200"
    assert ssh(PLAIN, f"ls {LAST_GOOD}")
    return [playbook("playbook.yml", hosts=[PLAIN], clone=clone) for _ in range(2)]


@pytest.fixture(scope="session")
def lost(clone: Path, interrupted: list[Run]) -> Run:
    """A change of two hosts, of which the second one goes off while the first is changed."""
    hosts = [OTHER, SER2NET_ONLY]
    ssh(OTHER, HOLD.replace(RESET, ""))
    with started(clone, hosts=hosts) as run:
        wait_for(lambda: bool(ssh(OTHER, f"ls {LAST_GOOD} 2>/dev/null || true")), "a change")
        switch_off(SER2NET_ONLY)
        ssh(OTHER, "touch /run/go")
        output, _ = run.communicate()
    ssh(OTHER, RELEASE)
    switch_on(SER2NET_ONLY)
    return Run(run.returncode, output, states(hosts))


@pytest.fixture(scope="session")
def busy(clone: Path, lost: Run) -> list[Run]:
    """Runs for a host with a client of ser2net: that skip it, and wait in vain; then it leaves."""
    wait = ("-e", "busy=wait", "-e", "busy_timeout=5")
    with connect(BUSY, 9999) as client:
        runs = [playbook("playbook.yml", "-e", "busy=skip", hosts=[BUSY], clone=clone)]
        assert echo(client), runs[0].output
        runs.append(playbook("playbook.yml", *wait, hosts=[BUSY], clone=clone))
        assert echo(client), runs[1].output
        with started(clone, "-e", "busy=wait", hosts=[BUSY]) as run:
            wait_for(lambda: bool(ssh(BUSY, f"ls {LAST_GOOD} 2>/dev/null || true")), "a change")
            assert echo(client)
            client.close()
            output, _ = run.communicate()
    return [*runs, Run(run.returncode, output, states([BUSY]))]


@pytest.fixture(scope="session")
def tagged(clone: Path, busy: list[Run]) -> Run:
    """A run for the udev rules alone, of a host on which everything differs."""
    return playbook("playbook.yml", "--tags=udev", "-e", "udev_mode=0666", hosts=[TLS], clone=clone)


@pytest.fixture(scope="session")
def misspelt(clone: Path, tagged: Run) -> Run:
    """A run with a roll-out that says nothing."""
    return playbook("playbook.yml", "-e", "rollout=some", hosts=[TLS], clone=clone)


@pytest.fixture(scope="session")
def settled(clone: Path, misspelt: Run, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run for what is left, two at a time, as the inventory says."""
    default = tmp_path_factory.mktemp("rollout") / "hosts.yml"
    default.write_text("serial_servers: {vars: {rollout: [2]}}\n")
    return playbook("playbook.yml", f"--inventory={default}", clone=clone)
