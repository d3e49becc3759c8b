"""Pulls the inventory of this host from a git repository, and applies it: `serial_pull`.

A program on a host (/usr/local/lib/ttyfleet/pull), which ttyfleet-pull.service runs: the standard
library only. ansible-pull does the work. This holds the lock, says what became of it in the journal
and in the state file, and sees to it that a run that fails leaves nothing for the next one.

    pull          pull and apply; exit 0, 1 if that failed, 75 if another pull is running
    pull --try    only ask the git server for the branch; exit 0, or 1 and why
"""

from __future__ import annotations

import contextlib
import datetime
import fcntl
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FORMAT = 1
LOCKED = 75
PLAYBOOK = "ttyfleet/playbook.yml"
PACKAGES = ("ansible-core", "git", "openssh-client")

# A Pi has no clock of its own: apt refuses what comes from the future. In seconds.
CLOCK_PATIENCE = 180
# Lines of a failed run that the journal gets.
MOST_LINES = 400
# How late a pull may be: the timer's delay, and what a run takes. In seconds.
GRACE = 3600


@dataclass(frozen=True)
class Places:
    """Where everything is, below `root`."""

    root: Path = Path("/")

    @property
    def config(self) -> Path:
        """The folder with what the role pull has written."""
        return self.root / "etc/ttyfleet/pull"

    @property
    def work(self) -> Path:
        """The folder with the clone, which is also the home of ansible-pull."""
        return self.root / "var/lib/ttyfleet/pull"

    @property
    def state(self) -> Path:
        """The state file; everybody may read it."""
        return self.root / "var/lib/ttyfleet/pull.json"

    @property
    def run(self) -> Path:
        """A folder in memory for files that a run needs only for a moment."""
        return self.root / "run/ttyfleet-pull"

    @property
    def lock(self) -> Path:
        """The lock of whoever pulls."""
        return self.root / "run/ttyfleet-pull.lock"

    @property
    def reboot(self) -> Path:
        """What the role uart leaves where the host must reboot."""
        return self.root / "run/ttyfleet-reboot"

    @property
    def clone(self) -> Path:
        """The clone of the repository."""
        return self.work / "repository"


class Failed(Exception):
    """The pull failed; the message says why, on one line."""


class Stopped(Exception):
    """systemd stops the service."""


def main(arguments: list[str], places: Places) -> int:
    """Do what the arguments say; return the exit status."""
    config = json.loads((places.config / "config.json").read_text("utf-8"))
    environment = environment_of(places)
    if arguments == ["--try"]:
        try:
            ask(config, environment)
        except Failed as why:
            print(why, file=sys.stderr)
            return 1
        return 0
    with locked(places.lock) as mine:
        if not mine:
            say(f"another program holds {places.lock}: this pull does nothing")
            _write(places.state, {**read_state(places.state), "skipped": int(time.time())})
            return LOCKED
        return pull(config, places, environment)


@contextlib.contextmanager
def locked(path: Path) -> Iterator[bool]:
    """Hold the lock during a block; gives False if somebody else holds it."""
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True


def pull(config: dict[str, Any], places: Places, environment: dict[str, str]) -> int:
    """Pull and apply, and say what became of it; return the exit status."""
    signal.signal(signal.SIGTERM, _stop)
    before = read_state(places.state)
    began = int(time.time())
    reason = ""
    changed = False
    try:
        wait_for_clock()
        install(environment)
        changed = converge(config, places, environment)
    except Failed as why:
        reason = str(why)
    except Stopped:
        reason = "systemd stopped it before it was done"
    ended = int(time.time())
    state = {
        "format": FORMAT,
        **{name: config[name] for name in ("host", "repository", "branch")},
        "result": "failed" if reason else "changed" if changed else "unchanged",
        "reason": reason,
        "began": began,
        "ended": ended,
        "cpu_seconds": round(sum(os.times()[:4]), 1),
        **{name: before.get(name) for name in ("commit", "succeeded", "stale_after", "skipped")},
    }
    if not reason:
        commit = head(places.clone, environment)
        state |= {"commit": commit, "succeeded": ended}
        state["stale_after"] = third_after(config["schedule"], ended) + GRACE
    say(summary(state))
    if (places.config / "config.json").exists():
        _write(places.state, state)
    else:
        # The inventory no longer has serial_pull: the run has removed everything but this.
        places.state.unlink(missing_ok=True)
        shutil.rmtree(places.work, ignore_errors=True)
    if not reason and config["reboot"] and places.reboot.exists():
        say("rebooting: the UARTs need it")
        run(["systemctl", "reboot"], environment, cwd=Path("/"))
    return 1 if reason else 0


