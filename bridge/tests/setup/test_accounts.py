"""The accounts of serial_users: what may be written, and what differs on a host."""

from __future__ import annotations

import base64
import struct
from typing import Any

import pytest

from ttybridge.setup import accounts
from ttybridge.setup.inventory import examine_host


def key(comment: str = "", *, cut: int = 0, kind: str = "ssh-ed25519") -> str:
    """A public key, perhaps with some bytes missing at its end."""
    fields = (kind.encode(), b"k" * 32)
    blob = b"".join(struct.pack(">I", len(field)) + field for field in fields)
    text = base64.b64encode(blob[: len(blob) - cut]).decode()
    return f"ssh-ed25519 {text} {comment}".strip()


KEY, OTHER = key("jane@laptop"), key("joe@desk")


def said(users: Any, **variables: Any) -> list[str]:
    """What the check of the port maps says of a host."""
    given = {"serial_ports": [], "serial_users": users, **variables}
    return [str(fault) for fault in examine_host("pi", given).faults]


def one(**more: Any) -> dict[str, Any]:
    return {"name": "tech1", "keys": [KEY], **more}


@pytest.mark.parametrize(
    "users",
    [
        [],
        None,
        [one()],
        [one(groups=["netops", "lab"]), one(name="tech2", state="absent")],
        [one(keys=[f"{KEY}\n", OTHER])],
        [{"name": "jane", "existing": True}, {"name": "joe@example.org", "existing": True}],
        [{"name": "gone", "state": "absent"}],
    ],
)
def test_what_may_be_written(users: Any) -> None:
    assert said(users) == []


@pytest.mark.parametrize(
    ("users", "words"),
    [
        ("tech1", "serial_users: 'tech1': write a list of accounts"),
        ([{"keys": [KEY]}], "serial_users[1].name: missing: write the name of an account"),
        (["tech1"], "serial_users[1]: 'tech1': write a mapping with the key name"),
        ([one(name="../x")], "serial_users[1].name: '../x': write the name of an account"),
        ([one(name="a b")], "serial_users[1].name: 'a b': write"),
        ([one(name="a,b")], "serial_users[1].name: 'a,b': write"),
        ([one(name="*")], "serial_users[1].name: '*': write"),
        ([one(), one()], "serial_users[2].name: tech1 is there twice"),
        ([{"name": "tech1"}], "serial_users[1].keys: missing: write keys or principals"),
        ([one(key=KEY)], "unknown key; did you mean keys?"),
        ([one(password="x")], "nobody logs in with a password"),
        ([one(keys=[key(cut=5)])], "serial_users[1].keys[1]: "),
        ([one(keys=[key(cut=5)])], "a part of the key is missing"),
        ([one(keys=[key(kind="ssh-rsa")])], "a part of the key is missing"),
        ([one(keys=[f'command="x" {KEY}'])], "write a public key as in id_ed25519.pub"),
        ([one(keys=["-----BEGIN OPENSSH PRIVATE KEY-----"])], "write a public key"),
        ([one(keys=[f"{KEY}\n{OTHER}"])], "write a public key"),
        ([one(keys=[KEY, KEY])], "is there twice: write it once"),
        ([one(keys=KEY)], "write a list of public keys"),
        ([one(groups=["a b"])], "serial_users[1].groups[1]: 'a b': write a group"),
        ([one(existing=True, groups=["x"])], "an existing account keeps its groups"),
        ([one(principals=['a"b'])], "serial_users[1].principals[1]: "),
        ([one(principals=["jane"])], "write it in serial_users_ca"),
        ([one(name="root")], "serial_users[1].name: root is the administrator, and would lose"),
    ],
)
def test_what_is_wrong_is_said(users: Any, words: str) -> None:
    assert words in "\n".join(said(users))


@pytest.mark.parametrize("name", ["ansible_user", "ansible_ssh_user", "ansible_become_user"])
def test_who_ansible_is_keeps_a_shell(name: str) -> None:
    (fault,) = said([one(name="pi")], **{name: "pi"})
    assert fault == (
        f"pi: serial_users[1].name: pi is who Ansible becomes or logs in as ({name}), "
        "and would lose its shell: write another account"
    )
    assert said([one()], **{name: "pi"}) == []


def test_principals_need_the_key_that_signs() -> None:
    users = [{"name": "tech1", "principals": ["jane"]}]
    assert said(users, serial_users_ca=[KEY]) == []
    (fault,) = said(users, serial_users_ca=["x"])
    assert fault.startswith("pi: serial_users_ca[1]: 'x': write a public key")


def test_the_lines_of_the_keys() -> None:
    (user,) = accounts.as_variables([one(principals=["jane", "ops"])], [OTHER])
    assert user["authorized_keys"] == f'{KEY}\ncert-authority,principals="jane,ops" {OTHER}\n'
    (user,) = accounts.as_variables([one()], [OTHER])
    assert user["authorized_keys"] == f"{KEY}\n"


