"""The documentation of the roles says what is so."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import yaml

from ttybridge.model.ports import Port
from ttybridge.model.values import (
    Choice,
    Integer,
    Kind,
    Listeners,
    Networks,
    OffOr,
    Switch,
    Table,
    Tags,
    has_writable_default,
)
from ttybridge.setup.inventory import FACTS

ROOT = Path(__file__).resolve().parents[2]
ROLES = sorted(path.name for path in (ROOT / "roles").iterdir() if path.is_dir())


def options(role: str) -> dict[str, Any]:
    specs = yaml.safe_load((ROOT / "roles" / role / "meta" / "argument_specs.yml").read_text())
    found: dict[str, Any] = specs["argument_specs"]["main"]["options"]
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


def documented(model: type) -> dict[str, Any]:
    """What argument_specs has to say of a model's keys, the descriptions aside."""
    said: dict[str, Any] = {}
    for field in dataclasses.fields(model):
        kind: Kind = field.metadata["kind"]
        if isinstance(kind, OffOr):
            kind = kind.kind
        option: dict[str, Any] = {}
        if isinstance(kind, Choice):
            option["choices"] = list(kind.options)
        if isinstance(kind, Table):
            option["options"] = documented(kind.model)
        if field.default is dataclasses.MISSING:
            option["required"] = True
        elif field.default is not None and has_writable_default(field):
            option["default"] = list(field.default) if field.default == () else field.default
        option["type"] = (
            "dict" if isinstance(kind, Table) else
            "bool" if isinstance(kind, Switch) else
            "int" if isinstance(kind, Integer) else
            "list" if isinstance(kind, Networks | Tags) else
            # One listener, or a list of them.
            "raw" if isinstance(kind, Listeners) else
            {"stopbits": "float"}.get(field.name, "str")
        )  # fmt: skip
        said[field.name] = option
    return said


def without_descriptions(written: dict[str, Any]) -> dict[str, Any]:
    return {
        name: {
            key: without_descriptions(value) if key == "options" else value
            for key, value in option.items()
            if key not in ("description", "elements")
        }
        for name, option in written.items()
    }


def test_the_port_map() -> None:
    assert without_descriptions(options("serial_ports")["serial_ports"]["options"]) == documented(
        Port
    )
