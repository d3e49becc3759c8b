"""The filters of the roles host, plan and ser2net; their rules are in ttybridge.setup."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "bridge" / "src"))

from ttybridge.setup.inventory import inert
from ttybridge.setup.plan import cuts, host, rollout
from ttybridge.setup.reading import reading


def read_host(result: Mapping[str, Any]) -> dict[str, Any]:
    """What the role host read, from the result of its task: {"read", "fault"}."""
    return dict(inert(reading(result)))


def plan_host(
    wanted: Mapping[str, Any],
    facts: Mapping[str, Any],
    tags: Sequence[str] = ("all",),
    skipped: Sequence[str] = (),
) -> dict[str, Any]:
    """The plan of one host: see `ttybridge.setup.plan.host.plan`."""
    return dict(inert(host.plan(wanted, facts, tags, skipped)))


def plan_message(plans: Mapping[str, Any]) -> str:
    """The plans of all hosts for people."""
    return str(inert(rollout.message(plans)))


def plan_changing(plans: Mapping[str, Any]) -> list[str]:
    """The hosts that their plans change."""
    return rollout.changing(plans)


def plan_refusals(plans: Mapping[str, Any]) -> list[str]:
    """Why nothing is changed on any host."""
    return list(inert(rollout.refusals(plans)))


def plan_stopped_at(
    hosts: Sequence[str], batch: Sequence[str], facts: Mapping[str, Any]
) -> list[str]:
    """The hosts before a batch that have failed."""
    return rollout.stopped_at(list(hosts), batch, facts)


def plan_outcomes(hosts: Sequence[str], facts: Mapping[str, Any]) -> dict[str, str]:
    """Why hosts are not as they should be."""
    return dict(inert(rollout.outcomes(hosts, facts)))


def plan_open(hosts: Sequence[str], facts: Mapping[str, Any]) -> list[str]:
    """The ports that let everybody in without saying so: one line, or none."""
    return list(inert(rollout.open_of_all(hosts, facts)))


def plan_summary(why: Mapping[str, str], again: str) -> str:
    """What became of them, and how to go on."""
    return str(inert(rollout.summary(why, again)))


def plan_why(result: Mapping[str, Any], task: str, host: str) -> str:
    """Why a task has failed, on one line."""
    return str(inert(rollout.why(result, task, host)))


def rollout_batches(written: Any) -> list[int | str]:
    """A roll-out as `serial` takes it: its value, and what was cut off it on the command line."""
    return rollout.batches(*written)


def peers(
    network: Mapping[str, Any], users: Mapping[str, Any], ports: Sequence[Mapping[str, Any]]
) -> list[str]:
    """Who is connected to ser2net, a text for each port."""
    return list(inert(cuts.cut_by_ser2net(ports, {**network, "users": users})))


class FilterModule:
    """What Ansible loads."""

    def filters(self) -> dict[str, Any]:
        """The filters by the names that playbooks use."""
        return {
            "peers": peers,
            "plan_changing": plan_changing,
            "plan_host": plan_host,
            "plan_message": plan_message,
            "plan_open": plan_open,
            "plan_outcomes": plan_outcomes,
            "plan_refusals": plan_refusals,
            "plan_stopped_at": plan_stopped_at,
            "plan_summary": plan_summary,
            "plan_why": plan_why,
            "reading": read_host,
            "rollout_batches": rollout_batches,
        }
