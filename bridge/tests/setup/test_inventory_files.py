"""The files of an inventory, in folders as people have them."""

from __future__ import annotations

from pathlib import Path

import pytest

from ttybridge.setup.inventory_files import (
    GROUP_VARS,
    HOST_VARS,
    InventoryFiles,
    expanded,
    read,
    shown_path,
)

MAP = "serial_ports:\n  - {name: sw, device: /dev/ttyAMA0, listen: 9999}\n"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of an inventory, from which messages name files."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


def twice(folder: Path, text: str) -> list[str]:
    write(folder, {"pi.yml": text})
    return [str(fault) for fault in read(folder / "pi.yml").twice]


def test_a_key_that_is_there_twice(folder: Path) -> None:
    words = "has this key, too, and Ansible uses only the last one: keep one"
    assert twice(folder, "a: 1\nb: {c: 1, c: 2}\na:\n  - d: 1\n    e: 2\n    d: 3\n") == [
        f"pi.yml:2: c: line 2 {words}",
        f"pi.yml:3: a: line 1 {words}",
        f"pi.yml:6: d: line 4 {words}",
    ]


@pytest.mark.parametrize(
    "text",
    [
        *("", "---\n", "[a, b]\n", "a: 1\n'1': a\n1: b\n", "a: [{b: 1}, {b: 2}]\n"),
        "x: &x {a: 1}\ny: {<<: *x, a: 2}\nz: {<<: *x, <<: *x}\n",
        "a: !vault |\n  $ANSIBLE_VAULT;1.1;AES256\n  6162\nb: !unsafe '{{ c }}'\nd: !mine {e: 1}\n",
        "$ANSIBLE_VAULT;1.1;AES256\n6162\n6162\n",
        '{\n\t"a": 1,\n\t"b": [1]\n}\n',
    ],
)
def test_a_sound_file(folder: Path, text: str) -> None:
    assert twice(folder, text) == []
    assert read(folder / "pi.yml").broken is None


def test_what_is_at_the_top_of_a_file(folder: Path) -> None:
    write(folder, {"pi.yml": "---\na:\nb: []\nc: [1]\nd: ''\n"})
    keys = read(folder / "pi.yml").keys
    assert {name: (key.line, key.empty) for name, key in keys.items()} == {
        "a": (2, True),
        "b": (3, True),
        "c": (4, False),
        "d": (5, False),
    }
    write(folder, {"pi.yml": "$ANSIBLE_VAULT;1.1;AES256\n6162\n"})
    assert not read(folder / "pi.yml").known
    assert not read(folder / "nothing").known


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("a: 1\n b: 2\n", "pi.yml:2:3: YAML: mapping values are not allowed"),
        ("a:\n\t- b\n", "indent the line with spaces: YAML takes no tabs"),
        ("a: {{ b }} c\n", 'write the value in quotes: "{{ ... }}"'),
        ("a: @b\n", "pi.yml:1:4: YAML: found character that cannot start any token"),
        ("a: @b\n", "write the value in quotes"),
        ("a: [1\nb: 2\n", "quotes and brackets of this line and of the one above"),
        ("a: 1\n---\nb: 2\n", "pi.yml:2:1: YAML: but found another document"),
        ("a: *b\n", "pi.yml:1:4: YAML: found undefined alias"),
        ("a: \x07\n", "pi.yml: YAML: "),
    ],
)
def test_a_file_that_is_no_yaml(folder: Path, text: str, fault: str) -> None:
    write(folder, {"pi.yml": text})
    assert fault in str(read(folder / "pi.yml").broken)


def test_a_file_in_another_encoding(folder: Path) -> None:
    (folder / "pi.yml").write_bytes(b"a: 1\nb: \xe4\n")
    fault = str(read(folder / "pi.yml").broken)
    assert fault == "pi.yml:2: YAML: byte 0xe4 is not UTF-8: save the file as UTF-8"


def test_a_file_that_changes_is_read_again(folder: Path) -> None:
    write(folder, {"pi.yml": "a: 1\n"})
    assert list(read(folder / "pi.yml").keys) == ["a"]
    write(folder, {"pi.yml": "a: 1\nbc: 1\n"})
    assert list(read(folder / "pi.yml").keys) == ["a", "bc"]


