"""docs/port-map.md: its table of keys is made from the model of a port.

`UPDATE_GOLDEN=1 pytest tests/templates` writes the table again.
"""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from ttybridge.model.check import check_portmap
from ttybridge.model.ports import (
    ENGINE_HONOURS,
    FIREWALL_HONOURS,
    KEYS,
    SER2NET_SINCE,
    Listener,
    Port,
)
from ttybridge.model.values import (
    Kind,
    Listeners,
    Named,
    OffOr,
    StopBits,
    Switch,
    Table,
    has_writable_default,
    keys_of,
    kinds_of,
)

PAGE = Path(__file__).resolve().parents[2] / "docs" / "port-map.md"
LISTENER_KEYS = {f"listen.{key}" for key in kinds_of(Listener)}
BEGIN, END = "<!-- keys -->\n", "<!-- end of keys -->\n"


def shown(kind: Kind, value: Any) -> str:
    """A value as a person writes it."""
    if isinstance(kind, StopBits):
        value = f"{value:g}"
    if isinstance(kind, Switch):
        value = "on" if value else "off"
    words: dict[Any, str] = {None: "off", "": '""', (): "[]", Named(): "{}"}
    return f"`{words.get(value, value)}`"


def default(field: dataclasses.Field[Any]) -> str:
    """A key's default in words; nothing where it cannot be written."""
    if field.metadata["inherited"]:
        return "the port's"
    if field.default is dataclasses.MISSING:
        return "required"
    return shown(field.metadata["kind"], field.default) if has_writable_default(field) else ""


def ser2net(key: str, kind: Kind) -> str:
    """What ser2net takes of a key: yes, no, or the values."""
    own = key.removeprefix("listen.")
    key = own if own in KEYS else key
    if ENGINE_HONOURS["ser2net"].get(key.partition(".")[0]) in ((None,), (Named(),)):
        return "no"
    values = ENGINE_HONOURS["ser2net"].get(key)
    if key in SER2NET_SINCE:
        value, version = SER2NET_SINCE[key]
        return f"{shown(kind, value)} from {'.'.join(map(str, version))} on"
    if key in FIREWALL_HONOURS:
        return "with `serial_firewall: true`"
    if values is None:
        return "yes"
    return " ".join(shown(kind, value) for value in values)


def rows(model: type = Port, prefix: str = "") -> Iterator[str]:
    """A line of the table for each key, followed by the keys of a table."""
    for name, field in keys_of(model).items():
        key, kind, about = prefix + name, field.metadata["kind"], field.metadata["about"]
        limits, touches = ser2net(key, kind), field.metadata["touches"]
        cells = (f"`{key}`", kind.allowed, default(field), about, limits, touches)
        yield f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |\n"
        inner = kind.kind if isinstance(kind, OffOr) else kind
        # A listener's own tls is written as the port's.
        if isinstance(inner, Listeners) or (isinstance(inner, Table) and model is not Listener):
            yield from rows(inner.model, f"{key}.")


def test_the_table_of_keys_is_that_of_the_model() -> None:
    before, begin, rest = PAGE.read_text().partition(BEGIN)
    now, end, after = rest.partition(END)
    assert begin
    assert end
    heads = (
        "| key | what may be written | default | meaning | with ser2net | a change touches |\n"
        "|---|---|---|---|---|---|\n"
    )
    table = heads + "".join(rows())
    if os.environ.get("UPDATE_GOLDEN"):
        PAGE.write_text(before + begin + table + end + after)
        now = table
    assert now == table


def test_the_examples_are_sound() -> None:
    examples = re.findall(r"```yaml\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert examples
    for example in examples:
        assert check_portmap(yaml.safe_load(example))[1] == []


def test_the_page_names_every_limit_of_ser2net() -> None:
    _, _, text = PAGE.read_text().partition(END)
    limits = [*ENGINE_HONOURS["ser2net"], *SER2NET_SINCE, *FIREWALL_HONOURS]
    limited = {key if key in LISTENER_KEYS else key.partition(".")[0] for key in limits}
    assert {key for key in limited if f"`{key}`" not in text} == set()
