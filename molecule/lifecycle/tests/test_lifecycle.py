"""The life of a Pi: its port map changes, a program is rolled back, ttyfleet is taken off.

The fixtures go through it once; each test looks at what they noted on the way.
"""

from __future__ import annotations

import re
import socket
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

import state
from playbook import ROOT, other_clone, run_playbook
from state import Run, State, ssh, states

SCENARIO = ROOT / "molecule" / "lifecycle"
STEPPED = "stepped-trixie"  # goes through all maps of ../steps
FRESH = "fresh-trixie"  # gets the last map only
FOUND = "found-bookworm"  # gets the last map only, and had the user's own ser2net
HOSTS = [STEPPED, FRESH, FOUND]

# What the packages put into the folders that READ looks at.
OF_SER2NET = r"etc/(default|init\.d|rc[0-6]\.d)/[SK0-9]*ser2net|etc/ser2net\.yaml|ser2net\.service"
OF_NFTABLES = r"etc/nftables\.conf|nftables\.service"


def playbook(name: str, *arguments: str, hosts: Sequence[str] = HOSTS, clone: Path = ROOT) -> Run:
    """Run a playbook, and note its result."""
    return state.playbook(name, SCENARIO / "inventory", *arguments, hosts=hosts, clone=clone)


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
    """The five steps, each with a second run; a client of the port loop stays connected."""
    runs = [playbook("playbook.yml")]
    assert runs[0].status == 0, runs[0].output
    runs[0].again = again()
    address = ssh(STEPPED, "hostname -I").split()[0]
    with socket.create_connection((address, 10001), 10) as client:
        for step in range(2, 6):
            extra = ("-e", f"step={step}")
            run = playbook("playbook.yml", *extra, hosts=[STEPPED])
            run.echo = echo(client)
            run.again = again(*extra, hosts=[STEPPED])
            runs.append(run)
    return runs


def again(*arguments: str, hosts: Sequence[str] = HOSTS) -> str:
    """What a run prints for which nothing should be left to do."""
    limit = f"--limit={','.join(hosts)}"
    return run_playbook("playbook.yml", SCENARIO / "inventory", limit, *arguments).stdout


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
    clone = other_clone(tmp_path_factory.mktemp("clone"), "99.0")
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
    return len(rows) >= 4 and {*rows} == {*faults(run, host)} == {words}


def faults(run: Run, host: str) -> list[str]:
    """What verify.yml says of a host below its table."""
    return re.findall(rf"^ *{host}: (?!ok=)(.*)", run.output, re.MULTILINE)


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
        "has not been rebooted since its UARTs changed; run sudo reboot there, or playbook.yml "
        "with -e uart_reboot=true"
    ) in faults(broken[0], STEPPED)


@pytest.mark.parametrize(
    ("step", "rules", "last_rules", "bridge", "ser2net"),
    [(2, 1, 1, 1, 0), (3, 0, 0, 1, 1), (4, 1, 0, 1, 1), (5, 1, 1, 1, 1)],
    ids=["added", "changed", "renamed", "removed"],
)
def test_a_step_touches_only_what_it_names(
    steps: list[Run], step: int, rules: bool, last_rules: bool, bridge: bool, ser2net: bool
) -> None:
    run = steps[step - 1]
    last, now = steps[step - 2].after[STEPPED], run.after[STEPPED]
    assert run.status == 0, run.output
    expected = {
        "etc/udev/rules.d/60-ttyfleet.rules": rules,
        # It has the names of ports with a fixed path only, and the adapters of the others.
        "etc/udev/rules.d/zz-ttyfleet.rules": last_rules,
        "etc/ttybridge/ttybridge.toml": bridge,
        "etc/ser2net.yaml": ser2net,
    }
    assert last.changes(now).keys() == {name for name, touched in expected.items() if touched}
    # ttybridge reads a new configuration while it runs; ser2net is restarted.
    assert now.pids["ttybridge"] == last.pids["ttybridge"]
    assert (now.pids["ser2net"] != last.pids["ser2net"]) == bool(ser2net)


def test_after_each_step_nothing_is_left_to_do(steps: list[Run]) -> None:
    for run, hosts in zip(steps, ["3 hosts: 3 as they", *["1 host: 1 as it"] * 4], strict=True):
        assert f"{hosts} should be" in run.again, run.again
        assert not re.search("changed=[1-9]", run.again), run.again


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
    assert {*faults(told, FRESH)} == {
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
    said = faults(verify, STEPPED)
    missing = "ttybridge does not say what it serves: /usr/local/bin/ttybridge: No such file or"
    assert f"port loop: {missing} directory; run playbook.yml" in said
    assert "port core-switch: ser2net is not installed; run playbook.yml" in said
    program = f"/usr/local/lib/ttybridge/ttybridge-{version(steps[0])}"
    assert (
        "not as the inventory says: the package ser2net, which is not installed, /etc/ser2net.yaml "
        "(missing), the package python3-serial, which is not installed, /usr/local/lib/ttybridge "
        f"(missing), {program} (missing), /etc/ttybridge (missing), /etc/ttybridge/ttybridge.toml "
        "(missing); run playbook.yml (--diff shows what it writes)"
    ) in said
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
