"""What verify.yml prints of all hosts, from what the role verify noted of each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ttybridge.setup.table import table

HEAD = ("HOST", "PORT", "LISTEN", "ABOUT", "RESULT")


def report(hosts: Sequence[str], hostvars: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return {"table", "faults"}: a table of all ports as text, and a line for each fault.

    `hostvars` are Ansible's; the role verify has set the facts `verify_*` of each host.
    """
    rows = [HEAD]
    faults = []
    for host in hosts:
        rows += [(host, *row) for row in _rows(hostvars[host])]
        faults += [f"{host}: {fault}" for fault in _faults(hostvars[host])]
    return {"table": table(rows, optional=["ABOUT"]), "faults": faults}


def _rows(noted: Mapping[str, Any]) -> Iterator[tuple[str, str, str, str]]:
    """The rows of one host without its name: one for each port, and for each other finding."""
    about = {port["name"]: port["about"] for port in noted["serial_ports_checked"]}
    if why := noted["verify_unreadable"]:
        shown = "host not read back" if noted.get("verify_provisioned", True) else why
        for port in noted["serial_ports_checked"]:
            yield port["name"], port["endpoint"], port["about"], shown
        return
    for found in noted["verify_findings"]:
        yield found["port"], found["listen"], about.get(found["port"], ""), found["result"]
    if noted["verify_differing"]:
        yield "-", "-", "", _differs(noted)
    for fault in noted["verify_further"]:
        yield "-", "-", "", fault.partition(";")[0]


def _faults(noted: Mapping[str, Any]) -> Iterator[str]:
    if why := noted["verify_unreadable"]:
        yield from why.splitlines()
        return
    for found in noted["verify_findings"]:
        if found["todo"]:
            yield f"{found['about']}: {found['result']}; {found['todo']}"
    if noted["verify_differing"]:
        yield f"{_differs(noted)}; run playbook.yml (--diff shows what it writes)"
    yield from noted["verify_further"]


def _differs(noted: Mapping[str, Any]) -> str:
    return f"not as the inventory says: {', '.join(noted['verify_differing'])}"
