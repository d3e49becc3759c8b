"""The kinds of device that a unit may open."""

from __future__ import annotations

from typing import Any

import pytest

from ttybridge.setup.devices import device_allow, without_driver
from ttybridge.setup.inventory import ports_of_host

FIXED = ["char-4", "char-136", "char-166", "char-188", "char-204", "char-216"]
NAMES = [
    *("char-ttyCH343USB", "char-ttyCH9344USB", "char-ttyGS", "char-ttyMAX", "char-ttyMXUSB"),
    *("char-ttySC", "char-ttyXRUSB"),
]
OF_ADAPTERS = [
    *("char-136", "char-166", "char-188", "char-ttyCH343USB", "char-ttyCH9344USB"),
    *("char-ttyMXUSB", "char-ttyXRUSB"),
]


@pytest.mark.parametrize(
    ("keys", "kinds"),
    [
        ([], ["char-136"]),
        ([{"usb": {"vendor": "067b"}}], OF_ADAPTERS),
        ([{"device": "/dev/ttyS0"}], ["char-4", "char-136"]),
        ([{"device": "/dev/ttyAMA10"}], ["char-136", "char-204"]),
        ([{"device": "/dev/rfcomm0"}], ["char-136", "char-216"]),
        ([{"device": "/dev/ttyCH9344USB12"}], ["char-136", "char-ttyCH9344USB"]),
        ([{"device": "/dev/ttyMXUSB3"}], ["char-136", "char-ttyMXUSB"]),
        # A driver that nobody here has seen, or a link of the user's own.
        ([{"device": "/dev/ttyNVT01"}], [*FIXED, *NAMES[:5], "char-ttyNVT", *NAMES[5:]]),
        ([{"device": "/dev/ttyISR4K-1"}], [*FIXED, *NAMES]),
        ([{"device": "/dev/serial0"}], [*FIXED, *NAMES]),
        ([{"device": "/dev/serial/by-id/usb-x-if00-port0"}], [*FIXED, *NAMES]),
        (
            [{"device": "/dev/ttyS0"}, {"device": "/dev/ttyUSB0"}, {"device": "/dev/ttySC1"}],
            ["char-4", "char-136", "char-188", "char-ttySC"],
        ),
    ],
)
def test_what_a_unit_may_open(keys: list[dict[str, Any]], kinds: list[str]) -> None:
    entries = [{"name": f"p{n}", "listen": n, **one} for n, one in enumerate(keys, start=1)]
    assert device_allow(ports_of_host(entries, None)) == kinds


ADAPTER = {
    **{"path": "1-1.2", "idVendor": "1a86", "idProduct": "55d2", "serial": "A 1"},
    **{"manufacturer": "wch.cn", "product": "USB Quad", "bcdDevice": "0100"},
}


@pytest.mark.parametrize(
    ("usb", "meant"),
    [
        ({"vendor": "1a86"}, True),
        ({"vendor": "1a86", "serial": "A 1", "interface": 2}, True),
        ({"path": "1-1.2", "product_name": "USB Quad", "bcdDevice": "0100"}, True),
        ({"path": "1-1.3"}, False),
        ({"vendor": "1a86", "serial": "A"}, False),
        ({"interface": 0}, False),
    ],
)
def test_an_adapter_without_a_driver_is_named(usb: dict[str, Any], meant: bool) -> None:
    entries = [{"name": "a", "listen": 1, "usb": usb}, {"name": "b", "listen": 2, "device": "/x"}]
    said = without_driver(ports_of_host(entries, None), [ADAPTER, ADAPTER])
    line = "port a: no driver of this host has taken its adapter 1a86:55d2 at USB path 1-1.2: "
    cure = "sudo modprobe ch341; if that does not help, install its maker's driver"
    assert said == ([f"{line}{cure}"] if meant else [])


def test_what_to_do_about_an_adapter_that_nobody_here_knows() -> None:
    ports = ports_of_host([{"name": "a", "listen": 1, "usb": {"path": "1-1.2"}}], None)
    (said,) = without_driver(ports, [{**ADAPTER, "idVendor": "110a"}])
    assert said.endswith(": install its maker's driver, and name it in /etc/modules")
