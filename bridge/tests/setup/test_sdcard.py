"""What a blank SD card gets: right and wrong values of serial_card, and the files made of them."""

from __future__ import annotations

import base64
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from ttybridge.setup import sdcard
from ttybridge.setup.sdcard import Login, faults, files, partition_fault, public_key

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl me@laptop"
STATIC = {"address": "192.0.2.11/24", "gateway": "192.0.2.1", "dns": ["192.0.2.1"]}
WIFI = {"ssid": "lab", "country": "DE", "password": "it's $HOME"}
PI = Login("pi")


def field(data: bytes) -> bytes:
    return len(data).to_bytes(4, "big") + data


def private_key(cipher: bytes = b"none", half: bytes = b"SECRETSECRETSECRET") -> str:
    """A private key of OpenSSH, whose private half is nothing."""
    public = base64.b64decode(KEY.split()[1])
    data = b"openssh-key-v1\0" + field(cipher) + field(b"none") + field(b"") + b"\0\0\0\1"
    text = base64.encodebytes(data + field(public) + field(half)).decode()
    return f"-----BEGIN OPENSSH PRIVATE KEY-----\n{text}-----END OPENSSH PRIVATE KEY-----\n"


def made(card: dict[str, Any] | None = None, host: str = "pi-rack1", **more: Any) -> dict[str, Any]:
    """The files of a card as cloud-init reads them."""
    seed = files(host, {"keys": [KEY], **(card or {})}, PI, private_key(), "17", more)
    assert seed["user-data"].startswith("#cloud-config\n")
    return {name: yaml.safe_load(text) for name, text in seed.items()}


def test_the_least_card() -> None:
    seed = made()
    user = seed["user-data"]
    assert user["hostname"] == "pi-rack1"
    assert user["user"]["name"] == "pi"
    assert user["user"]["ssh_authorized_keys"] == [KEY]
    assert seed["meta-data"] == {"dsmode": "local", "instance-id": "pi-rack1-17"}
    eth0 = {"dhcp4": True, "optional": False}
    assert seed["network-config"] == {"network": {"version": 2, "ethernets": {"eth0": eth0}}}


def test_sshd_has_the_host_key_and_no_other() -> None:
    written = {entry["path"]: entry for entry in made()["user-data"]["write_files"]}
    (path,) = (path for path, entry in written.items() if entry["content"] == private_key())
    (dropin,) = (path for path in written if path.startswith("/etc/ssh/sshd_config.d/"))
    assert written[path]["permissions"] == "0600"
    assert written[dropin]["content"] == f"HostKey {path}\n"
    # The first start of a Pi removes and makes these.
    assert not path.startswith("/etc/ssh/ssh_host_")


def test_a_host_key_of_the_card_is_taken() -> None:
    own = private_key(half=b"OWN")
    assert own in [
        entry["content"] for entry in made({"host_key": own})["user-data"]["write_files"]
    ]


def test_a_static_address() -> None:
    eth0 = made({"network": STATIC})["network-config"]["network"]["ethernets"]["eth0"]
    assert eth0 == {
        "dhcp4": False,
        "addresses": ["192.0.2.11/24"],
        "routes": [{"to": "default", "via": "192.0.2.1"}],
        "nameservers": {"addresses": ["192.0.2.1"]},
        "optional": False,
    }


def test_wifi_has_the_address_and_the_cable_is_optional() -> None:
    network = made({"network": STATIC, "wifi": WIFI})["network-config"]["network"]
    assert network["ethernets"] == {"eth0": {"dhcp4": True, "optional": True}}
    wlan0 = network["wifis"]["wlan0"]
    assert wlan0["addresses"] == ["192.0.2.11/24"]
    assert wlan0["regulatory-domain"] == "DE"
    assert wlan0["access-points"] == {"lab": {"password": "it's $HOME"}}


def test_an_open_network_that_hides_and_whose_names_yaml_could_misread() -> None:
    wifi = {"ssid": "on", "country": "NO", "password": "off", "hidden": True}
    wlan0 = made({"wifi": wifi})["network-config"]["network"]["wifis"]["wlan0"]
    assert wlan0["regulatory-domain"] == "NO"
    assert wlan0["access-points"] == {"on": {"auth": {"key-management": "none"}, "hidden": True}}


