"""The program on a host that pulls: real git and signatures, and a stand-in for Ansible."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from ttybridge.setup import pulling

PROGRAM = Path(pulling.__file__)
RUN = f"""
import sys; from pathlib import Path
sys.path.insert(0, {str(PROGRAM.parents[2])!r})
from ttybridge.setup import pulling
sys.exit(pulling.main(sys.argv[2:], pulling.Places(Path(sys.argv[1]))))
"""
# What ansible-pull does, as far as the program can see it.
ANSIBLE_PULL = """#!/bin/sh
echo "$*" >>{root}/calls
env >{root}/environment
[ ! -e {root}/hang ] || {{ touch {root}/hangs; exec sleep 100; }}
clone={root}/var/lib/ttyfleet/pull/repository
[ -d $clone ] || git clone -q {remote} $clone
cat {root}/says
exit $(cat {root}/status)
"""


class Pi:
    """A folder in which the program finds the files of a host."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.places = pulling.Places(root)
        self.remote = root / "remote"
        self.config = {
            "host": "pi",
            "repository": str(self.remote),
            "branch": "main",
            "reboot": False,
        }
        (root / "run").mkdir()
        (root / "bin").mkdir()
        self.places.config.mkdir(parents=True)
        self.write(
            "etc/ttyfleet/pull/config.json", json.dumps({**self.config, "schedule": "hourly"})
        )
        self.git("init", "-q", "-b", "main", str(self.remote), cwd=root)
        (self.remote / "ttyfleet").mkdir()
        (self.remote / "ttyfleet/playbook.yml").touch()
        self.git("add", ".")
        self.git("commit", "-qm", "first")
        self.command("ansible-pull", ANSIBLE_PULL.format(root=root, remote=self.remote))
        self.command("timedatectl", "#!/bin/sh\necho NTP=no\n")
        self.says("pi : ok=3    changed=0    unreachable=0\n")

    def write(self, path: str, text: str) -> None:
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    def command(self, name: str, script: str) -> None:
        self.write(f"bin/{name}", script)
        (self.root / "bin" / name).chmod(0o755)

    def says(self, text: str, status: int = 0) -> None:
        """What ansible-pull prints, and how it ends."""
        self.write("says", text)
        self.write("status", str(status))

    def git(self, *words: str, cwd: Path | None = None) -> str:
        who = ["-c", "user.name=x", "-c", "user.email=x@example.org"]
        done = subprocess.run(
            ["git", *who, *words], cwd=cwd or self.remote, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-c", RUN, str(self.root), *arguments],
            env={"PATH": f"{self.root}/bin:{os.environ['PATH']}"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def pull(self, *arguments: str) -> tuple[int, str]:
        process = self.start(*arguments)
        said, _ = process.communicate()
        return process.returncode, said

    @property
    def state(self) -> dict[str, Any]:
        return dict(json.loads(self.places.state.read_text()))

    @property
    def calls(self) -> list[str]:
        file = self.root / "calls"
        return file.read_text().splitlines() if file.exists() else []


@pytest.fixture
def pi(tmp_path: Path) -> Pi:
    return Pi(tmp_path)


def test_a_pull_without_a_change_says_one_line(pi: Pi) -> None:
    status, said = pi.pull()
    commit = pi.git("rev-parse", "HEAD")
    assert (status, said) == (
        0,
        f"as it should be: commit {commit[:12]} of {pi.remote} main\n",
    )
    state = pi.state
    assert (state["result"], state["reason"], state["commit"]) == ("unchanged", "", commit)
    assert state["began"] <= state["ended"] == state["succeeded"]
    assert state["ended"] + pulling.GRACE + 7200 < state["stale_after"]
    assert state["stale_after"] <= state["ended"] + pulling.GRACE + 10800
    assert pi.places.state.stat().st_mode & 0o777 == 0o644
    assert pi.places.work.stat().st_mode & 0o777 == 0o700


def test_ansible_pull_gets_only_what_it_needs(pi: Pi) -> None:
    pi.pull()
    (call,) = pi.calls
    assert "--verify-commit --limit pi " in call
    assert "vault" not in call
    assert not {"--force", "-f", "--only-if-changed", "-o"} & {*call.split()}
    pi.write("etc/ttyfleet/pull/vault_password", "v\n")
    pi.pull()
    assert f"--vault-password-file {pi.places.config}/vault_password " in pi.calls[-1]
    environment = (pi.root / "environment").read_text()
    assert f"HOME={pi.places.work}\n" in environment
    assert "TTYFLEET_PULL=1\n" in environment


def test_a_change_is_in_the_journal(pi: Pi) -> None:
    pi.says("pi: + /etc/ttybridge/ttybridge.toml\n\npi : ok=9    changed=2    unreachable=0\n")
    status, said = pi.pull()
    assert (status, pi.state["result"]) == (0, "changed")
    assert said.startswith("pi: + /etc/ttybridge/ttybridge.toml\npi : ok=9")


GIT_FAILED = """Starting Ansible Pull at 2026-11-28 09:00:00
localhost | FAILED! => {{
    "changed": false,
    "msg": "{msg}",
    "stderr": "{stderr}"
}}
"""


@pytest.mark.parametrize(
    ("msg", "stderr", "reason"),
    [
        (
            "Failed to verify GPG signature of commit/tag 'main'",
            "",
            "its last commit is not signed by one of serial_pull.signers",
        ),
        (
            "Failed to download remote objects and refs: ssh: connect to host git port 22: "
            "Connection refused\\r\\nfatal: Could not read from remote repository.",
            "",
            "the repository cannot be fetched: Failed to download remote objects and refs: ssh: "
            "connect to host git port 22: Connection refused",
        ),
    ],
)
def test_a_refused_commit_is_not_left_for_the_next_run(
    pi: Pi, msg: str, stderr: str, reason: str
) -> None:
    pi.pull()
    before = pi.state
    pi.says(GIT_FAILED.format(msg=msg, stderr=stderr), 2)
    status, said = pi.pull()
    assert (status, pi.state["result"], pi.state["reason"]) == (1, "failed", reason)
    assert said.endswith(f"failed: {reason}\n")
    assert not pi.places.clone.exists()
    # What was applied is still what it was.
    for name in ("commit", "succeeded", "stale_after"):
        assert pi.state[name] == before[name]


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (
            "  pi: port a: baudrate: 'x': write a whole number\nfatal: [pi]: FAILED!\n"
            "pi : ok=1 changed=0\n",
            "port a: baudrate: 'x': write a whole number",
        ),
        (
            "pi: ~ /etc/ttyfleet.nft (content)\n"
            "pi: went back to its last good state: Load the table\n"
            "When that is corrected: ansible-playbook playbook.yml --limit pi\n"
            "pi : ok=1 changed=1\n",
            "went back to its last good state: Load the table",
        ),
        ("[WARNING]: x\n[ERROR]: couldn't resolve module\n", "couldn't resolve module"),
        ("[ERROR]: Task failed: Action failed: no room\nfatal: [pi]: FAILED!\n", "no room"),
        (
            "fatal: [pi -> localhost]: FAILED! =>\n    msg: |-\n        The filter failed.\n"
            "PLAY RECAP ***\npi : ok=1 changed=0\nStarting Ansible Pull\n",
            "The filter failed.",
        ),
        ("fatal: [pi]: FAILED! =>\n    changed: false\n    msg: no room\n", "no room"),
        ("Killed\n", "Killed"),
        ("", "the playbook says nothing"),
    ],
)
def test_a_playbook_that_fails_says_why(pi: Pi, said: str, reason: str) -> None:
    pi.says(said, 2)
    assert pi.pull()[0] == 1
    assert pi.state["reason"] == reason
    assert pi.places.clone.exists()


