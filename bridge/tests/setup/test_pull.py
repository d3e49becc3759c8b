"""`serial_pull`: what may be written, the files that come of it, what verify.yml says of a pull."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from ttybridge.model.values import BadKeys
from ttybridge.setup import pull, pulling
from ttybridge.setup.inventory import examine_host

SIGNER = (
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGtra2tra2tra2tra2tra2tra2tra2tra2tra2tra2tr jane@laptop"
)
KNOWN = (
    "git.example.org ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGtra2tra2tra2tra2tra2tra2tra2tra2tra2tr"
)
HEAD, TAIL = "-----BEGIN OPENSSH PRIVATE KEY-----", "-----END OPENSSH PRIVATE KEY-----"
KEY = f"{HEAD}\nb3BlbnNzaC1rZXktdjEAAAAABG5vbmU=\n{TAIL}\n"
GOOD: dict[str, Any] = {
    "repository": "ssh://git@git.example.org:2222/site.git",
    **{"key": KEY, "known_hosts": [KNOWN], "signers": [SIGNER]},
}
NOW = 1_800_000_000


def faults(**written: Any) -> list[str]:
    """What is wrong with GOOD after some changes; None takes a key away."""
    value = {name: one for name, one in {**GOOD, **written}.items() if one is not None}
    found = examine_host("pi", {"serial_ports": [], "serial_pull": value})
    return [str(fault) for fault in found.faults]


@pytest.mark.parametrize(
    "repository",
    [
        "ssh://git.example.org/site.git",
        "ssh://git@[2001:db8::1]:22/~jane/site.git",
        "git@git.example.org:group/site.git",
        "https://git.example.org:8443/group/site.git",
    ],
)
def test_repositories(repository: str) -> None:
    assert faults(repository=repository) == []


@pytest.mark.parametrize(
    "schedule",
    [
        *("hourly", "daily", "*:0/30", "03:00", "Mon..Fri 03:00", "Sat,Sun *-*-* 4:05:06"),
        *("*-*-1,15 12:00 Europe/Berlin", "2027-*-* 00:00:00 UTC", "Mon *-05~03 *:*"),
    ],
)
def test_schedules(schedule: str) -> None:
    assert faults(schedule=schedule) == []


@pytest.mark.parametrize(
    ("written", "key", "words"),
    [
        ({"repository": "http://git.example.org/x"}, "repository", "write the URL of a git"),
        ({"repository": "ssh://git@host/x'; reboot"}, "repository", "write the URL of a git"),
        ({"repository": "https://jane:token@host/x"}, "repository", "write the URL of a git"),
        ({"repository": "ext::sh -c x"}, "repository", "write the URL of a git"),
        ({"repository": "--upload-pack=x"}, "repository", "write the URL of a git"),
        ({"repository": None}, "repository", "missing: write the URL"),
        ({"key": None}, "key", "missing: ssh needs it: write the text of a private key"),
        ({"known_hosts": None}, "known_hosts", "missing: ssh needs them"),
        ({"known_hosts": ["# git.example.org:22"]}, "known_hosts[1]", "write a line as ssh-key"),
        ({"signers": []}, "signers", "missing: write a list of public keys"),
        ({"signers": ["jane"]}, "signers[1]", "write a public key as in id_ed25519.pub"),
        ({"branch": "-x"}, "branch", "write the name of a branch"),
        ({"schedule": "every hour"}, "schedule", 'such as hourly, "*:0/30" or'),
        ({"schedule": 300}, "schedule", "without quotes it is a number"),
        ({"url": "https://git.example.org/x"}, "url", "did you mean repository?"),
    ],
)
def test_what_is_wrong_is_said(written: dict[str, Any], key: str, words: str) -> None:
    assert any(f"pi: serial_pull.{key}: " in one and words in one for one in faults(**written)), (
        faults(**written)
    )


@pytest.mark.parametrize(
    "written",
    [
        {"key": "hunter2"},
        {"key": "/home/jane/.ssh/hunter2"},
        {"vault_password": "hunter2\nand more"},
        {"vault_password": ["hunter2"]},
        {"vault": "hunter2"},
        {"private_key": "hunter2"},
    ],
)
def test_no_message_shows_a_secret(written: dict[str, Any]) -> None:
    found = faults(**written)
    assert len(found) == 1
    assert "hunter2" not in found[0]


@pytest.mark.parametrize("empty", [None, ""])
def test_a_host_of_a_group_that_pulls_need_not(empty: str | None) -> None:
    assert examine_host("pi", {"serial_ports": [], "serial_pull": empty}).faults == []


def test_https_needs_no_key() -> None:
    only = {"key": None, "known_hosts": None}
    assert faults(repository="https://git.example.org/site.git", **only) == []


def test_a_text_of_ansible_vault_is_a_text() -> None:
    """In ansible-core 2.18 it is a sequence, and no str."""

    class Encrypted(tuple[str, ...]):
        pass

    from collections import UserString

    assert faults(key=UserString(KEY)) == []
    with pytest.raises(ValueError, match="not shown"):
        pull.Pulls().parse({**GOOD, "key": Encrypted(KEY)})


def by_path(written: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {one["path"]: one for one in pull.files("pi-rack1", written)}


def test_the_files_are_what_the_program_reads() -> None:
    files = by_path({**GOOD, "key": KEY.strip(), "schedule": "daily", "vault_password": "v"})
    config = json.loads(files["/etc/ttyfleet/pull/config.json"]["content"])
    assert config == {
        **{"host": "pi-rack1", "repository": GOOD["repository"]},
        **{"branch": "main", "schedule": "daily", "reboot": False},
    }
    # ssh refuses a key whose last line has no end.
    assert files["/etc/ttyfleet/pull/key"]["content"] == KEY
    assert files["/etc/ttyfleet/pull/vault_password"]["content"] == "v\n"
    assert files["/etc/ttyfleet/pull/signers"]["content"] == f'* namespaces="git" {SIGNER}\n'
    assert files["/etc/ttyfleet/pull/known_hosts"]["content"] == f"{KNOWN}\n"
    assert files[pull.PROGRAM]["content"].startswith("#!/usr/bin/python3 -I\n")
    assert "OnCalendar=daily\n" in files[f"{pull.UNITS}/{pull.TIMER}"]["content"]
    assert [*pulling.PACKAGES] == pull.PACKAGES


def test_uart_reboot_lets_a_pull_reboot() -> None:
    config = pull.files("pi", GOOD, "true")[0]
    assert json.loads(config["content"])["reboot"] is True


def test_what_is_not_written_is_removed() -> None:
    files = by_path({"repository": "https://git.example.org/x", "signers": [SIGNER]})
    kinds = {path.rpartition("/")[2]: one["kind"] for path, one in files.items()}
    assert {name for name, kind in kinds.items() if kind == "absent"} == {
        *("key", "known_hosts", "vault_password")
    }


def test_facts_get_no_secret() -> None:
    files = pull.files("pi", {**GOOD, "vault_password": "hunter2"})
    text = json.dumps(pull.without_secrets(files))
    assert "hunter2" not in text
    assert "BEGIN OPENSSH" not in text
    secret = [one for one in pull.without_secrets(files) if one.get("secret")]
    assert {one["mode"] for one in secret} == {"0600"}
    assert all("content" not in one and len(one["sha256"]) == 64 for one in secret)


def test_the_first_boot_writes_the_same_files() -> None:
    first = pull.first_boot("pi-rack1", {"serial_pull": GOOD, "serial_ports": []})
    written = {one["path"]: one for one in first["write_files"]}
    assert {path: one["content"] for path, one in written.items()} == {
        path: one["content"] for path, one in by_path(GOOD).items() if one["kind"] == "file"
    }
    assert written["/etc/ttyfleet/pull/key"]["permissions"] == "0600"
    assert first["runcmd"][-1] == ["systemctl", "start", "--no-block", "ttyfleet-pull.service"]
    with pytest.raises(BadKeys):
        pull.first_boot("pi", {"serial_pull": {"repository": "x"}})


def test_only_debian_13_pulls() -> None:
    assert pull.faults("13") == []
    (fault,) = pull.faults("12")
    assert fault.startswith("serial_pull: the host runs Debian 12, whose ansible-core is too old")


def pending(state: Any, **unit: str) -> list[str]:
    text = state if isinstance(state, str) else json.dumps(state)
    read = {"pull": base64.b64encode(text.encode()).decode(), "services": {pull.SERVICE: unit}}
    return pull.pending(read, NOW)


def test_a_pull_that_went_well_is_no_finding() -> None:
    assert pending({"result": "changed", "succeeded": NOW - 60, "stale_after": NOW + 60}) == []
    assert pending("") == []


def test_a_failed_pull_is_a_finding() -> None:
    state = {"result": "failed", "reason": "no \x1b[31mroute", "ended": NOW - 7300}
    (finding,) = pending({**state, "stale_after": NOW + 60})
    assert finding.startswith(r"its last pull failed, 2 hours ago: no \x1b[31mroute; sudo journal")


def test_a_stale_pull_is_a_finding() -> None:
    state = {"result": "unchanged", "succeeded": NOW - 3 * 86400, "stale_after": NOW - 1}
    (finding,) = pending(state)
    assert finding.startswith("its last pull was 3 days ago, and two should have followed; ")


def test_a_pull_that_could_not_say_anything_is_a_finding() -> None:
    (finding,) = pending("", ActiveState="failed")
    assert finding.startswith("its last pull ended before it could say why; ")


@pytest.mark.parametrize("state", ["[]", "{", '{"result": 3, "stale_after": "x"}', "\xff"])
def test_a_strange_state_file_is_read(state: str) -> None:
    assert len(pending(state)) <= 1
