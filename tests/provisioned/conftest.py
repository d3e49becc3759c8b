"""What the tests of provisioned hosts share.

    pytest tests/provisioned --ansible-inventory=inventory/production

Hosts and ports come from the inventory: nothing here names one.
"""

from __future__ import annotations

import subprocess
from typing import Any

import pytest
from testinfra.host import Host

from ttybridge.model.check import parse_portmap
from ttybridge.model.ports import Port
from ttybridge.setup.inventory import without_marks


@pytest.fixture
def variables(host: Host) -> dict[str, Any]:
    """The host's variables in the inventory."""
    return dict(without_marks(host.ansible.get_variables()))


@pytest.fixture
def ports(variables: dict[str, Any]) -> tuple[Port, ...]:
    """The host's port map, every key filled in."""
    return parse_portmap(variables["serial_ports"], variables.get("serial_ports_defaults"))


@pytest.fixture
def engines(ports: tuple[Port, ...]) -> dict[str, list[Port]]:
    """The ports of each systemd unit that serves some."""
    units = {"bridge": "ttybridge.service", "ser2net": "ser2net.service"}
    served: dict[str, list[Port]] = {}
    for port in ports:
        served.setdefault(units[port.engine], []).append(port)
    return served


@pytest.fixture
def address(variables: dict[str, Any], pytestconfig: pytest.Config) -> str:
    """Where SSH reaches the host, and its other clients too: by a forwarded port, perhaps."""
    file = pytestconfig.getoption("ssh_config")
    name = variables.get("ansible_host", variables["inventory_hostname"])
    ssh = ["ssh", "-G", *(["-F", file] if file else []), name]
    config = subprocess.run(ssh, capture_output=True, text=True, check=True).stdout
    return config.split("\nhostname ", 1)[1].split("\n", 1)[0]
