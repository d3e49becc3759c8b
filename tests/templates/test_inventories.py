"""Whole inventories, checked by the real playbook: what Ansible makes of files reaches us."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PORT = "serial_ports:\n  - {name: sw, device: /dev/ttyAMA0, listen: 9999}\n"
HOSTS = "serial_servers:\n  hosts:\n    pi1: {ansible_host: 192.0.2.1}\n    pi2:\n"
SOUND = {"hosts.yml": HOSTS, "host_vars/pi1.yml": PORT, "host_vars/pi2.yml": PORT}
SCRIPT = """#!/usr/bin/env python3
print('{"serial_servers": {"hosts": ["pi1"]}, "_meta": {"hostvars": {}}}')
"""
TEXTS = "a: !unsafe '{{ nope }}'\nb: !vault |\n  $ANSIBLE_VAULT;1.1;AES256\n  6162\n"


def run(folder: Path, files: dict[str, str], *options: str) -> tuple[int, str]:
    """Check the inventory `SOUND` with other files in it; an empty text is no file."""
    for name, text in {**SOUND, **files}.items():
        if text:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text)
            (folder / name).chmod(0o755 if text.startswith("#!") else 0o644)
    done = subprocess.run(
        [Path(sys.executable).with_name("ansible-playbook"), "portmap.yml", *options],
        cwd=ROOT,
        env={**os.environ, "ANSIBLE_NOCOLOR": "1", "ANSIBLE_INVENTORY": str(folder)},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, (done.stdout + done.stderr).replace(str(folder), "INVENTORY")


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({}, "2 hosts, 2 ports: no fault."),
        ({"hosts.yml": "", "hosts": "[serial_servers]\npi[1:2]\n"}, "2 hosts, 2 ports: no fault."),
        ({"hosts.yml": "", "hosts.py": SCRIPT}, "1 host, 1 port: no fault."),
        (
            {"more.yml": "serial_servers: {hosts: {pi3: }}\n", "host_vars/pi3/a.yml": PORT},
            "3 hosts",
        ),
        ({"group_vars/all.yml": TEXTS}, "2 hosts, 2 ports: no fault."),
        (
            {"host_vars/pi1.yml": "", "host_vars/pi1.json": '{"serial_ports": []}'},
            "2 hosts, 1 port",
        ),
        ({"host_vars/pi1.yml": PORT.replace("AMA", "USB")}, "Note: pi1: port sw: device: '/dev/"),
    ],
)
def test_a_sound_inventory(tmp_path: Path, files: dict[str, str], said: str) -> None:
    code, output = run(tmp_path, files)
    assert code == 0, output
    assert said in output


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"host_vars/pi1.yml": "a:\n - b\n c\n"}, "INVENTORY/host_vars/pi1.yml:4:1: YAML: "),
        ({"group_vars/all.yml": "a: [\n"}, "INVENTORY/group_vars/all.yml:2:1: YAML: "),
        ({"hosts.yml": "a: [\n"}, "INVENTORY/hosts.yml:2:1: YAML: "),
        ({"host_vars/pi1.yml": PORT + PORT}, "INVENTORY/host_vars/pi1.yml:3: serial_ports: line 1"),
        (
            {"group_vars/serial_servers/a.yml": PORT},
            "serial_ports: written in INVENTORY/host_vars/",
        ),
        (
            {"host_vars/pi3.yml": PORT},
            "INVENTORY/host_vars/pi3.yml: file: the inventory has no host",
        ),
        (
            {"host-vars/pi2.yml": PORT},
            "INVENTORY/host-vars: folder: Ansible does not read a folder",
        ),
        (
            {"host_vars/pi2.yml": "ansible_host: 192.0.2.1\n"},
            "pi2: ansible_host: '192.0.2.1' is also",
        ),
        (
            {"host_vars/pi2.yml": ""},
            "missing: not in INVENTORY/host_vars/pi2.yml (there is no such",
        ),
        (
            {"host_vars/pi2.yml": "serial_ports:\n"},
            "pi2: serial_ports: empty: write one entry a port",
        ),
        ({"hosts.yml": "pis: {hosts: {pi1: , pi2: }}\n"}, "The groups that have hosts are: pis."),
        ({"host_vars/pi2.yml": "serial_ports: '{{ nope }}'\n"}, "pi2: serial_ports: "),
    ],
)
def test_a_mistake(tmp_path: Path, files: dict[str, str], said: str) -> None:
    code, output = run(tmp_path, files)
    assert code != 0
    # Ansible breaks lines of texts that are on one line.
    assert said in " ".join(output.split()), output


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--tags", "bridg"], "--tags: bridg: no task has this tag; did you mean bridge?"),
        (["--skip-tags", "uarts"], "--skip-tags: uarts: no task has this tag; did you mean uart?"),
        (["--tags", "bridge,always"], ""),
        # Also of a host that is left out: the file may be of a group, or become one of this host.
        (["--limit", "pi2"], ""),
        (["-i", "pi9,"], "pi9: serial_ports: missing"),
    ],
)
def test_options(tmp_path: Path, options: list[str], said: str) -> None:
    if options[0] == "-i":
        group = "serial_servers: {hosts: {pi9: }}\n"
        options = [*options, "-i", str(tmp_path / "hosts.yml"), "-i", str(tmp_path / "more")]
        code, output = run(tmp_path, {"more/hosts.yml": group}, *options)
    else:
        code, output = run(tmp_path, {}, *options)
    assert (code == 0) == (said == ""), output
    assert said in " ".join(output.split())


def test_a_broken_file_is_named_also_if_its_host_is_left_out(tmp_path: Path) -> None:
    code, output = run(tmp_path, {"host_vars/pi1.yml": "a: [\n"}, "--limit", "all,!pi1")
    assert code != 0
    assert "INVENTORY/host_vars/pi1.yml:2:1: YAML: " in output


def test_a_broken_file_does_not_stop_a_run_for_another_host(tmp_path: Path) -> None:
    files = {"host_vars/pi1.yml": "a: [\n", "host_vars/pi2.yml": "serial_ports: []\n"}
    code, output = run(tmp_path, files, "--limit", "pi2")
    assert (code, "YAML: " in output) == (0, False), output
