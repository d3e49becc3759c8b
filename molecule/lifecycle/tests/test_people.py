"""People get consoles by SSH and nothing else: from an inventory entry to the end of an account.

The fixtures go through it once on both releases; what people try beside it is tried in between.
"""

from __future__ import annotations

import contextlib
import os
import pty
import re
import select
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from playbook import LAB, run_playbook
from state import ssh

HOSTS = ["fresh-trixie", "found-bookworm"]
PATIENCE = 120  # only ends a test that would never end
ONLY = "this account gets serial consoles only"

# A second source of NSS, as a directory is one: Debian's libnss-extrausers; and an account with a
# shell, which logs in by its own key.
PREPARE = r"""
set -e
exec >/dev/null 2>&1
export DEBIAN_FRONTEND=noninteractive
# What test_lifecycle.py has left: a host that wants a reboot, and the owner's own ser2net.
rm -f /run/ttyfleet-reboot
! systemctl -q is-active ser2net || systemctl disable --now ser2net
apt-get -q update
apt-get -qy install libnss-extrausers
sed -Ei 's/^(passwd|group|shadow):.*/& extrausers/' /etc/nsswitch.conf
mkdir -p /var/lib/extrausers
cd /var/lib/extrausers
echo 'dora:x:5001:5001:of the directory:/tmp:/bin/sh' >passwd
echo 'directory:x:5001:' >group
echo 'dora:*:20000:0:99999:7:::' >shadow
chmod 640 shadow
id jane || useradd --create-home --shell /bin/bash --password '*' jane
mkdir -p ~jane/.ssh
echo "KEY" >~jane/.ssh/authorized_keys
chown -R jane: ~jane/.ssh
"""


class Bench:
    """The inventory, the keys, and the accounts that the tests use."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.inventory = folder / "hosts.yml"
        for name in ("tech1", "tech2", "jane", "dora", "ca"):
            run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name))
        sign = ("-I", "tech2", "-n", "ops", "-V", "always:forever", str(folder / "tech2.pub"))
        run("ssh-keygen", "-q", "-s", str(folder / "ca"), *sign)

    def key(self, name: str) -> str:
        return (self.folder / f"{name}.pub").read_text().strip()

    def write(self, users: list[dict[str, Any]], ups: list[str], **more: Any) -> None:
        """Write the inventory; `ups` are the users of the port of that name."""
        place = "/dev/serial/by-name"
        ports = [
            {"name": "router", "device": f"{place}/loop", "users": ["@netops"]},
            {"name": "switch", "device": f"{place}/header", "users": ["@netops"]},
            {"name": "ups", "device": f"{place}/ups-room", "users": ups},
        ]
        shared = [{**port, "sharing": "shared"} for port in ports]
        variables = {"serial_ports": shared, "serial_users": users, **more}
        servers = {"hosts": dict.fromkeys(HOSTS), "vars": variables}
        self.inventory.write_text(yaml.safe_dump({"serial_servers": servers}))

    def play(self, name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        return run_playbook(name, self.inventory, *arguments)

    def ssh(self, host: str, user: str, *options: str, program: str = "ssh") -> list[str]:
        """A command line that logs in as a user, with that user's key."""
        config = ["-F", str(LAB / "ssh_config"), "-o", f"IdentityFile={self.folder / user}"]
        return [program, *config, "-o", f"User={user}", "-o", "BatchMode=yes", *options, host]

    def tries(
        self, host: str, user: str, *words: str, options: tuple[str, ...] = ()
    ) -> subprocess.CompletedProcess[str]:
        """What becomes of a command that a user gives to sshd, without a terminal."""
        return subprocess.run(
            [*self.ssh(host, user, *options), "--", *words],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )


def run(*words: str) -> None:
    subprocess.run(words, check=True, capture_output=True)


class Terminal:
    """A person at a terminal: what is typed, and what is on the screen."""

    def __init__(self, command: list[str]) -> None:
        self.seen = b""
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.execvp(command[0], command)

    def types(self, keys: bytes) -> None:
        os.write(self.fd, keys)

    def sees(self, words: bytes) -> None:
        """Wait until words are on the screen, after those that were waited for before."""
        end = time.monotonic() + PATIENCE
        while words not in self.seen:
            assert self._look(end), f"{words!r} is not on the screen: {self.seen!r}"
        self.seen = self.seen.partition(words)[2]

    def ends(self) -> int:
        """Wait for the end of the program; return its exit status."""
        end = time.monotonic() + PATIENCE
        while self._look(end):
            pass
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])

    def _look(self, end: float) -> bool:
        if not select.select([self.fd], [], [], max(0, end - time.monotonic()))[0]:
            return False
        with contextlib.suppress(OSError):  # the program has ended
            data = os.read(self.fd, 65536)
            self.seen += data
            return bool(data)
        return False