def test_a_repository_without_the_playbooks_is_named(pi: Pi) -> None:
    pi.git("rm", "-q", "ttyfleet/playbook.yml")
    pi.git("commit", "-qm", "second")
    pi.says("[ERROR]: Could not find a playbook to run.\n", 1)
    pi.pull()
    assert pi.state["reason"].startswith(
        "the repository has no ttyfleet/playbook.yml: docs/pull.md"
    )


def test_a_held_lock_is_no_failure(pi: Pi) -> None:
    pi.pull()
    before = pi.state
    with pi.places.lock.open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        status, said = pi.pull()
    assert status == pulling.LOCKED
    assert said == f"another program holds {pi.places.lock}: this pull does nothing\n"
    assert len(pi.calls) == 1
    assert {**pi.state, "skipped": None} == before
    assert pi.state["skipped"] >= before["ended"]


@pytest.mark.parametrize(("wanted", "needed"), [(True, True), (True, False), (False, True)])
def test_it_reboots_where_that_is_wanted_and_needed(pi: Pi, wanted: bool, needed: bool) -> None:
    config = {**pi.config, "schedule": "hourly", "reboot": wanted}
    pi.write("etc/ttyfleet/pull/config.json", json.dumps(config))
    if needed:
        pi.places.reboot.touch()
    pi.command("systemctl", f'#!/bin/sh\necho "$*" >{pi.root}/asked\n')
    assert pi.pull()[0] == 0
    assert (pi.root / "asked").exists() == (wanted and needed)