def summary(state: dict[str, Any]) -> str:
    """Return what became of a pull, on one line."""
    about = f"{state['repository']} {state['branch']}"
    if state["result"] == "failed":
        return f"failed: {state['reason']}"
    words = {"changed": "changed this host", "unchanged": "as it should be"}[state["result"]]
    return f"{words}: commit {state['commit'][:12]} of {about}"


def environment_of(places: Places) -> dict[str, str]:
    """Return the environment of git and Ansible: no settings but ours count."""
    files = {name: places.config / name for name in ("key", "known_hosts", "signers")}
    ssh = [
        *("ssh", "-F", "none", "-o", "BatchMode=yes", "-o", "IdentitiesOnly=yes"),
        *("-o", "IdentityAgent=none", "-o", f"IdentityFile={files['key']}"),
        *("-o", "StrictHostKeyChecking=yes", "-o", "GlobalKnownHostsFile=none"),
        *("-o", f"UserKnownHostsFile={files['known_hosts']}"),
        *("-o", "ConnectTimeout=30", "-o", "ServerAliveInterval=15"),
    ]
    git = {
        "gpg.format": "ssh",
        "gpg.ssh.allowedSignersFile": str(files["signers"]),
        "gpg.minTrustLevel": "fully",
        # A server that stops sending does not hold a run up.
        "http.lowSpeedLimit": "1",
        "http.lowSpeedTime": "60",
    }
    numbered = {
        name: text
        for number, (key, value) in enumerate(git.items())
        for name, text in ((f"GIT_CONFIG_KEY_{number}", key), (f"GIT_CONFIG_VALUE_{number}", value))
    }
    return {
        "PATH": os.environ.get("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin"),
        "LC_ALL": "C.UTF-8",
        # ansible-pull keeps its own files there, git and gpg find no settings of root's.
        "HOME": str(places.work),
        "GIT_SSH_COMMAND": " ".join(ssh),
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_COUNT": str(len(git)),
        **numbered,
        "ANSIBLE_NOCOLOR": "1",
        # ansible-pull's own lines come where they belong.
        "PYTHONUNBUFFERED": "1",
        # Each module would write a line into the journal.
        "ANSIBLE_NO_TARGET_SYSLOG": "1",
        "ANSIBLE_LOCALHOST_WARNING": "false",
        "ANSIBLE_LOCAL_TEMP": str(places.run),
        "ANSIBLE_REMOTE_TMP": str(places.run),
        # The roles know by it that the run is on the host itself, and which host that is.
        "TTYFLEET_PULL": "1",
    }


def ask(config: dict[str, str], environment: dict[str, str]) -> None:
    """Ask the git server for the branch. Raises `Failed` if it has no answer, or no such branch."""
    branch = f"refs/heads/{config['branch']}"
    command = ["git", "ls-remote", "--exit-code", config["repository"], branch]
    status, lines = run(command, environment, cwd=Path("/"))
    if status == 2:
        raise Failed(f"{config['repository']} has no branch {config['branch']}")
    if status:
        raise Failed(f"{config['repository']} cannot be read: {_of_git(lines)}")


def _of_git(lines: list[str]) -> str:
    """The words of ssh or git that say why: those of git's own advice come after them."""
    advice = "Please make sure|and the repository exists|fatal: Could not read from remote"
    said = [line.strip() for line in lines if line.strip() and not re.match(advice, line)]
    return "; ".join(said[-2:]) or "git gives no reason"