def test_names() -> None:
    user = made(host="pi-rack1.example.org")["user-data"]
    assert (user["hostname"], user["fqdn"]) == ("pi-rack1", "pi-rack1.example.org")
    assert made({"hostname": "pi-2"}, host="pi_2")["user-data"]["hostname"] == "pi-2"


def test_what_a_pull_adds_comes_last() -> None:
    file = {"path": "/etc/x", "content": "x"}
    user = made(write_files=[file], runcmd=[["true"]])["user-data"]
    assert user["write_files"][-1] == file
    assert user["runcmd"][-1] == ["true"]


def test_after_the_first_start_the_partition_has_no_secret(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sdcard, "BOOT", str(tmp_path))
    card = {"keys": [KEY], "wifi": WIFI, "timezone": "UTC"}
    more = {"write_files": [{"path": "/etc/x", "content": "SECRETSECRET"}]}
    seed = files("pi-rack1", card, PI, private_key(), "17", more)
    for name, text in seed.items():
        (tmp_path / name).write_text(text)
    before = yaml.safe_load(seed["user-data"])
    (forget,) = (command for command in before["runcmd"] if command[0] == "sh")
    subprocess.run(forget, check=True)
    after = {name: yaml.safe_load((tmp_path / name).read_text()) for name in seed}
    # cloud-init sets the names at each start, and would do its work again for another instance.
    assert {**after["user-data"], "write_files": 0, "runcmd": 0} == {
        **before,
        "write_files": 0,
        "runcmd": 0,
    }
    assert after["user-data"].keys() & {"write_files", "runcmd"} == set()
    assert after["network-config"]["network"].keys() == {"version", "ethernets"}
    assert after["meta-data"] == yaml.safe_load(seed["meta-data"])
    left = "".join((tmp_path / name).read_text() for name in seed)
    assert [
        word for word in ("SECRET", private_key().splitlines()[2], "$HOME") if word in left
    ] == []


# What is written of serial_card, and what is said of it.
WRONG = [
    ({}, "serial_card.keys: missing: write a list of public keys"),
    ({"keys": []}, "serial_card.keys: []: nobody could log in"),
    ({"keys": ["ssh-ed25519 AAAA"]}, "serial_card.keys[1]: 'ssh-ed25519 AAAA': write a public"),
    ({"timezone": "Europe/Berln"}, "serial_card.timezone: 'Europe/Berln': write Europe/Berlin"),
    ({"timezone": 1}, "serial_card.timezone: 1: write a time zone"),
    ({"network": "static"}, "serial_card.network: 'static': write dhcp, or a mapping"),
    (
        {"network": {**STATIC, "address": "192.0.2.11"}},
        "serial_card.network.address: '192.0.2.11': write an IP address with the length",
    ),
    (
        {"network": {**STATIC, "gateway": "192.0.3.1"}},
        "serial_card.network.gateway: '192.0.3.1': it is not in 192.0.2.0/24",
    ),
    (
        {"network": {**STATIC, "dns": ["dns.example.org"]}},
        "serial_card.network.dns[1]: 'dns.example.org': write an IP address, such as",
    ),
    ({"network": {**STATIC, "adress": ""}}, "serial_card.network.adress: '': unknown key; did you"),
    (
        {"wifi": {**WIFI, "country": "Germany"}},
        "serial_card.wifi.country: 'Germany': write the two",
    ),
    ({"wifi": {**WIFI, "ssid": "x" * 33}}, "serial_card.wifi.ssid: 'xxx"),
    ({"wifi": {"ssid": "lab", "country": "DE"}}, "serial_card.wifi.password: missing: write off"),
    ({"hostname": "Pi_1"}, "serial_card.hostname: 'Pi_1': write lower-case letters"),
    ({"password": "hunter22"}, "serial_card.password: '...': unknown key; nobody logs in with"),
    ({"user": "pi"}, "serial_card.user: '...': unknown key; the account is ansible_user"),
]


