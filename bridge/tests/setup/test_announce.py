"""What a host announces of its ports."""

from __future__ import annotations

from typing import Any

import pytest

from ttybridge.setup.announce import services
from ttybridge.setup.inventory import ports_of_host

TLS = {"certificate": "/a.pem", "key": "/a.key"}


def announced(host: str = "pi-rack1", **keys: Any) -> list[dict[str, Any]]:
    entry = {"name": "sw", "device": "/dev/ttyS0", "listen": 10001, **keys}
    return services(ports_of_host([entry]), host)


def test_a_port_has_a_service_with_its_name_and_what_it_leads_to() -> None:
    usb = {"vendor": "0403", "product": "6001", "serial": "A5", "interface": 10}
    keys = {"description": "Core switch", "location": "rack 1", "protocol": "rfc2217"}
    entry = {"name": "sw", "usb": usb, "listen": 10001, **keys}
    assert services(ports_of_host([entry]), "pi-rack1") == [
        {
            "path": "/etc/avahi/services/ttyfleet-sw-10001.service",
            "name": "sw on pi-rack1",
            "family": "any",
            "port": 10001,
            "types": ["_iostream._tcp", "_rfc2217._tcp", "_telnet._tcp"],
            "texts": [
                *("name=sw", "description=Core switch", "location=rack 1", "protocol=rfc2217"),
                *("gensiostack=telnet(rfc2217),tcp", "provider=ttyfleet", "devicetype=serialusb"),
                *("idVendor=0403", "idProduct=6001", "bInterfaceNumber=0a", "serial=A5"),
            ],
        }
    ]


@pytest.mark.parametrize(
    ("keys", "types", "stack"),
    [
        ({}, [], "tcp"),
        ({"protocol": "telnet"}, ["_telnet._tcp"], "telnet,tcp"),
        ({"tls": TLS}, [], "ssl,tcp"),
        ({"protocol": "rfc2217", "tls": TLS}, ["_telnets._tcp"], "telnet(rfc2217),ssl,tcp"),
    ],
)
def test_the_type_says_what_is_spoken(keys: dict[str, Any], types: list[str], stack: str) -> None:
    (one,) = announced(**keys)
    assert one["types"] == ["_iostream._tcp", *types]
    assert f"gensiostack={stack}" in one["texts"]
    assert not any("devicetype" in text for text in one["texts"])


def test_nobody_hears_of_what_only_the_host_itself_reaches() -> None:
    assert announced(listen=["127.0.0.1:1", "[::1]:2"]) == []
    assert services(ports_of_host([{"name": "a", "device": "/a", "users": ["jane"]}]), "pi") == []
    assert services(ports_of_host([{"name": "a", "device": "/a", "connect": "pc:1"}]), "pi") == []


def test_each_tcp_port_has_a_name() -> None:
    found = announced(
        listen=[
            "192.0.2.1:2",
            "[2001:db8::1]:2",
            "[fe80::1%eth0]:3",
            {"at": "0.0.0.0:1", "access": "watch"},
            "127.0.0.1:4",
            "[::]:5",
        ]
    )
    names = [(one["name"], one["family"]) for one in found]
    assert names == [
        ("sw 1 on pi-rack1", "ipv4"),
        ("sw 2 on pi-rack1", "ipv4"),
        ("sw 3 on pi-rack1", "ipv6"),
        ("sw 5 on pi-rack1", "any"),
    ]
    assert ["access=watch" in one["texts"] for one in found] == [True, False, False, False]
    assert len({one["path"] for one in found}) == 4


def test_names_and_texts_are_as_long_as_dns_takes() -> None:
    (one,) = announced(name="a" * 60, description="ü" * 200, host="pi")
    assert one["name"] == "a" * 60 + " on"
    (text,) = [text for text in one["texts"] if text.startswith("description=")]
    assert len(text.encode()) == 254
    assert set(text.removeprefix("description=")) == {"ü"}
