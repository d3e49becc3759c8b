"""Every template, rendered by Ansible itself: beside what is known to be right, and read back.

`UPDATE_GOLDEN=1 pytest tests/templates` accepts what comes out now; look at the difference in git.
"""

from __future__ import annotations

import dataclasses
import os
import re
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from ttybridge.model import config
from ttybridge.model.check import Site, check_portmap, parse_portmap
from ttybridge.setup.ser2net import served

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
GOLDEN = HERE / "golden"
MAPS = sorted(path.stem for path in (HERE / "maps").glob("*.yml"))
SHARED = ("sandbox", "ser2net", "udev")
FILES = [path.stem for path in (ROOT / "templates").glob("*.j2") if path.stem not in SHARED]


@pytest.fixture(scope="session")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("rendered")
    for name in MAPS:
        (out / name).mkdir()
    ansible = str(Path(sys.executable).with_name("ansible-playbook"))
    command = [ansible, "-i", "localhost,", str(HERE / "render.yml"), "-e", f"out={out}"]
    environment = {
        **os.environ,
        "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
        "ANSIBLE_LOCALHOST_WARNING": "false",
        "ANSIBLE_PYTHON_INTERPRETER": sys.executable,
    }
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return out


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("portmap", MAPS)
def test_as_it_was(rendered: Path, portmap: str, file: str) -> None:
    now = (rendered / portmap / file).read_text()
    golden = GOLDEN / portmap / file
    if os.environ.get("UPDATE_GOLDEN"):
        golden.parent.mkdir(parents=True, exist_ok=True)
        golden.write_text(now)
    assert now == golden.read_text()


def test_ttybridge_may_open_no_more_than_systemd_keeps(rendered: Path) -> None:
    lines = (rendered / "every-key" / "ttybridge.service").read_text().splitlines()
    unit = dict(line.split("=", 1) for line in lines if "=" in line and line[0] != "#")
    assert unit["LimitNOFILE"] == unit["FileDescriptorStoreMax"]
    assert unit["Environment"] == f"FDSTORE={unit['FileDescriptorStoreMax']}"


@pytest.fixture
def start(rendered: Path, tmp_path: Path) -> Callable[[], subprocess.Popen[str]]:
    """What the unit of ttybridge runs before each start; `sleep` prints how long it would wait.

    The files that it looks at are in `tmp_path`: ttybridge.starts, ttybridge and ttybridge.toml.
    """
    text = (rendered / "every-key" / "ttybridge.service").read_text().replace("\\\n", " ")
    (line,) = re.findall(r"^ExecStartPre=-\+/bin/sh -c '(.*)'$", text, re.MULTILINE)
    script = line.replace("$$", "$")
    for place in ("/run", "/usr/local/bin", "/etc/ttybridge"):
        script = re.sub(rf"{place}(?=[/;])", str(tmp_path), script)
    (tmp_path / "ttybridge").symlink_to("program")
    (tmp_path / "ttybridge.toml").touch()
    sleep = tmp_path / "sleep"
    sleep.write_text(f'#!/bin/sh\necho "$1"\n[ ! -e {tmp_path}/long ] || exec /bin/sleep 100\n')
    sleep.chmod(0o755)
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}

    def begin() -> subprocess.Popen[str]:
        words = ["/bin/sh", "-c", script]
        return subprocess.Popen(
            words, env=environment, stdout=subprocess.PIPE, text=True, start_new_session=True
        )

    return begin


def waits(start: Callable[[], subprocess.Popen[str]], times: int) -> list[int]:
    """How long the next starts would wait, in seconds."""
    said = []
    for _ in range(times):
        out, _ = start().communicate()
        said.append(int(out or 0))
    return said


def test_a_program_that_dies_at_every_start_waits_longer_and_longer(
    start: Callable[[], subprocess.Popen[str]],
) -> None:
    assert waits(start, 14) == [0, 0, 0, 0, 0, 1, 2, 4, 8, 16, 30, 30, 30, 30]


