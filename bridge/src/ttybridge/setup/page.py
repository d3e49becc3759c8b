"""The port map of a fleet as one page for a browser, and as tables: CSV, Markdown, JSON.

The page is templates/port-map.html with the data in it; it requests nothing from anywhere. The
state of a port is that of the last report.json of verify.yml in the same folder, with its age.
"""

from __future__ import annotations

import csv
import datetime
import io
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ttybridge.model.check import PortMapError, parse_portmap
from ttybridge.model.ports import Listener, Port
from ttybridge.model.values import all_printable
from ttybridge.setup.accounts import Accounts
from ttybridge.setup.inventory import without_marks
from ttybridge.setup.ways import KINDS, blanks, console, kind, on_loopback

FORMAT = 1
"""The version of the form of port-map.json; another number means that a program must be changed."""

DATA = "@DATA@"
"""Where the page's template wants the data."""

COLUMNS = (
    "host",
    "port",
    "listen",
    "protocol",
    "line",
    "description",
    "location",
    "tags",
    "state",
)
"""The columns of port-map.csv and .md: a row for each listener."""


def pages(
    hosts: Sequence[str],
    variables: Mapping[str, Mapping[str, Any]],
    template: str,
    verified: str = "",
) -> dict[str, str]:
    """Return the files port-map.html, .csv, .md and .json by their names.

    `variables` are those of each host; `verified` is the text of report.json, "" if there is none.
    """
    document = all_printable(_document(hosts, variables, verified))
    return {
        "port-map.html": _as_html(document, template),
        "port-map.csv": _as_csv(document),
        "port-map.md": _as_markdown(document),
        "port-map.json": json.dumps(document, indent=2, ensure_ascii=False) + "\n",
    }


def _document(
    hosts: Sequence[str], variables: Mapping[str, Mapping[str, Any]], verified: str
) -> dict[str, Any]:
    time, results = _results(verified)
    return {
        "format": FORMAT,
        "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "verified": time,
        "hosts": [_host(host, variables[host], results.get(host, {})) for host in hosts],
    }


def _results(verified: str) -> tuple[str, dict[str, dict[str, Any]]]:
    """When verify.yml ran, and what it found, by host and port."""
    try:
        report = json.loads(verified)
        found = {
            host["name"]: {port["name"]: port for port in host["ports"]} for host in report["hosts"]
        }
        return str(report["time"]), found
    except (ValueError, LookupError, TypeError):
        # None yet, or one that somebody else wrote.
        return "", {}


def _host(name: str, variables: Mapping[str, Any], results: Mapping[str, Any]) -> dict[str, Any]:
    known = without_marks(dict(variables))
    address = str(known.get("ansible_host") or name)
    people = _people(known.get("serial_users"))
    user = people[0] if people else str(known.get("ansible_user") or "USER")
    host: dict[str, Any] = {"name": name, "address": address, "problem": "", "ports": []}
    try:
        ports = parse_portmap(known.get("serial_ports", []), known.get("serial_ports_defaults"))
    except PortMapError as error:
        return host | {"problem": str(error)}
    rows = []
    for port in ports:
        by_ssh = {"user": user, "host": address, "console": console(port.name, bool(people))}
        reached = {"console": by_ssh if port.engine == "bridge" else None}
        rows.append({**_port(port, address, results.get(port.name)), **reached})
    return host | {"ports": rows}


def _people(written: object) -> list[str]:
    """The accounts that get consoles by SSH; none where the variable has faults."""
    try:
        accounts = Accounts().parse(written or [])
    except ValueError:
        return []
    return [account.name for account in accounts if account.state == "present"]


def _port(port: Port, host: str, result: Mapping[str, Any] | None) -> dict[str, Any]:
    return {
        "port": port.name,
        "engine": port.engine,
        "protocol": port.protocol,
        "line": _line(port),
        "description": port.description,
        "location": port.location,
        "tags": list(port.tags),
        "sharing": port.sharing,
        "connect": str(port.connect) if port.connect else "",
        "listeners": [_listener(port, one, host) for one in port.listeners],
        "ok": None if result is None else bool(result["ok"]),
        "state": "" if result is None else str(result["result"]),
    }


def _line(port: Port) -> str:
    parity = port.parity[0].upper()
    flow = "" if port.flow == "none" else f" {port.flow}"
    return f"{port.baudrate} {port.bytesize}{parity}{port.stopbits:g}{flow}"


def _listener(port: Port, listener: Listener, host: str) -> dict[str, Any]:
    at = listener.at
    return {
        "at": str(at),
        "kind": kind(listener),
        "protocol": listener.protocol,
        "access": listener.access,
        # A client that is elsewhere cannot reach it, so the page says so.
        "local": on_loopback(at),
        "blanks": blanks(port, at, host),
    }


def _as_html(document: Mapping[str, Any], template: str) -> str:
    ways = {name: [(way.client, way.text) for way in ways] for name, ways in KINDS.items()}
    data = json.dumps({**document, "ways": ways}, ensure_ascii=False, separators=(",", ":"))
    # Within a script, only these characters can end it.
    return template.replace(DATA, data.replace("<", "\\u003c"))


def _as_csv(document: Mapping[str, Any]) -> str:
    text = io.StringIO()
    table = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    table.writeheader()
    table.writerows(_rows(document))
    return text.getvalue()


def _as_markdown(document: Mapping[str, Any]) -> str:
    rows = [COLUMNS, tuple("-" * 3 for _ in COLUMNS)]
    rows += [tuple(_cell(row[name]) for name in COLUMNS) for row in _rows(document)]
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def _cell(text: str) -> str:
    """A text that Markdown shows as it is."""
    return re.sub(r"([\\`*_{}\[\]<>|#])", r"\\\1", text)


def _rows(document: Mapping[str, Any]) -> Iterator[dict[str, str]]:
    """A row for each listener; a port without one has a row, too."""
    for host in document["hosts"]:
        for port in host["ports"]:
            same = {key: port[key] for key in ("port", "line", "description", "location", "state")}
            same |= {"host": host["name"], "tags": " ".join(port["tags"])}
            without = f"-> {port['connect']}" if port["connect"] else "-"
            for one in port["listeners"]:
                yield {**same, "listen": one["at"], "protocol": _spoken(one)}
            if not port["listeners"]:
                yield {**same, "listen": without, "protocol": port["protocol"]}


def _spoken(listener: Mapping[str, Any]) -> str:
    words = [listener["protocol"]]
    words += ["TLS"] if listener["kind"] == "tls" else []
    words += ["watch"] if listener["access"] == "watch" else []
    return " ".join(words)
