"""The life of a Pi: its port map changes, a program is rolled back, ttyfleet is taken off.

The fixtures go through it once; each test looks at what they noted on the way.
"""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from playbook import run_playbook

ROOT = Path(__file__).resolve().parents[3]
SCENARIO = ROOT / "molecule" / "lifecycle"
SSH_CONFIG = str(ROOT / ".lab" / "ssh_config")
STEPPED = "stepped-trixie"  # goes through all maps of ../steps
FRESH = "fresh-trixie"  # gets the last map only
FOUND = "found-bookworm"  # gets the last map only, and had the user's own ser2net
HOSTS = [STEPPED, FRESH, FOUND]

# Every file, link and folder, with mode, owner and content, except what the system itself writes;
# units; packages; processes.
READ = r"""
cd /
find etc boot usr/local var/lib \
  \( -path var/lib/systemd -o -path var/lib/private -o -path var/lib/apt -o -path var/lib/dpkg \
     -o -path etc/resolv.conf -o -path etc/ld.so.cache \) -prune \
  -o -printf '%p|%M %u:%g %l|' \( -type f -exec sha256sum {} \; -o -printf '\n' \) |
  sed 's/  [^ ]*$//'
echo ---
list() { systemctl --no-legend --no-pager --plain "$@"; }
list list-unit-files 'ser2net*' 'ttybridge*' 'ttyfleet*' 'nftables*' '*getty*' 'hciuart*' |
  sed 's/^\([^ ]*\) *\([^ ]*\).*/\1|\2/'
list list-units --state=active 'ser2net*' 'ttybridge*' 'ttyfleet*' | sed 's/ .*/ now|active/'
echo ---
dpkg-query --show --showformat='${Package}|${db:Status-Status}\n'
echo ---
for unit in ttybridge ser2net; do
  echo "$unit|$(systemctl show --property=MainPID --value $unit.service)"
done
"""

# What the packages put into the folders that READ looks at.
OF_SER2NET = r"etc/(default|init\.d|rc[0-6]\.d)/[SK0-9]*ser2net|etc/ser2net\.yaml|ser2net\.service"
OF_NFTABLES = r"etc/nftables\.conf|nftables\.service"

Tree = dict[str, str]


@dataclass
class State:
    """The state of a host at one moment."""

    files: Tree
    units: Tree
    packages: Tree
    pids: Tree

    def changes(self, later: State) -> dict[str, tuple[str, str]]:
        """Files and units that differ, each with its old and its new state; "" = not there."""
        found = {}
        for before, after in ((self.files, later.files), (self.units, later.units)):
            for name in before.keys() | after.keys():
                was, became = before.get(name, ""), after.get(name, "")
                if was != became:
                    found[name] = (was, became)
        return found


@dataclass
class Run:
    """A run of a playbook, with its result."""

    status: int
    output: str
    after: dict[str, State]
    echo: bytes = b""