def names(folder: Path, files: tuple[Path, ...]) -> list[str]:
    return [str(file.relative_to(folder)) for file in files]


def test_ansible_reads_the_first_of_several_files_of_a_host(folder: Path) -> None:
    write(folder, {"hosts.yml": "", "host_vars/pi.yml": "", "host_vars/pi.json": "{}"})
    found = InventoryFiles([str(folder / "hosts.yml")]).of_host("pi")
    assert names(folder, found.files) == ["host_vars/pi.yml"]
    assert [names(folder, pair) for pair in found.ignored] == [
        ["host_vars/pi.json", "host_vars/pi.yml"]
    ]


def test_the_files_in_a_folder_of_a_host(folder: Path) -> None:
    inside = ("b.yml", "a", "sub/c.yaml", ".hidden.yml", "d.yml~", "e.txt", "f.d/g.yml")
    write(folder, {f"host_vars/pi/{name}": "" for name in inside} | {"host_vars/pi.yml": ""})
    found = InventoryFiles([str(folder)]).of_host("pi")
    assert names(folder, found.files) == [
        f"host_vars/pi/{name}" for name in (*inside[1::-1], "sub/c.yaml")
    ]
    assert [names(folder, pair) for pair in found.ignored] == [["host_vars/pi.yml", "host_vars/pi"]]


def test_files_are_beside_each_source_and_beside_the_playbook(folder: Path) -> None:
    write(
        folder,
        {
            **{"a/hosts.yml": "", "a/group_vars/all.yml": "", "b/group_vars/all/x.yml": ""},
            **{"plays/group_vars/all.yaml": "", "b/hosts.ini": ""},
        },
    )
    sources = [str(folder / "a/hosts.yml"), str(folder / "b"), "pi1,pi2", str(folder / "a")]
    files = InventoryFiles(sources, str(folder / "plays"))
    assert names(folder, files.of_group("all").files) == [
        "a/group_vars/all.yml",
        "b/group_vars/all/x.yml",
        "plays/group_vars/all.yaml",
    ]
    assert files.wanted("pi") == folder / "a/host_vars/pi.yml"
    assert InventoryFiles(["pi1,"]).wanted("pi1") is None
    assert InventoryFiles(["pi1,"]).is_static


def test_where_a_port_map_is_written(folder: Path) -> None:
    write(
        folder,
        {
            "hosts.yml": "serial_servers:\n  vars:\n    serial_ports: [1]\n  children:\n    rack:\n"
            "      hosts:\n        pi[1:2]:\n          serial_ports: []\n        pi3:\n",
            "host_vars/pi1.yml": MAP,
            "group_vars/rack.yml": f"---\n{MAP}",
        },
    )
    files = InventoryFiles([str(folder / "hosts.yml")])
    places = files.places("serial_ports", "pi1", ["all", "rack", "serial_servers"])
    assert list(map(str, places)) == [
        "hosts.yml:8",
        "host_vars/pi1.yml:1",
        "group_vars/rack.yml:2",
        "hosts.yml:3",
    ]
    assert [place.key.empty for place in places] == [True, False, False, False]
    assert len(files.places("serial_ports", "pi3", [])) == 0


@pytest.mark.parametrize(
    ("pattern", "hosts"),
    [
        ("pi", ["pi"]),
        ("pi[1:3]", ["pi1", "pi2", "pi3"]),
        ("pi[08:10].lan", ["pi08.lan", "pi09.lan", "pi10.lan"]),
        ("[a:c]", ["a", "b", "c"]),
        ("pi[1:5:2]", ["pi1", "pi3", "pi5"]),
        ("r[1:2]p[1:2]", ["r1p1", "r1p2", "r2p1", "r2p2"]),
        ("pi[x]", ["pi[x]"]),
        ("pi[aa:bb]", ["pi[aa:bb]"]),
    ],
)
def test_a_name_in_an_inventory_may_mean_several_hosts(pattern: str, hosts: list[str]) -> None:
    assert expanded(pattern) == hosts


