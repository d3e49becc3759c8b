"""What verify.yml says of all hosts: a table, the faults, and files for other programs."""

from __future__ import annotations

import datetime
import json
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from ttybridge.model.values import printable
from ttybridge.setup.plan.rollout import open_of_all
from ttybridge.setup.table import table

HEAD = ("HOST", "PORT", "LISTEN", "ABOUT", "RESULT")

# The version of the form of report.json: another number means that a program must be changed.
FORMAT = 1

# What ttybridge.setup.read_back says of each port.
_FINDING = ("about", "port", "listen", "result", "todo")

# Characters of what a host says instead.
_MOST_WORDS = 300


@dataclass(frozen=True)
class Found:
    """What was found of one port, or of the metrics. `todo` says what to do; "" = all is right."""

    name: str
    listen: str
    about: str
    result: str
    todo: str = ""
    fault: str = ""

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong with it."""
        return not self.fault


@dataclass(frozen=True)
class Host:
    """What was found of one host.

    `unread` says why it was not read back; "" = it was. `drift` names each file, unit and package
    that is not as the inventory says; `faults` are further faults with what to do.
    """

    name: str
    ports: list[Found] = field(default_factory=list)
    unread: str = ""
    drift: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong with it."""
        return not self.unread and not self.drift and not self.faults and all(self._ok)

    @property
    def _ok(self) -> Iterator[bool]:
        return (port.ok for port in self.ports)

    @property
    def all_faults(self) -> list[str]:
        """Every fault of the host, a line each."""
        if self.unread:
            return self.unread.splitlines()
        own = [port.fault for port in self.ports if port.fault]
        drift = [f"{self.differs}; run playbook.yml (--diff shows what it writes)"]
        return own + (drift if self.drift else []) + self.faults

    @property
    def differs(self) -> str:
        """What is not as the inventory says, on one line."""
        return f"not as the inventory says: {', '.join(self.drift)}"


def report(hosts: Sequence[str], facts: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return the report on all hosts: `table`, `open`, `faults`, and the texts `json` and `junit`.

    `open` is a line about ports that are open to everybody, or nothing.

    `facts` are those of all hosts: `plan_host` (ttybridge.setup.plan.host), and `verify_said`, the
    result of the task that read the ports back.
    """
    found = [host(name, facts[name]["plan_host"], facts[name].get("verify_said")) for name in hosts]
    faults = [f"{one.name}: {fault}" for one in found for fault in one.all_faults]
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    return {
        "table": as_table(found),
        "open": open_of_all(hosts, facts),
        "faults": faults,
        "json": as_json(found, now),
        "junit": as_junit(found, now),
    }


def host(name: str, plan: Mapping[str, Any], said: Mapping[str, Any] | None) -> Host:
    """Return what was found of a host, from its plan and what it said of its ports."""
    findings, problem = _findings(said or {})
    unread = plan["fault"] or "\n".join(plan["unfit"])
    if not unread and not plan["provisioned"]:
        unread = "not provisioned yet: run playbook.yml"
    unread = unread or problem
    if unread:
        shown = unread if not plan["provisioned"] else "host not read back"
        ports = [Found(one["name"], one["endpoint"], one["about"], shown) for one in plan["ports"]]
        return Host(name, ports, unread)
    about = {port["name"]: port["about"] for port in plan["ports"]}
    # A tuple: what Ansible gives can be walked through once.
    todo = tuple(plan["todo"].values())
    return Host(
        name,
        [_found(one, about) for one in findings],
        drift=[words for role in todo for words in role["differs"]],
        faults=[*plan["faults"], *plan["pending"], *(f for role in todo for f in role["faults"])],
    )


def _findings(said: Mapping[str, Any]) -> tuple[list[dict[str, str]], str]:
    """What ttybridge.setup.read_back printed, and why it printed nothing."""
    if said.get("skipped") or not said:
        return [], ""
    if said.get("unreachable"):
        return [], f"cannot be reached: {_words(said)}; see that it is on and that ssh lets you in"
    try:
        answer = json.loads(said["stdout"])
        return [{key: printable(str(one[key])) for key in _FINDING} for one in answer], ""
    except (KeyError, TypeError, ValueError):
        return [], f"Read the ports back failed: {_words(said)}"


def _words(said: Mapping[str, Any]) -> str:
    """Why a task failed; the last line of a traceback says what was wrong."""
    lines = [line for line in str(said.get("stderr", "")).splitlines() if line.strip()]
    words = lines[-1] if lines else str(said.get("msg") or said.get("stdout", ""))
    return printable(" ".join(words.split())[:_MOST_WORDS])


def _found(finding: Mapping[str, str], about: Mapping[str, str]) -> Found:
    name, result, todo = finding["port"], finding["result"], finding["todo"]
    fault = f"{finding['about']}: {result}; {todo}" if todo else ""
    return Found(name, finding["listen"], about.get(name, ""), result, todo, fault)


def as_table(hosts: Sequence[Host]) -> str:
    """Return a line for each port of each host, and for each other thing that is wrong."""
    rows = [HEAD]
    for one in hosts:
        rows += [(one.name, port.name, port.listen, port.about, port.result) for port in one.ports]
        if one.drift:
            rows.append((one.name, "-", "-", "", one.differs))
        rows += [(one.name, "-", "-", "", fault.partition(";")[0]) for fault in one.faults]
        if one.unread and not one.ports:
            rows.append((one.name, "-", "-", "", one.unread.partition(";")[0]))
    return table(rows, optional=["ABOUT"])


def as_json(hosts: Sequence[Host], time: str) -> str:
    """Return the report for programs; docs/fleet.md describes it."""
    whole = {
        "format": FORMAT,
        "time": time,
        "ok": all(one.ok for one in hosts),
        "hosts": [
            {
                "name": one.name,
                "ok": one.ok,
                "unread": one.unread,
                "ports": [{**asdict(port), "ok": port.ok and not one.unread} for port in one.ports],
                "drift": one.drift,
                "faults": one.faults,
            }
            for one in hosts
        ],
    }
    return json.dumps(whole, indent=2, ensure_ascii=False) + "\n"


def as_junit(hosts: Sequence[Host], time: str) -> str:
    """Return the report as JUnit's XML: a suite for each host, a test case for each port.

    Each host also has the case "host": whether it was read, and is as the inventory says.
    """
    root = ElementTree.Element("testsuites", name="ttyfleet verify")
    for one in hosts:
        own = [one.unread, one.differs if one.drift else "", *one.faults]
        cases = [("host", "; ".join(filter(None, own)))]
        cases += [(port.name, port.fault or one.unread) for port in one.ports]
        failed = [problem for _, problem in cases if problem]
        suite = ElementTree.SubElement(
            root,
            "testsuite",
            name=one.name,
            tests=str(len(cases)),
            failures=str(len(failed)),
            errors="0",
            timestamp=time,
        )
        for name, problem in cases:
            case = ElementTree.SubElement(suite, "testcase", classname=one.name, name=name)
            if problem:
                ElementTree.SubElement(case, "failure", message=problem).text = problem
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode", xml_declaration=True) + "\n"
