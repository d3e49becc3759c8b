"""Reads back on a host whether it serves its port map, for verify.yml and after a change.

    python3 -m ttybridge.setup.read_back JSON

JSON is {"ports": [...], "metrics": {"address", "port", "text"} or null, "patience": seconds,
"present": [paths], "probe_timeout": seconds}. The ports are as the role serial_ports returns them;
"metrics" is where ttybridge should show its metrics. Devices are checked and probed if
"probe_timeout" is given; else only those that were "present" before a change.

It prints a JSON list with a finding for each port and for the metrics: {"about", "port", "listen",
"result", "todo"}. An empty "todo" means that all is right.

The role verify sends this module with its imports as a command (`sources.as_command`): a host may
have no ttybridge. So it needs only the standard library. It changes nothing: it opens no device,
which would move the modem lines, and connects to no port that somebody uses.
"""

from __future__ import annotations

import grp
import http.client
import ipaddress
import json
import os
import socket
import ssl
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ttybridge.setup.listeners import Connection, connections, listens, peers

UNITS = {"bridge": "ttybridge", "ser2net": "ser2net"}
GROUP = "dialout"  # both daemons run in this group

# How the daemons refuse a client because others use the port. ser2net says the last two if they
# came through another listener, with the same line settings or with others.
REFUSALS = (
    "ttybridge: port ",
    "Port already in use",
    "Port's device already in use",
    "Device open failure: Object was already in use",
)


class Fault(Exception):
    """What is wrong, and what to do."""

    def __init__(self, result: str, todo: str) -> None:
        super().__init__(result)
        self.result, self.todo = result, todo


@dataclass(frozen=True)
class Bridge:
    """What `ttybridge status` says: the ports by name, the metrics, why the last reload failed.

    If there is no status, `problem` says why.
    """

    ports: dict[str, dict[str, Any]] = field(default_factory=dict)
    metrics: dict[str, Any] | None = None
    reload_problem: str = ""
    problem: str = ""


def units(names: set[str]) -> dict[str, dict[str, str]]:
    """The properties of services, as systemd shows them, by the services' names."""
    wanted = "Id,LoadState,ActiveState,Result,UnitFileState,NeedDaemonReload,UID"
    ids = sorted(f"{name}.service" for name in names)
    answer = subprocess.run(
        ["systemctl", "show", f"--property={wanted}", *ids],
        capture_output=True,
        text=True,
        check=True,
    )
    blocks = [
        dict(line.split("=", 1) for line in block.splitlines())
        for block in answer.stdout.split("\n\n")
        if block.strip()
    ]
    return {block["Id"].removesuffix(".service"): block for block in blocks}


def check_unit(name: str, unit: dict[str, str]) -> None:
    """Raise a fault unless a service runs, starts at boot, and uses its present unit file."""
    if unit["LoadState"] == "not-found":
        raise Fault(f"{name} is not installed", "run playbook.yml")
    if unit["ActiveState"] != "active":
        why = "" if unit["Result"] == "success" else f" ({unit['Result']})"
        # A service that fails again and again is `activating` much of the time.
        if why or unit["ActiveState"] == "activating":
            why += last_words(name)
        raise Fault(
            f"{name}.service is {unit['ActiveState']}{why}",
            f"look into `journalctl -u {name}`, then run playbook.yml",
        )
    if unit["UnitFileState"] != "enabled":
        raise Fault(f"{name}.service is {unit['UnitFileState']}", "run playbook.yml")
    if unit["NeedDaemonReload"] == "yes":
        raise Fault(f"{name}.service runs with an older unit file", f"restart {name}.service")


def last_words(name: str) -> str:
    """A colon and the last error that a service logged since the boot; "" if there is none."""
    journal = ["journalctl", "--quiet", "--boot", "--lines=1", "--output=cat"]
    wanted = [f"_SYSTEMD_UNIT={name}.service", "PRIORITY=3"]
    answer = subprocess.run([*journal, *wanted], capture_output=True, text=True, check=False)
    return f": {answer.stdout.strip()}" if answer.stdout.strip() else ""


def check_listeners(
    port: dict[str, Any], name: str, unit: dict[str, str], open_: list[Connection], why: str | None
) -> None:
    """Raise a fault unless the daemon of a port listens at each of its listeners."""
    for listener in port["listeners"]:
        try:
            check_listener(listener, name, unit, open_, why)
        except Fault as fault:
            if len(port["listeners"]) == 1:
                raise
            raise Fault(f"{listener['at']}: {fault.result}", fault.todo) from None