def account(name: str, *groups: str, made: bool = True, **more: Any) -> dict[str, Any]:
    """An account as files/read_host.sh says it."""
    known = {"name": name, "made": made, "group": name, "groups": [name, *groups]}
    return {**known, "overridden": [], **more}


def plan(users: Any, *found: dict[str, Any], **people: Any) -> dict[str, Any]:
    """What differs on a host that has some accounts."""
    read = {
        "people": {"login": "pi", "limited": [], "denied": [], "accounts": [*found], **people},
        "sessions": {"router": [{"address": "tech1:1", "person": "tech1", "connected_for": 9}]},
        "services": {"ssh.service": {"ActiveState": "active"}},
    }
    return accounts.plan(accounts.as_variables(users, []), read)


def test_a_new_account_is_made() -> None:
    made = plan([one(groups=["netops"])])
    assert made["changes"] == ["+ user tech1 (netops)"]
    assert (made["groups"], made["make"]) == (["netops"], [{"name": "tech1", "groups": ["netops"]}])
    assert (made["remove"], made["end"], made["faults"]) == ([], [], [])


def test_an_account_as_it_should_be_is_left() -> None:
    made = plan([one(groups=["a", "b"])], account("tech1", "b", "a"), limited=["tech1"])
    assert (made["changes"], made["make"], made["end"]) == ([], [], [])


@pytest.mark.parametrize("users", [[], [one(state="absent")], [one(name="tech2")]])
def test_an_account_that_is_no_longer_wanted_is_removed_with_its_sessions(users: Any) -> None:
    made = plan(users, account("tech1"), account("tech2"), limited=["tech1", "tech2"])
    assert "- user tech1" in made["changes"]
    assert "! disconnects router: tech1:1 (for 9 s)" in made["changes"]
    assert "tech1" in made["remove"]
    assert "tech1" in made["end"]


def test_who_leaves_a_group_leaves_the_consoles() -> None:
    more = plan([one(groups=["a", "b"])], account("tech1", "a"))
    assert (more["changes"], more["end"]) == (["~ user tech1 (a -> a, b)"], [])
    less = plan([one()], account("tech1", "a"))
    assert less["changes"][0] == "~ user tech1 (a -> no group)"
    assert less["end"] == ["tech1"]


def test_an_existing_account_is_only_limited() -> None:
    jane = {"name": "jane", "existing": True}
    made = plan([jane], account("jane", "sudo", made=False))
    assert made["changes"] == ["~ user jane (gets consoles only)"]
    assert (made["make"], made["remove"], made["end"]) == ([], [], ["jane"])
    made = plan([jane], account("jane", made=False), limited=["jane"])
    assert made["changes"] == []
    made = plan([{**jane, "state": "absent"}], account("jane", made=False), limited=["jane"])
    assert (made["changes"], made["end"]) == (["~ user jane (is shut out of SSH)"], ["jane"])
    made = plan([{**jane, "state": "absent"}], account("jane", made=False), denied=["jane"])
    assert made["changes"] == []
    made = plan([], account("jane", made=False), limited=["jane"])
    assert (made["changes"], made["end"]) == (
        ["~ user jane (logs in as before ttyfleet)"],
        ["jane"],
    )


@pytest.mark.parametrize(
    ("users", "found", "words"),
    [
        (
            [one(name="pi")],
            [account("pi", made=False)],
            "is who Ansible logs in as, and would lose",
        ),
        ([one()], [account("tech1", made=False)], "ttyfleet has not made it: write existing: on"),
        ([{"name": "jane", "existing": True}], [], "the host has no such account"),
        ([one(existing=True)], [account("tech1")], "ttyfleet has made this account"),
        (
            [one()],
            [account("tech1", overridden=["ForceCommand"])],
            "another file of /etc/ssh takes the place of ForceCommand",
        ),
    ],
)
def test_why_a_host_is_refused(users: Any, found: Any, words: str) -> None:
    (fault,) = plan(users, *found)["faults"]
    assert fault.startswith(f"serial_users: {users[0]['name']}: ")
    assert words in fault


def test_ssh_that_is_off_is_said() -> None:
    read: dict[str, Any] = {
        "people": {"login": "pi", "limited": [], "denied": [], "accounts": []},
        "sessions": {},
        "services": {"ssh.service": {"ActiveState": "inactive"}, "ssh.socket": {}},
    }
    users = accounts.as_variables([one()], [])
    (words,) = accounts.plan(users, read)["pending"]
    assert words.startswith("SSH is off")
    assert accounts.plan([], read)["pending"] == []
    read["services"]["ssh.socket"] = {"ActiveState": "active"}
    assert accounts.plan(users, read)["pending"] == []
