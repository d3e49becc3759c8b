"""What export.yml writes, read back by the programs that it is for."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from ttybridge.setup.exports import export

from .cable import Cable
from .programs import between_pipes
from .servers import ROOT, Served
from .wait import assert_carries

HOSTS: dict[str, dict[str, Any]] = {
    "pi-1": {
        "ansible_host": "2001:db8::1",
        "ansible_port": 2222,
        "bridge_metrics": "9410",
        "serial_ports": [
            {"name": "router", "device": "/dev/a", "listen": 10001, "protocol": "telnet"},
            {"name": "ups", "device": "/dev/b", "listen": 10002, "description": 'a "b" # c; {d}'},
        ],
    }
}


def written(what: str, folder: Path, hosts: dict[str, dict[str, Any]] | None = None) -> None:
    """Write a format into a folder."""
    for path, text in export(what, [*(hosts or HOSTS)], hosts or HOSTS).items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text, newline="")


def said(*words: str | Path, **environment: str) -> str:
    """What a program says that ends well."""
    done = subprocess.run(words, capture_output=True, text=True, env={**os.environ, **environment})
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_ssh_knows_each_console(tmp_path: Path) -> None:
    written("ssh_config", tmp_path)
    known = said("ssh", "-G", "-F", tmp_path / "ssh_config", "ups.pi-1").splitlines()
    wanted = {"hostname 2001:db8::1", "port 2222", "remotecommand ttybridge console ups"}
    assert wanted | {"requesttty true"} <= {*known}


def test_conserver_takes_its_part(tmp_path: Path) -> None:
    written("conserver", tmp_path)
    own = tmp_path / "own.cf"
    own.write_text(f"access * {{ trusted 127.0.0.1; }}\n#include {tmp_path}/conserver.cf\n")
    assert "ERROR" not in said("conserver", "-S", "-C", own)


def test_plink_loads_a_session(
    serve: Callable[..., Served], cable: Cable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sw = serve("bridge")
    port = {"name": "sw", "device": "/dev/a", "listen": sw.tcp_port}
    written("putty", tmp_path, {"pi": {"ansible_host": "127.0.0.1", "serial_ports": [port]}})
    monkeypatch.setenv("PUTTYDIR", str(tmp_path / "putty"))
    with between_pipes("plink", "-batch", "-load", "sw.pi") as client:
        assert_carries(client, cable)
        assert_carries(cable, client)


def test_promtool_takes_targets_and_alerts(tmp_path: Path) -> None:
    written("prometheus", tmp_path)
    jobs = [{"job_name": "ttybridge", "file_sd_configs": [{"files": ["prometheus.json"]}]}]
    rules = [str(ROOT / "files/prometheus/alerts.yml")]
    configuration = tmp_path / "prometheus.yml"
    configuration.write_text(yaml.safe_dump({"rule_files": rules, "scrape_configs": jobs}))
    assert "10 rules found" in said("promtool", "check", "config", configuration)
    found = said("promtool", "check", "service-discovery", configuration, "ttybridge")
    assert '"__address__": "[2001:db8::1]:9410"' in found


def test_promtool_reads_every_expression_of_the_dashboard(tmp_path: Path) -> None:
    board = json.loads((ROOT / "files/grafana/ttyfleet.json").read_text())
    targets = [target for panel in board["panels"] for target in panel["targets"]]
    expressions = [target["expr"].replace("$__rate_interval", "5m") for target in targets]
    # As rules: that is the only way in which promtool reads an expression without a server.
    rules = [{"record": "x", "labels": {"n": str(n)}, "expr": e} for n, e in enumerate(expressions)]
    file = tmp_path / "rules.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "board", "rules": rules}]}))
    assert f"{len(expressions)} rules found" in said("promtool", "check", "rules", file)
