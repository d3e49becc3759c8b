"""Measure ttybridge beside its peers, and print the numbers."""

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

from benchmarks import fleet, floods, measure, picture, report, restart
from benchmarks.servers import SERVERS, BrokenError, Server, make_certificate


def main() -> int:
    """Run the benchmark; return 1 if a server does not work, whatever the numbers are."""
    if sys.argv[1:2] == ["fleet"]:
        return fleet.main(sys.argv[2:])
    if sys.argv[1:2] == ["restart"]:
        return restart.main(sys.argv[2:])
    options = _options()
    effort = measure.QUICK if options.quick else measure.FULL
    machine = _machine()
    print(machine, end="\n\n", flush=True)
    everything: dict[str, object] = {"machine": machine}
    try:
        with tempfile.TemporaryDirectory() as folder:
            if options.peers:
                everything |= _peers(options, effort, machine, Path(folder))
            if options.flooded:
                everything["floods"] = _floods(options, effort, Path(folder))
    except BrokenError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    if options.json:
        options.json.write_text(json.dumps(everything, indent=1) + "\n")
    return 0


def _peers(
    options: argparse.Namespace, effort: measure.Effort, machine: str, folder: Path
) -> dict[str, object]:
    """Measure and report the servers beside one another; return the numbers."""
    rounds = _measure(options.peers, effort, folder)
    print(report.text(rounds, {one.name: one.about for one in options.peers}), flush=True)
    medians = report.medians(rounds)
    if options.svg:
        options.svg.write_text(picture.svg(medians, machine))
    return {"medians": medians, "rounds": rounds}


def _floods(
    options: argparse.Namespace, effort: measure.Effort, folder: Path
) -> dict[str, dict[str, measure.Row]]:
    """Measure and report the servers under floods; return the numbers."""
    results: dict[str, dict[str, measure.Row]] = {}
    for flood in floods.FLOODS:
        if flood is floods.DATA or options.only.lower() in flood.name.lower():
            print(f"flood: {flood.name}", file=sys.stderr)
            # One server after the other, so that a busy moment of the machine hits all alike.
            results[flood.name] = {
                server.name: floods.measure(server, flood, effort.flood_seconds, folder)
                for server in options.flooded
            }
    print("\n" * bool(options.peers) + floods.text(results))
    return results


def _options() -> argparse.Namespace:
    """The options; `peers` are the servers to compare, `flooded` those to flood."""
    parser = argparse.ArgumentParser(prog="script/bench", description=__doc__)
    names = [server.name for server in SERVERS]
    parser.add_argument(
        "servers",
        nargs="*",
        metavar="[floods] [SERVER]",
        help=f"only these of {', '.join(names)}; after `floods` only the floods, by default of "
        f"{', '.join(floods.FLOODED)}; nothing named: all servers, and the floods",
    )
    parser.add_argument("--quick", action="store_true", help="one short round: a smoke test")
    parser.add_argument("--svg", type=Path, metavar="FILE", help="draw the picture for the README")
    parser.add_argument("--json", type=Path, metavar="FILE", help="all numbers, for programs")
    parser.add_argument(
        "--only", default="", metavar="WORDS", help="only the floods whose names hold these words"
    )
    options = parser.parse_intermixed_args()
    only_floods = options.servers[:1] == ["floods"]
    wanted = options.servers[1:] if only_floods else options.servers
    allowed = floods.CAN_BE_FLOODED if only_floods else names
    for name in wanted:  # argparse's own choices= would refuse an empty list
        if name not in allowed:
            parser.error(f"no server {name}: the servers are {', '.join(allowed)}")
    if only_floods and options.svg:
        parser.error("--svg draws no floods")
    flooded = (wanted or floods.FLOODED) if only_floods or not wanted else ()
    options.flooded = [one for one in SERVERS if one.name in flooded]
    options.peers = [] if only_floods else [one for one in SERVERS if one.name in (wanted or names)]
    return options


def _measure(
    servers: Sequence[Server], effort: measure.Effort, folder: Path
) -> list[dict[str, measure.Row]]:
    """All rounds. The servers take turns, so that a busy moment of the machine hits all alike."""
    make_certificate(folder)
    rounds = []
    for index in range(effort.rounds):
        print(f"round {index + 1} of {effort.rounds}", file=sys.stderr)
        one = {measure.BARE: measure.bare_round(effort)}
        first = index % len(servers)  # the server after a busy peer is not always the same
        for server in [*servers[first:], *servers[:first]]:
            one[server.name] = measure.one_round(server, effort, folder)
        rounds.append(one)
    for server in servers:
        print(f"memory of {server.name}", file=sys.stderr)
        rounds[0][server.name].update(measure.memory_row(server, folder))
    return rounds


def _machine() -> str:
    """The machine and the programs that the numbers are of."""
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