@contextlib.contextmanager
def console(bench: Bench, host: str, user: str, *words: str, **more: Any) -> Iterator[Terminal]:
    """A person at a console, `ssh -t USER@HOST WORDS`, for the length of a block."""
    person = Terminal([*bench.ssh(host, user, "-tt", *more.get("options", ())), *words])
    try:
        yield person
    finally:
        os.close(person.fd)


@pytest.fixture(scope="session")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    bench = Bench(tmp_path_factory.mktemp("people"))
    for host in HOSTS:
        ssh(host, PREPARE.replace("KEY", bench.key("jane")))
    return bench


UPS = ["tech2", "jane", "@directory"]


def users(bench: Bench, *without: str) -> list[dict[str, Any]]:
    """The accounts of the inventory, but some."""
    everybody: list[dict[str, Any]] = [
        {"name": "tech1", "keys": [bench.key("tech1")], "groups": ["netops"]},
        {"name": "tech2", "principals": ["ops"]},
        {"name": "jane", "existing": True},
        {"name": "dora", "existing": True, "keys": [bench.key("dora")]},
    ]
    return [user for user in everybody if user["name"] not in without]


@pytest.fixture(scope="session")
def first(bench: Bench) -> subprocess.CompletedProcess[str]:
    """The first run."""
    bench.write(users(bench), UPS, serial_users_ca=[bench.key("ca")])
    done = bench.play("playbook.yml")
    assert done.returncode == 0, done.stdout + done.stderr
    return done


@pytest.fixture
def here(bench: Bench, first: subprocess.CompletedProcess[str]) -> Bench:
    """The bench, once its accounts are there."""
    return bench


