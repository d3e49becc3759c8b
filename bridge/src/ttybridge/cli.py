"""The commands of ttybridge."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TextIO

from ttybridge import BUILD
from ttybridge.daemon import control
from ttybridge.line.lock import Holder, program_of, who_has_open
from ttybridge.model import config, people
from ttybridge.model.ports import about
from ttybridge.model.values import Listen, duration, printable
from ttybridge.setup.table import table
from ttybridge.setup.words import open_to_everyone

CONFIG = Path("/etc/ttybridge/ttybridge.toml")

# The columns of the table of status.
HEAD = ("PORT", "LISTEN", "DEVICE", "CLIENTS", "FROM DEVICE", "TO DEVICE", "ENGINE", "ABOUT")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; return 0, or 1 if it failed. Standard error then says why.

    `import` returns 3 if the port map lacks something; standard error then says what.
    """
    options = _parser().parse_args(arguments)
    try:
        status = int(options.run(options) or 0)
        sys.stdout.flush()
        return status
    except (config.ConfigError, control.ControlError) as error:
        _say(str(error), sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # the reader of a pipe, such as head, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _say(text: str, file: TextIO | None = None) -> None:
    """Print a line, with control characters of file, device and client names escaped."""
    print(printable(text), file=file)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="ttybridge", description="Serial ports served over TCP.")
    parser.add_argument("--version", action="version", version=f"ttybridge {BUILD}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    serve = commands.add_parser("serve", help="serve ports until told to stop")
    source = serve.add_mutually_exclusive_group(required=True)
    source.add_argument("--config", type=Path, metavar="FILE", help="TOML file with the ports")
    source.add_argument(
        "--port",
        action="append",
        metavar="KEY=VALUE,...",
        help="a port by its port map keys, such as name=sw,device=/dev/ttyUSB0,listen=9999",
    )
    serve.add_argument(
        "--metrics",
        type=_metrics,
        metavar="[ADDRESS:]PORT",
        help="serve metrics for Prometheus there; with --config the file says so",
    )
    serve.set_defaults(run=_serve)

    check = commands.add_parser("check", help="show every fault of a configuration")
    check.add_argument("--config", type=Path, default=CONFIG, metavar="FILE")
    check.set_defaults(run=_check)

    trial = commands.add_parser(
        "try", help="see if this program can serve here; opens no port of a configuration"
    )
    trial.add_argument("--config", type=Path, metavar="FILE", help="a configuration to check, too")
    trial.set_defaults(run=_try)

    status = commands.add_parser("status", help="show ports, devices, clients and counters")
    status.add_argument("--json", action="store_true", help="for programs")
    status.set_defaults(run=_status)

    console = commands.add_parser(
        "console", help="use a port from here; what follows the escape key Ctrl-] is a command"
    )
    console.add_argument(
        "port", metavar="PORT", nargs="?", help="the port's name; without it you choose from a list"
    )
    way = console.add_mutually_exclusive_group()
    way.add_argument("--watch", action="store_true", help="only see what the device says")
    way.add_argument("--take", action="store_true", help="write at once, whoever writes now")
    console.add_argument(
        "--replay",
        metavar="BYTES",
        type=_size,
        help="show so many bytes of recent output first, at most the port's replay",
    )
    console.add_argument(
        "--timeout",
        metavar="SECONDS",
        type=_timeout,
        help="for scripts: leave when the input has ended and nothing was said for so long",
    )
    console.set_defaults(run=_console)

    ssh = commands.add_parser(
        "ssh", help="for sshd alone: a console for an account that gets nothing else"
    )
    ssh.set_defaults(run=_ssh)

    kick = commands.add_parser("kick", help="close a client of a port, or all of them")
    kick.add_argument("port", metavar="PORT", help="the port's name")
    kick.add_argument("client", metavar="CLIENT", nargs="?", help="address:port as status shows it")
    kick.set_defaults(run=_kick)

    release = commands.add_parser(
        "release", help="give the device of a port to another program; its clients stay"
    )
    release.add_argument("port", metavar="PORT", help="the port's name")
    release.add_argument(
        "seconds",
        metavar="SECONDS",
        nargs="?",
        type=_seconds,
        default=600,
        help="after so many it is taken back, once nobody uses it (default: 600)",
    )
    release.set_defaults(run=_release)

    reclaim = commands.add_parser("reclaim", help="take back what release has given away")
    reclaim.add_argument("port", metavar="PORT", help="the port's name")
    reclaim.set_defaults(run=_reclaim)

    find = commands.add_parser("discover", help="show adapters and UARTs here, as port map entries")
    form = find.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="every fact, for programs")
    form.add_argument(
        "--new", action="store_true", help="only what is free and not served by ttyfleet yet"
    )
    find.set_defaults(run=_discover)

    imports = commands.add_parser("import", help="turn a ser2net configuration into a port map")
    imports.add_argument("file", type=Path, metavar="FILE", help="a ser2net.conf or ser2net.yaml")
    imports.add_argument(
        "--engine",
        choices=("ser2net", "bridge"),
        default="ser2net",
        help="what will serve the ports (default: ser2net, as before)",
    )
    imports.set_defaults(run=_import)
    return parser


