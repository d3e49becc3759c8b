"""What `ttybridge status` and `kick` say of ser2net's ports."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from process import environment, run
from ttybridge import BUILD, cli
from ttybridge.daemon import control
from ttybridge.setup.ser2net import served

CLASSIC = """\
# Written by ttyfleet: change the port map in the Ansible inventory instead.
DEFAULT:chardelay:false

# core-switch
9999:raw:600:/dev/serial/by-name/core-switch:9600 8DATABITS NONE 1STOPBIT

# ups
DEVICE:device2:/dev/ttyAMA0,rs485=1:2:rts_on_send
127.0.0.1,2217:telnet:0:device2:9600 8DATABITS NONE 1STOPBIT remctl
::1,2218:telnet:0:device2:9600 8DATABITS NONE 1STOPBIT
"""
HEADER = "sl local_address rem_address st ...\n"


def connection(local: str, remote: str, state: str) -> str:
    return f"0: {local} {remote} {state} 0:0 0:0 0 0 0 1 1 0\n"


@pytest.fixture
def host(tmp_path: Path) -> Path:
    """A host where ser2net listens at 9999, with a client; the device is there."""
    for folder in ("etc", "proc/net", "dev/serial/by-name"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "etc/ser2net.conf").write_text(CLASSIC)
    (tmp_path / "dev/serial/by-name/core-switch").touch()
    (tmp_path / "proc/net/tcp").write_text(
        HEADER
        + connection("00000000:270F", "00000000:0000", "0A")
        + connection("0B0200C0:270F", "110200C0:C486", "01")
        + connection("0B0200C0:0016", "110200C0:C487", "01")
    )
    return tmp_path


def test_ports_with_their_listeners_devices_and_clients(host: Path) -> None:
    said = served.status(host)
    assert said
    assert said["configuration"] == "/etc/ser2net.conf"
    switch, ups = said["ports"]
    assert switch == {
        "name": "core-switch",
        "listen": "9999",
        "listening": True,
        "listeners": [{"at": "9999", "protocol": "raw", "listening": True}],
        "device": {"path": "/dev/serial/by-name/core-switch", "present": True},
        "clients": [{"address": "192.0.2.17:50310", "listener": "9999"}],
    }
    assert (ups["listen"], ups["listening"]) == ("127.0.0.1:2217, [::1]:2218", False)
    assert [one["protocol"] for one in ups["listeners"]] == ["rfc2217", "telnet"]
    assert ups["device"] == {"path": "/dev/ttyAMA0", "present": False}
    assert ups["clients"] == []


@pytest.mark.parametrize("text", ["", CLASSIC.replace("Written", "Not written"), CLASSIC[:76]])
def test_a_configuration_that_is_not_ours_or_has_no_port(host: Path, text: str) -> None:
    (host / "etc/ser2net.conf").write_text(text)
    assert served.status(host) is None
    assert served.names(host) == []


def test_a_host_without_ser2net(tmp_path: Path) -> None:
    assert served.status(tmp_path) is None


@pytest.fixture
def here(host: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What ser2net serves on this host, for the commands; no daemon of ours runs."""
    said = served.status(host)
    assert said
    said["state"] = "active"
    monkeypatch.setattr(served, "status", lambda: said)
    monkeypatch.setattr(served, "names", lambda: ["core-switch", "ups"])
    monkeypatch.delenv("RUNTIME_DIRECTORY", raising=False)
    monkeypatch.setattr(control, "SYSTEM_DIRECTORY", host / "run")
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(host))
    monkeypatch.setattr(cli, "CONFIG", host / "ttybridge.toml")
    return said


def test_a_host_where_only_ser2net_serves(
    here: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["status"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "PORT         LISTEN                          DEVICE                           CLIENTS"
        "           FROM DEVICE  TO DEVICE  ENGINE",
        "core-switch  9999                            /dev/serial/by-name/core-switch  "
        "192.0.2.17:50310  -            -          ser2net",
        "ups          NOT 127.0.0.1:2217, [::1]:2218  absent                           -      "
        "           -            -          ser2net",
    ]
    here["state"] = "failed"
    assert cli.main(["status"]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[-1] == "ser2net.service is failed: systemctl status ser2net says why"
    assert cli.main(["status", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"version": None, "ports": [], "ser2net": here}


def test_a_daemon_that_should_answer_is_missed(
    here: dict[str, Any], host: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (host / "ttybridge.toml").touch()
    assert cli.main(["status"]) == 1
    said = capsys.readouterr()
    assert "core-switch" in said.out
    assert said.err.startswith("no daemon answers at ")


def test_both_engines_in_one_table(
    here: dict[str, Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(control, "ask", lambda *_, **__: daemon_says("0.1.0+1a2b3c4d"))
    assert cli.main(["status"]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines[1] == ["sw", "1", "/dev/ttyS0", "-", "5", "6", "bridge"]
    assert lines[2][-1] == "ser2net"


def daemon_says(version: str) -> dict[str, Any]:
    device = {"path": "/dev/ttyS0", "present": True, "problem": None}
    counters = {"from_device": 5, "to_device": 6}
    port: dict[str, Any] = {
        "name": "sw",
        "connect": None,
        "listen": "1",
        "listening": True,
        "clients": [],
    }
    port |= {"device": device, "counters": counters, "listen_problem": None}
    return {"version": version, "ports": [port]}


def test_status_names_the_build_that_serves(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(served, "status", lambda: None)
    for version, words in (
        (BUILD, f"served by ttybridge {BUILD}"),
        ("0.0.9+old", f"served by ttybridge 0.0.9+old; this command is ttybridge {BUILD}"),
    ):
        monkeypatch.setattr(control, "ask", lambda *_, said=version, **__: daemon_says(said))
        assert cli.main(["status"]) == 0
        lines = capsys.readouterr().out.splitlines()
        assert (lines[1].split(), lines[2]) == (["sw", "1", "/dev/ttyS0", "-", "5", "6"], words)


def test_a_host_without_ports(
    here: dict[str, Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(served, "status", lambda: None)
    assert cli.main(["status"]) == 0
    assert capsys.readouterr().out == "no ports here\n"


def test_kick_says_who_serves_the_port(
    here: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["kick", "ups"]) == 1
    assert capsys.readouterr().err == (
        "ups: ser2net serves it, and cannot close a single client: sudo systemctl restart ser2net "
        "closes all clients of all its ports (core-switch, ups)\n"
    )
    assert cli.main(["kick", "other"]) == 1
    assert capsys.readouterr().err.startswith("no daemon answers at ")


def test_the_commands_need_no_pyserial(tmp_path: Path) -> None:
    script = (
        "import sys; sys.modules['serial'] = None; from ttybridge.cli import main;"
        "sys.exit(main(sys.argv[1:]))"
    )
    for words in (["--version"], ["status"], ["kick", "sw"], ["discover"]):
        done = subprocess.run(
            [sys.executable, "-c", script, *words],
            env={**os.environ, **environment(tmp_path)},
            capture_output=True,
            text=True,
        )
        assert "Traceback" not in done.stderr
        assert "serial" not in done.stderr


def test_the_version_names_the_build() -> None:
    assert run("--version", runtime=Path("/nonexistent")).stdout == f"ttybridge {BUILD}\n"