def converge(config: dict[str, Any], places: Places, environment: dict[str, str]) -> bool:
    """Let ansible-pull fetch, verify and apply; return whether that changed this host.

    Raises `Failed`.
    """
    host = config["host"]
    places.work.mkdir(mode=0o700, parents=True, exist_ok=True)
    places.run.mkdir(mode=0o700, parents=True, exist_ok=True)
    vault = places.config / "vault_password"
    command = [
        *("ansible-pull", "--url", config["repository"], "--checkout", config["branch"]),
        *("--directory", str(places.clone), "--clean", "--verify-commit", "--limit", host),
        # Root is here already. A variable counts more than what the inventory says.
        *("--extra-vars", "ansible_connection=local ansible_become=false"),
        *(("--vault-password-file", str(vault)) if vault.exists() else ()),
        PLAYBOOK,
    ]
    status, lines = run(command, environment, cwd=places.work)
    said = [line for line in lines if line.strip()]
    if status:
        for line in said[-MOST_LINES:]:
            say(line)
        if refused := of_repository(lines):
            # What is checked out may be the commit that was refused, or half a clone.
            shutil.rmtree(places.clone, ignore_errors=True)
            raise Failed(refused)
        if not (places.clone / PLAYBOOK).exists():
            raise Failed(f"the repository has no {PLAYBOOK}: docs/pull.md says how it gets there")
        raise Failed(of_playbook(lines, host))
    changed = recap(lines, host) > 0
    if changed:
        for line in said:
            say(line)
    return changed


def of_repository(lines: list[str]) -> str:
    """Return why the repository could not be fetched or its commit verified; "" if it was."""
    text = "\n".join(lines)
    match = re.search(
        r"^\S+ \| (?:FAILED|UNREACHABLE)! => (\{.*?^\})", text, re.MULTILINE | re.DOTALL
    )
    if not match:
        return ""
    try:
        found = json.loads(match[1])
    except ValueError:
        return "git failed"
    message, more = str(found.get("msg", "")), str(found.get("stderr", ""))
    if "verify" in message:
        commit = f": {_of_git(more.splitlines())}" if more else ""
        return f"its last commit is not signed by one of serial_pull.signers{commit}"
    return (
        f"the repository cannot be fetched: {_of_git([*message.splitlines(), *more.splitlines()])}"
    )


def of_playbook(lines: list[str], host: str) -> str:
    """Return why the playbook failed, from what it printed."""
    stripped = [line.strip() for line in lines if line.strip()]
    own = [line.removeprefix(f"{host}: ") for line in stripped if line.startswith(f"{host}: ")]
    # The plan comes before; what became of it, and what is wrong, are the last words.
    faults = [line for line in own if not re.match(r"[+~!?-] ", line)]
    # As ansible-core begins the lines that say what was wrong.
    begin = r"\[?ERROR\]?[:!] (?:Task failed: )?(?:(?:Action|Module) failed: )?"
    errors = [re.sub(begin, "", line) for line in stripped if re.match(begin, line)]
    found = [*faults[-1:], *_of_task(stripped), *errors[-1:], *stripped[-1:]]
    return found[0] if found else "the playbook says nothing"


def _of_task(lines: list[str]) -> list[str]:
    """The first line of the message of the task that failed last, as YAML; [] if there is none."""
    failed = [number for number, line in enumerate(lines) if line.startswith("fatal: [")]
    after = lines[failed[-1] + 1 :] if failed else []
    message = [number for number, line in enumerate(after) if line.startswith("msg: ")]
    if not message:
        return []
    said = after[message[0]].removeprefix("msg: ")
    if not said.startswith(("|", ">")):
        return [said]
    return after[message[0] + 1 :][:1]


def recap(lines: list[str], host: str) -> int:
    """Return how many tasks changed something, as Ansible's last lines say."""
    pattern = rf"{re.escape(host)}\s+: ok=\d+\s+changed=(\d+)"
    found = [match for line in lines if (match := re.match(pattern, line.strip()))]
    return int(found[-1][1]) if found else 0


