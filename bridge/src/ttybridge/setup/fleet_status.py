"""What status.yml shows of all hosts, from what `ttybridge status --json` said on each.

The document that it writes is described in docs/operating.md. A change that takes something out of
it, or gives it another meaning, has another `format`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ttybridge.model.people import called, way
from ttybridge.model.ports import about
from ttybridge.model.values import all_printable, duration
from ttybridge.setup.table import table

FORMAT = 1
HEAD = ("HOST", "PORT", "LISTEN", "DEVICE", "CLIENTS", "ENGINE", "ABOUT", "STATE")

# What a shell says of a program that is not there.
_NO_SUCH_PROGRAM = (126, 127)


def report(hosts: Sequence[str], answers: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return {"table", "document"}: all ports as text, and as what status.json holds.

    `answers` are the results of Ansible's module raw by host; a host without one was not asked.
    """
    document = {"format": FORMAT, "hosts": [_host(host, answers.get(host, {})) for host in hosts]}
    document = all_printable(document)
    return {"table": _as_text(document["hosts"]), "document": document}


def _host(name: str, answer: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {"name": name, "state": "ok", "problem": ""}
    found |= {"ttybridge": None, "ports": []}
    stderr = str(answer.get("stderr") or "")
    said = _one_line(str(answer.get("msg") or "").removeprefix("Task failed: "), stderr)
    if answer.get("unreachable") or not answer:
        return found | {"state": "unreachable", "problem": f"cannot be reached: {said}"}
    if answer.get("rc") in _NO_SUCH_PROGRAM:
        return found | {"state": "not provisioned", "problem": "not provisioned: run playbook.yml"}
    stdout = str(answer.get("stdout") or "")
    if not stdout.strip():
        return found | {"state": "failed", "problem": said or "says nothing"}
    try:
        found |= _read(json.loads(stdout))
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        words = f"says what cannot be understood: {_one_line(stdout[:200])}"
        return found | {"state": "failed", "problem": words}
    if answer.get("rc"):
        return found | {"state": "failed", "problem": _one_line(stderr) or found["problem"]}
    return found | ({"state": "failed"} if found["problem"] else {})


def _one_line(*texts: str) -> str:
    return " ".join(" ".join(texts).split())


def _read(status: dict[str, Any]) -> dict[str, Any]:
    """The ports and the build of one host, and what is wrong there with all of it.

    A program of an earlier version leaves out what is read with `get`.
    """
    ser2net = status.get("ser2net") or {"ports": [], "state": ""}
    problems = [_one_line(status.get("reload_problem") or "")]
    if ser2net["state"] not in ("active", ""):
        problems.append(f"ser2net.service is {ser2net['state']}")
    version = status.get("version")
    return {
        "ttybridge": None if version is None else str(version),
        "problem": "; ".join(problem for problem in problems if problem),
        "ports": [
            *(_port(port, "bridge") for port in status["ports"]),
            *(_port(port, "ser2net") for port in ser2net["ports"]),
        ],
    }


def _port(port: dict[str, Any], engine: str) -> dict[str, Any]:
    device = port["device"]
    problems = [port.get("listen_problem"), device.get("problem")]
    if engine == "ser2net":
        problems += [] if port["listening"] else ["ser2net does not listen"]
        problems += [] if device["present"] else [f"{device['path']} does not exist"]
    return {
        "port": str(port["name"]),
        "engine": engine,
        "listen": _text(port["listen"]),
        "connect": _text(port.get("connect")),
        "listening": bool(port["listening"]),
        "device": str(device["path"]),
        "present": bool(device["present"]),
        "description": str(port.get("description") or ""),
        "location": str(port.get("location") or ""),
        "tags": [str(tag) for tag in port.get("tags") or ()],
        "clients": [_client(client) for client in port["clients"]],
        "problems": [_one_line(str(problem)) for problem in problems if problem],
    }


def _client(client: dict[str, Any]) -> dict[str, Any]:
    seconds = client.get("connected_for")
    return {
        "address": str(client["address"]),
        "listener": _text(client.get("listener")),
        "person": _text(client.get("person")),
        "by": _text(client.get("by")),
        "from": _text(client.get("from")),
        "names": [str(name) for name in client.get("names") or ()],
        "connected_for": None if seconds is None else float(seconds),
        "writes": bool(client.get("writes", True)),
        "waits": bool(client.get("waits", False)),
    }


def _text(value: object) -> str | None:
    return None if value is None else str(value)


def _as_text(hosts: list[dict[str, Any]]) -> str:
    rows = [HEAD, *(row for host in hosts for row in _rows(host))]
    return "\n".join([table(rows, optional=["ENGINE", "ABOUT"]), *_builds(hosts)])


def _rows(host: dict[str, Any]) -> Iterator[tuple[str, ...]]:
    """A row for each port of a host, and one for what is wrong with all of it."""
    for port in host["ports"]:
        yield (
            host["name"],
            port["port"],
            f"-> {port['connect']}" if port["connect"] else str(port["listen"]),
            port["device"] if port["present"] else "absent",
            ", ".join(map(_shown, port["clients"])) or "-",
            port["engine"],
            about(port["description"], port["location"], port["tags"]),
            "; ".join(port["problems"]) or ("ok" if port["listening"] else "does not listen"),
        )
    if host["problem"] or not host["ports"]:
        yield (host["name"], "-", "-", "-", "-", "", "", host["problem"] or "no ports")


def _shown(client: dict[str, Any]) -> str:
    """A client with how long it is there, and where it only waits or watches."""
    how = way(client["by"] or "", client["from"] or "")
    words = [how] if how else []
    words += [] if client["connected_for"] is None else [duration(client["connected_for"])]
    words += ["waits"] if client["waits"] else [] if client["writes"] else ["watches"]
    name = called(client["address"], client["names"])
    return f"{name} ({', '.join(words)})" if words else name


def _builds(hosts: list[dict[str, Any]]) -> Iterator[str]:
    """Which build of ttybridge runs: on one line if there is one, else with its hosts."""
    builds: dict[str, list[str]] = {}
    for host in hosts:
        if host["ttybridge"]:
            builds.setdefault(host["ttybridge"], []).append(host["name"])
    for build, where in builds.items():
        yield f"ttybridge {build}" + (f" on {', '.join(where)}" if len(builds) > 1 else "")