def test_a_start_that_served_for_a_minute_begins_the_count_again(
    start: Callable[[], subprocess.Popen[str]], tmp_path: Path
) -> None:
    assert waits(start, 6)[-1] == 1
    # Else they are newer than the start is made to be.
    (tmp_path / "ttybridge").unlink()
    (tmp_path / "ttybridge.toml").unlink()
    for age, then in ((50, 2), (61, 0)):
        at = time.time() - age
        os.utime(tmp_path / "ttybridge.starts", (at, at))
        assert waits(start, 1) == [then]


@pytest.mark.parametrize("name", ["ttybridge", "ttybridge.toml"])
def test_another_program_or_configuration_begins_the_count_again(
    name: str, start: Callable[[], subprocess.Popen[str]], tmp_path: Path
) -> None:
    assert waits(start, 6)[-1] == 1
    # As a run puts the earlier one back: its content is as old as it was.
    file, last = tmp_path / name, (tmp_path / "ttybridge.starts").stat()
    while file.lstat().st_ctime_ns <= last.st_mtime_ns:
        file.rename(tmp_path / "other").rename(file)
    assert waits(start, 6) == [0, 0, 0, 0, 0, 1]


def test_a_restart_while_it_waits_begins_the_count_again(
    start: Callable[[], subprocess.Popen[str]], tmp_path: Path
) -> None:
    waits(start, 5)
    (tmp_path / "long").touch()
    with start() as waiting:
        assert waiting.stdout
        assert waiting.stdout.readline() == "1\n"
        os.killpg(waiting.pid, signal.SIGTERM)  # as systemd ends it
        assert waiting.wait() == 0
    assert not (tmp_path / "ttybridge.starts").exists()


def test_the_articles_line(rendered: Path) -> None:
    lines = (rendered / "article" / "ser2net.conf").read_text().splitlines()
    assert "9999:raw:600:/dev/serial/by-name/core-switch:9600 8DATABITS NONE 1STOPBIT" in lines


@pytest.mark.parametrize("portmap", MAPS)
def test_ttybridge_reads_the_ports_that_were_meant(rendered: Path, portmap: str) -> None:
    written = yaml.safe_load((HERE / "maps" / f"{portmap}.yml").read_text())
    meant = [
        dataclasses.replace(port, device=port.path, usb=None, probe=None)
        for port in parse_portmap(written["serial_ports"], written.get("serial_ports_defaults"))
        if port.engine == "bridge"
    ]
    file = rendered / portmap / "ttybridge.toml"
    loaded = config.load(file)
    assert list(loaded.ports) == meant
    assert str(loaded.metrics or "") == written.get("bridge_metrics", "")
    for entry in tomllib.loads(file.read_text()).get("port", []):
        assert entry.keys().isdisjoint({"engine", "usb", "probe"})


@pytest.mark.parametrize("form", ["ser2net.conf", "ser2net.yaml"])
@pytest.mark.parametrize("portmap", MAPS)
def test_status_reads_back_what_ser2net_serves(rendered: Path, portmap: str, form: str) -> None:
    written = yaml.safe_load((HERE / "maps" / f"{portmap}.yml").read_text())
    meant = [
        served.Served(
            port.name, port.path, [(listener.at, listener.protocol) for listener in port.listeners]
        )
        for port in parse_portmap(written["serial_ports"], written.get("serial_ports_defaults"))
        if port.engine == "ser2net"
    ]
    assert served.ports((rendered / portmap / form).read_text()) == meant


def test_the_example_inventory_has_no_faults() -> None:
    example = ROOT / "inventory" / "example"
    common = yaml.safe_load((example / "group_vars" / "serial_servers.yml").read_text())
    hosts = yaml.safe_load((example / "hosts.yml").read_text())["serial_servers"]["hosts"]
    for host in hosts:
        written = yaml.safe_load((example / "host_vars" / f"{host}.yml").read_text())
        defaults = common["serial_ports_defaults"]
        assert check_portmap(written["serial_ports"], defaults, host, site=Site())[1] == []


def test_no_golden_file_is_left_over() -> None:
    kept = {path.relative_to(GOLDEN).as_posix() for path in GOLDEN.glob("*/*")}
    assert kept == {f"{portmap}/{file}" for portmap in MAPS for file in FILES}
