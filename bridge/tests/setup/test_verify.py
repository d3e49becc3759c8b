"""What verify.yml prints, from each host's plan and what it said of its ports."""

from __future__ import annotations

import json
from typing import Any
from xml.etree import ElementTree

import pytest

from ttybridge.setup.table import table
from ttybridge.setup.verify import report

PORTS = [
    {"name": "sw", "endpoint": "9999", "about": "", "engine": "bridge", "path": "/dev/x"}
    | {"open": ""},
    {"name": "ups", "endpoint": "-> pc:1", "about": "", "engine": "bridge", "path": "/dev/y"}
    | {"open": ""},
]
PLAN: dict[str, Any] = {
    **{"todo": {}, "fault": "", "unfit": [], "faults": [], "pending": [], "ports": PORTS},
    "provisioned": True,
}


def noted(*findings: dict[str, str], **plan: Any) -> dict[str, Any]:
    """The facts of a host."""
    return {"plan_host": {**PLAN, **plan}, "verify_said": {"stdout": json.dumps(findings)}}


SOUND = {**{"about": "port sw", "port": "sw", "listen": "9999"}, "result": "listens", "todo": ""}


def test_columns_are_as_wide_as_their_widest_cell() -> None:
    assert table([("PORT", "A", "B"), ("sw", "", "longer"), ("a-long-name", "x", "")]) == (
        "PORT         A  B\nsw              longer\na-long-name  x"
    )


def test_an_optional_column_is_left_out_if_it_is_empty() -> None:
    assert table([("A", "B", "C"), ("1", "", "3")], optional="B") == "A  C\n1  3"
    assert table([("A", "B", "C"), ("1", "2", "3")], optional="B") == "A  B  C\n1  2  3"
    assert table([("A", "B")], optional="B") == "A"


def found(**hosts: dict[str, Any]) -> dict[str, Any]:
    return report([*hosts], hosts)


def test_open_ports_are_named() -> None:
    ports = [{**PORTS[0], "open": "9999"}]
    (line,) = found(pi1=noted(SOUND, ports=ports))["open"]
    assert line.startswith("open to everyone who reaches them: 1 port (sw): write allow: ")
    assert found(pi1=noted(SOUND))["open"] == []


def test_ports_that_are_right() -> None:
    made = found(pi1=noted(SOUND), pi2=noted())
    assert made["table"] == "HOST  PORT  LISTEN  RESULT\npi1   sw    9999    listens"
    assert made["faults"] == []
    assert json.loads(made["json"])["ok"]


WRONG = {**SOUND, "result": "ttybridge does not listen", "todo": "run playbook.yml"}
DRIFT = {
    "bridge": {"differs": ["/etc/a (content)"], "faults": ["runs another program; stop it"]},
    "udev": {"differs": ["/etc/b (missing)"], "faults": []},
}
BAD = noted(SOUND, WRONG, todo=DRIFT, pending=["has not been rebooted; run sudo reboot there"])


def test_all_that_can_be_wrong_with_a_host() -> None:
    made = found(pi=BAD)
    differs = "not as the inventory says: /etc/a (content), /etc/b (missing)"
    assert made["table"].splitlines()[1:] == [
        "pi    sw    9999    listens",
        "pi    sw    9999    ttybridge does not listen",
        f"pi    -     -       {differs}",
        "pi    -     -       has not been rebooted",
        "pi    -     -       runs another program",
    ]
    assert made["faults"] == [
        "pi: port sw: ttybridge does not listen; run playbook.yml",
        f"pi: {differs}; run playbook.yml (--diff shows what it writes)",
        "pi: has not been rebooted; run sudo reboot there",
        "pi: runs another program; stop it",
    ]


class Lazy(dict[str, Any]):
    """A dictionary as Ansible gives it: what `values` returns can be walked through once."""

    def values(self) -> Any:
        return iter(super().values())


