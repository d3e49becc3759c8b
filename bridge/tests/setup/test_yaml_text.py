"""Entries as YAML: what is written is read back as the port that was meant."""

from __future__ import annotations

from pathlib import Path

import host_vars
import pytest
import yaml

from ttybridge.model.check import parse_portmap
from ttybridge.model.ports import Port, as_entry
from ttybridge.setup import yaml_text

MAPS = Path(__file__).resolve().parents[3] / "tests" / "templates" / "maps"
EVERY_KEY = yaml.safe_load((MAPS / "every-key.yml").read_text())
PORTS = parse_portmap(EVERY_KEY["serial_ports"], EVERY_KEY["serial_ports_defaults"])


@pytest.mark.parametrize("port", PORTS, ids=lambda port: str(port.name))
def test_any_port_is_read_back(port: Port) -> None:
    lines = yaml_text.entry(as_entry(port))
    assert parse_portmap(host_vars.load("\n".join(lines))) == (port,)
    assert [line[:2] for line in lines] == ["- ", *["  "] * (len(lines) - 1)]


def test_what_an_adapter_is_stands_in_quotes() -> None:
    usb = {"vendor": "dead", "product": "2303", "serial": "A50", "path": "1-1", "interface": 1}
    assert yaml_text.pair("usb", usb) == (
        'usb: {vendor: "dead", product: "2303", serial: "A50", path: "1-1", interface: 1}'
    )
