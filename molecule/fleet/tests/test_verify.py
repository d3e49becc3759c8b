"""verify.yml as the check of CI: it finds each planted drift, and nothing else."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from playbook import LAB, ROOT, run_playbook
from racks import HOSTS, INVENTORY, playbook
from state import Run, ssh

PROGRAM = "$(readlink -f /usr/local/bin/ttybridge)"
STALE = "runs with older files (restart pending)"
RELOAD = "runs with an older unit file"
FLUSHED = (
    "the firewall, which is stopped or disabled, or flushed or changed in the kernel "
    "(without it everyone may connect to switch (9999) of ser2net)"
)

RACK1, RACK2, RACK3, RACK4, RACK5, RACK6, RACK7, RACK8 = HOSTS


@dataclass(frozen=True)
class Drift:
    """Something that somebody did to a host.

    `words` are the entries of `drift` in report.json; `ports` are the results of ports.
    """

    host: str
    script: str
    words: Sequence[str] = ()
    ports: Sequence[tuple[str, str]] = ()


def both(result: str) -> list[tuple[str, str]]:
    return [(port, result) for port in ("console", "ups")]


DRIFTS = [
    # What a file has, and what kind of file it is.
    Drift(RACK1, "echo '#' >>/etc/ser2net.conf", ["/etc/ser2net.conf (content)"]),
    Drift(
        RACK2,
        "echo '#' >>/etc/ttybridge/ttybridge.toml",
        ["/etc/ttybridge/ttybridge.toml (content)"],
    ),
    Drift(RACK3, "echo '#' >>/etc/ttyfleet.nft", ["/etc/ttyfleet.nft (content)"]),
    Drift(RACK5, "echo >>/etc/ttybridge/tls/pi.pem", ["/etc/ttybridge/tls/pi.pem (content)"]),
    Drift(RACK7, f"echo >>{PROGRAM}", ["PROGRAM (content)"]),
    Drift(
        RACK4,
        "f=/etc/udev/rules.d/60-ttyfleet.rules; mv $f /opt; ln -s /opt/60-ttyfleet.rules $f",
        ["/etc/udev/rules.d/60-ttyfleet.rules (is a link)"],
    ),
    Drift(
        RACK2,
        f"cp {PROGRAM} /opt/ttybridge && ln -sf /opt/ttybridge /usr/local/bin/ttybridge",
        ["/usr/local/bin/ttybridge (leads to /opt/ttybridge)"],
    ),
    # Who may do what with it.
    Drift(RACK4, "chmod 600 /etc/ser2net.yaml", ["/etc/ser2net.yaml (mode 0600)"]),
    Drift(RACK6, "chmod 644 /etc/ttybridge/tls/pi.key", ["/etc/ttybridge/tls/pi.key (mode 0644)"]),
    Drift(RACK6, "chgrp root /etc/ttybridge/tls", ["/etc/ttybridge/tls (group root)"]),
    Drift(
        RACK2,
        "chown pi /etc/udev/rules.d/60-ttyfleet.rules",
        ["/etc/udev/rules.d/60-ttyfleet.rules (owner pi)"],
    ),
    Drift(RACK8, "chmod 700 /etc/ttybridge", ["/etc/ttybridge (mode 0700)"]),
    # What is not there, and what is too much.
    Drift(
        RACK1,
        "rm /etc/udev/rules.d/60-ttyfleet.rules",
        ["/etc/udev/rules.d/60-ttyfleet.rules (missing)"],
    ),
    Drift(
        RACK3,
        "rm /etc/systemd/system/nftables.service.d/ttyfleet.conf",
        ["/etc/systemd/system/nftables.service.d/ttyfleet.conf (missing)"],
    ),
    Drift(
        RACK3,
        "touch -d 2000-01-01 /usr/local/lib/ttybridge/ttybridge-0.0.1",
        ["/usr/local/lib/ttybridge/ttybridge-0.0.1 (to be removed)"],
    ),
    Drift(
        RACK7,
        "mkdir /etc/ttybridge; touch /etc/ttybridge/ttybridge.toml",
        ["/etc/ttybridge (to be removed)"],
    ),
    Drift(
        RACK8,
        "touch /etc/udev/rules.d/99-ttyfleet.rules",
        ["/etc/udev/rules.d/99-ttyfleet.rules (to be removed)"],
    ),
    Drift(
        RACK8,
        "dpkg --purge --force-depends python3-uvloop >/dev/null 2>&1",
        ["the package python3-uvloop, which is not installed"],
    ),
    # Units.
    Drift(RACK1, "systemctl stop ttybridge", ports=both("ttybridge.service is inactive")),
    Drift(
        RACK5,
        "systemctl disable ttybridge",
        ports=[(port, "ttybridge.service is disabled") for port in ("console", "secured")],
    ),
    Drift(
        RACK3,
        "echo no >>/etc/ttybridge/ttybridge.toml; systemctl restart ttybridge 2>/dev/null || true",
        ["/etc/ttybridge/ttybridge.toml (content)"],
        [("console", "ttybridge.service is activating")],
    ),
    Drift(RACK2, "systemctl disable ser2net", ports=[("switch", "ser2net.service is disabled")]),
    Drift(RACK6, "systemctl mask ser2net", ports=[("switch", "ser2net.service is masked")]),
    Drift(
        RACK7,
        "echo '#' >>/etc/systemd/system/ser2net.service.d/ttyfleet.conf",
        ["/etc/systemd/system/ser2net.service.d/ttyfleet.conf (content)"],
        [("switch", f"ser2net.service {RELOAD}")],
    ),
    Drift(
        RACK8,
        "touch /etc/systemd/system/ttybridge.service",
        [f"ttybridge.service {STALE}"],
        [*both(f"ttybridge.service {RELOAD}"), ("(metrics)", f"ttybridge.service {RELOAD}")],
    ),
    Drift(RACK4, "nft delete table inet ttyfleet", [FLUSHED]),
    Drift(RACK5, "systemctl disable ttyfleet-firewall", [FLUSHED]),
    # Its far end says nothing any more.
    Drift(
        RACK4,
        "echo KIND=pair >/etc/lab/console; systemctl restart lab-adapter@console",
        ports=[("console", "device did not answer 'x' within 5 s")],
    ),
]
# A cable that somebody pulled out is nothing that the playbook repairs.
PLUG_IN = "echo KIND=echo >/etc/lab/console; systemctl restart lab-adapter@console"

# What tests/provisioned can see of them: it looks at ports, units, links and devices.
SEEN = {
    (RACK1, "test_each_engine_in_use_is_active_and_starts_at_boot"),
    (RACK1, "test_no_engine_runs_as_root"),
    (RACK1, "test_each_port_listens_on_its_address"),
    (RACK1, "test_each_port_that_declares_a_probe_answers_it"),
    (RACK1, "test_ttybridge_has_every_device_open_as_the_port_map_says"),
    (RACK2, "test_each_engine_in_use_is_active_and_starts_at_boot"),
    (RACK2, "test_the_program_is_a_version_behind_a_link"),
    (RACK3, "test_each_engine_in_use_is_active_and_starts_at_boot"),
    (RACK3, "test_each_port_that_declares_a_probe_answers_it"),
    (RACK3, "test_ttybridge_has_every_device_open_as_the_port_map_says"),
    (RACK4, "test_each_port_that_declares_a_probe_answers_it"),
    (RACK5, "test_each_engine_in_use_is_active_and_starts_at_boot"),
    (RACK6, "test_each_engine_in_use_is_active_and_starts_at_boot"),
    (RACK6, "test_the_units_and_the_udev_rules_are_sound_to_their_readers"),
}
# This daemon starts again and again: a moment later it has a process, or none.
PERHAPS = {(RACK3, "test_no_engine_runs_as_root")}


@dataclass(frozen=True)
class Found:
    """What verify.yml says of the planted drifts: its exit status, its output and its two files."""

    status: int
    output: str
    report: dict[str, Any]
    junit: ElementTree.Element


@pytest.fixture(scope="session")
def sound(settled: Run, clone: Path) -> Run:
    """What verify.yml says before."""
    assert settled.status == 0, settled.output
    return playbook("verify.yml", clone=clone)


@pytest.fixture(scope="session")
def drifted(sound: Run) -> None:
    """The hosts with all that is planted."""

    def plant(host: str) -> None:
        scripts = [f"({drift.script}) || exit" for drift in DRIFTS if drift.host == host]
        ssh(host, "\n".join(scripts))

    with ThreadPoolExecutor() as pool:
        list(pool.map(plant, HOSTS))


@pytest.fixture(scope="session")
def found(drifted: None, clone: Path, tmp_path_factory: pytest.TempPathFactory) -> Found:
    """What verify.yml says of them."""
    folder = tmp_path_factory.mktemp("reports")
    run = run_playbook("verify.yml", INVENTORY, "-e", f"report_dir={folder}", clone=clone)
    report = json.loads((folder / "report.json").read_text())
    junit = ElementTree.parse(folder / "junit.xml").getroot()
    return Found(run.returncode, run.stdout, report, junit)


@pytest.fixture(scope="session")
def seen(found: Found, tmp_path_factory: pytest.TempPathFactory) -> set[tuple[str, str]]:
    """The tests of tests/provisioned that fail, with the host of each."""
    results = tmp_path_factory.mktemp("provisioned") / "junit.xml"
    inventory = f"--ansible-inventory={INVENTORY}"
    config = f"--ssh-config={LAB / 'ssh_config'}"
    tests = [sys.executable, "-m", "pytest", "-n4", "tests/provisioned", f"--junitxml={results}"]
    subprocess.run([*tests, inventory, config], cwd=ROOT, capture_output=True)
    failed = [case for case in ElementTree.parse(results).iter("testcase") if list(case)]
    names = [re.match(r"(\w+)\[ansible://(.*)\]$", case.get("name", "")) for case in failed]
    return {(name[2], name[1]) for name in names if name}


@pytest.fixture(scope="session")
def repaired(seen: set[tuple[str, str]], clone: Path) -> list[Run]:
    """The playbook, once the cable is in again, and verify.yml."""
    ssh(RACK4, PLUG_IN)
    return [playbook(f"{name}.yml", clone=clone) for name in ("playbook", "verify")]


def test_a_fleet_that_is_as_it_should_be_has_no_fault(sound: Run) -> None:
    assert sound.status == 0, sound.output


@pytest.mark.parametrize("host", HOSTS)
def test_each_drift_is_named_and_nothing_else(found: Found, host: str) -> None:
    (said,) = [one for one in found.report["hosts"] if one["name"] == host]
    planted = [drift for drift in DRIFTS if drift.host == host]
    programs = re.sub(
        r"/usr/local/lib/ttybridge/ttybridge-99\S+", "PROGRAM", "\n".join(said["drift"])
    )
    assert sorted(programs.splitlines()) == sorted(w for drift in planted for w in drift.words)
    wrong = {
        (port["name"], port["result"].partition(" (exit-code)")[0])
        for port in said["ports"]
        if port["todo"]
    }
    assert wrong == {result for one in planted for result in one.ports}
    assert said["faults"] == []
    assert not said["unread"]


def test_the_report_the_table_and_the_exit_status_agree(found: Found) -> None:
    assert found.status != 0
    assert found.report["format"] == 1
    assert not found.report["ok"]
    table = found.output.partition("HOST ")[2].partition("\n\n")[0].splitlines()[1:]
    rows = [" ".join(line.split()) for line in table]
    expected = []
    for host in found.report["hosts"]:
        ports = [f"{port['name']} {port['listen']} {port['result']}" for port in host["ports"]]
        drift = [f"- - not as the inventory says: {', '.join(host['drift'])}"]
        expected += [f"{host['name']} {row}" for row in ports + (drift if host["drift"] else [])]
    assert rows[:-1] == expected
    assert rows[-1].startswith(
        "open to everyone who reaches them: 17 ports (rack1-bookworm console,"
    )


def test_junit_has_a_case_for_each_port_and_host(found: Found) -> None:
    wanted = {}
    for host in found.report["hosts"]:
        wanted[host["name"], "host"] = not (host["unread"] or host["drift"] or host["faults"])
        wanted |= {(host["name"], port["name"]): port["ok"] for port in host["ports"]}
    cases = {
        (case.get("classname"), case.get("name")): case.find("failure") is None
        for case in found.junit.iter("testcase")
    }
    assert cases == wanted
    for suite in found.junit.iter("testsuite"):
        assert suite.get("tests") == str(len(suite.findall("testcase")))
        assert suite.get("failures") == str(len(suite.findall("testcase/failure")))


def test_a_fault_is_printed_once(found: Found) -> None:
    assert found.output.count("fatal: ") == 1
    assert found.output.count(f"{RACK8}: not as the inventory says: ") == 1


def test_the_tests_of_provisioned_hosts_find_what_they_can_see(seen: set[tuple[str, str]]) -> None:
    assert seen - PERHAPS == SEEN


def test_the_playbook_repairs_each_drift(sound: Run, repaired: list[Run]) -> None:
    playbook, verify = repaired
    assert playbook.status == 0, playbook.output
    assert verify.status == 0, verify.output
    for host in HOSTS:
        left = sound.after[host].changes(verify.after[host])
        assert {name for name in left if not name.startswith("etc/lab/")} == set(), host
