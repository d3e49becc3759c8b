"""What a hostile host says reaches the terminal as text, and Jinja in it is not evaluated."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]

# A title for the window, red letters, an escape sequence's 8-bit form, text that runs backwards.
EVIL = "x \x1b]0;pwned\a\x1b[31mRED \x9b1m \u202e end"
SHOWN = r"x \x1b]0;pwned\x07\x1b[31mRED \x9b1m \u202e end"

# What files/read_host.sh says of a host that can be served; as JSON it is a module's result, too.
READ = {
    **{
        "release": "12",
        "fault": "",
        "not_kept": "",
        "clock": 0,
        "packages": {"ser2net": "4.3.11", "x": EVIL},
        "units": ["ser2net.service.d/ttyfleet.conf"],
        "programs": [EVIL],
    },
    **{"program": EVIL, "ser2net": {"before": "", "foreign": [], "kept": [], "ours": []}},
    **{"stale": [EVIL], "files": [], "checksums": {}, "targets": {}, "devices": [EVIL]},
    **{
        "unfinished": [EVIL],
        "services": {},
        "configuration": "",
        "pull": EVIL,
        "network": {},
        "users": {},
    },
    "people": {
        **{"login": EVIL, "limited": [EVIL], "denied": [EVIL]},
        "accounts": [
            {"name": EVIL, "made": True, "group": EVIL, "groups": [EVIL], "overridden": [EVIL]}
        ],
    },
    "boot": {
        **{"model": EVIL, "folder": "", "writable": True, "mode": "", "config": "", "cmdline": ""},
        **{"kept": "", "running": "", "hciuart": False, "masked": [], "ours": [], "reboot": False},
    },
}
MODULE = {"failed": True, "msg": EVIL, "warnings": [EVIL], "exception": EVIL}

PORT = "{name: a, device: /dev/ttyS1, listen: 2001, engine: ser2net}"


@pytest.fixture
def canary(tmp_path: Path) -> Path:
    return tmp_path / "it has run"


@pytest.mark.parametrize(
    ("playbook", "answer", "status"),
    [
        # The host runs nothing: Ansible's own error, and ours.
        ("discover.yml", EVIL, 1),
        ("verify.yml", EVIL, 1),
        ("status.yml", "", 1),
        # It says something else.
        ("discover.yml", EVIL, 0),
        ("remove.yml", EVIL, 0),
        ("status.yml", EVIL, 0),
        ("verify.yml", json.dumps(READ), 0),
        # It says why it cannot be served.
        ("playbook.yml", json.dumps({**READ, "fault": f"{EVIL} JINJA"}), 0),
        # A module fails.
        ("playbook.yml", json.dumps({**READ, **MODULE}), 0),
    ],
)
def test_what_it_says_is_printed_as_text(
    playbook: str, answer: str, status: int, canary: Path, tmp_path: Path
) -> None:
    jinja = "{{ lookup('pipe', 'touch \"" + str(canary) + "\"') }}"
    answer = answer.replace("JINJA", json.dumps(jinja)[1:-1])
    out = run(playbook, tmp_path, HOSTILE_STDOUT=answer, HOSTILE_STATUS=str(status))
    assert re.findall("[^\n -~]", out) == [], out
    assert SHOWN in re.sub(r"\s+", " ", out)
    assert not canary.exists()


def test_a_host_whose_answer_makes_no_sense_is_left_out(tmp_path: Path) -> None:
    answer = json.dumps({**READ, "packages": {"ser2net": EVIL}})
    out = run("playbook.yml", tmp_path, HOSTILE_STDOUT=answer, HOSTILE_STATUS="0")
    assert "1 host: 0 as it should be, 1 left out" in out
    assert "pi: left out: its plan cannot be made: " in out


def test_a_host_that_is_off_has_its_line_and_is_named_once(tmp_path: Path) -> None:
    out = run("verify.yml", tmp_path)
    assert re.findall(r"^pi +a +2001 +host not read back$", out.replace(8 * " ", ""), re.MULTILINE)
    assert "[ERROR]" not in out
    assert out.count("1 fault found. Nothing was changed on any host.") == 1
    assert f"pi: cannot be reached: {SHOWN}; see that it is on" in re.sub(r"\s+", " ", out)


@pytest.mark.parametrize("playbook", ["playbook.yml", "remove.yml"])
def test_a_host_that_would_lose_the_changes_gets_none(playbook: str, tmp_path: Path) -> None:
    answer = json.dumps({**READ, "not_kept": "its root file system is an overlay"})
    out = run(playbook, tmp_path, HOSTILE_STDOUT=answer, HOSTILE_STATUS="0")
    assert "pi: its root file system is an overlay" in out
    assert re.search(r"^pi +: ok=\d+ +changed=0 .* failed=1 ", out, re.MULTILINE), out


def test_a_host_whose_clock_stays_wrong_is_left_out(tmp_path: Path) -> None:
    answer = json.dumps({**READ, "clock": -9_000_000, "rc": 1, "stderr": "its clock says x"})
    out = run("playbook.yml", tmp_path, HOSTILE_STDOUT=answer, HOSTILE_STATUS="0")
    assert "pi: ? its clock is 104 days behind the one here, so apt and TLS fail: a run" in out
    assert "pi: not changed: its clock says x" in out
    assert re.search(r"^pi +: ok=\d+ +changed=0 .* failed=1 ", out, re.MULTILINE), out


def test_status_has_a_line_for_a_host_that_is_off_and_writes_its_report(tmp_path: Path) -> None:
    out = run("status.yml", tmp_path, "-e", "report_dir=new/reports")
    assert re.search(rf"^ *pi +(?:- +)*cannot be reached: {re.escape(SHOWN)}$", out, re.MULTILINE)
    (host,) = json.loads((tmp_path / "new/reports/status.json").read_text())["hosts"]
    assert (host["name"], host["state"]) == ("pi", "unreachable")


def run(playbook: str, folder: Path, *words: str, **answer: str) -> str:
    """What a playbook of ours prints for one host, which answers everything alike."""
    pi = f"{{ansible_connection: hostile, serial_ports: [{PORT}]}}"
    (folder / "hosts.yml").write_text(f"serial_servers: {{hosts: {{pi: {pi}}}}}")
    environment = {
        **os.environ,
        **answer,
        "HOSTILE_STDERR": EVIL,
        "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
        "ANSIBLE_CONNECTION_PLUGINS": str(HERE / "connection_plugins"),
        "ANSIBLE_LOCALHOST_WARNING": "false",
    }
    ansible = str(Path(sys.executable).with_name("ansible-playbook"))
    command = [ansible, "-i", str(folder / "hosts.yml"), str(ROOT / playbook), *words]
    environment["PWD"] = str(folder)
    done = subprocess.run(
        command, env=environment, capture_output=True, encoding="utf-8", cwd=folder
    )
    return done.stdout + done.stderr


def test_how_a_file_of_it_differs_is_shown_as_text_in_colours(tmp_path: Path) -> None:
    file, playbook = tmp_path / "file", tmp_path / "playbook.yml"
    file.write_text(f"{EVIL}\n", encoding="utf-8")
    module = f"ansible.builtin.copy: {{content: 'ours', dest: '{file}', mode: '0644'}}"
    play = f"hosts: pi\n  gather_facts: false\n  tasks: [{{{module}}}]"
    playbook.write_text(f"- {play}\n")
    (tmp_path / "hosts.yml").write_text("all: {hosts: {pi: {ansible_connection: local}}}")
    environment = {
        **os.environ,
        "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
        "ANSIBLE_PYTHON_INTERPRETER": sys.executable,
        "ANSIBLE_FORCE_COLOR": "true",
    }
    ansible = str(Path(sys.executable).with_name("ansible-playbook"))
    command = [ansible, "-i", str(tmp_path / "hosts.yml"), str(playbook), "--diff", "--check"]
    done = subprocess.run(command, env=environment, capture_output=True, encoding="utf-8")
    assert f"\x1b[0;31m-{SHOWN}" in done.stdout
    uncoloured = re.sub(r"\x1b\[[0-9;]*m", "", done.stdout)
    assert re.findall("[^\n -~]", uncoloured) == [], done.stdout