@pytest.fixture(params=HOSTS)
def host(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_the_plan_names_the_accounts(first: subprocess.CompletedProcess[str], host: str) -> None:
    for line in ("+ user tech1 (netops)", "+ user tech2 (no group)", "~ user jane (gets consoles"):
        assert f"{host}: {line}" in first.stdout


def test_a_second_run_changes_nothing(here: Bench) -> None:
    done = here.play("playbook.yml")
    assert "2 hosts: 2 as they should be" in done.stdout, done.stdout
    done = here.play("verify.yml")
    assert done.returncode == 0, done.stdout


def test_a_person_gets_a_console(here: Bench, host: str) -> None:
    with console(here, host, "tech1", "router") as person:
        person.sees(b"helps]")
        person.types(b"hello\r")
        person.sees(b"hello")
        with console(here, host, "tech1", "router", "--watch") as other:
            other.sees(b"tech1:1, by ssh from ")
            other.types(b"nothing\x1dq")
            assert other.ends() == 0
        assert "tech1:1 (by ssh from " in ssh(host, "ttybridge status")
        person.types(b"\x1dq")
        assert person.ends() == 0
    assert b"nothing" not in person.seen


def test_without_a_port_there_is_a_list(here: Bench, host: str) -> None:
    with console(here, host, "tech1") as person:
        person.sees(b"Which port?")
        person.types(b"switch\r")
        person.sees(b"[ttybridge: switch: ")
        person.types(b"\x1dq")
        assert person.ends() == 0


def test_a_script_gets_its_answer(here: Bench, host: str) -> None:
    done = subprocess.run(
        [*here.ssh(host, "tech1"), "router"],
        input=b"show version\n",
        capture_output=True,
        timeout=PATIENCE,
    )
    assert (done.returncode, done.stdout) == (0, b"show version\n"), done.stderr


@pytest.mark.parametrize(
    ("user", "port"),
    [("tech2", "ups"), ("jane", "ups"), ("dora", "ups")],
    ids=["certificate", "existing", "directory"],
)
def test_who_has_a_certificate_or_an_account_gets_a_console(
    here: Bench, host: str, user: str, port: str
) -> None:
    """The group of dora is one of the directory: ttybridge asks NSS for it from its sandbox."""
    with console(here, host, user, port) as person:
        person.sees(b"helps]")
        person.types(b"\x1dq")
        assert person.ends() == 0


def test_the_daemon_is_in_its_sandbox(here: Bench, host: str) -> None:
    show = "systemctl show --property=DynamicUser,ProtectSystem,NoNewPrivileges ttybridge"
    assert set(ssh(host, show).split()) == {
        *("DynamicUser=yes", "ProtectSystem=strict", "NoNewPrivileges=yes")
    }


def test_who_is_in_another_group_is_refused_in_words(here: Bench, host: str) -> None:
    done = here.tries(host, "tech1", "ups")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "tech1 may not use port ups: tech2, jane and @directory may\n"
    done = here.tries(host, "dora", "router")
    assert done.stderr == "dora may not use port router: @netops may\n"


def test_nothing_listens_but_sshd(here: Bench, host: str) -> None:
    listening = {line.split()[3].rpartition(":")[2] for line in ssh(host, "ss -Hltn").splitlines()}
    assert listening == {"22"}


@pytest.mark.parametrize(
    "words",
    [
        "router; id",
        "router && id",
        "router | id",
        "$(id)",
        "`id`",
        "router\nid",
        "sh -c id",
        "/bin/sh",
        "..",
        "../../etc/passwd",
        "-oProxyCommand=id",
        "--version",
        "--timeout 1",
    ],
)
@pytest.mark.parametrize("user", ["tech1", "jane"])
def test_a_command_is_refused(here: Bench, host: str, user: str, words: str) -> None:
    done = here.tries(host, user, words)
    assert (done.returncode, done.stdout) == (1, "")
    assert ONLY in done.stderr


@pytest.mark.parametrize("old", [(), ("-O",)], ids=["SFTP", "scp"])
def test_no_file_goes_in_or_out(here: Bench, host: str, old: tuple[str, ...]) -> None:
    *command, place = here.ssh(host, "tech1", *old, program="scp")
    file = here.folder / "fetched"
    for way in ([f"{place}:/etc/hostname", str(file)], [str(here.inventory), f"{place}:/tmp/put"]):
        done = subprocess.run([*command, *way], capture_output=True, timeout=PATIENCE)
        assert done.returncode != 0
    assert not file.exists()
    assert ssh(host, "ls /tmp/put 2>&1 || true").endswith("No such file or directory\n")


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@pytest.mark.parametrize("user", ["tech1", "pi"])
@pytest.mark.parametrize("way", ["-L", "-D"])
def test_no_connection_goes_through(here: Bench, host: str, user: str, way: str) -> None:
    """For pi it does: the test would find it."""
    port = free_port()
    where = f"127.0.0.1:{port}" if way == "-D" else f"127.0.0.1:{port}:127.0.0.1:22"
    command = here.ssh(host, user, "-N", way, where)
    if user == "pi":
        command[4] = f"IdentityFile={LAB / 'id_ed25519'}"
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as client:
        try:
            said = through(port, way)
        finally:
            client.terminate()
    assert said.startswith(b"SSH-2.0-") == (user == "pi")


def through(port: int, way: str) -> bytes:
    """The first bytes of the sshd behind a forwarded port, b"" if they do not come."""
    end = time.monotonic() + PATIENCE
    while True:
        try:
            client = socket.create_connection(("127.0.0.1", port), PATIENCE)
            break
        except ConnectionRefusedError:
            assert time.monotonic() < end, "ssh does not listen"
            time.sleep(0.1)
    with client, contextlib.suppress(ConnectionError):
        if way == "-D":  # SOCKS 5: no password; connect to 127.0.0.1, port 22
            client.sendall(b"\5\1\0")
            assert client.recv(2) == b"\5\0"
            client.sendall(b"\5\1\0\1\x7f\0\0\1\0\x16")
            if client.recv(10)[1:2] != b"\0":
                return b""
        return client.recv(100)
    return b""


def test_no_port_of_the_pi_is_opened(here: Bench, host: str) -> None:
    options = ("-N", "-o", "ExitOnForwardFailure=yes", "-R", "0:127.0.0.1:22")
    command = here.ssh(host, "tech1", *options)
    done = subprocess.run(command, capture_output=True, stdin=subprocess.DEVNULL, timeout=PATIENCE)
    assert done.returncode == 255


def test_the_command_gets_nothing_of_the_clients_environment(here: Bench, host: str) -> None:
    sends = ("-A", "-o", "SetEnv=LC_TTYFLEET=1 PYTHONPATH=/tmp LD_PRELOAD=/tmp/x.so")
    with console(here, host, "tech1", "router", options=sends) as person:
        person.sees(b"helps]")
        environ = ssh(host, "cat /proc/$(pgrep -u tech1 -f 'ttybridge ssh' | tail -n 1)/environ")
        person.types(b"\x1dq")
        assert person.ends() == 0
    names = {one.partition("=")[0] for one in environ.split("\0")}
    assert "SSH_ORIGINAL_COMMAND" in names
    assert names & {"LC_TTYFLEET", "PYTHONPATH", "LD_PRELOAD", "SSH_AUTH_SOCK", "DISPLAY"} == set()


def test_a_paste_with_the_escape_key_stays_a_console(here: Bench, host: str) -> None:
    with console(here, host, "tech1", "router") as person:
        person.sees(b"helps]")
        person.types(b"one\x1d!id\x1d:\x1dx\x1a\x03\x1c~.two\r")
        person.sees(b"two")
        processes = ssh(host, "ps -o args= -u tech1")
        person.types(b"\x1dq")
        assert person.ends() == 0
    assert b"uid=" not in person.seen
    program = "(sh -c )?(/usr/bin/python3 -I )?/usr/local/bin/ttybridge ssh"
    allowed = rf"sshd.*|{program}|.*systemd.*|\(sd-pam\)"
    assert [line for line in processes.splitlines() if not re.fullmatch(allowed, line)] == []


@pytest.fixture(scope="session")
def changed(
    bench: Bench, first: subprocess.CompletedProcess[str]
) -> tuple[subprocess.CompletedProcess[str], dict[str, int]]:
    """A run that removes tech1 and lets dora use no port, while both are at a console of a host."""
    bench.write(users(bench, "tech1"), ["tech2", "jane"], serial_users_ca=[bench.key("ca")])
    ended = {}
    with contextlib.ExitStack() as stack:
        people = {
            (user, host): stack.enter_context(console(bench, host, user, port))
            for user, port in (("tech1", "router"), ("dora", "ups"))
            for host in HOSTS
        }
        for person in people.values():
            person.sees(b"helps]")
        done = bench.play("playbook.yml")
        for (user, host), person in people.items():
            ended[f"{user}@{host}"] = person.ends()
    return done, ended


def test_the_plan_names_whose_consoles_a_change_closes(changed: Any, host: str) -> None:
    done, _ = changed
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{host}: - user tech1" in done.stdout
    assert re.search(rf"{host}: ! disconnects router: tech1:\d+ \(for ", done.stdout), done.stdout
    assert re.search(rf"{host}: ! disconnects ups: dora:\d+ \(for ", done.stdout), done.stdout


def test_who_is_removed_loses_sessions_and_access(here: Bench, changed: Any, host: str) -> None:
    _, ended = changed
    assert ended[f"tech1@{host}"] != 0
    assert ended[f"dora@{host}"] == 1
    assert here.tries(host, "tech1", "router").returncode == 255
    there = "getent passwd tech1; ls /etc/ssh/ttyfleet; pgrep -u tech1; true"
    assert ssh(host, there).split() == ["dora", "tech2"]


def test_who_ansible_logs_in_as_is_never_limited(here: Bench, changed: Any) -> None:
    here.write([{"name": "pi", "existing": True}], ["jane"])
    done = here.play("playbook.yml")
    assert done.returncode != 0
    for host in HOSTS:
        assert f"{host}: serial_users: pi: is who Ansible logs in as, and would" in done.stdout
    assert "Nothing was changed on any host" in done.stdout


def test_verify_finds_what_takes_the_place_of_a_limit(here: Bench, changed: Any) -> None:
    here.write(users(here, "tech1"), ["tech2", "jane"], serial_users_ca=[here.key("ca")])
    other = "/etc/ssh/sshd_config.d/00-a.conf"
    ssh(HOSTS[0], f"printf 'Match User tech2\\nX11Forwarding yes\\n' >{other}")
    done = here.play("verify.yml")
    ssh(HOSTS[0], f"rm {other}")
    words = "serial_users: tech2: another file of /etc/ssh takes the place of X11Forwarding"
    assert f"{HOSTS[0]}: {words}" in done.stdout, done.stdout
    assert f"{HOSTS[1]}: serial_users" not in done.stdout


def test_taking_it_off_leaves_the_existing_accounts_as_they_were(here: Bench, changed: Any) -> None:
    done = here.play("remove.yml")
    assert done.returncode == 0, done.stdout + done.stderr
    for host in HOSTS:
        assert ssh(host, "getent passwd tech2; ls /etc/ssh | grep ttyfleet; true") == ""
        assert here.tries(host, "jane", "id -un").stdout == "jane\n"
