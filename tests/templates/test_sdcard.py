"""script/sdcard as a person runs it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
PASSWORD = "the cat's {{ pyjamas }}"


def ssh_keygen(*words: str | Path) -> str:
    return subprocess.run(["ssh-keygen", *words], capture_output=True, text=True, check=True).stdout


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A folder with an inventory, whose Wi-Fi password is in the vault, and a boot partition."""
    boot, inventory = tmp_path / "boot", tmp_path / "inventory"
    boot.mkdir()
    for name in ("config.txt", "cmdline.txt", "user-data"):
        (boot / name).write_text("")
    (tmp_path / "vault").write_text("secret\n")
    ssh_keygen("-q", "-t", "ed25519", "-N", "", "-C", "me", "-f", tmp_path / "id")
    encrypt = [str(BIN / "ansible-vault"), "encrypt_string", "--stdin-name", "vault_wifi"]
    encrypted = subprocess.run(
        [*encrypt, "--vault-password-file", str(tmp_path / "vault")],
        input=PASSWORD,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    (inventory / "group_vars").mkdir(parents=True)
    (inventory / "group_vars" / "all.yml").write_text(encrypted)
    (inventory / "hosts.yml").write_text(f"""
serial_servers:
  hosts:
    pi-rack1: {{ansible_host: 192.0.2.11, ansible_port: 2222}}
    pi-rack2:
  vars:
    ansible_user: pi
    serial_card:
      keys: ["{{{{ lookup('ansible.builtin.file', '{tmp_path}/id.pub') }}}}"]
      wifi: {{ssid: lab, country: DE, password: "{{{{ vault_wifi }}}}"}}
      known_hosts: {tmp_path}/known_hosts
""")
    return tmp_path


def sdcard(home: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [ROOT / "script/sdcard", *words, "-i", "inventory", "--vault-password-file", "vault"],
        cwd=home,
        env={
            **os.environ,
            "PATH": f"{BIN}:{os.environ['PATH']}",
            "HOME": str(home),
            "XDG_DATA_HOME": str(home / "data"),
            "TMPDIR": str(home),
        },
        capture_output=True,
        text=True,
    )


def test_a_card_is_written_and_ssh_knows_its_host_key(home: Path) -> None:
    before = {path.name for path in home.iterdir()}
    done = sdcard(home, "pi-rack1", "boot")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "boot is ready: unmount it" in done.stdout
    assert PASSWORD not in done.stdout + done.stderr
    seed = {
        name: yaml.safe_load((home / "boot" / name).read_text())
        for name in ("user-data", "network-config", "meta-data")
    }
    point = seed["network-config"]["network"]["wifis"]["wlan0"]["access-points"]["lab"]
    assert point == {"password": PASSWORD}
    (public,) = seed["user-data"]["user"]["ssh_authorized_keys"]
    assert public == (home / "id.pub").read_text().strip()
    key = home / "data/ttyfleet/host_keys/pi-rack1"
    assert (key.stat().st_mode & 0o777, key.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    assert key.read_text() in [entry["content"] for entry in seed["user-data"]["write_files"]]
    known = (home / "known_hosts").read_text()
    assert known.split() == ["[192.0.2.11]:2222", *ssh_keygen("-y", "-f", key).split()[:2]]
    # No copy of the secrets stays here.
    new = {path.name for path in home.iterdir()} - before - {"data", "known_hosts", ".ansible"}
    assert new == set()

    again = sdcard(home, "pi-rack1", "--print")
    assert again.returncode == 0, again.stdout + again.stderr
    assert key.read_text().splitlines()[1] in again.stdout
    assert (home / "known_hosts").read_text() == known


def test_what_is_wrong_is_said_and_writes_nothing(home: Path) -> None:
    file = home / "inventory/hosts.yml"
    file.write_text(file.read_text().replace("country: DE", "country: Germany"))
    for words, said in (
        (["pi-rack1", "boot"], "pi-rack1: serial_card.wifi.country: 'Germany': write the two"),
        (["serial_servers", "boot"], "this is for pi-rack1, pi-rack2: name one of them"),
        (["pi-rack1", "inventory"], "inventory is not the boot partition of a Raspberry Pi"),
        (["pi-rack9", "boot"], "pi-rack9"),
    ):
        done = sdcard(home, *words)
        assert done.returncode != 0
        assert said in done.stdout + done.stderr
    assert (home / "boot/user-data").read_text() == ""
    assert not (home / "known_hosts").exists()
