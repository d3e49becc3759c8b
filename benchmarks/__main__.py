"""Measure, and print how ttybridge stands beside its peers."""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks import measure, picture, report
from benchmarks.servers import SERVERS, BrokenError, Server, make_certificate


def main() -> int:
    """Run the benchmark; 1 where a server does not work, whatever the numbers are."""
    options = _options()
    effort = measure.QUICK if options.quick else measure.FULL
    chosen = [one for one in SERVERS if not options.servers or one.name in options.servers]
    machine = _machine()
    print(machine, end="\n\n", flush=True)
    try:
        with tempfile.TemporaryDirectory() as folder:
            rounds = _measure(chosen, effort, Path(folder))
    except BrokenError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(report.text(rounds, {one.name: one.about for one in chosen}))
    medians = report.medians(rounds)
    if options.json:
        everything = {"machine": machine, "medians": medians, "rounds": rounds}
        options.json.write_text(json.dumps(everything, indent=1) + "\n")
    if options.svg:
        options.svg.write_text(picture.svg(medians, machine))
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="script/bench", description=__doc__)
    names = [server.name for server in SERVERS]
    parser.add_argument(
        "servers", nargs="*", metavar="SERVER", help=f"only these of {', '.join(names)}"
    )
    parser.add_argument("--quick", action="store_true", help="one short round: a smoke test")
    parser.add_argument("--svg", type=Path, metavar="FILE", help="draw the picture for the README")
    parser.add_argument("--json", type=Path, metavar="FILE", help="all numbers, for programs")
    options = parser.parse_args()
    for name in options.servers:  # argparse's own choices= refuses that none is named
        if name not in names:
            parser.error(f"no server {name}: the servers are {', '.join(names)}")
    return options


def _measure(
    servers: Sequence[Server], effort: measure.Effort, folder: Path
) -> list[dict[str, measure.Row]]:
    """All rounds. The servers take turns, so that a busy moment of the machine hits all alike."""
    make_certificate(folder)
    rounds = []
    for number in range(effort.rounds):
        print(f"round {number + 1} of {effort.rounds}", file=sys.stderr)
        one = {measure.BARE: measure.bare_round(effort)}
        first = number % len(servers)  # nor is any server always the one after a busy peer
        for server in [*servers[first:], *servers[:first]]:
            one[server.name] = measure.one_round(server, effort, folder)
        rounds.append(one)
    for server in servers:
        print(f"memory of {server.name}", file=sys.stderr)
        rounds[0][server.name].update(measure.memory_row(server, folder))
    return rounds


def _machine() -> str:
    """What the numbers were taken on."""
    return (
        f"{os.cpu_count()} cores, {platform.machine()}, Linux {platform.release()}, "
        f"Python {platform.python_version()}, {_version('ser2net', '-v')}, "
        f"{_version('socat', '-V')}; load before: {os.getloadavg()[0]:.1f}"
    )


def _version(program: str, option: str) -> str:
    done = subprocess.run([program, option], capture_output=True, text=True, check=False)
    words = (done.stdout + done.stderr).partition("version ")[2].split()
    return f"{program} {words[0] if words else '?'}"


sys.exit(main())
