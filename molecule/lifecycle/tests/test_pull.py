"""A Pi that pulls its own inventory: from its first start to the last commit.

fresh-trixie is the Pi, found-bookworm the git server. The tests are steps of one life, in their
order; each commit is made here and pushed there.
"""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from client import receive
from playbook import LAB, ROOT, run_playbook
from state import ssh
from ttybridge.setup import pull

PI, SERVER = "fresh-trixie", "found-bookworm"
OTHER = "pi-elsewhere"
PASSWORD = "of the vault"
SSH = ("ssh", "-F", str(LAB / "ssh_config"))
PORT = 10001


def address(host: str) -> str:
    said = subprocess.run([*SSH, "-G", host], capture_output=True, text=True, check=True).stdout
    return said.split("hostname ", 1)[1].split()[0]


class Site:
    """The repository with the inventory and ttyfleet, as its owner has it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "site"
        self.vault = folder / "vault"
        self.vault.write_text(PASSWORD)
        self.keys = folder
        for name in ("owner", "deploy"):
            key = str(folder / name)
            self._run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", key)
        example = ROOT / "examples" / "inventory-repository"
        skipped = shutil.ignore_patterns(".*", "molecule", "tests", "dist", "__pycache__")
        shutil.copytree(example, self.folder, ignore=shutil.ignore_patterns("inventory", ".git*"))
        shutil.copytree(ROOT, self.folder / "ttyfleet", symlinks=True, ignore=skipped)
        (self.folder / "inventory/host_vars").mkdir(parents=True)
        (self.folder / "inventory/group_vars").mkdir()
        hosts = {"serial_servers": {"hosts": {PI: None, OTHER: None}}}
        self.write("hosts.yml", hosts)
        self.write_host(baudrate=19200)
        self.write(f"host_vars/{OTHER}.yml", {"serial_ports": []})
        self.git("init", "-q", "-b", "main", cwd=folder)

    def _run(self, *words: str, cwd: Path | None = None) -> str:
        done = subprocess.run(words, cwd=cwd, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout.strip()

    def git(self, *words: str, cwd: Path | None = None) -> str:
        settings = {
            **{"user.name": "Owner", "user.email": "owner@example.org", "gpg.format": "ssh"},
            **{"user.signingkey": str(self.keys / "owner"), "core.sshCommand": " ".join(SSH)},
        }
        options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        if words[0] == "init":
            self._run("git", *words, str(self.folder))
            return ""
        return self._run("git", *options, *words, cwd=self.folder)

    def write(self, path: str, value: Any) -> None:
        text = value if isinstance(value, str) else yaml.safe_dump(value)
        (self.folder / "inventory" / path).write_text(text)

    def write_host(self, **port: Any) -> None:
        """The port map of the Pi."""
        device = "/dev/serial/by-name/loop"
        entry = {"name": "loop", "device": device, "listen": PORT, "allow": ["any"], **port}
        self.write(f"host_vars/{PI}.yml", {"serial_ports": [entry]})

    def write_secrets(self, serial_pull: dict[str, Any]) -> None:
        """The variable serial_pull of all hosts, encrypted."""
        file = self.folder / "inventory/group_vars/serial_servers.yml"
        file.write_text(yaml.safe_dump({"serial_pull": serial_pull}))
        vault = ("--vault-password-file", str(self.vault))
        self._run("ansible-vault", "encrypt", *vault, str(file))

    def push(self, message: str, signed: bool = True) -> str:
        """Commit everything and push it; return the commit."""
        self.git("add", "--all", "--force")
        self.git("commit", "-q", "-m", message, *(["-S"] if signed else []))
        self.git("push", "-q", f"{SERVER}:site.git", "main")
        return self.git("rev-parse", "HEAD")

    def play(self, name: str) -> subprocess.CompletedProcess[str]:
        """Run a playbook from here, as one who does not want to wait for the pull."""
        vault = ("--vault-password-file", str(self.vault))
        return run_playbook(name, self.folder / "inventory", "--limit", PI, *vault)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    """The repository is on its server, and the Pi is as a card with `first_boot` leaves it."""
    site = Site(tmp_path_factory.mktemp("pull"))
    deploy = (site.keys / "deploy.pub").read_text().strip()
    command = "restrict,command=\"git-upload-pack '/home/pi/site.git'\""
    prepare = f"""set -e
