"""The port map as JSON Schema, for editors (yaml-language-server) that complete and check it.

The schema is stricter than the port map where that helps completion. It is laxer where JSON Schema
cannot say it: what two ports or listeners have in common, whether a file exists, what ser2net's
version can do.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ttybridge.model.ports import (
    ENGINE_HONOURS,
    FIREWALL_HONOURS,
    IDENTITY,
    INHERITED,
    SER2NET_SINCE,
    Port,
)
from ttybridge.model.values import as_written, schema_of_keys
from ttybridge.setup.inventory import SETTINGS

# The entry of a port without a TCP side.
_USERS_ONLY = {
    "required": ["users"],
    "properties": {"users": {"minItems": 1}, "listen": False, "connect": False},
}


def host_vars() -> dict[str, Any]:
    """Return the schema of a file in host_vars/ or group_vars/; other variables are allowed."""
    port = schema_of_keys(Port)
    listener = port["properties"]["listen"]["anyOf"][-1]["items"]["anyOf"][-1]["properties"]
    for key in [*ENGINE_HONOURS["ser2net"], *SER2NET_SINCE, *FIREWALL_HONOURS]:
        table, _, inner = key.rpartition(".")
        if table == "listen":
            places = [listener]
        elif table:
            places = [_keys_of(port, table)]
        else:
            places = [keys for keys in (port["properties"], listener) if inner in keys]
        for keys in places:
            keys[inner]["description"] += f" ({_limit(key)})"
    common = {key: kind for key, kind in port["properties"].items() if key not in IDENTITY}
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "Serial ports of a host (ttyfleet)",
        "type": "object",
        "properties": {
            "serial_ports": {
                "description": "Every serial port of the host; [] for none.",
                "type": "array",
                "items": {
                    **port,
                    "required": ["name"],
                    "allOf": [
                        {
                            # `users` may also be in serial_ports_defaults, which this cannot see.
                            "anyOf": [
                                {"oneOf": [{"required": ["listen"]}, {"required": ["connect"]}]},
                                _USERS_ONLY,
                            ]
                        },
                        {"oneOf": [{"required": ["usb"]}, {"required": ["device"]}]},
                        *(_honoured(engine) for engine in ENGINE_HONOURS),
                    ],
                },
            },
            "serial_ports_defaults": {
                "description": "Values for every port; a port's own entry overrides them.",
                **port,
                "properties": common,
            },
            **{
                name: {"description": words, **kind.schema}
                for name, (kind, words) in SETTINGS.items()
            },
        },
    }


def _keys_of(port: Mapping[str, Any], table: str) -> dict[str, Any]:
    """The keys of a table that is the alternative to off."""
    _, mapping = port["properties"][table]["anyOf"]
    keys: dict[str, Any] = mapping["properties"]
    return keys


def _limit(key: str) -> str:
    if key in SER2NET_SINCE:
        value, version = SER2NET_SINCE[key]
        return f"ser2net: {as_written(value)} from {'.'.join(map(str, version))} on"
    if key in FIREWALL_HONOURS:
        return "ser2net: with serial_firewall: true"
    values = ENGINE_HONOURS["ser2net"][key]
    if values == (None,):
        return "not with ser2net"
    return f"ser2net: {' or '.join(str(as_written(value)) for value in values)} only"


def _honoured(engine: str) -> dict[str, Any]:
    """The values that an entry may have if it names this engine."""
    properties: dict[str, Any] = {}
    for key, values in ENGINE_HONOURS[engine].items():
        table, _, inner = key.rpartition(".")
        limit = _one_of(values) if values else False
        if not table:
            # No value of `connect` means that there is none, so the key itself is forbidden.
            properties[key] = False if key == "connect" else limit
        elif table != "listen":
            at = properties.setdefault(table, {"properties": {}})
            at["properties"][inner] = limit
        if table == "listen" or key in INHERITED:
            at = properties.setdefault("listen", {"items": {"properties": {}}})
            at["items"]["properties"][inner] = limit
    named = {"properties": {"engine": {"const": engine}}, "required": ["engine"]}
    return {"if": named, "then": {"properties": properties}}


def _one_of(values: tuple[Any, ...] | range) -> dict[str, Any]:
    if isinstance(values, range):
        return {"minimum": values.start, "maximum": values.stop - 1}
    written = [as_written(value) for value in values]
    return {"enum": [*written, *(word == "on" for word in written if word in ("on", "off"))]}
