"""All hosts of an inventory together: what people get wrong between files and hosts."""

from __future__ import annotations

import sys
from collections import UserDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from ttybridge.setup import fleet
from ttybridge.setup.fleet import MOST, PLAYBOOKS, TAGS, Run, check_fleet, no_servers, unreadable

PORT = {"name": "sw", "device": "/dev/ttyAMA0", "listen": 9999}
MAP = "serial_ports:\n  - {name: sw, device: /dev/ttyAMA0, listen: 9999}\n"
GROUPS = {"all": ["pi1", "pi2"], "serial_servers": ["pi1", "pi2"]}
SOUND = {"hosts.yml": "serial_servers: {hosts: {pi1: , pi2: }}\n", "host_vars/pi1.yml": MAP}

Check = Callable[..., list[str]]


@pytest.fixture
def check(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Check:
    """Check an inventory with the hosts pi1 and pi2; the files are those of `SOUND` and others."""
    monkeypatch.chdir(tmp_path)

    def check(files: dict[str, str], groups: Mapping[str, list[str]] = GROUPS) -> list[str]:
        for name, text in {**SOUND, **files}.items():
            Path(name).parent.mkdir(parents=True, exist_ok=True)
            Path(name).write_text(text)
        hostvars: dict[str, dict[str, Any]] = {
            host: {
                "serial_ports": [PORT],
                "group_names": [group for group, hosts in groups.items() if host in hosts],
            }
            for host in groups["all"]
        }
        run = Run([str(tmp_path / "hosts.yml")], "", groups)
        return check_fleet(groups["serial_servers"], hostvars, run).lines

    return check


def of(variables: dict[str, dict[str, Any]], run: Run | None = None) -> list[str]:
    """What is said of hosts with these variables, each with a sound port map."""
    hostvars = {host: {"serial_ports": [PORT], **own} for host, own in variables.items()}
    return check_fleet(list(variables), hostvars, run).lines


def test_a_sound_inventory(check: Check) -> None:
    assert check({}) == []


def test_the_message_counts() -> None:
    two: dict[str, dict[str, Any]] = {"pi1": {"serial_ports": [PORT]}, "pi2": {"serial_ports": []}}
    assert check_fleet(["pi1", "pi2"], two).text == "2 hosts, 1 port: no fault."
    bad = {"pi1": {"serial_ports": [{**PORT, "baudrate": 1}]}}
    assert check_fleet(["pi1"], bad).text == (
        "1 fault in the port maps.\nNothing was changed on any host.\n\n"
        "pi1: port sw: baudrate: 1: write a whole number from 50 to 12000000\n"
    )


def test_so_many_faults_of_a_host_are_printed() -> None:
    ports = [{**PORT, "name": f"p{n}", "device": f"/dev/ttyS{n}", "listen": 0} for n in range(80)]
    hostvars = {"pi1": {"serial_ports": ports}, "pi2": {"serial_ports": ports[: MOST + 1]}}
    report = check_fleet(["pi1", "pi2"], hostvars)
    assert report.faults == 80 + MOST + 1
    assert len(report.lines) == 2 * (MOST + 1)
    assert report.lines[MOST] == "pi1: and 30 more faults"
    assert report.lines[-1] == "pi2: and 1 more fault"


@pytest.mark.parametrize(
    ("device", "words"),
    [
        ("/dev/ttyUSB0", "its number changes"),
        ("/dev/ttyACM12", "its number changes"),
        ("/dev/tty1", "it is a screen of the host"),
        ("/dev/tty", "it is a screen of the host"),
        ("/dev/console", "it is a screen of the host"),
        ("/dev/pts/3", "it is a terminal of a program"),
        ("/dev/serial/by-name/sw", "ttyfleet makes the links in this folder"),
        ("/dev/ttyAMA0", ""),
        ("/dev/serial0", ""),
        ("/dev/serial/by-id/usb-FTDI_x-if00-port0", ""),
        ("/dev/ttyS0", ""),
    ],
)
def test_a_device_that_is_seldom_meant_is_noted(device: str, words: str) -> None:
    report = check_fleet(["pi1"], {"pi1": {"serial_ports": [{**PORT, "device": device}]}})
    assert report.faults == 0
    assert len(report.notes) == (1 if words else 0)
    for note in report.notes:
        assert note.startswith(f"Note: pi1: port sw: device: '{device}': {words}")
        assert note in report.text
        assert "write " in note


def test_two_port_maps_of_one_host(check: Check) -> None:
    said = check({"group_vars/serial_servers.yml": MAP})
    assert said == [
        "pi1: serial_ports: written in host_vars/pi1.yml:1 and in group_vars/serial_servers.yml:1, "
        "and Ansible uses only one of them: keep one"
    ]


@pytest.mark.parametrize("empty", ["serial_ports: []\n", "serial_ports:\n"])
def test_an_empty_port_map_for_all_is_no_other_one(check: Check, empty: str) -> None:
    assert check({"group_vars/all.yml": empty}) == []


def test_a_file_that_another_one_hides(check: Check) -> None:
    assert check({"host_vars/pi1.yaml": "a: 1\n"}) == [
        "host_vars/pi1.yaml: file: Ansible reads host_vars/pi1.yml and ignores this: "
        "put it in there"
    ]


def test_a_key_that_is_there_twice(check: Check) -> None:
    """In the inventory, and once in a file of many hosts."""
    said = check(
        {"hosts.yml": "a: 1\na: 2\n", "group_vars/all.yml": "b: 1\nb: 2\n", "c.yml": "d: 1\nd: 2\n"}
    )
    assert [line.partition(": line")[0] for line in said] == [
        "hosts.yml:2: a",
        "group_vars/all.yml:2: b",
    ]


def test_the_files_of_other_hosts_are_not_ours(check: Check) -> None:
    groups = {"all": ["pi1", "web1"], "serial_servers": ["pi1"], "web": ["web1"]}
    others = {
        **{"host_vars/web1.yml": "a: 1\na: 2\n", "host_vars/web2.yml": "b: 1\n"},
        **{"group_vars/old.yml": "c: 1\n", "group_vars/web.yml": "d: 1\nd: 2\n"},
    }
    assert check(others, groups) == []
    assert check({"host_vars/web2.yml": MAP}, groups) == [
        "host_vars/web2.yml: file: the inventory has no host web2, so Ansible ignores this: "
        "name the host in the inventory, or delete this"
    ]


@pytest.mark.parametrize(
    ("file", "said"),
    [
        ("host_vars/pi_1.yml", "no host pi_1, so Ansible ignores this; did you mean pi1?"),
        ("host_vars/ip1.yml", "no host ip1, so Ansible ignores this; did you mean pi1?"),
        ("host_vars/pii1.yml", "no host pii1, so Ansible ignores this; did you mean pi1?"),
        ("host_vars/pi1.lan.yml", "no host pi1.lan, so Ansible ignores this; did you mean pi1?"),
        ("host_vars/pi1.lan/a.yml", "no host pi1.lan, so Ansible ignores this; did you mean pi1?"),
        ("host_vars/pi3.yml", "no host pi3, so Ansible ignores this: name the host in"),
        ("host_vars/pi3/main.yml", "host_vars/pi3: file: the inventory has no host pi3"),
        ("host_vars/serial_servers.yml", "so Ansible ignores this: move it to group_vars/"),
        ("group_vars/pi1.yml", "so Ansible ignores this: move it to host_vars/"),
        ("group_vars/serial-server.yml", "did you mean serial_servers?"),
        ("hostvars/pi1.yml", "hostvars: folder: Ansible does not read a folder of this name"),
        ("pi1.yml", "pi1.yml: file: Ansible does not read it here: move it to host_vars/"),
    ],
)
def test_a_file_that_ansible_ignores(check: Check, file: str, said: str) -> None:
    (line,) = check({file: "a: 1\n"})
    assert said in line


def test_a_program_may_leave_hosts_out(check: Check) -> None:
    assert check({"hosts.yml": "plugin: nmap\n", "host_vars/pi3.yml": MAP}) == []


def test_localhost_is_always_there(check: Check) -> None:
    assert check({"host_vars/localhost.yml": "a: 1\n"}) == []


@pytest.mark.parametrize(
    ("variables", "files", "words"),
    [
        ({}, {}, "missing: not in host_vars/pi2.yml (there is no such file): write"),
        ({}, {"host_vars/pi2/a.yml": "a: 1\n"}, "missing: not in host_vars/pi2/a.yml: write"),
        (
            {"group_names": ["serial_servers"]},
            {"group_vars/all.yml": "a: 1\n", "group_vars/serial_servers.yml": "b: 1\n"},
            "missing: not in host_vars/pi2.yml (there is no such file), group_vars/all.yml, "
            "group_vars/serial_servers.yml: write",
        ),
        ({"serial_ports": None}, {}, "empty: write one entry a port, each with a name, or []"),
    ],
)
def test_a_port_map_that_is_not_there(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    variables: dict[str, Any],
    files: dict[str, str],
    words: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, text in {**SOUND, **files}.items():
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text(text)
    run = Run([str(tmp_path / "hosts.yml")])
    (line,) = check_fleet(["pi2"], {"pi2": variables}, run).lines
    assert line.startswith(f"pi2: serial_ports: {words}")


def test_an_inventory_that_is_no_file_has_no_place_to_look() -> None:
    (line,) = check_fleet(["pi2"], {"pi2": {}}, Run(["pi1,pi2"])).lines
    assert line.startswith("pi2: serial_ports: missing: write the host's port map in host_vars/pi2")


ONE = {"ansible_host": "192.0.2.1"}


@pytest.mark.parametrize(
    ("two", "same"),
    [
        *((ONE, True), ({"ansible_host": "192.0.2.2"}, False), ({}, False)),
        *(({**ONE, "ansible_port": 22}, True), ({**ONE, "ansible_port": 2222}, False)),
        *(({**ONE, "ansible_ssh_port": "22"}, True), ({"ansible_ssh_host": "192.0.2.1"}, True)),
        *(({**ONE, "ansible_connection": "ssh"}, True), ({**ONE, "ansible_user": "pi"}, True)),
        ({**ONE, "ansible_connection": "community.docker.docker"}, False),
        ({**ONE, "ansible_ssh_common_args": "-J lab2"}, False),
    ],
)
def test_two_hosts_with_one_address(two: dict[str, Any], same: bool) -> None:
    said = of({"pi1": ONE, "pi2": two})
    assert said == (
        ["pi2: ansible_host: '192.0.2.1' is also the address of pi1: write each host's own address"]
        if same
        else []
    )


@pytest.mark.parametrize(
    ("one", "two"),
    [("Pi.lan", "pi.LAN."), ("2001:db8::1", "2001:DB8:0::1"), ("2001:db8::1", "[2001:db8::1]")],
)
def test_one_address_in_two_forms(one: str, two: str) -> None:
    assert len(of({"a": {"ansible_host": one}, "b": {"ansible_host": two}})) == 1
    # A host without an address is reached by its name.
    assert len(of({one: {}, "b": {"ansible_host": two}})) == 1


class Broken(UserDict[str, Any]):
    """Variables, of which one cannot be evaluated."""

    def __getitem__(self, name: str) -> Any:
        if self.data[name] == "{{ nope }}":
            raise RuntimeError("'nope' is undefined\nmore")
        return self.data[name]


def test_a_variable_that_cannot_be_evaluated_is_a_fault_of_its_host() -> None:
    hostvars: dict[str, Mapping[str, Any]] = {
        "pi1": Broken(serial_ports="{{ nope }}"),
        "pi2": Broken(serial_ports=[PORT], ansible_host="{{ nope }}"),
        "pi3": {"serial_ports": [{**PORT, "listen": 0}]},
    }
    one, three = check_fleet(["pi1", "pi2", "pi3"], hostvars).lines
    assert one == ("pi1: serial_ports: 'nope' is undefined: correct what is between {{ and }}")
    assert three.startswith("pi3: ")


def test_an_error_of_our_own_is_no_fault_of_a_host(monkeypatch: pytest.MonkeyPatch) -> None:
    def examine(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(fleet, "examine_host", examine)
    with pytest.raises(ZeroDivisionError):
        of({"pi1": {}})


def test_an_unknown_tag() -> None:
    ours = str(PLAYBOOKS)
    run = Run(playbooks=ours, tags=["bridg", "udev", "all"], skipped=["notest", "udef", "never"])
    assert of({"pi1": {}}, run) == [
        "--tags: bridg: no task has this tag; did you mean bridge?",
        "--skip-tags: udef: no task has this tag; did you mean udev?",
    ]
    assert of({"pi1": {}}, Run(playbooks=ours, tags=[*TAGS, "always", "tagged"])) == []


def test_the_playbook_of_somebody_else_may_have_other_tags(tmp_path: Path) -> None:
    assert of({"pi1": {}}, Run(playbooks=str(tmp_path), tags=["web"])) == []


def test_the_tags_are_the_roles_of_the_plan() -> None:
    plan = yaml.safe_load((PLAYBOOKS / "roles" / "plan" / "vars" / "main.yml").read_text())
    assert (*plan["__plan_wanted"],) == TAGS


@pytest.mark.parametrize(
    ("groups", "words"),
    [
        ({"all": ["a"], "pis": ["a"]}, "have hosts are: pis. Rename one of them, or add this one."),
        (
            {"all": ["a"], "x": ["a"], "serial_server": ["a"], "y": []},
            "The groups that have hosts are: serial_server, x. Rename serial_server.",
        ),
        ({"all": ["a"], "ungrouped": ["a"]}, "Its hosts are in no group: put your Pis in this one"),
        ({"all": [], "serial_servers": []}, "The group is there, but empty: name your Pis in it."),
        ({"all": [], "ungrouped": []}, "It has no host at all; Ansible read /etc/hosts.yml. Copy"),
    ],
)
def test_an_inventory_without_serial_servers(groups: dict[str, list[str]], words: str) -> None:
    assert words in no_servers(groups, ["/etc/hosts.yml"])


def test_an_inventory_that_is_no_yaml(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("hosts.yml").write_text("a: [\n")
    (line,) = unreadable(Run([str(tmp_path / "hosts.yml")]))
    assert line.startswith("hosts.yml:2:1: YAML: ")


def test_a_run_for_one_host_reads_no_file_of_another_one(tmp_path: Path) -> None:
    """A host that pulls goes on with a fault elsewhere. The files of its groups count."""
    groups = {"all": ["a", "b"], "left": ["a"], "right": ["b"]}
    for folder, name in (("host_vars", "a"), ("host_vars", "b"), ("group_vars", "right")):
        (tmp_path / folder).mkdir(exist_ok=True)
        (tmp_path / folder / f"{name}.yml").write_text("a: 1\n" if name == "a" else "a: [\n")
    (tmp_path / "hosts.yml").write_text("")
    source = [str(tmp_path / "hosts.yml")]

    def broken(limit: str) -> list[str]:
        found = unreadable(Run(source, groups=groups, limit=limit))
        return [line.split(".yml:")[0].rpartition("/")[2] for line in found]

    assert broken("a") == []
    assert broken("b") == ["b", "right"]
    assert broken("") == broken("a,b") == ["b", "right"]


def test_it_takes_as_long_for_each_host_of_a_large_inventory(tmp_path: Path) -> None:
    """Also with a file of no host for each host: nothing compares every host with every other."""
    few, many = calls_for(20, tmp_path / "few"), calls_for(200, tmp_path / "many")
    assert many < 11 * few


def calls_for(number: int, folder: Path) -> int:
    """The function calls, a measure of time that no other program disturbs, for so many hosts."""
    names = [f"pi-{n:05}" for n in range(number)]
    (folder / "host_vars").mkdir(parents=True)
    (folder / "hosts.yml").write_text("")
    for name in names:
        (folder / "host_vars" / f"{name}.yml").write_text("a: 1\n")
        (folder / "host_vars" / f"x{name}.yml").write_text("a: 1\n")
    hostvars = {name: {"serial_ports": [PORT], "ansible_host": name} for name in names}
    run = Run([str(folder / "hosts.yml")], "", {"all": names, "serial_servers": names})
    calls = 0

    def count(_frame: object, event: str, _argument: object) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    sys.setprofile(count)
    report = check_fleet(names, hostvars, run)
    sys.setprofile(None)
    assert report.faults == number
    return calls
