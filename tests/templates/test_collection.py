"""This tree as the collection ttyfleet.serial: built, installed and used from a foreign folder."""

from __future__ import annotations

import configparser
import json
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from tests.templates.test_hostile_host import READ

import ttybridge

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
PAGE = (ROOT / "docs" / "collection.md").read_text()
CONFIGURATION = PAGE.partition("```ini\n")[2].partition("```")[0]

# What a clone holds beside the sources: keys, passwords, downloads, results.
PRIVATE = (
    ".ansible/x",
    ".bench/report.json",
    ".lab/id_ed25519",
    ".venv/bin/python",
    ".vault-password",
    "bridge/dist/ttybridge-0.1.0+1a2b3c4d",
    "dist/SHA256SUMS",
    "bridge/src/ttybridge.egg-info/PKG-INFO",
    "bridge/src/ttybridge/__pycache__/cli.cpython-311.pyc",
    "inventory/production/host_vars/pi-rack1.yml",
    "inventory/production/tls/pi.key",
    "roles/bridge/files/pi.pem",
    "ttyfleet-serial-0.0.9.tar.gz",
)

# Top-level names that only work on the sources needs.
OF_THE_SOURCES = {
    "ansible.cfg",
    "benchmarks",
    "collections",
    "examples",
    "galaxy.yml",
    "inventory",
    "molecule",
    "pyproject.toml",
    "requirements-bench.in",
    "requirements-bench.txt",
    "requirements-dev.in",
    "requirements-dev.txt",
    "requirements.in",
    "requirements.txt",
    "script",
    "tests",
}


def run(program: str, *arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run one of Ansible's programs, with nothing of this clone in its environment."""
    command = [str(Path(sys.executable).with_name(program)), *map(str, arguments)]
    kept = {name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_")}
    environment = {
        **kept,
        "HOME": str(cwd),
        "ANSIBLE_LOCALHOST_WARNING": "false",
        # The Pi is what a connection plugin answers.
        "ANSIBLE_CONNECTION_PLUGINS": str(HERE / "connection_plugins"),
        "HOSTILE_STDOUT": json.dumps(READ),
        "HOSTILE_STDERR": "",
        "HOSTILE_STATUS": "0",
    }
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True)


def sources() -> list[str]:
    """The files of this clone as they are now, without those that git ignores."""
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    done = subprocess.run(listed, cwd=ROOT, capture_output=True, text=True, check=True)
    return [name for name in done.stdout.split("\0") if name and os.path.lexists(ROOT / name)]


@pytest.fixture(scope="module")
def tarball(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The collection, built in a clone that somebody works with."""
    clone, out = tmp_path_factory.mktemp("clone"), tmp_path_factory.mktemp("out")
    for name in sources():
        (clone / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, clone / name, follow_symlinks=False)
    for name in PRIVATE:
        (clone / name).parent.mkdir(parents=True, exist_ok=True)
        (clone / name).write_text("private\n")
    done = run("ansible-galaxy", "collection", "build", clone, "--output-path", out, cwd=out)
    assert done.returncode == 0, done.stdout + done.stderr
    (built,) = out.glob("*.tar.gz")
    return built


def test_what_is_in_it(tarball: Path) -> None:
    with tarfile.open(tarball) as archive:
        files = {member.name for member in archive if not member.isdir()}
    wanted = {
        name
        for name in sources()
        if name.partition("/")[0] not in OF_THE_SOURCES
        and not name.startswith((".", "bridge/tests/"))
    }
    assert files == wanted | {"MANIFEST.json", "FILES.json"}
    assert tarball.stat().st_size < 1_000_000


@pytest.fixture(scope="module")
def project(tarball: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of somebody's own, with the collection installed in it."""
    folder = tmp_path_factory.mktemp("project")
    arguments = ("collection", "install", tarball, "-p", "collections", "--offline")
    done = run("ansible-galaxy", *arguments, cwd=folder)
    assert done.returncode == 0, done.stdout + done.stderr
    (folder / "ansible.cfg").write_text(CONFIGURATION)
    (folder / "site.yml").write_text(SITE)
    for name, baudrate in (("sound", 9600), ("faulty", 1)):
        (folder / name).write_text(HOSTS + f"          baudrate: {baudrate}\n")
    return folder


def test_its_version_is_that_of_ttybridge() -> None:
    assert f"\nversion: {ttybridge.__version__}\n" in (ROOT / "galaxy.yml").read_text()


def settings(text: str) -> configparser.ConfigParser:
    parsed = configparser.ConfigParser(interpolation=None)
    parsed.read_string(text)
    return parsed


def test_the_page_has_the_settings_of_the_clone() -> None:
    ours = settings((ROOT / "ansible.cfg").read_text())
    # Places in the clone.
    for name in ("inventory", "roles_path"):
        ours.remove_option("defaults", name)
    assert settings(CONFIGURATION) == ours


HOSTS = """\
serial_servers:
  hosts:
    pi:
      ansible_connection: hostile
      serial_ports:
        - name: router
          usb: {serial: A50285BI}
          listen: 10001
"""

SITE = """\
- name: The user's own play
  hosts: serial_servers
  gather_facts: false
  roles:
    - ttyfleet.serial.serial_ports
  tasks:
    - name: Use a filter
      ansible.builtin.debug:
        msg: "{{ serial_ports | ttyfleet.serial.ports | map(attribute='path') | join(' ') }}"
    - name: Make a plan
      ansible.builtin.import_role:
        name: ttyfleet.serial.plan
        tasks_from: make
    - name: Show what it writes
      ansible.builtin.debug:
        msg: "{{ plan_host.todo.udev.files | map(attribute='content') | join }}"
"""


def play(project: Path, inventory: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return run("ansible-playbook", "-i", project / inventory, *arguments, cwd=project)


def test_a_sound_port_map(project: Path) -> None:
    done = play(project, "sound", "ttyfleet.serial.portmap")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("playbook", ["ttyfleet.serial.portmap", "site.yml"])
def test_a_fault_is_named(project: Path, playbook: str) -> None:
    done = play(project, "faulty", playbook)
    said = " ".join((done.stdout + done.stderr).split())
    assert done.returncode != 0
    assert "router: baudrate: 1: write a whole number from 50 to 12000000" in said


def test_a_play_of_ones_own(project: Path) -> None:
    """The roles find the script that reads a host and the templates that stand beside them."""
    done = play(project, "sound", "site.yml", "-v")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "/dev/serial/by-name/router" in done.stdout
    assert 'SYMLINK+="serial/by-name/router"' in done.stdout


def test_the_other_playbooks_are_found(project: Path) -> None:
    names = [path.stem for path in ROOT.glob("*.yml") if path.stem != "galaxy"]
    assert "playbook" in names
    for name in names:
        done = play(project, "sound", f"ttyfleet.serial.{name}", "--list-tasks")
        assert done.returncode == 0, done.stdout + done.stderr
