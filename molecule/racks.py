"""The eight container Pis of molecule/fleet, and what a run says of them."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from pathlib import Path

import yaml

import state
from playbook import ROOT
from state import Run, ssh

INVENTORY = ROOT / "molecule" / "fleet" / "inventory"
HOSTS = list(yaml.safe_load((INVENTORY / "hosts.yml").read_text())["serial_servers"]["hosts"])

# What the tests do with each.
PLAIN, OTHER, GUARDED, BUSY, TLS, OFF, SER2NET_ONLY, NO_APT = HOSTS
CANARY = PLAIN


def playbook(name: str, *arguments: str, hosts: Sequence[str] = HOSTS, clone: Path = ROOT) -> Run:
    """Run a playbook, and note its result."""
    return state.playbook(name, INVENTORY, *arguments, hosts=hosts, clone=clone)


def summary(run: Run) -> dict[str, str]:
    """What the last summary says of each host; of one that is as it should be it says nothing."""
    said: dict[str, str] = {}
    for host, text in re.findall(r"^ +(rack\S+): (.*)$", last_words(run), re.MULTILINE):
        said[host] = f"{said[host]} {text}" if host in said else text
    return said


def last_words(run: Run) -> str:
    return run.output.partition("Say what became of every host]")[2].partition("\n\n")[0]


def goes_on(run: Run) -> list[str]:
    """The command that the last summary names."""
    (command,) = re.findall(r"^ *When that is corrected: (.*)$", last_words(run), re.MULTILINE)
    return shlex.split(command)


def batches(run: Run) -> int:
    return run.output.count("PLAY [Apply the plan]")


def served_baudrate(host: str) -> str:
    """The baudrate with which ttybridge has its first port open."""
    show = "ttybridge status --json | python3 -c 'import json, sys; print(json.load(sys.stdin)"
    return ssh(host, f'{show}["ports"][0]["line_settings"]["baudrate"])\'').strip()