def test_a_pull_that_is_stopped_says_so(pi: Pi) -> None:
    (pi.root / "hang").touch()
    process = pi.start()
    while not (pi.root / "hangs").exists():
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    process.communicate()
    assert process.returncode == 1
    assert pi.state["reason"] == "systemd stopped it before it was done"


def test_a_missing_program_is_installed_without_recommended_ones(pi: Pi) -> None:
    (pi.root / "bin/ansible-pull").unlink()
    script = f'#!/bin/sh\necho "$*" >>{pi.root}/apt\necho "E: Unable to locate"\nexit 100\n'
    pi.command("apt-get", script)
    # Nothing else is in the path.
    for name in ("git", "ssh", "sh"):
        found = subprocess.run(["which", name], capture_output=True, text=True).stdout.strip()
        (pi.root / "bin" / name).symlink_to(found)
    environment = {**pulling.environment_of(pi.places), "PATH": f"{pi.root}/bin"}
    with pytest.raises(pulling.Failed, match="could not be installed: E: Unable to locate$"):
        pulling.install(environment)
    update, install = (pi.root / "apt").read_text().splitlines()
    assert update.endswith(" update")
    assert install.endswith("install --no-install-recommends ansible-core git openssh-client")


def test_when_the_inventory_no_longer_has_it_nothing_is_left(pi: Pi) -> None:
    pi.pull()
    config = pi.places.config / "config.json"
    pi.command("ansible-pull", f"#!/bin/sh\nrm {config}\necho 'pi : ok=1 changed=4'\n")
    assert pi.pull()[0] == 0
    assert not pi.places.state.exists()
    assert not pi.places.work.exists()


def test_it_asks_for_the_branch(pi: Pi) -> None:
    assert pi.pull("--try") == (0, "")
    pi.git("branch", "-m", "main", "other")
    assert pi.pull("--try") == (1, f"{pi.remote} has no branch main\n")
    (pi.remote / ".git").rename(pi.root / "gone")
    status, said = pi.pull("--try")
    assert status == 1
    assert said.startswith(f"{pi.remote} cannot be read: ")
    assert "does not appear to be a git repository" in said


@pytest.mark.parametrize("said", ["", "not json", "[]"])
def test_a_broken_state_file_is_replaced(pi: Pi, said: str) -> None:
    pi.write("var/lib/ttyfleet/pull.json", said)
    assert pi.pull()[0] == 0
    assert pi.state["result"] == "unchanged"


@pytest.fixture
def signed(pi: Pi) -> Pi:
    """A repository whose commits jane signs."""
    for name in ("jane", "eve"):
        key = str(pi.root / name)
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
    public = (pi.root / "jane.pub").read_text()
    pi.write("etc/ttyfleet/pull/signers", f'* namespaces="git" {public}')
    return pi


@pytest.mark.parametrize(("by", "good"), [("jane", True), ("eve", False), (None, False)])
def test_git_verifies_only_what_a_signer_has_signed(signed: Pi, by: str | None, good: bool) -> None:
    """By the settings that ansible-pull hands to git."""
    sign = ["-c", "gpg.format=ssh", "-c", f"user.signingkey={signed.root / str(by)}"]
    signed.git(
        *(sign if by else []), "commit", "-q", "--allow-empty", "-m", "x", *(["-S"] if by else [])
    )
    environment = pulling.environment_of(signed.places)
    status, _ = pulling.run(["git", "verify-commit", "HEAD"], environment, cwd=signed.remote)
    assert (status == 0) == good


def test_ssh_takes_only_our_key_and_host_keys(pi: Pi) -> None:
    command = pulling.environment_of(pi.places)["GIT_SSH_COMMAND"].split()
    said = subprocess.run(
        [*command, "-G", "git.example.org"], capture_output=True, text=True
    ).stdout
    settings = dict(line.split(" ", 1) for line in said.splitlines() if " " in line)
    assert settings["stricthostkeychecking"] in ("true", "yes")
    assert settings["userknownhostsfile"] == str(pi.places.config / "known_hosts")
    assert settings["globalknownhostsfile"] == "none"
    assert settings["identityfile"] == str(pi.places.config / "key")
    assert settings["batchmode"] == "yes"


@pytest.mark.parametrize(
    ("schedule", "after"), [("hourly", 3 * 3600), ("daily", 3 * 86400), ("nonsense", 86400)]
)
def test_the_third_pull_after_a_moment(schedule: str, after: int) -> None:
    midnight = 1_800_057_600
    assert midnight % 86400 == 0
    assert pulling.third_after(schedule, midnight) == midnight + after
