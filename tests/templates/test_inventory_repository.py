"""What users copy: examples/inventory-repository, as CI runs it; and our own CI."""

from __future__ import annotations

import configparser
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "examples" / "inventory-repository"
WORKFLOWS = [EXAMPLE / ".github/workflows/serial-servers.yml", EXAMPLE / ".gitlab-ci.yml"]


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    # Without what trying it out leaves there.
    left = shutil.ignore_patterns(".venv", "reports", "ttyfleet")
    return shutil.copytree(EXAMPLE, tmp_path / "ours", ignore=left)


def run(command: list[str], folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, "PWD": str(folder), **environment},
        capture_output=True,
        text=True,
    )


def git(folder: Path, *words: str) -> None:
    who = ["-c", "user.name=x", "-c", "user.email=x@example.org", "-c", "init.defaultBranch=main"]
    done = run(["git", *who, *words], folder)
    assert done.returncode == 0, done.stderr


def test_its_port_maps_are_sound(copy: Path) -> None:
    """By its own ansible.cfg, which finds roles and collection in the folder ttyfleet."""
    (copy / "ttyfleet").symlink_to(ROOT)
    ansible = str(Path(sys.executable).with_name("ansible-playbook"))
    done = run([ansible, "ttyfleet/portmap.yml"], copy, ANSIBLE_CONFIG="ansible.cfg")
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"2 hosts, \d+ ports: no fault", done.stdout)


def test_get_ttyfleet_takes_the_pinned_one_and_another(copy: Path, tmp_path: Path) -> None:
    theirs = tmp_path / "ttyfleet"
    theirs.mkdir()
    git(theirs, "init")
    for version in ("v1", "v2"):
        (theirs / "version").write_text(version)
        git(theirs, "add", ".")
        git(theirs, "commit", "-m", version)
        git(theirs, "tag", version)
    for version in ("v2", "v1", "v2"):
        pins = {"TTYFLEET_URL": str(theirs), "TTYFLEET_REF": version}
        done = run(["./get-ttyfleet"], copy, **pins)
        assert (done.returncode, done.stderr) == (0, "")
        assert (copy / "ttyfleet/version").read_text() == version


def test_the_key_is_there_for_the_command_only(copy: Path) -> None:
    key = '"$ANSIBLE_PRIVATE_KEY_FILE"'
    script = f'cat {key}; echo "$ANSIBLE_SSH_COMMON_ARGS"; stat -c %a {key}; exit 3'
    (copy / "key").write_text("secret\n")
    for secret in ("secret", str(copy / "key")):
        environment = {"SSH_PRIVATE_KEY": secret, "SSH_KNOWN_HOSTS": "pi ssh-ed25519 x"}
        done = run(["./with-ssh-key", "sh", "-c", script], copy, **environment)
        assert (done.returncode, done.stderr) == (3, "")
        said, arguments, mode = done.stdout.splitlines()
        assert (said, mode) == ("secret", "600")
        assert not Path(arguments.partition("=")[2]).parent.exists()
    done = run(["./with-ssh-key", "true"], copy, SSH_PRIVATE_KEY="")
    assert (done.returncode != 0, "CI needs it" in done.stderr) == (True, True)


def test_it_has_our_settings_and_versions() -> None:
    ours, theirs = configparser.RawConfigParser(), configparser.RawConfigParser()
    ours.read(ROOT / "ansible.cfg")
    theirs.read(EXAMPLE / "ansible.cfg")
    paths = {"inventory", "collections_path", "roles_path"}
    for section in {*ours.sections(), *theirs.sections()}:
        assert {*ours[section].items()} ^ {*theirs[section].items()} <= {
            (key, parser[section][key])
            for parser in (ours, theirs)
            for key in paths & parser[section].keys()
        }
    pinned = (ROOT / "requirements.in").read_text() + (ROOT / "requirements-dev.in").read_text()
    for line in (EXAMPLE / "requirements.txt").read_text().splitlines():
        assert line.startswith("#") or line in pinned.splitlines()


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=["github", "gitlab"])
def test_each_workflow_runs_the_same_playbooks(workflow: Path) -> None:
    runs = re.findall(r"ansible-playbook ttyfleet/(.*)", workflow.read_text())
    assert runs == [
        "portmap.yml",
        "playbook.yml --check --diff",
        "verify.yml -e report_dir=reports",
    ]
    assert all((ROOT / line.split()[0]).exists() for line in runs)


def test_each_action_is_pinned() -> None:
    for workflow in (WORKFLOWS[0], ROOT / ".github/workflows/ci.yml"):
        used = re.findall(r"uses: (.*)", workflow.read_text())
        assert used
        for action in used:
            assert re.fullmatch(r"[\w/-]+@[0-9a-f]{40}  # v[0-9.]+", action)


def test_ci_runs_each_level_that_the_script_of_ci_runs() -> None:
    script, test = (ROOT / ".ci/run").read_text(), (ROOT / "script/test").read_text()
    levels = re.findall(r"^script/test(.*)$", script, re.MULTILINE)
    (default,) = re.findall(r"^\[ \$# -gt 0 \] \|\| set -- (.*)$", test, re.MULTILINE)
    wanted = [name for line in levels for name in (line.split() or default.split())]
    ci = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())
    assert ci["jobs"]["level"]["strategy"]["matrix"]["level"] == wanted