exec >/dev/null 2>&1
export DEBIAN_FRONTEND=noninteractive
git --version || {{ apt-get -q update; apt-get -qy install --no-install-recommends git; }}
rm -rf ~pi/site.git
git init --bare -b main ~pi/site.git
chown -R pi: ~pi/site.git
echo '{command} {deploy}' >>~pi/.ssh/authorized_keys"""
    ssh(SERVER, prepare)
    where = address(SERVER)
    host_key = ssh(SERVER, "cat /etc/ssh/ssh_host_ed25519_key.pub").split()[:2]
    serial_pull = {
        "repository": f"ssh://pi@{where}/home/pi/site.git",
        "key": (site.keys / "deploy").read_text(),
        "known_hosts": [" ".join([where, *host_key])],
        "signers": [(site.keys / "owner.pub").read_text().strip()],
        "schedule": "yearly",
        "vault_password": PASSWORD,
    }
    site.write_secrets(serial_pull)
    site.push("The first one")
    for file in pull.first_boot(PI, {"serial_pull": serial_pull})["write_files"]:
        path, mode = file["path"], file["permissions"]
        end = "ttyfleet-end-of-file"
        ssh(PI, f"install -D -m {mode} /dev/stdin {path} <<'{end}'\n{file['content']}{end}\n")
    ssh(PI, "systemctl daemon-reload; systemctl enable --now ttyfleet-pull.timer 2>&1")
    return site


def pulls() -> tuple[int, dict[str, Any]]:
    """Let the Pi pull; return how the unit ended, and the state file."""
    status = ssh(PI, "systemctl start ttyfleet-pull >/dev/null 2>&1; echo $?")
    state = json.loads(ssh(PI, "cat /var/lib/ttyfleet/pull.json"))
    seconds = state["ended"] - state["began"]
    print(f"{state['result']}: {seconds} s, {state['cpu_seconds']} s of CPU: {state['reason']}")
    return int(status), state


def journal() -> list[str]:
    """What the last run of the unit said."""
    last = "$(systemctl show --property=InvocationID --value ttyfleet-pull)"
    said = ssh(PI, f"journalctl --quiet --output=cat _SYSTEMD_INVOCATION_ID={last}")
    return said.splitlines()


def echoes() -> bool:
    with socket.create_connection((address(PI), PORT), 30) as client:
        client.settimeout(30)
        client.sendall(b"hello")
        return receive(client, 5) == b"hello"


def baudrate() -> str:
    return ssh(PI, "sed -n 's/^baudrate = //p' /etc/ttybridge/ttybridge.toml").strip()


def test_the_first_pull_makes_it_a_serial_server(site: Site) -> None:
    status, state = pulls()
    assert (status, state["result"]) == (0, "changed"), journal()
    assert state["commit"] == site.git("rev-parse", "HEAD")
    assert echoes()
    assert ssh(PI, "systemd-analyze verify ttyfleet-pull.timer ttyfleet-pull.service 2>&1") == ""
    done = site.play("verify.yml")
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_pull_without_a_change_says_one_line(site: Site) -> None:
    status, state = pulls()
    assert (status, state["result"]) == (0, "unchanged"), journal()
    assert [line for line in journal() if line.startswith("as it should be: commit ")] == journal()


def test_an_unsigned_commit_is_refused_each_time(site: Site) -> None:
    applied = site.git("rev-parse", "HEAD")
    site.write_host(baudrate=57600)
    site.push("Nobody has signed this", signed=False)
    for _ in range(2):
        status, state = pulls()
        assert (status, state["result"]) == (1, "failed"), journal()
        assert state["reason"].startswith("its last commit is not signed by one of serial_pull.sig")
        assert state["commit"] == applied
    assert baudrate() == "19200"
    done = site.play("verify.yml")
    assert done.returncode != 0
    assert f"{PI}: its last pull failed, 0 min ago: its last commit is not signed" in done.stdout


def test_a_faulty_map_changes_nothing(site: Site) -> None:
    site.write_host(baudrate="fast")
    site.push("A fault")
    status, state = pulls()
    assert (status, state["result"]) == (1, "failed")
    assert "port loop: baudrate" in state["reason"]
    assert echoes()


def test_a_fault_of_another_host_does_not_hold_it_up(site: Site) -> None:
    site.write_host(baudrate=38400)
    site.write(f"host_vars/{OTHER}.yml", "serial_ports:\n\t- [\n")
    commit = site.push("A change, and a fault elsewhere")
    status, state = pulls()
    assert (status, state["result"], state["commit"]) == (0, "changed", commit), journal()
    assert baudrate() == "38400"
    assert f"{PI}: ~ /etc/ttybridge/ttybridge.toml (content)" in "\n".join(journal())
    assert echoes()


def test_a_revert_rolls_back(site: Site) -> None:
    site.git("revert", "--no-edit", "-S", "HEAD", "HEAD~1", "HEAD~2")
    site.git("push", "-q", f"{SERVER}:site.git", "main")
    status, state = pulls()
    assert (status, state["commit"]) == (0, site.git("rev-parse", "HEAD")), journal()
    assert baudrate() == "19200"


def test_a_held_lock_is_no_failure(site: Site) -> None:
    script = "flock /run/ttyfleet-pull.lock systemctl start ttyfleet-pull; echo $?"
    assert ssh(PI, script).strip() == "0"
    state = json.loads(ssh(PI, "cat /var/lib/ttyfleet/pull.json"))
    assert state["result"] == "changed"
    assert state["skipped"] >= state["ended"]


def test_a_key_that_reads_nothing_is_not_taken(site: Site) -> None:
    """By a push: the Pi asks by the new way, and keeps the one that works."""
    before = ssh(PI, "sha256sum /etc/ttyfleet/pull/*")
    variables = yaml.safe_load(
        site._run(
            *("ansible-vault", "view", "--vault-password-file", str(site.vault)),
            str(site.folder / "inventory/group_vars/serial_servers.yml"),
        )
    )["serial_pull"]
    site.write_secrets({**variables, "branch": "nowhere"})
    done = site.play("playbook.yml")
    assert done.returncode != 0
    assert "site.git has no branch nowhere" in done.stdout
    assert ssh(PI, "sha256sum /etc/ttyfleet/pull/*") == before
    site.write_secrets(variables)


def test_a_pi_whose_inventory_no_longer_has_it_pulls_no_more(site: Site) -> None:
    (site.folder / "inventory/group_vars/serial_servers.yml").unlink()
    site.push("No serial_pull")
    ssh(PI, "systemctl start ttyfleet-pull")
    left = "ls -d /etc/ttyfleet /var/lib/ttyfleet/pull* /etc/systemd/system/ttyfleet-pull* 2>&1"
    assert "No such file" in (said := ssh(PI, f"{left}; true"))
    assert {line.partition(": ")[0] for line in said.splitlines()} == {"ls"}
    assert echoes()
    done = site.play("verify.yml")
    assert done.returncode == 0, done.stdout + done.stderr