def head(clone: Path, environment: dict[str, str]) -> str:
    """Return the commit that is checked out."""
    status, lines = run(["git", "rev-parse", "HEAD"], environment, cwd=clone)
    return lines[0].strip() if status == 0 and lines else ""


def wait_for_clock() -> None:
    """Wait until a time server has set the clock, if this host uses one; not for ever."""
    end = time.monotonic() + CLOCK_PATIENCE
    ask_it = ["timedatectl", "show", "--property=NTP,NTPSynchronized"]
    while time.monotonic() < end:
        try:
            said = subprocess.run(ask_it, capture_output=True, text=True, timeout=30).stdout
        except (OSError, subprocess.TimeoutExpired):
            return
        if "NTP=yes" not in said.split() or "NTPSynchronized=yes" in said.split():
            return
        time.sleep(2)


def install(environment: dict[str, str]) -> None:
    """Install what a first pull needs. Raises `Failed`."""
    programs = ("ansible-pull", "git", "ssh")
    if all(shutil.which(one, path=environment["PATH"]) for one in programs):
        return
    apt = ["apt-get", "-qy", "-o", "DPkg::Lock::Timeout=300"]
    quiet = {**environment, "DEBIAN_FRONTEND": "noninteractive"}
    say(f"installing {', '.join(PACKAGES)}")
    lines: list[str] = []
    for words in (["update"], ["install", "--no-install-recommends", *PACKAGES]):
        status, said = run([*apt, *words], quiet, cwd=Path("/"))
        lines += said
    if status:
        errors = [line for line in lines if line.startswith("E: ")]
        why = "; ".join(dict.fromkeys(errors)) or "apt-get gives no reason"
        raise Failed(f"{', '.join(PACKAGES)} could not be installed: {why}")


def third_after(schedule: str, moment: int) -> int:
    """Return when the third pull after a moment is planned, both in seconds since 1970.

    A day later if systemd cannot tell.
    """
    base = f"--base-time=@{moment}"
    command = ["systemd-analyze", "calendar", "--iterations=3", base, schedule]
    try:
        said = subprocess.run(
            command, capture_output=True, text=True, env={**os.environ, "LC_ALL": "C"}
        )
    except OSError:
        return moment + 86400
    times = re.findall(r"(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d) UTC", said.stdout)
    if said.returncode or not times:
        return moment + 86400
    last = datetime.datetime.strptime(times[-1], "%Y-%m-%d %H:%M:%S").replace(tzinfo=datetime.UTC)
    return int(last.timestamp())


def run(command: list[str], environment: dict[str, str], cwd: Path) -> tuple[int, list[str]]:
    """Run a command; return its exit status and what it printed, a line each."""
    try:
        process = subprocess.Popen(
            command,
            env=environment,
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
    except OSError as error:
        return 127, [f"{command[0]}: {error.strerror}"]
    try:
        said, _ = process.communicate()
    except BaseException:
        process.terminate()
        process.wait()
        raise
    return process.returncode, said.splitlines()


def read_state(file: Path) -> dict[str, Any]:
    """Return what the state file says; {} if there is none that can be read."""
    try:
        state = json.loads(file.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return state if isinstance(state, dict) else {}


def _write(file: Path, state: dict[str, Any]) -> None:
    """Write the state file, in one step."""
    file.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    new = file.with_suffix(".new")
    with new.open("w", encoding="utf-8") as out:
        os.fchmod(out.fileno(), 0o644)
        out.write(f"{json.dumps(state, indent=2)}\n")
        out.flush()
        os.fsync(out.fileno())
    new.replace(file)


def say(line: str) -> None:
    """Print a line for the journal."""
    print(line, flush=True)


def _stop(_signal: int, _frame: object) -> None:
    raise Stopped


if __name__ == "__main__":
    os.umask(0o022)
    sys.exit(main(sys.argv[1:], Places()))
