"""No text of a ser2net file or of a USB device comes back from Ansible other than as it was.

Texts of every kind that means something to Jinja, YAML, Ansible or a terminal are imported or
discovered, and read as ansible-playbook reads host_vars.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.templates.ansible_here import ROOT, Inventory

from recorded import USB, Pi
from ttybridge.model import config
from ttybridge.model.config import ConfigError
from ttybridge.model.ports import as_entry
from ttybridge.setup import yaml_text
from ttybridge.setup.discover import report
from ttybridge.setup.discover.machine import read_machine
from ttybridge.setup.discover.proposal import propose
from ttybridge.setup.inventory import ports_of_host
from ttybridge.setup.ser2net import importer

HERE = Path(__file__).resolve().parent
PORTS = "serial_ports | ttyfleet.serial.ports(serial_ports_defaults | default({}))"

# A program that notes that it has run, which Jinja can start without a blank in its text.
RUN = "{{lookup('pipe','canary')}}"
PIECES = st.sampled_from(
    [
        *(RUN, "{{ lookup('pipe', 'canary') }}", "{ lookup('pipe','canary') }", "{%", "%}", "{#"),
        *("{% set x = 1 %}", "{# x #}", "{{", "}}", "{", "}", "{{ 1 + 1 }}", "{{undefined}}"),
        *("{% raw %}", "{% endraw %}", "#jinja2: variable_start_string: '<<'", "<<1+1>>", "{{'"),
        *("#jinja2:block_start_string:'['", "{{ omit }}", "{{ hostvars }}", "{%- if", "-}}", "##"),
        *("!unsafe", "!unsafe 'x'", "!vault |", "!!python/object:os.system", "&a", "*a", "<<: *a"),
        *("'", '"', "\\", "\\x7b\\x7b", "\\173\\173", ": ", " #", "- ", "---", "...", "%YAML 1.1"),
        *("null", "~", "yes", "on", "1e3", "0x1f", "1:30", "2001-01-01", "=", "{a: b}", "[a]"),
        *("\t", "\x00", "\x07", "\x1b[31m", "\x7f", "\x85", "\x9b", "\xa0", "\u2028", "\u2029"),
        *("\u202e", "\ufeff", "\ufffe", "\U0001f600", "\U000e0001", "é", "a", "0", " ", ",", "/"),
    ]
)
TEXTS = st.lists(
    PIECES | st.text(st.characters(exclude_categories=["Cs"]), max_size=3), max_size=6
).map("".join)
# Of one line, without what ends it for ser2net.
LINES = TEXTS.map(lambda text: "".join(text.split("\n")))


# Each example reads files.
SLOW = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


@pytest.fixture(scope="module")
def inventory(tmp_path_factory: pytest.TempPathFactory) -> Inventory:
    return Inventory(tmp_path_factory.mktemp("inventory"))


@pytest.fixture(scope="module")
def canary(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The file that the program `canary` makes."""
    folder = tmp_path_factory.mktemp("canary")
    program, file = folder / "canary", folder / "it has run"
    program.write_text(f"#!/bin/sh\necho >'{file}'\n")
    program.chmod(0o755)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
        yield file


def as_json(value: Any) -> Any:
    return json.loads(json.dumps(value))


def test_a_template_of_the_users_own_runs(inventory: Inventory, canary: Path) -> None:
    """The canary is a good one, and a person may write Jinja in host_vars as always."""
    assert inventory.evaluated(f'x: "{RUN}"', "x") == ""
    assert canary.exists()
    canary.unlink()


def test_a_brace_that_a_person_writes_for_jinja_is_evaluated_once(inventory: Inventory) -> None:
    port = """{name: a, device: /dev/ttyS1, listen: 1, protocol: telnet, banner: "%s"}"""
    for banner in ("{{ '{{' }} 1 + 1 {{ '}}' }}", "{% raw %}{{ 1 + 1 }}{% endraw %}"):
        (read,) = inventory.evaluated(f"serial_ports: [{port % banner}]", PORTS)
        assert (read["banner"], read["greeting"]) == ("{{ 1 + 1 }}", "{ 1 + 1 }\r\n")


@SLOW
@given(TEXTS)
def test_any_text_that_is_written(inventory: Inventory, canary: Path, text: str) -> None:
    for written in (yaml_text.text(text), yaml_text.quoted(text)):
        assert inventory.evaluated(f"x: {{y: [{written}]}}", "x") == {"y": [text]}
    assert not canary.exists()


@st.composite
def classic(draw: st.DrawFn) -> str:
    """A ser2net.conf of two ports."""
    words = draw(st.lists(LINES, min_size=8, max_size=8))
    engine_words = draw(st.sampled_from(["", "ssl(key=/{},cert=/{},CA=/{},clientauth),"]))
    return (
        f"BANNER:b:{words[0]}\nDEVICE:{words[1]}:/dev/{words[2]}\nTRACEFILE:t:/var/{words[3]}\n"
        f"{engine_words.format(*words[5:])}2001:telnet:0:/dev/{words[4]}:9600 b tb=t\n"
        f"2002:telnet:0:{words[1]}:b\n2003:telnet:0:/dev/ttyS1:b\n"
    )


@st.composite
def modern(draw: st.DrawFn) -> str:
    """A ser2net.yaml of two connections."""
    words = [json.dumps(text) for text in draw(st.lists(TEXTS, min_size=4, max_size=4))]
    device = json.dumps("serialdev,/dev/" + draw(LINES) + ",9600n81")
    return (
        f"connections:\n  {words[0]}:\n    accepter: telnet,tcp,2001\n    connector: {device}\n"
        f"    options: {{banner: {words[1]}, trace-read: {words[2]}}}\n"
        f"  b:\n    accepter: telnet,tcp,2002\n    connector: serialdev,/dev/ttyS1\n"
        f"    options: {{banner: {words[3]}}}\n"
    )


