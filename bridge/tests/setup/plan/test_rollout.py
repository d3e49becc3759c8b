"""The plan of all hosts, batches, and the last summary."""

from __future__ import annotations

from typing import Any

import pytest

from ttybridge.setup.plan import rollout

NOTHING = {"todo": {}, "fault": "", "notes": [], "pending": [], "refused": [], "ports": []}


def changes(*lines: str) -> dict[str, Any]:
    return {**NOTHING, "todo": {"bridge": {"lines": [*lines]}}}


def test_the_message_counts_hosts_and_names_changes() -> None:
    off = {**NOTHING, "fault": "cannot be reached: no answer"}
    plans = {"pi1": NOTHING, "pi2": changes("+ /etc/a"), "pi3": off, "pi4": NOTHING}
    assert rollout.message(plans).splitlines() == [
        "4 hosts: 2 as they should be, 1 to change, 1 left out",
        "pi2: + /etc/a",
        "pi3: left out: cannot be reached: no answer",
    ]
    assert rollout.message({"pi1": NOTHING}) == "1 host: 1 as it should be"
    assert rollout.changing(plans) == ["pi2"]


def test_the_message_shows_few_lines_of_a_host_with_many() -> None:
    lines = rollout.message({"pi": changes(*(f"+ /{n}" for n in range(80)))}).splitlines()
    assert len(lines) == 52
    assert lines[-1] == "pi: and 30 more"


def test_notes_are_shown_also_of_a_host_that_does_not_change() -> None:
    plan = {**NOTHING, "pending": ["reboot it"]}
    assert rollout.message({"pi": plan}).splitlines()[1:] == ["pi: ? reboot it"]


def serves(**ports: str) -> dict[str, Any]:
    """The plan of a host that does not change; each port with its open listeners."""
    return {**NOTHING, "ports": [{"name": name, "open": at} for name, at in ports.items()]}


WRITE = "write allow: [local], the networks, or allow: [any] if that is meant"


def test_open_ports_are_named_at_the_end() -> None:
    said = "open to everyone who reaches them: "
    alone = rollout.message({"pi": serves(sw="9999", ups="", pdu="1, 2")})
    assert alone.splitlines()[1:] == [f"{said}2 ports (sw, pdu): {WRITE}"]
    fleet = {"pi1": serves(sw="9999"), "pi2": serves(ups="")}
    assert rollout.message(fleet).splitlines()[1:] == [f"{said}1 port (pi1 sw): {WRITE}"]
    assert rollout.open_ports({"pi": serves(sw="")}) == []


def test_few_of_many_open_ports_are_named() -> None:
    (line,) = rollout.open_ports({"pi": serves(**{f"p{n}": "1" for n in range(12)})})
    assert "12 ports (p0, p1, p2, p3, p4, p5, p6, p7, p8, p9, 2 more)" in line


def test_where_something_changes_the_last_summary_names_open_ports() -> None:
    plans = {"pi1": {**changes("+ /etc/a"), "ports": [{"name": "sw", "open": "1"}]}}
    assert "open to everyone" not in rollout.message(plans)
    facts = {"pi1": {"plan_host": plans["pi1"]}, "pi2": {}}
    (line,) = rollout.open_of_all(["pi1", "pi2"], facts)
    assert line.startswith("open to everyone who reaches them: 1 port (sw)")


def test_refusals_name_their_host() -> None:
    assert rollout.refusals({"pi1": NOTHING, "pi2": {**NOTHING, "refused": ["a", "b"]}}) == [
        "pi2: a",
        "pi2: b",
    ]


@pytest.mark.parametrize(
    ("written", "read"),
    [
        (None, [1, "25%", "100%"]),
        ([1, "25%", "100%"], [1, "25%", "100%"]),
        ('[1,"25%","100%"]', [1, "25%", "100%"]),
        ("1,25%,100%", [1, "25%", "100%"]),
        ("[1, 25%]", [1, "25%"]),
        (5, [5]),
        ("5", [5]),
        ("100%", ["100%"]),
    ],
)
def test_batches_are_read_in_every_form(written: object, read: list[int | str]) -> None:
    assert rollout.batches(written) == read


def test_batches_are_read_where_ansible_has_split_them() -> None:
    assert rollout.batches("[1,", '"25%", "100%"]') == [1, "25%", "100%"]


@pytest.mark.parametrize("written", ["", "0", "all", [], [0], ["120%"], True, {"a": 1}, 1.5])
def test_other_batches_are_refused(written: object) -> None:
    with pytest.raises(ValueError, match="write the size of each batch"):
        rollout.batches(written)


FACTS: dict[str, dict[str, Any]] = {
    "ok": {"plan_host": NOTHING, "plan_outcome": ""},
    "off": {"plan_host": {**NOTHING, "fault": "cannot be reached"}},
    "back": {"plan_host": NOTHING, "plan_outcome": "went back", "plan_failed": True},
    "skipped": {"plan_host": NOTHING, "plan_outcome": "left as it was"},
    "lost": {"plan_host": NOTHING},
}


def test_outcomes_say_why_of_each_host_that_is_not_well() -> None:
    assert rollout.outcomes([*FACTS], FACTS) == {
        "off": "cannot be reached",
        "back": "went back",
        "skipped": "left as it was",
        "lost": "not changed: the run stopped before its end",
    }


@pytest.mark.parametrize(
    ("hosts", "failed"),
    [
        (["ok", "next"], []),
        (["back", "next"], ["back"]),
        (["lost", "next"], ["lost"]),
        (["skipped", "next"], []),
        (["next", "back"], []),
    ],
)
def test_a_batch_after_a_failure_is_not_changed(hosts: list[str], failed: list[str]) -> None:
    assert rollout.stopped_at(hosts, ["next"], FACTS) == failed


def test_the_summary_says_how_to_go_on() -> None:
    assert rollout.summary({"pi1": "off", "pi2": "a\nb"}, "ansible-playbook playbook.yml") == (
        "pi1: off\npi2: a\npi2: b\n"
        "When that is corrected: ansible-playbook playbook.yml --limit pi1,pi2"
    )


@pytest.mark.parametrize(
    ("result", "words"),
    [
        ({"msg": "pi: no such thing"}, "Do it: no such thing"),
        ({}, "Do it: no reason given"),
        ({"msg": "one\n  two"}, "Do it: one two"),
        (
            {"msg": "non-zero return code", "stderr": "Traceback\n  x\nOSError: full\n"},
            "Do it: non-zero return code: OSError: full",
        ),
        ({"msg": "apt: full", "stderr": "full"}, "Do it: apt: full"),
        (
            {
                "msg": "One or more items failed",
                "results": [
                    {"item": {"path": "/a"}},
                    {"failed": True, "item": {"path": "/b"}, "msg": "no room", "stderr": ""},
                ],
            },
            "Do it: /b: no room",
        ),
        (
            {"msg": "x", "results": [{"failed": True, "item": "a", "msg": "\x1b[m"}]},
            "Do it: \\x1b[m",
        ),
    ],
)
def test_why_a_task_has_failed_is_one_line(result: dict[str, Any], words: str) -> None:
    assert rollout.why(result, "host : Do it", "pi") == words
