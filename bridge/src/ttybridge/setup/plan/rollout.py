"""The plan of all hosts in one message, the batches of a roll-out, and the last summary."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from ttybridge.model.values import printable
from ttybridge.setup.words import count, open_to_everyone

# The canary, a quarter of the hosts, the rest.
ROLLOUT: tuple[int | str, ...] = (1, "25%", "100%")

# A host can differ in very many lines; nobody reads them all.
MOST_LINES = 50

Plans = Mapping[str, Mapping[str, Any]]


def message(plans: Plans) -> str:
    """Return the plan of all hosts: how many differ, and for each of them what is done.

    `plans` are those of the hosts by name: see `ttybridge.setup.plan.host.plan`.
    """
    will_change, left_out = changing(plans), [host for host in plans if plans[host]["fault"]]
    same = len(plans) - len(will_change) - len(left_out)
    who = "it" if same == 1 or len(plans) == 1 else "they"
    head = f"{count(len(plans), 'host')}: {same} as {who} should be"
    if will_change:
        head += f", {len(will_change)} to change"
    if left_out:
        head += f", {len(left_out)} left out"
    lines = [head]
    for host, plan in plans.items():
        lines += [f"{host}: {line}" for line in _lines(plan)]
    # Else the last summary says it.
    if not (will_change or left_out):
        lines += open_ports(plans)
    return "\n".join(lines)


def open_ports(plans: Plans) -> list[str]:
    """Return a line that names the ports that let everybody in without saying so; none, no line."""
    found = [
        f"{host} {port['name']}" if len(plans) > 1 else port["name"]
        for host, plan in plans.items()
        for port in plan["ports"]
        if port["open"]
    ]
    return [open_to_everyone(found)] if found else []


def _lines(plan: Mapping[str, Any]) -> list[str]:
    if plan["fault"]:
        return [f"left out: {line}" for line in plan["fault"].splitlines()]
    lines = [line for todo in plan["todo"].values() for line in todo["lines"]]
    shown = lines[:MOST_LINES]
    if len(lines) > MOST_LINES:
        shown.append(f"and {len(lines) - MOST_LINES} more")
    return shown + [f"? {note}" for note in (*plan["notes"], *plan["pending"])]


def refusals(plans: Plans) -> list[str]:
    """Return why hosts cannot be served: a line each. Then nothing is changed on any host."""
    return [f"{host}: {line}" for host, plan in plans.items() for line in plan["refused"]]


def changing(plans: Plans) -> list[str]:
    """Return the hosts that a plan changes, in their order."""
    return [host for host, plan in plans.items() if plan["todo"] and not plan["fault"]]


def batches(rollout: object, rest: str = "") -> list[int | str]:
    """Return a roll-out as Ansible's `serial` takes it; a ValueError says what is wrong with it.

    On a command line it is text: a list as JSON, or the same without brackets and quotes. Ansible
    ends it at the first blank, and keeps the `rest`. None is `ROLLOUT`.
    """
    if rollout is None:
        return list(ROLLOUT)
    if isinstance(rollout, str):
        rollout = f"{rollout} {rest}".strip()
    written = _read(rollout) if isinstance(rollout, str) else rollout
    if isinstance(written, bool) or not isinstance(written, int | Sequence):
        raise ValueError(_problem(rollout))
    steps = [written] if isinstance(written, int | str) else list(written)
    for step in steps:
        if isinstance(step, bool) or not re.fullmatch(r"[1-9]\d*|([1-9]\d?|100)%", str(step)):
            raise ValueError(_problem(rollout))
    if not steps:
        raise ValueError(_problem(rollout))
    return [step if str(step).endswith("%") else int(step) for step in steps]


def _read(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return [part.strip(" '\"") for part in text.strip("[] ").split(",")]


def _problem(rollout: object) -> str:
    return (
        f"{rollout}: write the size of each batch, as a number of hosts or a percentage: "
        'rollout=\'[1,"25%","100%"]\''
    )


def outcomes(hosts: Sequence[str], facts: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """Return why hosts are not as they should be after a run, by host.

    `facts` are those of all hosts: `plan_host`, and `plan_outcome` of each host that the run has
    gone through, where "" means that all is well.
    """
    why = {}
    for host in hosts:
        fault = facts[host]["plan_host"]["fault"]
        outcome = facts[host].get("plan_outcome", "not changed: the run stopped before its end")
        if fault or outcome:
            why[host] = str(fault or outcome)
    return why


def stopped_at(
    hosts: Sequence[str], batch: Sequence[str], facts: Mapping[str, Mapping[str, Any]]
) -> list[str]:
    """Return the hosts before a batch that have failed: the batch must not be changed.

    `hosts` are those to change, in their order. A host without `plan_outcome` was lost on the way.
    """
    before = hosts[: hosts.index(batch[0])]
    return [
        one for one in before if facts[one].get("plan_failed", "plan_outcome" not in facts[one])
    ]


def why(result: Mapping[str, Any], task: str, host: str) -> str:
    """Return why a task has failed on a host, on one line.

    In a loop the first item that failed says it. Of what a command prints the last line counts: so
    ends a traceback.
    """
    failed = (one for one in result.get("results", []) if one.get("failed"))
    one = next(failed, result)
    item = one.get("item")
    path = str(item.get("path", "")) if isinstance(item, Mapping) else ""
    message = " ".join(str(one.get("msg") or "no reason given").split())
    lines = str(one.get("stderr") or "").split("\n")
    last = next((" ".join(line.split()) for line in reversed(lines) if line.strip()), "")
    parts = [task.rpartition(" : ")[2], path, message.removeprefix(f"{host}: ")]
    return printable(": ".join(filter(None, [*parts, "" if last in message else last])))


def open_of_all(hosts: Sequence[str], facts: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return what `open_ports` says of all hosts of a run; `facts` as for `outcomes`.

    A host that the run leaves out with --limit has no plan.
    """
    plans = {one: facts[one]["plan_host"] for one in hosts if "plan_host" in facts[one]}
    return open_ports(plans)


def summary(why: Mapping[str, str], again: str) -> str:
    """Return what became of hosts that are not as they should be, and how to go on."""
    lines = [f"{host}: {line}" for host, words in why.items() for line in words.splitlines()]
    return "\n".join([*lines, f"When that is corrected: {again} --limit {','.join(why)}"])