def check_listener(
    listener: dict[str, Any],
    name: str,
    unit: dict[str, str],
    open_: list[Connection],
    why: str | None,
) -> None:
    """Raise a fault unless a daemon listens where a listener says.

    `why` is the daemon's own reason for a listener that it cannot open.
    """
    found = listens(listener["address"], listener["port"], open_)
    uid = unit["UID"]
    if not found:
        raise Fault(
            f"{name} does not listen" + (f": {why}" if why else ""),
            f"look into `journalctl -u {name}`, then run playbook.yml",
        )
    if uid.isdigit() and all(one.user != int(uid) for one in found):
        raise Fault(
            f"another program listens in {name}'s place",
            f"find it with `sudo ss -ltnp sport = :{listener['port']}`, end it "
            "or write another listen",
        )


def check_served(name: str, bridge: Bridge) -> None:
    """Raise a fault unless ttybridge has the device of a port open with its line settings."""
    if bridge.problem:
        raise Fault(f"ttybridge does not say what it serves: {bridge.problem}", "run playbook.yml")
    if bridge.reload_problem:
        raise Fault(
            f"ttybridge has not taken its configuration: {bridge.reload_problem}",
            "run playbook.yml, then `sudo systemctl restart ttybridge`",
        )
    if name not in bridge.ports:
        raise Fault("ttybridge does not serve it", "run playbook.yml")
    device = bridge.ports[name]["device"]
    if device["problem"]:
        raise Fault(device["problem"], "look into `journalctl -u ttybridge`")
    if device["refused_settings"]:
        raise Fault(
            f"the device refuses {', '.join(device['refused_settings'])}",
            "correct the line settings, or use another adapter",
        )
    log = bridge.ports[name]["log"]
    if log and log["problem"]:
        raise Fault(
            f"its log {log['file']} is not written: {log['problem']}",
            "look into `journalctl -u ttybridge`",
        )


