"""The two Pis of molecule/soak, what happens to them, and what became of the streams meanwhile."""

from __future__ import annotations

import copy
import functools
import json
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

import yaml

from playbook import LAB, ROOT

SCENARIO = ROOT / "molecule" / "soak"
INVENTORY = SCENARIO / "inventory"
_WRITTEN = yaml.safe_load((INVENTORY / "hosts.yml").read_text())["serial_servers"]
HOSTS = list(_WRITTEN["hosts"])
PORTS = [port["name"] for port in _WRITTEN["vars"]["serial_ports"]]

# Bytes that a sender writes at a time, less than what the lines carry: so nothing waits for them.
SIZES = dict.fromkeys(PORTS, 512) | {"fast": 16_384}

One = TypeVar("One")
Result = TypeVar("Result")

# This only ends a soak that would never end.
PATIENCE = 300

SSH = ["ssh", "-F", str(LAB / "ssh_config")]
FOLDER = "/usr/local/lib/soak"
CONFIGURATION = "/etc/ttybridge/ttybridge.toml"

# How a client of the soak connects to a port: a name, then the port, its TCP port and its protocol.
# Where a port has several clients, the last one writes: the device speaks when it hears it.
_CLIENTS = [
    ("raw", "raw", 10001, "raw"),
    ("fast", "fast", 10002, "raw"),
    ("telnet", "telnet", 10003, "telnet"),
    ("rfc2217", "rfc2217", 10004, "rfc2217"),
    ("shared, watches", "shared", 10005, "raw"),
    ("shared, watches too", "shared", 10005, "raw"),
    ("shared", "shared", 10005, "raw"),
    ("observed, watches", "observed", 10007, "telnet"),
    ("observed", "observed", 10006, "raw"),
    ("logged", "logged", 10008, "raw"),
    ("tls", "tls", 10009, "raw"),
]


def sessions(address: str) -> dict[str, dict[str, Any]]:
    """What sessions.py gets for one Pi: each client's name, and what `Session` takes."""
    return {
        name: {
            "port": port,
            "address": address,
            "tcp_port": tcp_port,
            "protocol": protocol,
            "tls": port == "tls",
            "size": SIZES[port] if name == port else 0,
        }
        for name, port, tcp_port, protocol in _CLIENTS
    }


