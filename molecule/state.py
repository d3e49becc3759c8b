"""What a run of a playbook leaves on container Pis: all files, units, packages and processes."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from playbook import LAB, ROOT, run_playbook

# Every file, link and folder, with mode, owner and content, except what the system itself writes;
# units; packages; processes.
READ = r"""
cd /
each() {
  find etc boot usr/local var/lib \
    \( -path var/lib/systemd -o -path var/lib/private -o -path var/lib/apt -o -path var/lib/dpkg \
       -o -path etc/resolv.conf -o -path etc/ld.so.cache \) -prune -o "$@"
}
each -printf '%p|%M %u:%g %l|\n'
echo ---
each -type f -exec sha256sum {} + | sed 's/^\([^ ]*\)  \(.*\)/\2|\1/'
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
    """A run of a playbook, with its result; `again` is what the next one printed."""

    status: int
    output: str
    after: dict[str, State]
    echo: bytes = b""
    again: str = ""


def playbook(
    name: str, inventory: Path, *arguments: str, hosts: Sequence[str], clone: Path = ROOT
) -> Run:
    """Run a playbook for some hosts of an inventory, and note what it leaves there."""
    limit = f"--limit={','.join(hosts)}"
    done = run_playbook(name, inventory, limit, *arguments, clone=clone)
    return Run(done.returncode, done.stdout + done.stderr, states(hosts))


def ssh(host: str, script: str) -> str:
    """What a shell script prints that runs as root on a container Pi."""
    done = subprocess.run(
        ["ssh", "-F", str(LAB / "ssh_config"), host, "sudo sh -s"],
        input=script,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


def state_of(host: str) -> State:
    """The state of a host now."""
    parts = ssh(host, READ).split("---\n")
    files, sums, units, packages, pids = (
        dict(line.split("|", 1) for line in part.splitlines()) for part in parts
    )
    whole = {name: about + sums.get(name, "") for name, about in files.items()}
    return State(whole, units, packages, pids)


def states(hosts: Sequence[str]) -> dict[str, State]:
    """The states of several hosts now."""
    with ThreadPoolExecutor() as pool:
        return dict(zip(hosts, pool.map(state_of, hosts), strict=True))
