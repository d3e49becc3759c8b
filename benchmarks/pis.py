"""What a run of Ansible costs on real container Pis, beside `ansible -m ping` of the same ones.

`script/bench fleet` runs this. `--beside FOLDER` measures another clone of ttyfleet on the same
Pis, in the same run.
"""

from __future__ import annotations

import re
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LAB = ROOT / ".lab"

_HOSTS = """\
serial_servers:
  hosts: {{{hosts}}}
  vars:
    ansible_user: pi
    ansible_ssh_common_args: -F "{lab}/ssh_config"
    ansible_control_path_dir: "{lab}/cp"
    serial_ports:
      - {{name: loop, usb: {{vendor: "0403"}}, listen: 10001, baudrate: {baudrate}}}
      - {{name: ups, usb: {{vendor: "1a86", product: "7523"}}, listen: 10002, protocol: telnet}}
      - {{name: plc, usb: {{vendor: "10c4", product: "ea60"}}, listen: 10003, protocol: rfc2217}}
      - {{name: switch, usb: {{vendor: "067b", product: "2303"}}, listen: 9999, engine: ser2net}}
"""
_ADAPTERS = ("loop", "ups", "plc", "switch")


@dataclass(frozen=True)
class Cost:
    """One command: seconds of wall clock and of the controller's processor; tasks; lines."""

    what: str
    wall: float
    cpu: float
    tasks: int
    lines: int


def costs(numbers: Sequence[int], beside: Path | None = None) -> dict[int, dict[str, list[Cost]]]:
    """Measure so many Pis each; the result has the costs by number of Pis and by clone."""
    clones = {"this clone": ROOT} | ({str(beside): beside} if beside else {})
    found: dict[int, dict[str, list[Cost]]] = {}
    with tempfile.TemporaryDirectory() as folder, _pis(max(numbers)) as names:
        for number in numbers:
            same, changed = (
                _inventory(Path(folder) / f"{number}-{baudrate}", names[:number], baudrate)
                for baudrate in (9600, 19200)
            )
            found[number] = {
                name: list(_of_clone(clone, same, changed)) for name, clone in clones.items()
            }
            found[number]["ansible"] = [_ping(same)]
    return found


def text(found: dict[int, dict[str, list[Cost]]]) -> str:
    """A table for each number of Pis. The last column is the wall time in pings of those Pis."""
    lines = []
    for number, clones in found.items():
        (ping,) = clones["ansible"]
        lines.append(f"{number} container Pi{'s' if number > 1 else ''}")
        lines.append(f"{'':<28}{'wall s':>8}{'CPU s':>8}{'tasks':>7}{'lines':>7}{'pings':>7}")
        for name, costs_ in clones.items():
            lines.append(f"{name}:")
            for cost in costs_:
                figures = f"{cost.wall:>8.1f}{cost.cpu:>8.1f}{cost.tasks:>7}{cost.lines:>7}"
                lines.append(f"  {cost.what:<26}{figures}{cost.wall / ping.wall:>7.1f}")
        lines.append("")
    return "\n".join(lines)


def _of_clone(clone: Path, same: Path, changed: Path) -> Iterator[Cost]:
    play(clone, "playbook.yml", same)  # brings the packages
    play(clone, "remove.yml", same)
    yield play(clone, "playbook.yml", same, "first run, packages there")
    yield play(clone, "playbook.yml", same, "no change")
    yield play(clone, "playbook.yml", changed, "one port changed on all")
    yield play(clone, "verify.yml", changed, "verify")
    play(clone, "remove.yml", changed)


def play(clone: Path, playbook: str, inventory: Path, what: str = "") -> Cost:
    """Time a playbook; `CalledProcessError` where it fails."""
    print(f"{clone.name}: {playbook} {what}", file=sys.stderr)
    return _timed(["ansible-playbook", "-i", str(inventory), playbook], clone, what)


def _ping(inventory: Path) -> Cost:
    command = ["ansible", "-i", str(inventory), "serial_servers", "-m", "ping"]
    return _timed(command, ROOT, "ping")


def _timed(command: Sequence[str], clone: Path, what: str) -> Cost:
    program = Path(sys.executable).with_name(command[0])
    before, begin = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    done = subprocess.run(
        [program, *command[1:]], cwd=clone, capture_output=True, text=True, check=False
    )
    wall, after = time.monotonic() - begin, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        sys.stderr.write(done.stdout[-4000:] + done.stderr[-4000:])
        done.check_returncode()
    cpu = (after.ru_utime + after.ru_stime) - (before.ru_utime + before.ru_stime)
    recaps = re.findall(r"ok=(\d+).*skipped=(\d+)", done.stdout)
    tasks = max((int(ok) + int(skipped) for ok, skipped in recaps), default=1)
    return Cost(what, wall, cpu, tasks, len(done.stdout.splitlines()))


def _inventory(folder: Path, names: Sequence[str], baudrate: int) -> Path:
    folder.mkdir()
    hosts = ", ".join(f"{name}: {{}}" for name in names)
    file = folder / "hosts.yml"
    file.write_text(_HOSTS.format(hosts=hosts, lab=LAB, baudrate=baudrate))
    return file


@contextmanager
def _pis(number: int) -> Iterator[list[str]]:
    """So many container Pis, each with four adapters."""
    names = [f"bench-{one:02}" for one in range(1, number + 1)]
    try:
        lab("up", *(f"{name}=bookworm" for name in names))
        for name in names:
            for adapter in _ADAPTERS:
                lab("adapter", name, adapter)
        yield names
    finally:
        lab("down", *names)


def lab(*words: str) -> None:
    """Run a command of script/lab."""
    subprocess.run([ROOT / "script" / "lab", *words], stdout=subprocess.DEVNULL, check=True)
