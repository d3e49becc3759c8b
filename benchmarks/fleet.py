"""A fleet of any size: times what Ansible does, by the number of hosts.

`script/bench fleet` runs this. The check of the port maps needs no host, only inventories: they are
made here.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from xml.sax.saxutils import escape

from benchmarks import pis
from benchmarks.picture import STYLE

ROOT = Path(__file__).resolve().parents[1]

HOSTS = (100, 1_000, 5_000)
PORTS = 8
HOSTS_IN_A_RACK = 20

# What all hosts have in common, as people write it.
_COMMON = """\
---
ansible_user: pi
serial_firewall: true
bridge_metrics: 9410
serial_ports_defaults:
  baudrate: 115200
  allow: [192.0.2.0/24]
"""

# An adapter of four ports, as people write its entries.
_PORT = """\
  - name: console-{number}
    usb: {{vendor: "0403", product: "6011", serial: "{serial}", interface: {interface}}}
    listen: {tcp}
    description: Console {number} of {host}
    tags: [lab, rack-{rack}]
    {own}
"""
_OWN = (
    "protocol: telnet",
    "sharing: observed",
    "replay: 4096",
    'probe: {send: "\\r", expect: "login:"}',
)


@dataclass(frozen=True)
class Run:
    """One command on a number of hosts: seconds of wall clock and of processor, lines printed."""

    hosts: int
    wall: float
    cpu: float
    lines: int


def main(arguments: Sequence[str]) -> int:
    """Measure, print the figures, and draw the curves if asked for."""
    options = _options(arguments)
    machine = (
        f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}; "
        f"load before: {os.getloadavg()[0]:.1f}"
    )
    print(machine, end="\n\n", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        curves = {"check of the port maps": checks(Path(folder), options.hosts)}
    print(text(curves))
    if options.pis:
        print(pis.text(pis.costs(options.pis, options.beside)))
    if options.svg:
        options.svg.write_text(svg(curves, machine))
    if options.json:
        figures = {name: [asdict(run) for run in runs] for name, runs in curves.items()}
        options.json.write_text(json.dumps({"machine": machine, "runs": figures}, indent=1) + "\n")
    return 0


def write_inventory(folder: Path, hosts: int, ports: int = PORTS) -> Path:
    """Write an inventory of so many hosts, in a group for each rack; return its hosts.yml."""
    for name in ("group_vars", "host_vars"):
        (folder / name).mkdir(parents=True)
    (folder / "group_vars" / "serial_servers.yml").write_text(_COMMON)
    lines = ["---", "serial_servers:", "  children:"]
    for number in range(hosts):
        rack, place = divmod(number, HOSTS_IN_A_RACK)
        if place == 0:
            lines += [f"    rack_{rack}:", "      hosts:"]
        host = f"pi-{number:05}"
        lines += [f"        {host}:", f"          ansible_host: {_address(number)}"]
        (folder / "host_vars" / f"{host}.yml").write_text(_port_map(host, number, rack, ports))
    inventory = folder / "hosts.yml"
    inventory.write_text("\n".join([*lines, ""]))
    return inventory


def check(inventory: Path, hosts: int) -> Run:
    """Time portmap.yml, from the start of the command to its end."""
    command = [str(Path(sys.executable).with_name("ansible-playbook"))]
    return timed([*command, "-i", str(inventory), "portmap.yml"], hosts)


def timed(command: Sequence[str], hosts: int) -> Run:
    """Run a command in the top folder. Raises `CalledProcessError` if it fails."""
    environment = {**os.environ, "ANSIBLE_NOCOLOR": "1"}
    before, begin = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    wall, after = time.monotonic() - begin, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        sys.stderr.write(done.stdout[-4000:] + done.stderr[-4000:])
        done.check_returncode()
    cpu = (after.ru_utime + after.ru_stime) - (before.ru_utime + before.ru_stime)
    return Run(hosts, wall, cpu, len(done.stdout.splitlines()))


def checks(folder: Path, sizes: Iterable[int] = HOSTS) -> list[Run]:
    """Time the check of inventories of these sizes, which are made in a folder."""
    runs = []
    for hosts in sizes:
        inventory = write_inventory(folder / f"{hosts}-hosts", hosts)
        print(f"check of the port maps of {hosts} hosts", file=sys.stderr)
        runs.append(check(inventory, hosts))
    return runs


def text(curves: Mapping[str, Sequence[Run]]) -> str:
    """A table of each curve, with a bar for the time of each host: level if it is linear."""
    parts = []
    for name, runs in curves.items():
        longest = max(run.wall / run.hosts for run in runs)
        parts.append(f"{name}\n{'hosts':>8}{'wall s':>9}{'CPU s':>9}{'lines':>8}{'ms/host':>9}")
        for run in runs:
            each = run.wall / run.hosts
            bar = "#" * round(40 * each / longest)
            figures = f"{run.hosts:>8}{run.wall:>9.1f}{run.cpu:>9.1f}{run.lines:>8}"
            parts.append(f"{figures}{1000 * each:>9.1f} {bar}")
    return "\n".join(parts)


def svg(curves: Mapping[str, Sequence[Run]], machine: str) -> str:
    """The curves as one picture: seconds over hosts."""
    width, height, edge = 640, 320, 56
    hosts = max(run.hosts for runs in curves.values() for run in runs)
    seconds = max(run.wall for runs in curves.values() for run in runs)

    def place(run: Run) -> tuple[float, float]:
        x = edge + (width - 2 * edge - 40) * run.hosts / hosts
        return x, height - edge - (height - 2 * edge) * run.wall / seconds

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        f'width="{width}" height="{height}" role="img" aria-label="seconds over hosts">',
        f"<style>\n{STYLE}\n  .curve {{ fill: none; stroke: #0969da; stroke-width: 2 }}\n</style>",
        f'<rect class="page" x="0.5" y="0.5" width="{width - 1}" height="{height - 1}" rx="8"/>',
    ]
    for number, (name, runs) in enumerate(curves.items()):
        points = [place(run) for run in runs]
        line = " ".join(f"{x:.1f},{y:.1f}" for x, y in [(edge, height - edge), *points])
        parts.append(f'<polyline class="curve" points="{line}"/>')
        for run, (x, y) in zip(runs, points, strict=True):
            parts.append(f'<circle class="ours" cx="{x:.1f}" cy="{y:.1f}" r="3"/>')
            words = f"{run.hosts} hosts: {run.wall:.1f} s"
            parts.append(f'<text x="{x + 6:.1f}" y="{y + 16:.1f}">{words}</text>')
        title = f'<text class="title" x="{edge}" y="{24 + 16 * number}">{escape(name)}</text>'
        parts.append(title)
    parts.append(f'<text class="small" x="{edge}" y="{height - 14}">{escape(machine)}</text>')
    return "\n".join([*parts, "</svg>", ""])


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="script/bench fleet", description=__doc__)
    parser.add_argument(
        "hosts",
        nargs="*",
        type=int,
        default=HOSTS,
        help=f"numbers of hosts; by default {', '.join(map(str, HOSTS))}",
    )
    parser.add_argument(
        "--pis",
        nargs="*",
        type=int,
        default=[1, 5, 20],
        help="numbers of container Pis; by default 1, 5, 20",
    )
    parser.add_argument(
        "--beside", type=Path, metavar="FOLDER", help="another clone, on the same Pis"
    )
    parser.add_argument("--svg", type=Path, metavar="FILE", help="draw the curves")
    parser.add_argument("--json", type=Path, metavar="FILE", help="all figures, for programs")
    return parser.parse_args(arguments)


def _address(number: int) -> str:
    return f"10.{number // 65536}.{number // 256 % 256}.{number % 256}"


def _port_map(host: str, number: int, rack: int, ports: int) -> str:
    entries = [
        _PORT.format(
            number=port + 1,
            host=host,
            rack=rack,
            serial=f"FT{number:05}{port // 4}",
            interface=port % 4,
            tcp=10001 + port,
            own=_OWN[port % len(_OWN)],
        )
        for port in range(ports)
    ]
    return "".join(["---\nserial_ports:\n", *entries])