def check_tls(tls: dict[str, str | None]) -> None:
    """Raise a fault unless ttybridge can use the TLS files of a port for the next connection.

    ttybridge keeps the last good files, so a bad one shows only when it starts again.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(str(tls["certificate"]), tls["key"], password=lambda: "")
        if tls["client_ca"]:
            context.load_verify_locations(tls["client_ca"])
    except (OSError, ValueError) as error:  # SSLError is an OSError
        reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or error
        files = ", ".join(file for file in tls.values() if file)
        raise Fault(
            f"tls: {files}: {reason}",
            "correct them: a certificate, its key without a password, the CA of clients, all PEM",
        ) from None


def check_device(path: str, drivers: Path = Path("/proc/tty/drivers")) -> None:
    """Raise a fault unless a path is a tty that the daemons may open."""
    try:
        found = os.stat(path)
    except OSError:
        dangling = " leads nowhere" if os.path.islink(path) else " does not exist"
        raise Fault(
            f"no device: {path}{dangling}", "plug in the adapter, or correct usb or device"
        ) from None
    if not stat.S_ISCHR(found.st_mode) or not _is_tty(found.st_rdev, drivers):
        raise Fault(f"{path} is not a tty", "correct device")
    everyone = found.st_mode & 0o006 == 0o006
    ours = found.st_mode & 0o060 == 0o060 and found.st_gid == grp.getgrnam(GROUP).gr_gid
    if not everyone and not ours:
        raise Fault(
            f"{path} is closed to the group {GROUP}",
            "run playbook.yml; if that does not help, see who else sets its permissions",
        )


def _is_tty(device: int, drivers: Path) -> bool:
    major, minor = os.major(device), os.minor(device)
    for line in drivers.read_text().splitlines():
        number, minors = line.split()[-3:-1]
        first, _, last = minors.partition("-")
        if int(number) == major and int(first) <= minor <= int(last or first):
            return True
    return False


def check_alone(port: dict[str, Any], ports: list[dict[str, Any]]) -> None:
    """Raise a fault if another port has the same tty."""
    tty = os.path.realpath(port["path"])
    twins = [other["name"] for other in ports if os.path.realpath(other["path"]) == tty]
    twins.remove(port["name"])
    if twins:
        raise Fault(
            f"its device {tty} is also that of port {', '.join(twins)}",
            "add serial, path, interface or port to usb of both, or correct device",
        )


def probe(listener: dict[str, Any], sent: dict[str, str], timeout: float) -> str:
    """Send a probe and return the result in words; raise a fault if it fails."""
    send, expect = sent["send"].encode(), sent["expect"].encode()
    telnet = listener["protocol"] != "raw"
    if telnet:
        send = send.replace(b"\xff", b"\xff\xff").replace(b"\r\n", b"\n").replace(b"\r", b"\r\0")
    end = time.monotonic() + timeout
    got = b""
    try:
        with connection(listener, timeout) as client:
            client.sendall(send)
            while expect not in (without_telnet(got) if telnet else got):
                client.settimeout(max(end - time.monotonic(), 0.01))
                data = client.recv(4096)
                if not data:
                    break
                got += data
            else:
                return f"answered {sent['expect']!r}"
    except TimeoutError:
        pass
    except ssl.SSLError as error:
        raise Fault(
            f"TLS fails: {error.reason or error}",
            "look into `journalctl -u ttybridge`, correct tls and its files",
        ) from None
    except OSError as error:
        raise Fault(
            f"cannot be connected to: {error.strerror}", "see if a firewall on the host forbids it"
        ) from None
    told = (without_telnet(got) if telnet else got).decode(errors="replace").strip()
    if told.startswith(REFUSALS):
        return told
    heard = f"answered {told[-60:]!r}, not" if told else "did not answer"
    raise Fault(
        f"device {heard} {sent['expect']!r} within {timeout:g} s",
        "see that the far end is on and the line settings are its own, or correct probe",
    )


def connection(listener: dict[str, Any], timeout: float) -> socket.socket:
    """Connect to a listener, with TLS if it has that; any certificate will do."""
    client = socket.create_connection(here(listener), timeout)
    if not listener["tls"]:
        return client
    anyone = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    anyone.check_hostname = False
    anyone.verify_mode = ssl.CERT_NONE
    return anyone.wrap_socket(client)


def here(listener: dict[str, Any]) -> tuple[str, int]:
    """The address and TCP port at which the host itself reaches a listener."""
    address = listener["address"] or "127.0.0.1"
    target = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(address, address)
    return target, listener["port"]


def why_not_probed(listener: dict[str, Any]) -> str | None:
    """Why the host itself cannot write through a listener; None if it can."""
    if listener["access"] == "watch":
        return "its clients only watch"
    if not may_connect(listener):
        return "allow keeps the host itself out"
    if listener["tls"] and listener["tls"]["client_ca"]:
        return "tls asks for a client's certificate"
    return None


def may_connect(listener: dict[str, Any]) -> bool:
    """Whether `allow` of a listener lets in the host itself, by its source address."""
    allow = listener["allow"]
    if not allow or {"any", "local"} & set(allow):
        return True
    target, number = here(listener)
    family = socket.AF_INET6 if ":" in target else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as asked:
            asked.connect((target, number))  # UDP: nothing is sent
            source = ipaddress.ip_address(asked.getsockname()[0].partition("%")[0])
    except OSError:  # the probe fails for the same reason and says so
        return True
    return any(source in ipaddress.ip_network(network) for network in allow)


def without_telnet(data: bytes) -> bytes:
    """Bytes without telnet commands, also without an unfinished one at the end."""
    text = bytearray()
    at = 0
    while at < len(data):
        if data[at] != 0xFF:
            text.append(data[at])
            at += 1
        elif data[at + 1 : at + 2] == b"\xff":
            text.append(0xFF)
            at += 2
        elif data[at + 1 : at + 2] == b"\xfa":
            end = data.find(b"\xff\xf0", at)
            at = end + 2 if end >= 0 else len(data)
        else:
            at += 3 if data[at + 1 : at + 2] >= b"\xfb" else 2
    return bytes(text).replace(b"\r\0", b"\r")


def check_port(
    port: dict[str, Any],
    unit: dict[str, str],
    open_: list[Connection],
    probe_timeout: float | None,
    bridge: Bridge,
    ports: list[dict[str, Any]],
    present: Collection[str] = (),
) -> str:
    """Return the result for a port in words, or raise its first fault."""
    name = UNITS[port["engine"]]
    check_unit(name, unit)
    problem = bridge.ports.get(port["name"], {}).get("listen_problem")
    check_listeners(port, name, unit, open_, problem)
    for listener in port["listeners"]:
        if listener["tls"]:
            check_tls(listener["tls"])
    if probe_timeout is None:
        was_present = port["path"] in present
        if was_present:
            check_device(port["path"])
        if port["engine"] == "bridge" and (was_present or port["name"] not in bridge.ports):
            check_served(port["name"], bridge)
        return _serves(port)
    check_device(port["path"])
    check_alone(port, ports)
    if port["engine"] == "bridge":
        check_served(port["name"], bridge)
    if not port["listeners"]:
        if problem:
            raise Fault(problem, "see that something listens there, or correct connect")
        return f"{'connected' if port['connect'] else 'for users only'}, device is there"
    users = sorted(
        user
        for listener in port["listeners"]
        for user in peers(listener["address"], listener["port"], open_)
    )
    if users:
        return f"in use by {', '.join(users)}"
    if not port["probe"]:
        return "listens, device is there"
    reasons = []
    for listener in port["listeners"]:
        reason = why_not_probed(listener)
        if not reason:
            return probe(listener, port["probe"], probe_timeout)
        reasons.append(reason)
    return f"listens, device is there; not probed: {', '.join(dict.fromkeys(reasons))}"


def _serves(port: dict[str, Any]) -> str:
    if port["listeners"]:
        return "listens"
    return "connects" if port["connect"] else "for users only"


def ask_bridge() -> Bridge:
    """The status of ttybridge."""
    try:
        answer = subprocess.run(["ttybridge", "status", "--json"], capture_output=True, text=True)
    except OSError as error:
        return Bridge(problem=f"/usr/local/bin/ttybridge: {error.strerror}")
    if answer.returncode:
        return Bridge(problem=" ".join(answer.stderr.split()) or f"status {answer.returncode}")
    status = json.loads(answer.stdout)
    return Bridge(
        {port["name"]: port for port in status["ports"]},
        # An older program (bridge_version) says neither.
        status.get("metrics"),
        status.get("reload_problem") or "",
    )


def check_metrics(
    wanted: dict[str, Any] | None, unit: dict[str, str], open_: list[Connection], bridge: Bridge
) -> str:
    """Return the result for the metrics in words; raise a fault if they are not as `wanted`."""
    todo = "look into `journalctl -u ttybridge`, then run `sudo systemctl restart ttybridge`"
    check_unit("ttybridge", unit)
    said = bridge.metrics or {}
    if not wanted:
        raise Fault(f"ttybridge still shows its metrics at {said.get('listen')}", todo)
    check_listener(wanted, "ttybridge", unit, open_, said.get("problem"))
    client = http.client.HTTPConnection(*here(wanted), timeout=10)
    try:
        client.request("GET", "/metrics")
        answer = client.getresponse()
        body = answer.read()
        if answer.status == 200 and b"ttybridge_info" in body:
            return "shows metrics"
        raise Fault(f"answers {answer.status}, not with metrics", todo)
    except (OSError, http.client.HTTPException) as error:
        raise Fault(f"metrics do not answer: {error}", todo) from None
    finally:
        client.close()


def findings(
    ports: list[dict[str, Any]],
    metrics: dict[str, Any] | None = None,
    probe_timeout: float | None = None,
    present: Collection[str] = (),
) -> Iterator[dict[str, str]]:
    """A finding for each port, and one for the metrics if they are or should be shown."""
    state = units({UNITS[port["engine"]] for port in ports})
    open_ = connections()
    served_here = any(port["engine"] == "bridge" for port in ports)
    bridge = ask_bridge() if served_here else Bridge()

    def find(port: dict[str, Any]) -> dict[str, str]:
        unit = state[UNITS[port["engine"]]]
        about = {"about": f"port {port['name']}", "port": port["name"], "listen": port["endpoint"]}
        return about | judged(check_port, port, unit, open_, probe_timeout, bridge, ports, present)

    with ThreadPoolExecutor(max_workers=32) as pool:
        yield from pool.map(find, ports)
    shown = (bridge.metrics or {}).get("listen")
    if served_here and (metrics or shown):
        listen = metrics["text"] if metrics else str(shown)
        about = {"about": "bridge_metrics", "port": "(metrics)", "listen": listen}
        yield about | judged(check_metrics, metrics, state["ttybridge"], open_, bridge)


def judged(check: Callable[..., str], *arguments: Any) -> dict[str, str]:
    """The result of a check, and what to do if it is a fault."""
    try:
        return {"result": check(*arguments), "todo": ""}
    except Fault as fault:
        return {"result": fault.result, "todo": fault.todo}


def patiently(find: Callable[[], list[dict[str, str]]], patience: float) -> list[dict[str, str]]:
    """Look again until all is right, for at most `patience` seconds; return what was found last."""
    end = time.monotonic() + patience
    while True:
        found = find()
        if time.monotonic() >= end or not any(one["todo"] for one in found):
            return found
        time.sleep(0.5)


def main(argument: str) -> None:
    """Print the findings."""
    wanted = json.loads(argument)
    print(
        json.dumps(
            patiently(
                lambda: list(
                    findings(
                        wanted["ports"],
                        wanted.get("metrics"),
                        wanted.get("probe_timeout"),
                        wanted.get("present", ()),
                    )
                ),
                wanted.get("patience", 0),
            )
        )
    )


if __name__ == "__main__":
    main(sys.argv[1])
