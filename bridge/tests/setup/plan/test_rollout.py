"""The plan of all hosts, batches, and the last summary."""

from __future__ import annotations

from typing import Any

import pytest

from ttybridge.setup.plan import rollout

NOTHING = {"todo": {}, "fault": "", "notes": [], "pending": [], "refused": []}


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
