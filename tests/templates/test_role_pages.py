"""README.md and meta/main.yml of each role are made from its meta/argument_specs.yml.

`UPDATE_GOLDEN=1 pytest tests/templates` writes them again.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.templates.generated import as_yaml, up_to_date

ROOT = Path(__file__).resolve().parents[2]
ROLES = sorted(path.name for path in (ROOT / "roles").iterdir() if path.is_dir())
MADE = "Made from meta/argument_specs.yml: UPDATE_GOLDEN=1 pytest tests/templates"


def read(path: str) -> Any:
    return yaml.safe_load((ROOT / path).read_text())


def entry_points(role: str) -> dict[str, Any]:
    found: dict[str, Any] = read(f"roles/{role}/meta/argument_specs.yml")["argument_specs"]
    return found


def paragraphs(written: str | list[str]) -> list[str]:
    """A description in Markdown: Ansible's C(this) is `this`."""
    texts = [written] if isinstance(written, str) else written
    return [re.sub(r"C\((.*?)\)", r"`\1`", text.strip()) for text in texts]


def default(option: dict[str, Any]) -> str:
    if option.get("required"):
        return "required"
    if "default" not in option:
        return ""
    words: dict[Any, str] = {True: "true", False: "false", "": '""'}
    value = option["default"]
    return f"`{value if isinstance(value, list | dict) else words.get(value, value)}`"


def rows(options: dict[str, Any], prefix: str = "") -> Iterator[str]:
    """A line of the table for each variable, followed by the keys of a mapping."""
    for name, option in options.items():
        choices = [f"One of {', '.join(option['choices'])}."] if "choices" in option else []
        meaning = " ".join([*paragraphs(option["description"]), *choices])
        kind = "list of " + option["elements"] if "elements" in option else option["type"]
        cells = (f"`{prefix}{name}`", kind, default(option), meaning)
        yield f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"
        yield from rows(option.get("options", {}), f"{prefix}{name}.")


def section(entry: dict[str, Any]) -> Iterator[str]:
    """What a role does with one of its entry points, and the table of its variables."""
    texts = [entry["short_description"] + ".", *paragraphs(entry.get("description", []))]
    yield from ("\n" + textwrap.fill(text, 120, break_on_hyphens=False) for text in texts)
    if entry.get("options"):
        yield "\n| variable | type | default | meaning |\n|---|---|---|---|"
        yield from rows(entry["options"])


def page(role: str) -> str:
    """The README.md of a role."""
    entries = entry_points(role)
    lines = [f"<!-- {MADE} -->\n\n# ttyfleet.serial.{role}"]
    lines += section(entries["main"]) if "main" in entries else []
    for name in sorted(entries.keys() - {"main"}):
        lines += [f"\n## tasks_from: {name}", *section(entries[name])]
    lines += ["\nHow to use the roles: [docs/collection.md](../../docs/collection.md)."]
    return "\n".join(lines) + "\n"


def meta(role: str) -> str:
    """The meta/main.yml of a role."""
    entries, collection = entry_points(role), read("galaxy.yml")
    least = read("meta/runtime.yml")["requires_ansible"].removeprefix(">=").rpartition(".")[0]
    about = {
        "author": ", ".join(collection["authors"]),
        "description": next(iter(entries.values()))["short_description"],
        "license": "MIT",
        "min_ansible_version": least,
        "platforms": [{"name": "Debian", "versions": ["bookworm", "trixie"]}],
    }
    return f"---\n# {MADE}\n{as_yaml({'galaxy_info': about, 'dependencies': []})}"


@pytest.mark.parametrize("role", ROLES)
def test_the_page_of_a_role(role: str) -> None:
    assert up_to_date(ROOT / "roles" / role / "README.md", page(role))


@pytest.mark.parametrize("role", ROLES)
def test_what_galaxy_shows_of_a_role(role: str) -> None:
    assert up_to_date(ROOT / "roles" / role / "meta" / "main.yml", meta(role))


def calls(tasks: Any) -> Iterator[dict[str, Any]]:
    """How tasks or plays bring in roles: name, tasks_from and more."""
    for task in tasks if isinstance(tasks, list) else []:
        for inside in ("block", "rescue", "always", "pre_tasks", "tasks", "post_tasks"):
            yield from calls(task.get(inside))
        for how in ("ansible.builtin.import_role", "ansible.builtin.include_role"):
            yield from [task[how]] if how in task else []
        yield from ({"name": role["role"], **role} for role in task.get("roles") or [])


def our_calls() -> list[dict[str, Any]]:
    """How our own playbooks and roles bring in roles."""
    files = [*ROOT.glob("*.yml"), *ROOT.glob("roles/*/tasks/*.yml")]
    return [call for file in files for call in calls(yaml.safe_load(file.read_text()))]


def test_every_entry_point_is_documented_and_no_other() -> None:
    called = {(call["name"], call.get("tasks_from", "main")) for call in our_calls()}
    # A name that is known only when it runs can be that of each role with such tasks.
    possible = {
        (role, entry)
        for name, entry in called
        for role in (ROLES if "{{" in name else [name])
        if (ROOT / "roles" / role / "tasks" / f"{entry}.yml").exists()
    }
    assert {(role, entry) for role in ROLES for entry in entry_points(role)} == possible


def test_our_own_calls_cost_no_validation() -> None:
    """The roles check a whole inventory better, and one more task for each call takes time."""
    assert [call for call in our_calls() if call.get("rolespec_validate") is not False] == []
