"""The documentation of the roles says what is so.

`UPDATE_GOLDEN=1 pytest tests/templates` writes the keys of a port again.
"""

from __future__ import annotations

import dataclasses
import textwrap
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.templates.generated import as_yaml, up_to_date

from ttybridge.model.ports import Port
from ttybridge.model.values import (
    Choice,
    Integer,
    Kind,
    Listeners,
    Networks,
    Number,
    OffOr,
    Options,
    Patterns,
    Several,
    StopBits,
    Switch,
    Table,
    as_written,
    has_writable_default,
)
from ttybridge.setup.inventory import FACTS, SETTINGS
from ttybridge.setup.schema import host_vars

ROOT = Path(__file__).resolve().parents[2]
ROLES = sorted(path.name for path in (ROOT / "roles").iterdir() if path.is_dir())


SPECS = "meta/argument_specs.yml"
PORT_MAP = ROOT / "roles" / "serial_ports" / SPECS
BEGIN, END = (
    "          # The keys of a port, made from the model.\n",
    "          # End of the keys.\n",
)


def options(role: str) -> dict[str, Any]:
    """The variables of a role, of all its entry points: those of one name must be alike."""
    specs = yaml.safe_load((ROOT / "roles" / role / SPECS).read_text())["argument_specs"]
    found: dict[str, Any] = {}
    for entry in specs.values():
        for name, option in entry.get("options", {}).items():
            assert found.setdefault(name, option) == option
    return found


@pytest.mark.parametrize("role", ROLES)
def test_defaults(role: str) -> None:
    file = ROOT / "roles" / role / "defaults" / "main.yml"
    documented = {
        name: option["default"]
        for name, option in options(role).items()
        if not option.get("required")
    }
    assert (yaml.safe_load(file.read_text()) if file.exists() else {}) == documented


@pytest.mark.parametrize("role", ROLES)
def test_a_setting_is_described_as_in_the_schema(role: str) -> None:
    said = {name: option["description"] for name, option in options(role).items()}
    for name in said.keys() & SETTINGS.keys():
        words = SETTINGS[name][1]
        assert words in (said[name], said[name][0])


def facts(tasks: Any) -> set[str]:
    """The public names that tasks set or register, in blocks, too."""
    found: set[str] = set()
    for task in tasks or []:
        found |= (task.get("ansible.builtin.set_fact") or {}).keys()
        found |= {task["register"]} if "register" in task else set()
        for inside in ("block", "rescue", "always"):
            found |= facts(task.get(inside))
    return {name for name in found if not name.startswith("__")}


def test_the_facts_that_roles_set_are_known_as_such() -> None:
    """A second playbook of the same run finds them among the variables of a host."""
    files = [*ROOT.glob("roles/*/tasks/*.yml"), *ROOT.glob("roles/*/handlers/*.yml")]
    assert set().union(*(facts(yaml.safe_load(file.read_text())) for file in files)) == FACTS


def documented(model: type, schema: dict[str, Any]) -> dict[str, Any]:
    """What argument_specs has to say of a model's keys, in the words of the schema for editors."""
    said: dict[str, Any] = {}
    for field in dataclasses.fields(model):
        kind: Kind = field.metadata["kind"]
        described = schema["properties"][field.name]
        option: dict[str, Any] = {"description": [sentence(described["description"])]}
        if isinstance(kind, OffOr):
            kind, described = kind.kind, described["anyOf"][-1]
        if not isinstance(kind, Choice | Switch | Table):
            option["description"].append(sentence(f"write {field.metadata['kind'].allowed}"))
        option["type"] = type_of(kind)
        if isinstance(kind, Networks | Options | Several):
            option["elements"] = "str"
        if isinstance(kind, Choice):
            option["choices"] = list(kind.options)
        if field.default is dataclasses.MISSING:
            option["required"] = True
        elif field.default is not None and has_writable_default(field):
            is_plain = isinstance(field.default, str | int | float)
            option["default"] = field.default if is_plain else as_written(field.default)
        if isinstance(kind, Table):
            option["options"] = documented(kind.model, described)
        said[field.name] = option
    return said


def sentence(words: str) -> str:
    return f"{words[0].upper()}{words[1:]}."


def type_of(kind: Kind) -> str:
    """The type of a key, in Ansible's words."""
    if isinstance(kind, Listeners):
        return "raw"  # One listener, or a list of them.
    types: dict[type, str] = {Table: "dict", Switch: "bool", Integer: "int"}
    types |= {Networks: "list", Options: "list", Several: "list"}
    types |= {StopBits: "float", Patterns: "dict", Number: "float"}
    return types.get(type(kind), "str")


def test_the_port_map() -> None:
    schema = host_vars()["properties"]["serial_ports"]["items"]
    before, begin, rest = PORT_MAP.read_text().partition(BEGIN)
    _, end, after = rest.partition(END)
    assert begin
    assert end
    keys = textwrap.indent(as_yaml(documented(Port, schema), width=110), " " * 10)
    assert up_to_date(PORT_MAP, before + begin + keys + end + after)