def _metrics(text: str) -> Listen | None:
    try:
        return config.parse_metrics(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _seconds(text: str) -> int:
    if not text.isdecimal() or int(text) not in control.RELEASE_SECONDS:
        raise argparse.ArgumentTypeError(f"{text}: {control.RELEASE_SECONDS_WORDS}")
    return int(text)


def _size(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text}: write a whole number of bytes")
    return int(text)


def _timeout(text: str) -> float:
    if not re.fullmatch(r"[0-9]{1,6}(\.[0-9]+)?", text):
        raise argparse.ArgumentTypeError(f"{text}: write seconds, such as 2 or 0.5")
    return float(text)


def _check(options: argparse.Namespace) -> None:
    ports = config.load(options.config).ports
    _say(f"{options.config}: {len(ports)} {'port' if len(ports) == 1 else 'ports'}, no faults")


def _try(options: argparse.Namespace) -> int:
    with _pyserial_needed():
        from ttybridge.daemon import trial
    try:
        trial.run(config.load(options.config) if options.config else config.Config(()))
    except trial.TrialError as error:
        _say(str(error), sys.stderr)
        return 1
    _say(f"ttybridge {BUILD} can serve here")
    return 0


def _status(options: argparse.Namespace) -> int:
    from ttybridge.setup.ser2net import served  # the daemon starts faster without it

    status, problem = _asked()
    if ser2net := served.status():
        status["ser2net"] = ser2net
    _name_holders(status)
    if problem and not ser2net:
        raise control.ControlError(problem)
    _say(json.dumps(status, indent=2) if options.json else _status_table(status))
    if problem:
        _say(problem, sys.stderr)
    return int(bool(problem))


def _name_holders(status: dict[str, Any]) -> None:
    """Name the programs that have a device, as far as this process may know them.

    It may know more than the daemon, whose unit hides other users' processes from it.
    """
    devices = [port["device"] for port in status["ports"] if "holder" in port["device"]]
    if not devices:  # also those of a daemon of an earlier version
        return
    users = who_has_open(device["path"] for device in devices)
    for device in devices:
        # systemd keeps what a process of ours leaves to the next one.
        ours = (status["pid"], 1)
        others = [one for one in users[device["path"]] if one.pid not in ours]
        known = Holder(**device["holder"]) if device["holder"] else None
        if known and not known.program:
            named = Holder(known.pid, program_of(known.pid)) if known.pid else known
            better = named if named.program else next(iter(others), known)
            device["holder"] = {"pid": better.pid, "program": better.program}
            device["problem"] = str(device["problem"]).replace(
                f"in use by {known}", f"in use by {better}"
            )
        elif device["present"]:
            device["also_open_in"] = [{"pid": one.pid, "program": one.program} for one in others]


def _asked() -> tuple[dict[str, Any], str]:
    """What the daemon says, or else of no ports at all; and what is wrong if it should answer."""
    try:
        return control.ask(control.system_or_own_path(), "status"), ""
    except control.NoDaemon as error:
        # On a Pi whose ports are all ser2net's there is a program, but no service.
        expected = "RUNTIME_DIRECTORY" in os.environ or CONFIG.exists()
        return {"version": None, "ports": []}, str(error) if expected else ""


def _ask_of_port(
    options: argparse.Namespace, command: str, of_ser2net: str, **arguments: str | float | None
) -> dict[str, Any]:
    """Return the daemon's answer; where ser2net serves the port, say what to do instead."""
    try:
        path = control.system_or_own_path()
        return control.ask(path, command, port=options.port, **arguments)
    except control.ControlError:
        _refuse_if_ser2net_serves(options.port, of_ser2net)
        raise


def _console(options: argparse.Namespace) -> int:
    from ttybridge import console  # the daemon starts faster without it

    wishes = {"watch": options.watch, "take": options.take, "replay": options.replay}
    try:
        path = control.system_or_own_path()
        return console.run(path, options.port, options.timeout, **wishes)
    except control.ControlError:
        if options.port:
            _refuse_if_ser2net_serves(options.port, "has no console here: connect by TCP")
        raise


def _ssh(options: argparse.Namespace) -> int:
    from ttybridge import ssh  # the daemon starts faster without it

    try:
        asked = ssh.wishes(os.environ.get("SSH_ORIGINAL_COMMAND", ""))
    except ssh.SshError as error:
        _say(str(error), sys.stderr)
        return 1
    return _console(argparse.Namespace(timeout=None, **vars(asked)))


def _kick(options: argparse.Namespace) -> int:
    instead = "cannot close a single client: sudo systemctl restart ser2net closes all clients"
    answer = _ask_of_port(options, "kick", instead, client=options.client)
    for client in answer["kicked"]:
        _say(f"{options.port}: {client} closed")
    if not answer["kicked"]:
        missing = f"{options.client} is not" if options.client else "no client is"
        _say(f"{options.port}: {missing} connected", sys.stderr)
    return int(not answer["kicked"])


# ser2net has a device open only while a client is there.
_SER2NET_RELEASES = "uses it only while a client is there: sudo systemctl stop ser2net frees those"


def _release(options: argparse.Namespace) -> int:
    answer = _ask_of_port(options, "release", _SER2NET_RELEASES, seconds=options.seconds)
    _say(f"{options.port}: {answer['released']}")
    return 0


def _reclaim(options: argparse.Namespace) -> int:
    answer = _ask_of_port(options, "reclaim", _SER2NET_RELEASES)
    said = "taken back" if answer["reclaimed"] else "it is not released"
    if problem := answer["problem"]:
        _say(f"{options.port}: {said}: {problem}", sys.stderr)
        return 1
    _say(f"{options.port}: {said}")
    return 0


def _refuse_if_ser2net_serves(port: str, instead: str) -> None:
    from ttybridge.setup.ser2net import served  # the daemon starts faster without it

    names = served.names()
    if port in names:
        raise control.ControlError(
            f"{port}: ser2net serves it, and {instead} of all its ports ({', '.join(names)})"
        )


def _discover(options: argparse.Namespace) -> None:
    from ttybridge.setup.discover import report  # the daemon starts faster without it

    print(printable(report.report(options.json, options.new)), end="")


def _import(options: argparse.Namespace) -> int:
    from ttybridge.setup.ser2net import importer  # the daemon starts faster without it

    imported = importer.load(options.file, options.engine)
    text = importer.as_yaml(imported.ports, str(options.file), imported.announces)
    print(printable(text), end="")
    for line in imported.lines(str(options.file)):
        _say(line, sys.stderr)
    if is_open := [port.name for port in imported.ports if port.open_to_all]:
        _say(open_to_everyone(is_open), sys.stderr)
    _say(imported.summary, sys.stderr)
    return 0 if imported.complete else 3


def _status_table(status: dict[str, Any]) -> str:
    ser2net = status.get("ser2net") or {"state": "active", "ports": []}
    # Who has one engine only need not know of it.
    engine = "bridge" if ser2net["ports"] else ""
    rows = [
        *(_row(port, engine) for port in status["ports"]),
        *(_row(port, "ser2net") for port in ser2net["ports"]),
    ]
    lines = [table([HEAD, *rows], optional=["ENGINE", "ABOUT"])] if rows else ["no ports here"]
    lines += [
        f"{port['name']}: {problem}"
        for port in status["ports"]
        for problem in (port["listen_problem"], port["device"]["problem"])
        if problem
    ]
    lines += [
        f"{port['name']}: {port['device']['path']} is also open in {Holder(**other)}: "
        "each byte reaches one of both"
        for port in status["ports"]
        for other in port["device"].get("also_open_in", ())
    ]
    if ser2net["state"] not in ("active", ""):
        state = ser2net["state"]
        lines.append(f"ser2net.service is {state}: systemctl status ser2net says why")
    if version := status.get("version"):  # of the daemon: after an upgrade it may be an older one
        other = "" if version == BUILD else f"; this command is ttybridge {BUILD}"
        lines.append(f"served by ttybridge {version}{other}")
    return "\n".join(lines)


def _row(port: dict[str, Any], engine: str) -> tuple[str, ...]:
    counters = port.get("counters", {})
    return (
        port["name"],
        _endpoint(port),
        _device(port["device"]),
        ", ".join(_client(port, client) for client in port["clients"]) or "-",
        str(counters.get("from_device", "-")),
        str(counters.get("to_device", "-")),
        engine,
        _about(port),
    )


def _device(device: dict[str, Any]) -> str:
    if device["present"]:
        return str(device["path"])
    released = device.get("released")
    if not released:
        return "absent"
    return time.strftime("released until %H:%M:%S", time.localtime(released["at"]))


def _about(port: dict[str, Any]) -> str:
    # A daemon of an earlier version does not have the keys.
    return about(port.get("description", ""), port.get("location", ""), port.get("tags", ()))


def _endpoint(port: dict[str, Any]) -> str:
    if port.get("connect"):
        return f"-> {port['connect']}"
    return str(port["listen"]) if port["listening"] else f"NOT {port['listen']}"


def _client(port: dict[str, Any], client: dict[str, Any]) -> str:
    notes = []
    if client.get("person"):
        way = people.way(client["by"], client["from"])
        notes += [way] if way else []
        notes.append(f"for {duration(client['connected_for'])}")
    if client.get("waits"):
        notes.append("waits")
    elif port.get("sharing") == "observed" and client["writes"]:
        notes.append("writes")
    name = people.called(client["address"], client.get("names", ()))
    return f"{name} ({', '.join(notes)})" if notes else name


def _serve(options: argparse.Namespace) -> int:
    with _pyserial_needed():
        from ttybridge.daemon import main as daemon

    def load() -> config.Config:
        if options.config:
            return config.load(options.config)
        entries = [config.entry_from_words(words) for words in options.port]
        return config.Config(config.parse(entries, "--port"), options.metrics)

    # A person at a terminal wants to know at once; a service waits for its TCP ports.
    return daemon.run(load, wait_for_listeners=bool(options.config))


@contextlib.contextmanager
def _pyserial_needed() -> Iterator[None]:
    """Say which package brings a module that is missing.

    Only serving needs pyserial; a machine that checks a configuration may not have it.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        raise config.ConfigError(
            [f"Python's module {error.name} is missing: sudo apt install python3-serial"]
        ) from None
