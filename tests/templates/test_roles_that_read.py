"""The roles host and verify read this very machine, as they read a Pi: in one real run."""

from __future__ import annotations

import base64
import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]

# Neither systemd nor root: what the roles would ask of them is answered here.
SYSTEMCTL = """#!/bin/sh
cat <<'EOF'
Id=ttybridge.service
LoadState=loaded
ActiveState=inactive
Result=success
UnitFileState=enabled
NeedDaemonReload=no
UID=61000
EOF
"""

PLAYBOOK = """
- hosts: pi
  gather_facts: false
  tasks:
    - import_role: {name: host}
    - block:
        - import_role: {name: verify, tasks_from: listening, rolespec_validate: false}
          vars:
            verify_ports: "{{ serial_ports | ttyfleet.serial.ports }}"
            verify_metrics: ""
            verify_patience: "0"
      rescue:
        - copy:
            content: "{{ {'read': host_read, 'findings': found} | to_json }}"
            dest: "{{ out }}"
            mode: "0644"
          vars: {found: "{{ __verify_listening.stdout | from_json }}"}
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], str, int]:
    """What the roles noted, what Ansible printed, and a TCP port that was listened on."""
    folder = tmp_path_factory.mktemp("run")
    out, playbook, hosts = (folder / name for name in ("out.json", "playbook.yml", "hosts.yml"))
    (folder / "bin").mkdir()
    (folder / "bin" / "systemctl").write_text(SYSTEMCTL)
    (folder / "bin" / "systemctl").chmod(0o755)
    playbook.write_text(PLAYBOOK)
    port = "{name: sw, device: /dev/ttyS0, listen: 9999}"
    hosts.write_text(
        f"all: {{hosts: {{pi: {{ansible_connection: local, serial_ports: [{port}]}}}}}}\n"
    )
    environment = {
        **os.environ,
        "PATH": f"{folder}/bin:{os.environ['PATH']}",
        "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
        "ANSIBLE_ROLES_PATH": str(ROOT / "roles"),
    }
    ansible = str(Path(sys.executable).with_name("ansible-playbook"))
    command = [ansible, "-i", str(hosts), str(playbook), "-e", f"out={out}"]
    with socket.create_server(("127.0.0.1", 0)) as server:
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        number = server.getsockname()[1]
    assert out.exists(), done.stdout + done.stderr
    return json.loads(out.read_text()), done.stdout, number


def test_what_the_host_is(run: tuple[dict[str, Any], str, int]) -> None:
    read = run[0]["read"]
    assert base64.b64decode(read["boot"]["running"]) == Path("/proc/cmdline").read_bytes()
    (mine,) = (one for one in read["listening"] if one["port"] == run[2])
    assert (mine["address"], mine["user"]) == ("127.0.0.1", os.getuid())


def test_what_is_found_of_a_port(run: tuple[dict[str, Any], str, int]) -> None:
    assert run[0]["findings"] == [
        {
            **{"about": "port sw", "port": "sw", "listen": "9999"},
            "result": "ttybridge.service is inactive",
            "todo": "look into `journalctl -u ttybridge`, then run playbook.yml",
        }
    ]


def test_a_port_that_does_not_listen_ends_the_run(run: tuple[dict[str, Any], str, int]) -> None:
    said = " ".join(run[1].split())
    assert "port sw: listen 9999: ttybridge.service is inactive; look into" in said