class End:
    """The program at one end of the streams: far_end.py or sessions.py."""

    def __init__(self, words: Sequence[str]) -> None:
        self._process = subprocess.Popen(
            words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def ask(self, do: str, **keys: Any) -> dict[str, Any]:
        """What it answers to a command."""
        assert self._process.stdin
        assert self._process.stdout
        print(json.dumps({"do": do, **keys}), file=self._process.stdin, flush=True)
        line = self._process.stdout.readline()
        assert line, f"{self._process.args!r} has ended"
        answer: dict[str, Any] = json.loads(line)
        return answer

    def close(self) -> None:
        """Let it end."""
        self._process.communicate(timeout=PATIENCE)


@dataclass(frozen=True)
class Counts:
    """What became of a stream: bytes lost, repeated and wrong; the longest pause in seconds."""

    lost: int
    repeated: int
    wrong: int
    pause: float


@dataclass(frozen=True)
class Outcome:
    """What became of the streams and sessions of one Pi in one event."""

    host: str
    kind: str
    what: str
    """The event in words."""
    to_client: dict[str, Counts]
    """By session; TLS apart."""
    to_device: dict[str, Counts]
    """By port; TLS apart."""
    dropped: list[str]
    """The sessions that ended; TLS apart."""
    tls: int
    """How often a TLS session ended."""
    baudrates: set[int]
    """What RFC 2217 clients were told after it."""


def until(condition: Callable[[], bool], what: str) -> None:
    """Wait for a condition; AssertionError that says what did not happen."""
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, f"did not happen in {PATIENCE} s: {what}"
        time.sleep(0.1)


class Pi:
    """A container Pi, its adapters, and the clients of its ports."""

    def __init__(self, name: str) -> None:
        """Plug the adapters in. Their program comes from the controller."""
        self.name = name
        folder = ROOT / "molecule"
        far = ["far_end.py", "ends.py", "stream.py"]
        pack = ["tar", "-c", "-C", str(folder), *far, "-C", str(SCENARIO), "program.py", "dies.py"]
        packed = subprocess.run(pack, capture_output=True, check=True).stdout
        unpack = f"sudo sh -c 'mkdir -p {FOLDER} && tar -xC {FOLDER}'"
        subprocess.run([*SSH, name, unpack], input=packed, check=True, timeout=PATIENCE)
        sizes = " ".join(f"{port}={size}" for port, size in SIZES.items())
        self.far = End([*SSH, name, f"sudo python3 {FOLDER}/far_end.py {sizes}"])
        self.far.ask("report")  # now they are there
        address = self.sh("hostname -I").split()[0]
        self._sessions = sessions(address)
        words = [sys.executable, str(folder / "sessions.py"), json.dumps(self._sessions)]
        self.near = End(words)
        self._far_report: dict[str, Any] = {}
        self._near_report: dict[str, Any] = {}

    def close(self) -> None:
        """End the sessions, and pull the adapters out."""
        self.near.close()
        self.far.close()

    def sh(self, script: str) -> str:
        """What a shell script prints that runs as root; it must succeed."""
        done = subprocess.run(
            [*SSH, self.name, "sudo sh -es"],
            input=script,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )
        assert done.returncode == 0, f"{self.name}: {script}\n{done.stdout}{done.stderr}"
        return done.stdout

    def connect(self) -> None:
        """Start all sessions; on return bytes pass on each, both ways."""
        for name in self._sessions:
            self.near.ask("start", name=name)
            until(functools.partial(self._agreed, name), f"{self.name}: a session of {name}")
        self.settle()

    def _agreed(self, name: str) -> bool:
        return bool(self.near.ask("report")[name]["agreed"])

    def begin(self) -> None:
        """Measure pauses from now on."""
        self.far.ask("begin")
        self.near.ask("begin")

    def settle(self) -> None:
        """Return once all that was sent until now has arrived."""
        self.near.ask("ask_baudrate")
        sent_far, sent_near = self.far.ask("report"), self.near.ask("report")

        def missing() -> list[str]:
            self._far_report, self._near_report = self.far.ask("report"), self.near.ask("report")
            found = []
            for name, keys in self._sessions.items():
                port, near = keys["port"], self._near_report[name]
                if near["received"]["position"] < max(1, sent_far[port]["sent"]):
                    found.append(f"to client {name}")
                heard = self._far_report[port]["received"]["position"]
                if keys["size"] and heard < max(1, sent_near[name]["sent"]):
                    found.append(f"to device {port}")
                if keys["protocol"] == "rfc2217" and not near["baudrates"]:
                    found.append(f"the baudrate, to {name}")
            return found

        end = time.monotonic() + PATIENCE
        while still := missing():
            words = f"{self.name}: not arrived: {', '.join(still)}\n{self._state()}"
            assert time.monotonic() < end, words
            time.sleep(0.1)

    def _state(self) -> str:
        reports = {"far end": self._far_report, "sessions": self._near_report}
        return json.dumps(reports, indent=1)

    def outcome(self, kind: str, what: str) -> Outcome:
        """Settle, and return what became of streams and sessions since it was last settled."""
        far, near = self._far_report, self._near_report
        self.settle()
        plain = [name for name, keys in self._sessions.items() if not keys["tls"]]
        ended = {name: self._near_report[name]["dropped"] - near[name]["dropped"] for name in near}
        return Outcome(
            self.name,
            kind,
            what,
            {name: _counts(near[name], self._near_report[name]) for name in plain},
            {port: _counts(far[port], self._far_report[port]) for port in PORTS if port in plain},
            [name for name in plain if ended[name]],
            sum(count for name, count in ended.items() if name not in plain),
            {each for report in self._near_report.values() for each in report["baudrates"]},
        )

    def configure(self, change: Callable[[dict[str, dict[str, Any]]], None]) -> None:
        """Change the entries of the ports, given by name, and reload."""
        document = tomllib.loads(self.sh(f"cat {CONFIGURATION}"))
        change({port["name"]: port for port in document["port"]})
        self.write_configuration("\n".join(map(toml_table, document["port"])))

    def write_configuration(self, text: str) -> None:
        """Replace the configuration, and return once it has been reloaded."""
        write = f"cat >{CONFIGURATION} <<'END'\n{text}\nEND\n"
        self._until_said("reloaded: ", f"{write}systemctl reload ttybridge")

    def _until_said(self, words: str, script: str) -> None:
        """Run a script, and return once the daemon has written a line that begins so."""
        count = f"journalctl --unit ttybridge --output cat | grep -c '^{words}' || true"
        wait = f'until [ "$({count})" -gt "$before" ]; do sleep 0.05; done'
        self.sh(f"before=$({count})\n{script}\n{wait}")

    def restart(self) -> None:
        """Restart ttybridge."""
        self.sh("systemctl restart ttybridge")

    def use(self, program: str) -> None:
        """Go on with another program."""
        self.sh(f"ln -sfn {program} /usr/local/bin/ttybridge; systemctl restart ttybridge")

    def end(self, signal: str) -> None:
        """Send the daemon a signal that ends it; on return another process serves."""
        self.sh(f"{_PID}; {_KILL.format(signal)}; {_SERVED_BY_ANOTHER}")

    def throw_in_a_callback(self) -> None:
        """Have program.py throw an exception that the event loop catches."""
        self._until_said("RuntimeError: thrown in a callback", _KILL.format("USR1"))

    def fail_to_start(self, program: str) -> None:
        """Restart with a program that dies at each start; once it has tried again, as before."""
        self.sh(f"""
        before=$(readlink /usr/local/bin/ttybridge)
        restarts() {{ systemctl show --property=NRestarts --value ttybridge; }}
        ln -sfn {program} /usr/local/bin/ttybridge
        systemctl restart ttybridge || true
        first=$(restarts)
        until [ "$(restarts)" -gt "$first" ]; do sleep 0.1; done
        ln -sfn "$before" /usr/local/bin/ttybridge
        systemctl restart ttybridge
        """)

    def replug(self, port: str) -> None:
        """Pull an adapter out, and plug it in when its client has sent something meanwhile.

        What a pty holds when it is pulled out is lost by nature: so nothing is under way then.
        """
        for end in (self.near, self.far):
            end.ask("hold", name=port, held=True)
        self.settle()
        self.begin()
        self.far.ask("unplug", name=port)
        self.near.ask("hold", name=port, held=False)
        enough = self.near.ask("report")[port]["sent"] + 3 * SIZES[port]
        until(lambda: self.near.ask("report")[port]["sent"] >= enough, "input for an absent device")
        self.far.ask("plug", name=port)
        self.far.ask("hold", name=port, held=False)


_PID = "pid() { systemctl show --property=MainPID --value ttybridge; }; was=$(pid)"
_KILL = "systemctl kill --kill-whom=main --signal={} ttybridge"
_SERVED_BY_ANOTHER = """
until [ "$(pid)" != "$was" ] && systemctl --quiet is-active ttybridge; do sleep 0.05; done
"""


def each(ones: Iterable[One], do: Callable[[One], Result]) -> list[Result]:
    """Do something to all Pis at once; return what that returned for each."""
    with ThreadPoolExecutor() as pool:
        return list(pool.map(do, ones))


def _counts(before: dict[str, Any], after: dict[str, Any]) -> Counts:
    was, now = before["received"], after["received"]
    lost, repeated, wrong = (now[key] - was[key] for key in ("lost", "repeated", "wrong"))
    return Counts(lost, repeated, wrong, now["pause"])


def toml(value: object) -> str:
    """A value as TOML has it."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {toml(each)}" for key, each in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(toml, value)) + "]"
    return json.dumps(value)


def toml_table(port: dict[str, Any]) -> str:
    """The entry of a port in a configuration."""
    return "\n".join(["[[port]]", *(f"{key} = {toml(value)}" for key, value in port.items()), ""])


def merge(into: dict[str, Any], keys: dict[str, Any]) -> None:
    """Change keys of an entry; of a table that both have, the keys inside it."""
    for key, value in keys.items():
        if isinstance(value, dict) and isinstance(into.get(key), dict):
            merge(into[key], value)
        else:
            into[key] = copy.deepcopy(value)


def table(outcomes: Sequence[Outcome]) -> str:
    """All kinds of events of each Pi, a line each: sums, and the longest pause.

    It is narrow, since Molecule breaks long lines.
    """
    rows: list[tuple[str, ...]] = [
        ("", "", "", "TLS", "to client", "", "to device", "", "", "pause"),
        ("", "n", "drops", "", "lost", "twice", "lost", "twice", "wrong", "s"),
    ]
    for host in dict.fromkeys(one.host for one in outcomes):
        rows.append((host, *[""] * 9))
        for kind in dict.fromkeys(one.kind for one in outcomes):
            events = [one for one in outcomes if (one.host, one.kind) == (host, kind)]
            rows.append((f" {kind}", *_sums(events)))
    widths = (3, 6, 4, 10, 6, 10, 6, 6, 6)
    cells = ([f"{row[0]:18}", *map(str.rjust, row[1:], widths)] for row in rows)
    return "\n".join("".join(row).rstrip() for row in cells)


def _sums(events: Sequence[Outcome]) -> tuple[str, ...]:
    """The figures of some events, as the columns of the table have them."""
    up = [counts for one in events for counts in one.to_client.values()]
    down = [counts for one in events for counts in one.to_device.values()]
    figures = (
        len(events),
        sum(len(one.dropped) for one in events),
        sum(one.tls for one in events),
        sum(one.lost for one in up),
        sum(one.repeated for one in up),
        sum(one.lost for one in down),
        sum(one.repeated for one in down),
        sum(one.wrong for one in up + down),
    )
    return *map(str, figures), f"{max(one.pause for one in up + down):.2f}"