@pytest.mark.parametrize(
    ("name", "text", "static"),
    [
        *(("hosts.yml", "all:\n", True), ("hosts", "[serial_servers]\npi\n", True)),
        *(("hosts.py", "#!/usr/bin/env python3\n", False), ("lab.yml", "plugin: nmap\n", False)),
        *(("hosts.json", "{}", True), ("constructed.yml", "a: [\n", True)),
    ],
)
def test_a_program_or_a_plugin_may_name_hosts(
    folder: Path, name: str, text: str, static: bool
) -> None:
    write(folder, {name: text, "tls/a.yml": "plugin: x", "host_vars/a.yml": "plugin: x"})
    assert InventoryFiles([str(folder / name)]).is_static == static
    assert InventoryFiles([str(folder)]).is_static == static


def test_what_belongs_to_no_host(folder: Path) -> None:
    ours = ("host_vars/pi.lan.yml", "host_vars/pi", "host_vars/README.md", "host_vars/x.yml.bak")
    write(folder, {**dict.fromkeys((*ours, "host_vars/.x.yml", "group_vars/all"), "")})
    write(folder, {"host_vars/x.yml": "", "host_vars/y/z.yml": "", "group_vars/pi.yml": ""})
    files = InventoryFiles([str(folder)])
    found = files.strangers(frozenset({"pi", "pi.lan"}), frozenset({"all"}))
    assert [(kind, name, shown_path(path)) for kind, name, path in found] == [
        (HOST_VARS, "x", "host_vars/x.yml"),
        (HOST_VARS, "y", "host_vars/y"),
        (GROUP_VARS, "pi", "group_vars/pi.yml"),
    ]


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        *(("hostvars", HOST_VARS), ("host_var", HOST_VARS), ("hosts_vars", HOST_VARS)),
        *(("host-vars", HOST_VARS), ("Host_Vars", HOST_VARS), ("hostsvars", HOST_VARS)),
        *(("groupvars", GROUP_VARS), ("group_var", GROUP_VARS), ("groups_vars", GROUP_VARS)),
        *(("grup_vars", GROUP_VARS), ("host_variables", HOST_VARS), ("vars_host", HOST_VARS)),
        *(("vars", ""), ("hosts", ""), ("groups", ""), ("host_vars", ""), ("group_vars", "")),
        *(("templates", ""), ("tls", ""), ("vhost_configs", "")),
    ],
)
def test_a_folder_with_nearly_the_right_name(folder: Path, name: str, meant: str) -> None:
    write(folder, {f"{name}/pi.yml": MAP, "hosts.yml": "", "hostvar/README": ""})
    found = list(InventoryFiles([str(folder / "hosts.yml")]).misnamed())
    assert found == ([(folder / name, meant)] if meant else [])


def test_a_file_of_a_host_beside_the_inventory(folder: Path) -> None:
    write(folder, dict.fromkeys(("hosts.yml", "pi.yml", "rack.yaml", "other.yml", "pi.txt"), ""))
    files = InventoryFiles([str(folder / "hosts.yml")])
    found = files.beside(frozenset({"pi", "hosts"}), frozenset({"rack"}))
    assert list(found) == [(folder / "pi.yml", HOST_VARS), (folder / "rack.yaml", GROUP_VARS)]


def test_every_broken_file_is_found(folder: Path) -> None:
    bad = "a: [\n"
    files = {
        **{"hosts.yml": bad, "host_vars/pi/a": bad, "host_vars/other.yml": bad},
        **{"host_vars/README": bad, "group_vars/all.json": bad, "notes.yml.txt": bad},
        **{"host_vars/fine.yml": MAP, "hosts.ini": "[a]\n[b\n"},
    }
    write(folder, files)
    broken = InventoryFiles([str(folder)]).broken(frozenset({"pi"}), frozenset({"all"}))
    assert sorted(fault.place.partition(":")[0] for fault in broken) == [
        *("group_vars/all.json", "host_vars/other.yml", "host_vars/pi/a", "hosts.yml")
    ]


def test_a_file_elsewhere_is_named_in_full(folder: Path) -> None:
    assert shown_path(folder / "a" / "b.yml") == "a/b.yml"
    assert shown_path(Path("/etc/ansible/hosts")) == "/etc/ansible/hosts"