@SLOW
@given(classic() | modern(), st.sampled_from(["ser2net", "bridge"]))
def test_any_ser2net_file(inventory: Inventory, canary: Path, text: str, engine: str) -> None:
    try:
        imported = importer.parse(text, "f", engine)
    except ConfigError:
        return
    host_vars = importer.as_yaml(imported.ports, text[:40])
    assert inventory.evaluated(host_vars, PORTS) == as_json(
        ports_of_host([as_entry(port) for port in imported.ports])
    )
    assert not canary.exists()


NAMES = TEXTS.map(lambda text: "".join(char for char in text if char not in "/\0")[:50])
SERIALS = TEXTS | st.sampled_from(["A50285BI", "FT7XYZ12"])


@settings(SLOW, max_examples=30)
@given(st.tuples(TEXTS, TEXTS), st.lists(SERIALS, min_size=2, max_size=2), NAMES, NAMES)
def test_any_usb_device(
    inventory: Inventory,
    canary: Path,
    said: tuple[str, str],
    serials: list[str],
    by_id: str,
    by_path: str,
) -> None:
    """Also with what a hostile host calls the links to it."""
    with tempfile.TemporaryDirectory() as folder:
        pi = Pi(Path(folder))
        pi.write("proc/sys/kernel/hostname", said[0])
        pi.write("proc/device-tree/model", said[1])
        # Two ports of one interface, which only the links of udev tell apart, and one alone.
        pi.usb(["ttyUSB0", "ttyUSB1"], "0403:6001", "1-1.1", "ftdi_sio", {})
        pi.usb(["ttyUSB2"], "0403:6001", "1-1.2", "ftdi_sio", {})
        shutil.rmtree(pi.root / "dev/serial")
        for path, serial in zip(("1-1.1", "1-1.2"), serials, strict=True):
            about = {"product": said[0], "manufacturer": said[1], "serial": serial}
            pi.attributes(f"sys/devices/{USB}/{path}", **about)
        for name in ("ttyUSB0", "ttyUSB1", "ttyUSB2"):
            pi.link(f"dev/serial/by-id/{by_id}-{name}", f"dev/{name}")
            pi.link(f"dev/serial/by-path/{by_path}-{name}", f"dev/{name}")
        host_vars = report.report(root=pi.root)
        new = report.report(only_new=True, root=pi.root)
        entries = [proposal.entry for proposal in propose(read_machine(pi.root))]
    assert len(entries) == 3
    meant = as_json(ports_of_host(entries))
    assert inventory.evaluated(host_vars, PORTS) == meant
    assert inventory.evaluated(f"serial_ports:\n{new}", PORTS) == meant
    assert not canary.exists()
    for line in host_vars.splitlines():
        assert line.isprintable()


HOSTILE = r"""
BANNER:b:welcome { lookup('pipe','canary') } !unsafe {% x
2001:telnet:0:/dev/{{1+1}}:9600 b
ssl(key=/k/{{1+1}},cert=/c/{#x#},CA=/{{,clientauth),2002:telnet:0:/dev/x{#x#}:9600 banner=\{%x%}
2003:raw:0:/dev/ttyS1:9600
"""


def test_a_hostile_file_is_served_as_it_was_by_a_real_run(canary: Path, tmp_path: Path) -> None:
    """By the steps of docs/migrating.md, with a default for all ports beside it."""
    ports = importer.parse(HOSTILE, "ser2net.conf", "bridge").ports
    assert len(ports) == 3
    for folder in ("host_vars", "group_vars", "out"):
        (tmp_path / folder).mkdir()
    (tmp_path / "hosts.yml").write_text(
        "serial_servers: {hosts: {pi: {ansible_connection: local}}}\n"
    )
    (tmp_path / "host_vars" / "pi.yml").write_text(importer.as_yaml(ports, "ser2net.conf"))
    (tmp_path / "group_vars" / "serial_servers.yml").write_text(
        "serial_ports_defaults: {baudrate: 115200, log: !unsafe 'off'}\n"
    )
    out = tmp_path / "out"
    run_playbook(HERE / "inert.yml", tmp_path / "hosts.yml", out)
    assert not canary.exists()
    entries = [as_entry(port) for port in ports]
    assert json.loads((out / "ports.json").read_text()) == as_json(ports_of_host(entries))
    served = config.parse(tomllib.loads((out / "ttybridge.toml").read_text())["port"], "toml")
    assert served == ports
    rules = (out / "60-ttyfleet.rules").read_text()
    assert 'KERNEL=="{{1+1}}", SYMLINK+="serial/by-name/port-2001"' in rules
    for file in ("ser2net.conf", "ser2net.yaml"):
        assert "/dev/{{1+1}}" in (out / file).read_text()


def run_playbook(playbook: Path, hosts: Path, out: Path) -> None:
    """Run a playbook as a person does, on this machine."""
    ansible = str(Path(sys.executable).with_name("ansible-playbook"))
    environment = {
        **os.environ,
        "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
        "ANSIBLE_PYTHON_INTERPRETER": sys.executable,
        "ANSIBLE_LOCALHOST_WARNING": "false",
    }
    command = [ansible, "-i", str(hosts), str(playbook), "-e", f"out={out}"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