@pytest.mark.parametrize(("card", "said"), WRONG)
def test_wrong_values(card: dict[str, Any], said: str) -> None:
    whole = {} if card == {} else {"keys": [KEY], **card}
    (fault,) = faults("pi-rack1", whole, PI)
    assert fault.startswith(f"pi-rack1: {said}")


@pytest.mark.parametrize(
    "card",
    [
        {"wifi": {**WIFI, "password": "hunter2"}},
        {"wifi": {**WIFI, "pasword": "hunter22"}},
        {"wifi": "hunter22"},
        {"host_key": "hunter2"},
        {"host_key": private_key(cipher=b"aes256-ctr")},
        {"hostkey": "hunter2"},
    ],
)
def test_no_message_shows_a_secret(card: dict[str, Any]) -> None:
    (fault,) = faults("pi-rack1", {"keys": [KEY], **card}, PI)
    assert fault.startswith("pi-rack1: serial_card.")
    assert "hunter" not in fault
    assert "BEGIN" not in fault


def test_what_is_wrong_beside_the_card() -> None:
    assert faults("pi-rack1", {"keys": [KEY]}, PI) == []
    assert faults("pi-rack1", None, PI)[0].startswith("pi-rack1: serial_card: missing: write a")
    said = [
        line for user in ("", "root") for line in faults("pi-rack1", {"keys": [KEY]}, Login(user))
    ]
    assert [line.split(": write ")[0] for line in said] == [
        "pi-rack1: ansible_user: empty",
        "pi-rack1: ansible_user: 'root'",
    ]
    (name,) = faults("pi_1", {"keys": [KEY]}, PI)
    assert name.startswith("pi_1: serial_card.hostname: the inventory's name 'pi_1' cannot be")


def test_ansible_looks_where_the_pi_is() -> None:
    card = {"keys": [KEY], "network": STATIC}
    for address in ("192.0.2.11", "pi-rack1.example.org", ""):
        assert faults("pi-rack1", card, Login("pi", address)) == []
    (fault,) = faults("pi-rack1", card, Login("pi", "192.0.2.12"))
    assert fault.startswith("pi-rack1: serial_card.network.address: '192.0.2.11/24': Ansible looks")


def test_the_public_key_is_in_the_private_one() -> None:
    assert public_key(private_key()) == KEY.rpartition(" ")[0]
    whole = private_key()
    for broken in (
        "",
        "hello",
        whole[:200],
        whole.replace("b3Bl", "AAAA"),
        private_key(b"aes256-ctr"),
    ):
        with pytest.raises(ValueError, match="no private key of OpenSSH"):
            public_key(broken)


@pytest.fixture
def boot(tmp_path: Path) -> Path:
    for name in ("config.txt", "cmdline.txt", *sdcard.SEED):
        (tmp_path / name).write_text("")
    return tmp_path


def test_a_boot_partition_is_taken(boot: Path) -> None:
    assert partition_fault(boot) == ""
    (boot / "user-data").unlink()
    assert partition_fault(boot) == ""


def test_another_folder_is_refused(boot: Path) -> None:
    assert "is no folder: mount the card" in partition_fault(boot / "none")
    (boot / "cmdline.txt").write_text("root=/dev/mmcblk0p2 ds=nocloud;i=rpi-imager-1\n")
    assert "Write the image again without settings" in partition_fault(boot)
    (boot / "cmdline.txt").write_text("root=/dev/mmcblk0p2\n")
    for name in sdcard.SEED:
        (boot / name).unlink()
    assert "OS 12 (bookworm) has none" in partition_fault(boot)
    (boot / "config.txt").unlink()
    assert "is not the boot partition of a Raspberry Pi: it has no config.txt" in partition_fault(
        boot
    )


def test_the_command_says_why(boot: Path) -> None:
    def run(folder: Path) -> tuple[int, str]:
        source = str(Path(sdcard.__file__).parents[2])
        done = subprocess.run(
            [sys.executable, "-m", "ttybridge.setup.sdcard", folder],
            env={**os.environ, "PYTHONPATH": source},
            capture_output=True,
            text=True,
        )
        return done.returncode, done.stdout + done.stderr

    assert run(boot) == (0, "")
    code, said = run(boot / "none")
    assert code == 1
    assert said.startswith("error: ")
