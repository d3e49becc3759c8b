"""The playbook applies a change of one variable alone, and verify.yml sees it."""

from __future__ import annotations

import re
import urllib.error
import urllib.request

import pytest
from testinfra.host import Host

from playbook import run_playbook

testinfra_hosts = ["ansible://serial_servers"]

INVENTORY = "molecule/default/inventory"


def provision(name: str, **changed: str) -> str:
    """What verify.yml prints of a host after the playbook applied a change of variables alone."""
    words = [word for key, value in changed.items() for word in ("-e", f"{key}={value}")]
    for playbook in ("playbook.yml", "verify.yml"):
        run = run_playbook(playbook, INVENTORY, "--limit", name, *words)
        assert run.returncode == 0, run.stdout
    return run.stdout


def test_metrics_move_when_nothing_else_changes(host: Host) -> None:
    name = str(host.backend.host)
    address = host.check_output("echo $SSH_CONNECTION").split()[2]
    pid = host.check_output("systemctl show -p MainPID ttybridge")
    elsewhere = f"{address}:9411"
    verify = provision(name, bridge_metrics=elsewhere)
    assert re.search(rf"{name} +\(metrics\) +{elsewhere} +shows metrics\n", verify), verify
    with urllib.request.urlopen(f"http://{elsewhere}/metrics", timeout=10) as page:
        assert b"ttybridge_info" in page.read()
    assert re.search(rf"{name} +\(metrics\) +127.0.0.1:9410 +shows metrics\n", provision(name))
    with pytest.raises(urllib.error.URLError, match="refused"):
        urllib.request.urlopen(f"http://{elsewhere}/metrics", timeout=10)
    assert host.check_output("systemctl show -p MainPID ttybridge") == pid