def ssh(host: str, script: str) -> str:
    """Run a shell script as root."""
    done = subprocess.run(
        ["ssh", "-F", SSH_CONFIG, host, "sudo sh -s"],
        input=script,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


def state_of(host: str) -> State:
    parts = ssh(host, READ).split("---\n")
    return State(*(dict(line.split("|", 1) for line in part.splitlines()) for part in parts))


def states(hosts: Sequence[str]) -> dict[str, State]:
    with ThreadPoolExecutor() as pool:
        return dict(zip(hosts, pool.map(state_of, hosts), strict=True))


def playbook(name: str, *arguments: str, hosts: Sequence[str] = HOSTS, clone: Path = ROOT) -> Run:
    """Run a playbook, and note its result."""
    limit = f"--limit={','.join(hosts)}"
    done = run_playbook(name, SCENARIO / "inventory", limit, *arguments, clone=clone)
    return Run(done.returncode, done.stdout + done.stderr, states(hosts))


def echo(client: socket.socket) -> bytes:
    """What comes back from a port with an echo at the far end of its line."""
    client.sendall(b"still here\n")
    received = b""
    while len(received) < 11:
        data = client.recv(64)
        if not data:
            break
        received += data
    return received


@pytest.fixture(scope="session")
def before() -> dict[str, State]:
    return states(HOSTS)


@pytest.fixture(scope="session")
def bare(before: dict[str, State]) -> Run:
    """What verify.yml says of Pis that ttyfleet has never seen."""
    return playbook("verify.yml")


@pytest.fixture(scope="session")
def steps(bare: Run) -> list[Run]:
    """The five steps; a client of the port loop stays connected from the first to the last."""
    runs = [playbook("playbook.yml")]
    assert runs[0].status == 0, runs[0].output
    address = ssh(STEPPED, "hostname -I").split()[0]
    with socket.create_connection((address, 10001), 10) as client:
        for step in range(2, 6):
            run = playbook("playbook.yml", "-e", f"step={step}", hosts=[STEPPED])
            run.echo = echo(client)
            runs.append(run)
    return runs


@pytest.fixture(scope="session")
def verified(steps: list[Run]) -> Run:
    """What verify.yml says of a Pi that was rebooted after the playbook, with a tty as its UART."""
    subprocess.run([ROOT / "script" / "lab", "restart", FRESH], check=True)
    ssh(FRESH, "ln -s serial/by-name/header /dev/serial0")
    return playbook("verify.yml", hosts=[FRESH])


@pytest.fixture(scope="session")
def rolled_back(
    steps: list[Run], verified: Run, tmp_path_factory: pytest.TempPathFactory
) -> list[Run]:
    """Another version of the program, from a clone of its own, and back, on one host.

    In between, what verify.yml says of the other version, without and with bridge_version. A client
    of the port loop stays connected all the time.
    """
    clone = tmp_path_factory.mktemp("clone") / "ttyfleet"
    shutil.copytree(ROOT, clone, symlinks=True, ignore=shutil.ignore_patterns(".*", "molecule"))
    init = clone / "bridge" / "src" / "ttybridge" / "__init__.py"
    init.write_text(re.sub('__version__ = ".*"', '__version__ = "99.0"', init.read_text()))
    versions = ["1.2.3", version(steps[0]), version(steps[0])]
    address = ssh(FRESH, "hostname -I").split()[0]
    with socket.create_connection((address, 10001), 10) as client:
        runs = [playbook("playbook.yml", "--tags=bridge", hosts=[FRESH], clone=clone)]
        keep = f"bridge_version={version(runs[0])}"
        runs += [playbook("verify.yml", *words, hosts=[FRESH]) for words in ((), ("-e", keep))]
        for each in versions:
            extra = f"bridge_version={each}"
            runs.append(playbook("playbook.yml", "--tags=bridge", "-e", extra, hosts=[FRESH]))
            runs[-1].echo = echo(client)
    return runs


# The daemon runs on, without its program.
BROKEN = """
rm -r /usr/local/lib/ttybridge /etc/ttybridge
dpkg --purge --force-depends python3-serial ser2net >/dev/null 2>&1
"""


@pytest.fixture(scope="session")
def broken(steps: list[Run]) -> list[Run]:
    """What verify.yml says of a Pi that lost much, and then the playbook again."""
    ssh(STEPPED, BROKEN)
    last = ("-e", "step=5")
    return [playbook(f"{name}.yml", *last, hosts=[STEPPED]) for name in ("verify", "playbook")]


@pytest.fixture(scope="session")
def removed(rolled_back: list[Run], broken: list[Run]) -> list[Run]:
    """ttyfleet taken off; a second time; and on the fresh host the packages too.

    Before the last one, what verify.yml says of all hosts; a first run on one was interrupted.
    """
    kept = [STEPPED, FOUND]
    runs = [playbook("remove.yml", hosts=kept), playbook("remove.yml", hosts=kept)]
    left = "/etc/udev/rules.d/60-ttyfleet.rules /usr/local/lib/ttybridge/ttybridge-0"
    ssh(FOUND, f"mkdir /usr/local/lib/ttybridge; touch {left}")
    runs.append(playbook("verify.yml"))
    ssh(FOUND, f"rm {left}; rmdir /usr/local/lib/ttybridge")
    return [*runs, playbook("remove.yml", "-e", "remove_packages=true", hosts=[FRESH])]


def version(run: Run) -> str:
    """The version of the program that a host uses."""
    link = run.after[FRESH].files["usr/local/bin/ttybridge"]
    return link.rpartition("ttybridge-")[2].strip("|")


def is_not_provisioned_yet(run: Run, host: str) -> bool:
    """Whether verify.yml says so of each port and of the host, and nothing else of the host."""
    words = "not provisioned yet: run playbook.yml"
    rows = re.findall(rf"^ *{host} +\S+ +\d+ +(.+)", run.output, re.MULTILINE)
    faults = re.findall(rf"^ *{host}: (?!ok=)(.*)", run.output, re.MULTILINE)
    return len(rows) >= 4 and {*rows} == {*faults} == {words}


def test_a_pi_that_was_never_provisioned_is_told_so(bare: Run) -> None:
    assert bare.status != 0
    for host in HOSTS:
        assert is_not_provisioned_yet(bare, host), bare.output
    assert "Traceback" not in bare.output
    assert "non-zero return code" not in bare.output
    assert bare.output.count("fatal: ") == 1


def test_a_pi_with_a_uart_port_is_green_once_it_was_rebooted(verified: Run) -> None:
    assert verified.status == 0, verified.output
    assert re.search(rf"{FRESH} +header +10003 +listens, device is there\n", verified.output)


def test_a_pi_that_was_not_rebooted_is_told_so(broken: list[Run]) -> None:
    assert (
        f"\n{STEPPED}: has not been rebooted since its UARTs changed; run sudo reboot there, or "
        "playbook.yml with -e uart_reboot=true\n"
    ) in broken[0].output


@pytest.mark.parametrize(
    ("step", "rules", "bridge", "ser2net"),
    [(2, 1, 1, 0), (3, 0, 1, 1), (4, 1, 1, 1), (5, 1, 1, 1)],
    ids=["added", "changed", "renamed", "removed"],
)
def test_a_step_touches_only_what_it_names(
    steps: list[Run], step: int, rules: bool, bridge: bool, ser2net: bool
) -> None:
    run = steps[step - 1]
    last, now = steps[step - 2].after[STEPPED], run.after[STEPPED]
    assert run.status == 0, run.output
    expected = {
        "etc/udev/rules.d/60-ttyfleet.rules": rules,
        "etc/ttybridge/ttybridge.toml": bridge,
        "etc/ser2net.yaml": ser2net,
    }
    assert last.changes(now).keys() == {name for name, touched in expected.items() if touched}
    # ttybridge reads a new configuration while it runs; ser2net is restarted.
    assert now.pids["ttybridge"] == last.pids["ttybridge"]
    assert (now.pids["ser2net"] != last.pids["ser2net"]) == bool(ser2net)


def test_a_client_of_an_unchanged_port_stays_connected(steps: list[Run]) -> None:
    assert [run.echo for run in steps[1:]] == [b"still here\n"] * 4


def test_the_last_step_is_as_if_it_were_the_first(
    before: dict[str, State], steps: list[Run]
) -> None:
    fresh = before[FRESH].changes(steps[0].after[FRESH])
    assert before[STEPPED].changes(steps[-1].after[STEPPED]) == fresh
    assert "etc/ttybridge/ttybridge.toml" in fresh


def test_a_program_is_rolled_back_to_the_one_before(
    steps: list[Run], rolled_back: list[Run]
) -> None:
    newer, _, _, refused, back, again = rolled_back
    assert version(newer).startswith("99.0+"), newer.output
    assert refused.status != 0
    assert (
        f"{FRESH}: bridge_version: 1.2.3: the host has no such program: "
        f"write one of {version(newer)}, {version(steps[0])}"
    ) in refused.output
    assert newer.after[FRESH].changes(refused.after[FRESH]) == {}
    assert back.status == 0, back.output
    assert version(back) == version(steps[0])
    assert len([name for name in back.after[FRESH].files if "lib/ttybridge/" in name]) == 2
    assert re.search(rf"{FRESH} +: ok=\d+ +changed=0 ", again.output), again.output


def test_a_client_stays_connected_when_the_program_is_changed_for_another(
    rolled_back: list[Run],
) -> None:
    pids = [run.after[FRESH].pids["ttybridge"] for run in rolled_back]
    assert pids[0] == pids[1] == pids[2] == pids[3] != pids[4] == pids[5]
    assert [run.echo for run in rolled_back[3:]] == [b"still here\n"] * 3


def test_verify_leaves_the_choice_between_two_programs(
    steps: list[Run], rolled_back: list[Run]
) -> None:
    newer, told, kept, *_ = rolled_back
    assert told.status != 0
    faults = re.findall(rf"^ *{FRESH}: (.*)", told.output, re.MULTILINE)
    assert {*faults} == {
        f"runs ttybridge {version(newer)}, and this clone has {version(steps[0])}; "
        f"run playbook.yml to use that, or set bridge_version: {version(newer)} to keep the one "
        "that runs"
    }
    assert kept.status == 0, kept.output


def test_verify_names_all_that_is_lost_and_the_playbook_brings_it_back(
    steps: list[Run], broken: list[Run]
) -> None:
    verify, repaired = broken
    assert verify.status != 0
    assert "Traceback" not in verify.output
    missing = "ttybridge does not say what it serves: /usr/local/bin/ttybridge: No such file or"
    assert f"\n{STEPPED}: port loop: {missing} directory; run playbook.yml\n" in verify.output
    gone = f"\n{STEPPED}: port core-switch: ser2net is not installed; run playbook.yml\n"
    assert gone in verify.output, verify.output
    assert (
        f"\n{STEPPED}: not as the inventory says: the package python3-serial, which is not "
        "installed, ttybridge's program, ttybridge's configuration, the package ser2net, which is "
        "not installed, ser2net's configuration; run playbook.yml"
    ) in verify.output, verify.output
    assert repaired.status == 0, repaired.output
    assert steps[-1].after[STEPPED].changes(repaired.after[STEPPED]) == {}


def test_taking_it_off_puts_back_what_the_user_had(
    before: dict[str, State], steps: list[Run], removed: list[Run]
) -> None:
    assert removed[0].status == 0, removed[0].output
    changed = before[FOUND].changes(steps[0].after[FOUND])
    assert {
        "etc/ser2net.conf",
        "boot/firmware/config.txt",
        "boot/firmware/cmdline.txt",
        "etc/ttyfleet.nft",
    } < changed.keys()
    left = before[FOUND].changes(removed[0].after[FOUND])
    assert {name for name in left if not re.fullmatch(OF_NFTABLES, name)} == set()


def test_taking_it_off_leaves_packages_only(before: dict[str, State], removed: list[Run]) -> None:
    after = removed[0].after[STEPPED]
    left = before[STEPPED].changes(after).keys()
    ours = {name for name in left if not re.fullmatch(f"{OF_SER2NET}|{OF_NFTABLES}", name)}
    assert ours == set()
    assert after.units["ser2net.service"] == "disabled"
    assert "ser2net.service now" not in after.units


@pytest.mark.parametrize("host", [STEPPED, FOUND])
def test_taking_it_off_again_changes_nothing(removed: list[Run], host: str) -> None:
    assert re.search(rf"{host} +: ok=\d+ +changed=0 ", removed[1].output), removed[1].output


def test_verify_goes_on_with_others_where_some_are_not_provisioned(removed: list[Run]) -> None:
    output = removed[2].output
    assert is_not_provisioned_yet(removed[2], STEPPED), output
    assert is_not_provisioned_yet(removed[2], FOUND), output
    assert re.search(rf"{FRESH} +header +10003 +listens, device is there\n", output), output
    assert "Traceback" not in output


def test_taking_it_off_with_its_packages_leaves_nothing(
    before: dict[str, State], removed: list[Run]
) -> None:
    assert removed[3].status == 0, removed[3].output
    after = removed[3].after[FRESH]
    assert before[FRESH].packages == after.packages
    assert before[FRESH].changes(after) == {}
