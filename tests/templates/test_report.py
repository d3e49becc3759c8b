"""The table of verify.yml."""

from __future__ import annotations

import json
from typing import Any

from plugins.filter.ttyfleet import ports, report

ENTRY = {"name": "sw", "device": "/dev/ttyUSB0", "listen": [9999, 9998]}


def noted(entry: dict[str, Any], finding: dict[str, str], **plan: Any) -> dict[str, Any]:
    """What verify.yml knows of a host with one port."""
    nothing = {"todo": {}, "fault": "", "unfit": [], "faults": [], "pending": []}
    about = [{**port, "name": port["name"]} for port in ports([entry])]
    return {
        "plan_host": {**nothing, "ports": about, "provisioned": True, **plan},
        "verify_said": {"stdout": json.dumps([finding])},
    }


SOUND = {"about": "port sw", "port": "sw", "listen": "9999, 9998", "result": "listens", "todo": ""}


def table(**hosts: dict[str, Any]) -> list[str]:
    lines: list[str] = report([*hosts], hosts)["table"].splitlines()
    return lines


def test_a_port_that_says_nothing_of_itself() -> None:
    assert table(pi=noted(ENTRY, SOUND)) == [
        "HOST  PORT  LISTEN      RESULT",
        "pi    sw    9999, 9998  listens",
    ]


def test_what_ports_are_stands_before_what_was_found() -> None:
    described = {**ENTRY, "description": "Core switch", "location": "rack 1", "tags": ["lab"]}
    metrics = {"about": "bridge_metrics", "port": "(metrics)", "listen": "9410", "result": "shows"}
    assert table(
        one=noted(described, SOUND, pending=["ssh; restart it"]),
        two=noted(described, SOUND, fault="off: is it on?", provisioned=False),
        three=noted(ENTRY, {**metrics, "todo": ""}),
    ) == [
        "HOST   PORT       LISTEN      ABOUT                       RESULT",
        "one    sw         9999, 9998  Core switch (rack 1) [lab]  listens",
        "one    -          -                                       ssh",
        "two    sw         9999, 9998  Core switch (rack 1) [lab]  off: is it on?",
        "three  (metrics)  9410                                    shows",
    ]