def test_a_plan_that_ansible_gives_is_read_whole() -> None:
    todo = Lazy(bridge={"differs": [], "faults": ["runs another program; stop it"]})
    assert found(pi=noted(SOUND, todo=todo))["faults"] == ["pi: runs another program; stop it"]


def test_a_host_that_was_not_read_back() -> None:
    made = found(pi=noted(fault="cannot be reached\nsee that it is on"))
    assert made["table"].splitlines()[1:] == [
        "pi    sw    9999     host not read back",
        "pi    ups   -> pc:1  host not read back",
    ]
    assert made["faults"] == ["pi: cannot be reached", "pi: see that it is on"]
    assert found(pi=noted(fault="cannot be reached", ports=[]))["table"].splitlines()[1:] == [
        "pi    -     -       cannot be reached"
    ]


def test_a_host_without_an_engine_is_not_provisioned_yet() -> None:
    made = found(pi=noted(provisioned=False))
    words = "not provisioned yet: run playbook.yml"
    assert [line.split(maxsplit=3)[-1] for line in made["table"].splitlines()[1:2]] == [words]
    assert made["faults"] == [f"pi: {words}"]


def test_a_host_that_fails_while_it_is_read_back() -> None:
    gone = {**noted(), "verify_said": {"unreachable": True, "msg": "no route"}}
    broken = {
        **noted(),
        "verify_said": {"rc": 1, "stdout": "", "stderr": "Traceback\nKeyError: x\n"},
    }
    assert found(gone=gone, broken=broken)["faults"] == [
        "gone: cannot be reached: no route; see that it is on and that ssh lets you in",
        "broken: Read the ports back failed: KeyError: x",
    ]


@pytest.mark.parametrize(
    "answer", ['{"ports": "\\u001b"}', '["a"]', '[{"port": "a"}]', "[[]]", "[1]", "1", "null", "{"]
)
def test_a_host_that_says_something_else_is_named_with_it(answer: str) -> None:
    other = {**noted(), "verify_said": {"rc": 0, "stdout": f"{answer}\n", "stderr": ""}}
    report = found(other=other, good=noted(SOUND))
    assert report["faults"] == [f"other: Read the ports back failed: {answer}"]


def test_what_a_host_says_of_its_ports_is_text() -> None:
    said = json.dumps([dict.fromkeys(("about", "port", "listen", "result", "todo"), "\x1b[m")])
    evil = {**noted(), "verify_said": {"rc": 0, "stdout": said, "stderr": ""}}
    text = r"\x1b[m"
    assert found(evil=evil)["faults"] == [f"evil: {text}: {text}; {text}"]


def test_the_report_for_programs() -> None:
    whole = json.loads(found(good=noted(SOUND), bad=BAD)["json"])
    assert (whole["format"], whole["ok"]) == (1, False)
    good, bad = whole["hosts"]
    assert (good["name"], good["ok"], bad["ok"]) == ("good", True, False)
    assert bad["drift"] == ["/etc/a (content)", "/etc/b (missing)"]
    assert [port["ok"] for port in bad["ports"]] == [True, False]
    assert bad["ports"][1]["fault"] == "port sw: ttybridge does not listen; run playbook.yml"


def test_the_report_as_junit_has_a_case_for_each_port() -> None:
    off = noted(fault="cannot be reached")
    root = ElementTree.fromstring(found(good=noted(SOUND), bad=BAD, off=off)["junit"])
    suites = {suite.get("name"): suite for suite in root}
    assert [(suite.get("tests"), suite.get("failures")) for suite in root] == [
        ("2", "0"),
        ("3", "2"),
        ("3", "3"),
    ]
    cases = suites["bad"].findall("testcase")
    assert [case.get("name") for case in cases] == ["host", "sw", "sw"]
    failure = cases[2].find("failure")
    assert failure is not None
    assert failure.get("message") == "port sw: ttybridge does not listen; run playbook.yml"
